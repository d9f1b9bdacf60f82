"""The worker's WebSockets: one thread reads all of them, so that an idle one holds no thread.

It is not the thread of the lines (server/lines.py): that one forwards streams, which must not wait while long messages
or floods of short ones are decoded. Messages are handled in a few threads of the worker's pool, turns in as many as
MAX_IN_FLIGHT allows.
"""

import os
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from logging import getLogger
from time import monotonic
from typing import Any

from websockets.frames import CloseCode

from core.errors import GatewayError, Overloaded
from server.admission import RETRY_AFTER_SECONDS, STOPPING, Admission
from server.read_deadlines import BODY_SECONDS
from server.response import STALLED_SECONDS
from server.sockets.dispatcher import Dispatcher
from server.sockets.interfaces import SocketHandler
from server.sockets.socket import Socket
from server.sockets.timers import Timers

log = getLogger("thinkline.errors")

HAS_EPOLL = hasattr(select, "epoll")
HANGUP = getattr(select, "EPOLLRDHUP", 0) | getattr(select, "EPOLLHUP", 0) | getattr(select, "EPOLLERR", 0)
READABLE = getattr(select, "EPOLLIN", 0)
WRITABLE = getattr(select, "EPOLLOUT", 0)
PIECE = 32_768
"""Bytes of one read from a connection."""
UNAUTHENTICATED_PIECE = 4096
"""The same for a peer without a key: its bytes may be hundreds of frames."""
PING_SECONDS = 20.0
SILENT_SECONDS = 42.0
"""How long a peer may send nothing, not even pongs: a peer that is gone is noticed within 45 seconds."""
LOOK_SECONDS = 1.0
"""How often due pings, lost peers and revoked keys are looked for."""
MOST_BUFFERED = 268_435_456
"""Bytes of incomplete messages, of all connections together."""
EXPECTED_SECONDS = 60.0
"""How long a place is reserved for a connection whose 101 is being sent."""
UNAUTHENTICATED_SHARE = 4
"""One of so many places may be used by a peer that has not sent its key yet."""
ONLY_GUNICORN = "WebSockets are served by gunicorn, on Linux: `make run` starts it. `python app.py` has none."
TOO_MANY = "Too many WebSockets are open here (MAX_SOCKETS)."


class NotServedHere(GatewayError):
    """The server that runs has no WebSockets."""

    status = 501
    code = "not_served_here"
    client_may_retry = False


