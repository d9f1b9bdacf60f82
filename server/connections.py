"""The connections without a request under way. The worker's main thread polls all of them: it reads the heads of
requests, sends the rest of answers, and closes connections. It never blocks on one connection.
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
"""How long the head of a request may take to arrive."""
UNSENT_SECONDS = 30.0
"""How long a caller may read nothing of an answer."""
CLOSING_SECONDS = 2.0
"""How long a caller may take to close its side. If we closed first with bytes unread, the kernel would discard the
answer (RFC 9112, 9.6).
"""
STOPPING_SECONDS = 1.0
"""The limit of each of those waits while the worker ends."""
MOST_DISCARDED = 33_554_432
"""Bytes that are read from a connection that is closing: more than the default of MAX_BODY_BYTES."""
DISCARDED_AT_ONCE = 65_536
PIECE = 16_384
"""Bytes of one read: most requests fit into it."""
SENT_AT_ONCE = 262_144
LARGEST_HEAD = 32_768
"""Bytes of an incomplete head, which are kept in memory for each connection."""
MOST_PIPELINED = 4
"""How many pipelined requests are served at a time: hundreds of callers may have sent hundreds each."""
LOOK_SECONDS = 0.1
"""How often overdue connections are looked for; and the pause after a failed accept."""
MOST_CLOSED = 200
"""How many connections of a queue are closed at a time."""
OUT_OF_RESOURCES = (EMFILE, ENFILE, ENOBUFS, ENOMEM)
FREED_CONNECTIONS = 16
"""Connections that are closed when the system has no resources for another one."""
END_OF_HEAD = b"\r\n\r\n"


class ClientConnection(TConn):  # type: ignore[misc]
    """A caller's connection.

    head        the bytes read so far of its next request
    unsent      the bytes of its last answer that are still to be sent
    keep        whether another request may follow
    discarded   bytes read since the connection is closing
    queue       the queue in which it waits
    upgraded    the WebSocket that it has become
    """

    def __init__(self, *facts: Any) -> None:
        super().__init__(*facts)
        self.sock.setblocking(True)  # for the threads; the main thread passes MSG_DONTWAIT each time
        self.data_ready = True
        self.head = bytearray()
        self.unsent = memoryview(b"")
        self.keep = False
        self.discarded = 0
        self.queue: DeadlineQueue | None = None
        self.upgraded: Socket | None = None


class DeadlineQueue:
    """Connections that wait for the same event, up to `seconds`, in the order of their waiting."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: dict[ClientConnection, float] = {}

    def add(self, conn: ClientConnection) -> None:
        """Add a connection, whose wait begins now. One that waits already begins anew."""
        self._since.pop(conn, None)
        self._since[conn] = monotonic()

    def remove(self, conn: ClientConnection) -> None:
        """Remove a connection that waits no longer."""
        del self._since[conn]

    def oldest(self) -> tuple[ClientConnection, float] | None:
        """The connection that has waited longest, and since when."""
        return next(iter(self._since.items()), None)

    def overdue(self, most: int) -> list[ClientConnection]:
        """Up to `most` connections that have waited too long."""
        by = monotonic() - self.seconds
        found: list[ClientConnection] = []
        for conn, since in self._since.items():
            if since > by or len(found) == most:
                break
            found.append(conn)
        return found

    def shorten(self, seconds: float) -> None:
        """Lower the limit to `seconds`. The waits of all connections begin anew."""
        self.seconds = min(self.seconds, seconds)
        self._since = dict.fromkeys(self._since, monotonic())


class PollingWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's gthread with a main thread that reads heads and never blocks on a connection. The subclass serves."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._awaiting_head = DeadlineQueue(HEAD_SECONDS)
        self._kept = DeadlineQueue(self.cfg.keepalive)
        self._unsent = DeadlineQueue(UNSENT_SECONDS)
        self._closing = DeadlineQueue(CLOSING_SECONDS)
        self._queues = (self._awaiting_head, self._kept, self._unsent, self._closing)
        self._pipelined: deque[ClientConnection] = deque()
        self._pipelined_running: set[ClientConnection] = set()
        self._accepts_from = 0.0
        self._out_of_resources = False
        self._checks_from = 0.0
        self._has_overdue = False

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Skip gunicorn's warning of fewer connections than threads: the limit of open files may allow no more."""

    def accept(self, listener: Any) -> None:
        """Accept a connection. A failure is retried a little later, and never ends the worker."""
        try:
            sock, address = listener.accept()
        except OSError as error:
            if error.errno not in (EAGAIN, ECONNABORTED):
                self.log.warning("No connection can be accepted now: %s.", error.strerror)
                self._accepts_from = monotonic() + LOOK_SECONDS
                self._out_of_resources = error.errno in OUT_OF_RESOURCES
                self.set_accept_enabled(False)
            return
        self.nr_conns += 1
        conn = ClientConnection(self.cfg, sock, address, listener.getsockname())
        self._wait(conn, self._awaiting_head, EVENT_READ, self._read)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Listen or not. After a failed accept, listening is paused."""
        super().set_accept_enabled(enabled and monotonic() >= self._accepts_from)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Do one turn of the loop. It is short while connections are to be closed or accepted."""
        if self._has_overdue or not self._accepting:
            timeout = LOOK_SECONDS
        super().wait_for_and_dispatch_events(timeout)

    def murder_keepalived(self, force: bool = False) -> None:
        """Close overdue connections and, while there are as many as allowed, those that have waited longest."""
        if (now := monotonic()) >= self._checks_from:
            self._checks_from = now + LOOK_SECONDS
            self._close_overdue()
        for _ in range(FREED_CONNECTIONS if self._out_of_resources else 0):
            self._close_oldest()
        self._out_of_resources = False
        while self.nr_conns >= self.worker_connections and self._close_oldest():
            pass

    def _cap_keepalive(self, deadline: float) -> None:
        """Shorten all waits: the worker is to end."""
        for queue in self._queues:
            queue.shorten(STOPPING_SECONDS)

    def finish_request(self, conn: ClientConnection, keep: bool) -> None:
        """Send the rest of the answer, then close, or wait for the next request. A thread has served the connection."""
        conn.keep = keep
        self._pipelined_running.discard(conn)
        if conn.unsent:
            self._wait(conn, self._unsent, EVENT_WRITE, self._send)
        else:
            self._finish_answer(conn)
        self._serve_pipelined()

    def _finish_answer(self, conn: ClientConnection) -> None:
        """Close a connection whose answer is sent, or wait for its next request."""
        if not conn.keep:
            self._shut(conn)
            return
        conn.head += conn.parser.unreader.take_buffered()
        if conn.head and self._can_serve(conn, 0):
            self._pipelined.append(conn)
        else:
            self._wait(conn, self._awaiting_head if conn.head else self._kept, EVENT_READ, self._read)

    def _serve_pipelined(self) -> None:
        while self._pipelined and len(self._pipelined_running) < MOST_PIPELINED:
            conn = self._pipelined.popleft()
            self._pipelined_running.add(conn)
            self.enqueue_req(conn)

    def _read(self, conn: ClientConnection, _: Any) -> None:
        """Read a piece of a head, or notice that the caller has left."""
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
        if self._can_serve(conn, seen):
            self._stop_waiting(conn)
            self.enqueue_req(conn)
        elif conn.queue is self._kept:
            self._kept.remove(conn)
            self._awaiting_head.add(conn)
            conn.queue = self._awaiting_head

    def _can_serve(self, conn: ClientConnection, seen: int) -> bool:
        """Whether a thread can serve the request without waiting for more of its head. `seen` bytes were checked
        before.

        A head with a wrong line ending is never complete; the parser refuses it at once.
        """
        head, begin = conn.head, max(0, seen - 3)
        return (
            head.find(END_OF_HEAD, begin) >= 0
            or head.count(b"\n", begin) != head.count(b"\r\n", max(0, begin - 1))
            or len(head) > LARGEST_HEAD
        )

    def _send(self, conn: ClientConnection, _: Any) -> None:
        """Send more of the answer, or notice that the caller has left."""
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
            self._finish_answer(conn)
            self._serve_pipelined()

    def _shut(self, conn: ClientConnection) -> None:
        """Shut our side, and wait up to CLOSING_SECONDS for the caller to close its side."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
        else:
            self._wait(conn, self._closing, EVENT_READ, self._discard)

    def _discard(self, conn: ClientConnection, _: Any) -> None:
        """Read and discard: the connection is closing."""
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

    def _close_overdue(self) -> None:
        overdue = [conn for queue in self._queues for conn in queue.overdue(MOST_CLOSED)]
        self._has_overdue = bool(overdue)
        for conn in overdue:
            self._close(conn)

    def _close_oldest(self) -> bool:
        """Close the connection that has waited longest; False if none waits."""
        oldest = [found for queue in self._queues if (found := queue.oldest())]
        if oldest:
            self._close(min(oldest, key=lambda found: found[1])[0])
        return bool(oldest)
