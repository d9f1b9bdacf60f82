"""The connections that no thread works for. The worker's main thread waits for all of them at once: it reads the heads
of their requests, sends what their callers have not taken yet, and closes them. It never waits for any one of them.
"""

import socket
from collections import deque
from collections.abc import Callable
from errno import EAGAIN, ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE
from time import monotonic
from typing import Any

from gunicorn import util
from gunicorn.workers.gthread import TConn, ThreadWorker

from server.response import send_now
from server.sockets.socket import Socket

HEAD_SECONDS = 10.0
"""How long the head of a request may take to come."""
UNSENT_SECONDS = 30.0
"""How long a caller may take nothing of an answer."""
CLOSING_SECONDS = 2.0
"""How long a caller may take to close after us: closed with bytes unread, the kernel would take back the answer (RFC
9112, 9.6).
"""
STOPPING_SECONDS = 1.0
"""How long any of that may take when the worker is to end."""
MOST_DISCARDED = 33_554_432
"""Bytes that are read of a connection that is closing: more than MAX_BODY_BYTES is by default."""
DISCARDED_AT_ONCE = 65_536
PIECE = 16_384
"""Bytes that are read at a time: most requests as a whole."""
SENT_AT_ONCE = 262_144
LARGEST_HEAD = 32_768
"""Bytes of a head that has no end yet; they are kept for each of those who send one."""
MOST_PIPELINED = 4
"""How many pipelined requests are served at a time: hundreds of callers may have sent hundreds each."""
LOOK_SECONDS = 0.1
"""How often it is looked for connections that have waited too long; and the pause after a failure to accept one."""
MOST_CLOSED = 200
"""How many of a queue are closed at a time."""
NO_ROOM = (EMFILE, ENFILE, ENOBUFS, ENOMEM)
ROOM = 16
"""Connections that are closed where there is no room for another one."""
END_OF_HEAD = b"\r\n\r\n"


class ClientConnection(TConn):  # type: ignore[misc]
    """A caller's connection.

    head        what has come of its next request
    unsent      what has still to be sent of its last answer
    keep        whether another request may follow
    discarded   bytes read since it is closing
    queue       where it waits
    upgraded    the WebSocket that it has become
    """

    def __init__(self, *facts: Any) -> None:
        super().__init__(*facts)
        self.sock.setblocking(True)  # for the threads; the main thread says each time that it does not wait
        self.data_ready = True
        self.head = bytearray()
        self.unsent = memoryview(b"")
        self.keep = False
        self.discarded = 0
        self.queue: DeadlineQueue | None = None
        self.upgraded: Socket | None = None