class SocketKeeper:
    """Keeps WebSockets, `most` at the same time, with messages of up to `most_bytes`. It may be made before a fork.

    `rejection` is called each second with each connection's owner; it returns why the connection must close, else "".
    """

    def __init__(
        self, admission: Admission, most: int, most_bytes: int, rejection: Callable[[Any], str] = lambda _: ""
    ) -> None:
        self._admission = admission
        self._most = most
        self._most_bytes = most_bytes
        self._rejection = rejection
        self._do: Callable[[Callable[[], None]], None] | None = None
        self._dispatcher = Dispatcher(self.do)
        self._timers = Timers()
        self._sockets: dict[int, Socket] = {}
        self._ends: dict[Socket, Callable[[], None]] = {}
        self._expected: dict[Socket, float] = {}
        self._masks: dict[Socket, int] = {}
        self._lock = threading.Lock()
        self._poller: Any = None
        self._looks_at = 0.0
        self._buffered = 0
        self.closing = False

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._ends)

    def serve_with(self, do: Callable[[Callable[[], None]], None], connections: int) -> None:
        """Use the worker's pool: `do` has one of its threads do a job. Half of the `connections` are for requests."""
        self._do = do
        self._most = min(self._most, connections // 2)

    def open(self, handler: SocketHandler, owner: object) -> Socket:
        """Reserve a place for a new connection; `owner` is None until its key is known. Raises Overloaded, and
        NotServedHere under another server than ours.
        """
        if self._do is None or not HAS_EPOLL:
            raise NotServedHere(ONLY_GUNICORN)
        connection = Socket(self, handler, owner, self._most_bytes)
        with self._lock:
            now = monotonic()
            for late in [each for each, by in self._expected.items() if by < now]:
                del self._expected[late]
            present = [*self._ends, *self._expected]
            unauthenticated = sum(each.owner is None for each in present)
            if self.closing:
                raise Overloaded(STOPPING, retry_after=RETRY_AFTER_SECONDS)
            if len(present) >= self._most or (
                owner is None and unauthenticated >= max(1, self._most // UNAUTHENTICATED_SHARE)
            ):
                raise Overloaded(TOO_MANY, retry_after=RETRY_AFTER_SECONDS)
            self._expected[connection] = now + EXPECTED_SECONDS
        return connection

    def take_over(
        self,
        connection: Socket,
        sock: socket.socket,
        unsent: bytes | memoryview,
        received: bytes,
        ended: Callable[[], None],
    ) -> None:
        """Keep a connection whose 101 was written except for `unsent`; the client sent `received` after its handshake.
        `ended` is called when the socket is closed. Raises OSError if the system has no resources for it.
        """
        self._start()
        self._poller.register(sock, 0)
        with self._lock:
            self._expected.pop(connection, None)
            self._ends[connection] = ended
        self._sockets[sock.fileno()] = connection
        connection.begin(sock, unsent, received)
        if self.closing:
            connection.retire(CloseCode.SERVICE_RESTART, STOPPING)

    def retire(self) -> None:
        """Accept no further connections, close idle ones now and the others after their turns: the worker is to end."""
        self.closing = True
        for connection in list(self._ends):
            connection.retire(CloseCode.SERVICE_RESTART, STOPPING)

    # for connections

    def watch(self, connection: Socket) -> None:
        """Poll for the events that the connection waits for now. Its lock must be held."""
        if connection.sock is None:
            return
        reads, writes = connection.wants
        mask = HANGUP | (READABLE if reads else 0) | (WRITABLE if writes else 0)
        if self._masks.get(connection) != mask:
            self._masks[connection] = mask
            self._poller.modify(connection.sock, mask)

    def handle(self, connection: Socket) -> None:
        """Queue the connection's next message for its handler."""
        self._dispatcher.add(connection)

    def do(self, job: Callable[[], None]) -> None:
        """Have a thread of the pool do the job."""
        if self._do is not None:
            self._do(job)

    def call_at(self, due: float, job: Callable[[], None]) -> Callable[[], None]:
        """Have the keeper's thread do the job at `due`; returns a function that cancels it."""
        cancel, is_next = self._timers.add(due, job)
        if is_next:
            self._wake()
        return cancel

    def enter(self) -> None:
        """Count a turn that begins. Raises Overloaded."""
        self._admission.enter()

    def leave(self) -> None:
        """Count a turn that has ended."""
        self._admission.leave()

    # the keeper's thread

    def _start(self) -> None:
        with self._lock:
            if self._poller is None:
                poller: Any = select.epoll()
                self._woken, self._waker = os.pipe()
                os.set_blocking(self._woken, False)
                os.set_blocking(self._waker, False)
                poller.register(self._woken, READABLE)
                self._poller = poller
                threading.Thread(target=self._run, name="sockets", daemon=True).start()

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # the pipe is full, so the thread will wake
            os.write(self._waker, b"\0")

    def _run(self) -> None:
        while True:
            try:
                self._turn()
            except Exception:  # any fault: all the worker's sockets need this thread
                log.exception("a turn of the sockets' thread failed")

    def _turn(self) -> None:
        wait = max(0.0, min(self._timers.next, self._looks_at) - monotonic())
        for descriptor, event in self._poller.poll(wait):
            if descriptor == self._woken:
                os.read(descriptor, 4096)
            elif (connection := self._sockets.get(descriptor)) is not None:
                self._run_step(connection, self._handle_event, event)
        now = monotonic()
        for job in self._timers.take(now):
            job()
        if now >= self._looks_at:
            self._looks_at = now + LOOK_SECONDS
            self._dispatcher.relieve()
            for connection in list(self._ends):
                self._run_step(connection, self._check, now)

    def _run_step(self, connection: Socket, step: Callable[[Socket, Any], None], fact: float) -> None:
        """Do a step for a connection. A failure ends that connection alone."""
        try:
            step(connection, fact)
        except Exception:
            log.exception("a WebSocket cannot be kept")
            connection.cut()
            self._release(connection)

    def _handle_event(self, connection: Socket, event: int) -> None:
        """Handle an event of epoll: the socket is readable or writable, or the peer has left."""
        if connection.sock is None:
            return  # another thread is in `begin`
        if event & WRITABLE:
            connection.flush()
        if event & READABLE:
            self._read(connection)
        elif event & HANGUP:  # messages of a peer that has left need not be read
            connection.cut()
            self._release(connection)
        if connection.framing.is_over:
            self._release(connection)

    def _read(self, connection: Socket) -> None:
        sock = connection.sock
        if sock is None:
            return
        try:
            data = sock.recv(PIECE if connection.owner is not None else UNAUTHENTICATED_PIECE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.read(data)
        self._count(connection, connection.framing.buffered)
        if self._buffered > MOST_BUFFERED:
            largest = max(list(self._ends), key=lambda each: each.counted)
            largest.close(CloseCode.TRY_AGAIN_LATER, "Too many long messages are on their way here.")
            self._count(largest, 0)

    def _count(self, connection: Socket, buffered: int) -> None:
        self._buffered += buffered - connection.counted
        connection.counted = buffered

    def _check(self, connection: Socket, now: float) -> None:
        """Do what is due for a connection."""
        if now >= connection.closes_by:
            connection.cut()
            self._release(connection)
        elif now - connection.unsent_since >= STALLED_SECONDS or now - connection.heard_at >= SILENT_SECONDS:
            connection.cut()
        elif now - connection.begun_at >= BODY_SECONDS:
            connection.close(CloseCode.POLICY_VIOLATION, "The message did not come in time.")
        elif now - connection.pinged_at >= PING_SECONDS:
            connection.ping()
        if reason := self._rejection(connection.owner):
            connection.retire(CloseCode.POLICY_VIOLATION, reason)

    def _release(self, connection: Socket) -> None:
        """Close its socket. Only this thread may: the descriptor can be reused at once."""
        sock = connection.forget()
        if sock is None:
            return
        self._count(connection, 0)
        self._poller.unregister(sock)
        del self._sockets[sock.fileno()]
        self._masks.pop(connection, None)
        sock.close()
        with self._lock:
            ended = self._ends.pop(connection)
        ended()