class DeadlineQueue:
    """Connections that wait for one thing, up to `seconds`; the one that has waited longest is the first."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: dict[ClientConnection, float] = {}

    def add(self, conn: ClientConnection) -> None:
        """Let a connection wait from now on, also one that waits already."""
        self._since.pop(conn, None)
        self._since[conn] = monotonic()

    def remove(self, conn: ClientConnection) -> None:
        """It waits no longer."""
        del self._since[conn]

    def first(self) -> tuple[ClientConnection, float] | None:
        """Who has waited longest, and since when."""
        return next(iter(self._since.items()), None)

    def late(self, most: int) -> list[ClientConnection]:
        """Up to so many of those who have waited too long."""
        by = monotonic() - self.seconds
        found: list[ClientConnection] = []
        for conn, since in self._since.items():
            if since > by or len(found) == most:
                break
            found.append(conn)
        return found

    def shorten(self, seconds: float) -> None:
        """Let those who wait, and all who come, wait so long from now on."""
        self.seconds = min(self.seconds, seconds)
        self._since = dict.fromkeys(self._since, monotonic())


class PollingWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's gthread with a main thread that reads heads and never waits for one connection. A subclass serves."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._unheard = DeadlineQueue(HEAD_SECONDS)
        self._kept = DeadlineQueue(self.cfg.keepalive)
        self._unsent = DeadlineQueue(UNSENT_SECONDS)
        self._closing = DeadlineQueue(CLOSING_SECONDS)
        self._queues = (self._unheard, self._kept, self._unsent, self._closing)
        self._pipelined: deque[ClientConnection] = deque()
        self._pipelined_running: set[ClientConnection] = set()
        self._accepts_from = 0.0
        self._without_room = False
        self._looks_from = 0.0
        self._some_are_late = False

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Nothing: fewer connections than threads, of which gunicorn warns, are what the limit of files allows."""

    def accept(self, listener: Any) -> None:
        """Take a caller in. Whatever fails here is tried again a little later: no caller is worth the worker."""
        try:
            sock, address = listener.accept()
        except OSError as error:
            if error.errno not in (EAGAIN, ECONNABORTED):
                self.log.warning("No connection can be accepted now: %s.", error.strerror)
                self._accepts_from = monotonic() + LOOK_SECONDS
                self._without_room = error.errno in NO_ROOM
                self.set_accept_enabled(False)
            return
        self.nr_conns += 1
        conn = ClientConnection(self.cfg, sock, address, listener.getsockname())
        self._wait(conn, self._unheard, EVENT_READ, self._read)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Listen or not; not so soon after it has failed."""
        super().set_accept_enabled(enabled and monotonic() >= self._accepts_from)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """One turn, which does not wait long while there are connections to be closed or accepted."""
        if self._some_are_late or not self._accepting:
            timeout = LOOK_SECONDS
        super().wait_for_and_dispatch_events(timeout)

    def murder_keepalived(self, force: bool = False) -> None:
        """Close those who are late, and those who have waited longest while there are as many as there may be."""
        if (now := monotonic()) >= self._looks_from:
            self._looks_from = now + LOOK_SECONDS
            self._close_late()
        for _ in range(ROOM if self._without_room else 0):
            self._close_oldest()
        self._without_room = False
        while self.nr_conns >= self.worker_connections and self._close_oldest():
            pass

    def _cap_keepalive(self, deadline: float) -> None:
        """The worker is to end: nobody is waited for much longer."""
        for queue in self._queues:
            queue.shorten(STOPPING_SECONDS)

    def finish_request(self, conn: ClientConnection, keep: bool) -> None:
        """A thread has served a connection: send the rest of the answer, then close, or wait for what follows."""
        conn.keep = keep
        self._pipelined_running.discard(conn)
        if conn.unsent:
            self._wait(conn, self._unsent, EVENT_WRITE, self._send)
        else:
            self._go_on(conn)
        self._serve_pipelined()

    def _go_on(self, conn: ClientConnection) -> None:
        """The answer is sent."""
        if not conn.keep:
            self._shut(conn)
            return
        conn.head += conn.parser.unreader.take_buffered()
        if conn.head and self._is_due(conn, 0):
            self._pipelined.append(conn)
        else:
            self._wait(conn, self._unheard if conn.head else self._kept, EVENT_READ, self._read)

    def _serve_pipelined(self) -> None:
        while self._pipelined and len(self._pipelined_running) < MOST_PIPELINED:
            conn = self._pipelined.popleft()
            self._pipelined_running.add(conn)
            self.enqueue_req(conn)

    def _read(self, conn: ClientConnection, _: Any) -> None:
        """Some of a head has come, or the caller has left."""
        try:
            data = conn.sock.recv(PIECE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(conn)
            return
        seen = len(conn.head)
        conn.head += data
        if self._is_due(conn, seen):
            self._stop_waiting(conn)
            self.enqueue_req(conn)
        elif conn.queue is self._kept:
            self._kept.remove(conn)
            self._unheard.add(conn)
            conn.queue = self._unheard

    def _is_due(self, conn: ClientConnection, seen: int) -> bool:
        """Whether a thread can take it from here without waiting for more of the head. Of that, `seen` bytes are known.

        A head with a line that ends wrongly never comes to its end; the parser refuses it at once.
        """
        head, begin = conn.head, max(0, seen - 3)
        return (
            head.find(END_OF_HEAD, begin) >= 0
            or head.count(b"\n", begin) != head.count(b"\r\n", max(0, begin - 1))
            or len(head) > LARGEST_HEAD
        )

    def _send(self, conn: ClientConnection, _: Any) -> None:
        """The caller takes more of the answer, or has left."""
        try:
            sent = send_now(conn.sock, conn.unsent[:SENT_AT_ONCE])
        except OSError:
            self._close(conn)
            return
        conn.unsent = conn.unsent[sent:]
        if conn.unsent:
            self._unsent.add(conn)
        else:
            self._stop_waiting(conn)
            self._go_on(conn)
            self._serve_pipelined()

    def _shut(self, conn: ClientConnection) -> None:
        """Say that nothing more is sent, and wait for the caller to close, or for so long."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
        else:
            self._wait(conn, self._closing, EVENT_READ, self._discard)

    def _discard(self, conn: ClientConnection, _: Any) -> None:
        """What comes now is of no interest."""
        try:
            data = conn.sock.recv(DISCARDED_AT_ONCE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        conn.discarded += len(data)
        if not data or conn.discarded > MOST_DISCARDED:
            self._close(conn)

    def _wait(
        self, conn: ClientConnection, queue: DeadlineQueue, event: int, then: Callable[[ClientConnection, Any], None]
    ) -> None:
        conn.queue = queue
        queue.add(conn)
        self.poller.register(conn.sock, event, partial(then, conn))

    def _stop_waiting(self, conn: ClientConnection) -> None:
        if conn.queue is not None:
            self.poller.unregister(conn.sock)
            conn.queue.remove(conn)
            conn.queue = None

    def _close(self, conn: ClientConnection) -> None:
        self._stop_waiting(conn)
        self.nr_conns -= 1
        util.close(conn.sock)

    def _close_late(self) -> None:
        late = [conn for queue in self._queues for conn in queue.late(MOST_CLOSED)]
        self._some_are_late = bool(late)
        for conn in late:
            self._close(conn)

    def _close_oldest(self) -> bool:
        """Close the connection that has waited longest for its caller; False where all have a thread."""
        firsts = [first for queue in self._queues if (first := queue.first())]
        if firsts:
            self._close(min(firsts, key=lambda first: first[1])[0])
        return bool(firsts)
