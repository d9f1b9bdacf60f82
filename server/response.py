"""gunicorn's response, as Thinkline writes it: the head goes out with the first of the body, and whoever writes, the
request's thread or the keeper of lines, writes whole pieces under one lock.
"""

import errno
import select
import socket
import threading
from functools import lru_cache, wraps
from time import monotonic, time
from typing import Any

from gunicorn.http import wsgi
from gunicorn.http.errors import ParseException
from gunicorn.util import http_date

RESPONSE = "thinkline.response"
"""The environ's key of the response to a request."""
STALLED_SECONDS = 30.0
"""How long a caller may take nothing of a stream."""
SMALL = 65_536
"""Bytes of a body's first piece, up to which it goes out together with the head."""
MOST_UNREAD = 65_536
"""Bytes of a request's body that are discarded for the sake of a kept connection."""


def send_now(sock: socket.socket, data: bytes | bytearray | memoryview) -> int:
    """Send what the caller takes without being waited for; returns how many bytes. Raises OSError."""
    try:
        return sock.send(data, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return 0


def send_all(sock: socket.socket, data: bytes, seconds: float) -> None:
    """Send all of it. Raises OSError, also for a caller who takes nothing for so many seconds.

    The socket stays blocking: other threads use it too.
    """
    view = memoryview(data)
    while view := view[send_now(sock, view) :]:
        writable = select.poll()
        writable.register(sock, select.POLLOUT)
        if not writable.poll(seconds * 1000):
            raise ConnectionResetError(errno.ECONNRESET, "nothing was read of it in time")


class Response(wsgi.Response):  # type: ignore[misc]
    """A whole answer waits for nobody: what its caller does not take is left as the request's `unsent`, for the main
    thread. A stream is written by the request's thread, which waits for its caller, and by the keeper of lines,
    which does not: what did not fit then is `unsent` here, and goes first the next time.

    lock           held by who writes to a stream
    written_at     when something was last written, by the monotonic clock
    unsent_since   since when nothing of `unsent` has been taken
    """

    def __init__(self, req: Any, sock: Any, cfg: Any) -> None:
        super().__init__(req, sock, cfg)
        self._head = b""
        self.headers_sent = False
        req.unsent = b""
        req.upgraded = None
        self.lock = threading.Lock()
        self.unsent = b""
        self.unsent_since = 0.0
        self.written_at = 0.0
        self.closed = False
        self._failure: OSError | None = None
        self._waits = True

    def default_headers(self) -> list[str]:
        """What each head begins with. gunicorn asks the calendar each time, and names itself."""
        major, minor = self.req.version
        after = "upgrade" if self.upgrade else "close" if self.should_close() else "keep-alive"
        lines = [
            f"HTTP/{major}.{minor} {self.status}\r\n",
            f"Date: {_date(int(time()))}\r\n",
            f"Connection: {after}\r\n",
        ]
        return [*lines, "Transfer-Encoding: chunked\r\n"] if self.chunked else lines

    def send_headers(self) -> None:
        """Make the head, which goes out with what comes next."""
        if self.headers_sent:
            return
        if not self.must_close and not _discard_body(self.req):
            self.force_close()
        lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
        self._head = "".join(lines).encode("latin-1")
        self.headers_sent = True

    def upgrade_to(self, connection: object) -> None:
        """When this answer is written, its socket is that connection's."""
        self.req.upgraded = connection

    def can_sendfile(self) -> bool:
        """Files go out as other answers do."""
        return False

    def write(self, data: bytes) -> None:
        """Write a piece of the body, and wait until the caller has taken it."""
        with self.lock:
            super().write(data)

    def write_now(self, data: bytes) -> None:
        """The same without waiting, for a stream; only with the lock. Raises OSError."""
        self._waits = False
        try:
            super().write(data)
        finally:
            self._waits = True

    def flush_now(self) -> bool:
        """Send of `unsent` what the caller takes without being waited for; whether that was all. Only with the lock.
        Raises OSError.
        """
        sent = send_now(self.sock, self.unsent)
        if sent:
            self.unsent = self.unsent[sent:]
            self.unsent_since = monotonic()
        return not self.unsent

    def close(self) -> None:
        """The answer is complete: nothing is written any more."""
        with self.lock:
            self.closed = True
            self.send_headers()
            if self.chunked:
                self._send(self._head + b"0\r\n\r\n")
            elif self._head or self.unsent:
                self._send(self._head)

    def _emit_body(self, data: bytes) -> None:
        """Send a piece of the body. One that fills packets of its own is not copied to save one."""
        if self.chunked:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        head, self._head = self._head, b""
        if head and len(data) > SMALL:
            self._send(head)
            head = b""
        self._send(head + data if head else data)

    def _send(self, data: bytes) -> None:
        if self.response_length is not None or self._omits_body:
            self._send_whole(data)
            return
        if self._failure is not None:  # what was cut off in the middle has no end
            raise self._failure
        self.written_at = monotonic()
        if self.unsent:
            data, self.unsent = self.unsent + data, b""
        try:
            if self._waits:
                send_all(self.sock, data, STALLED_SECONDS)
            elif rest := data[send_now(self.sock, data) :]:
                self.unsent, self.unsent_since = rest, self.written_at
        except OSError as error:
            self._failure = error
            raise

    def _send_whole(self, data: bytes) -> None:
        if self.req.unsent:
            self.req.unsent += data
        else:
            self.req.unsent = data[send_now(self.sock, data) :]


_create = getattr(wsgi.create, "__wrapped__", wsgi.create)  # with RELOAD this module is loaded more than once


@wraps(_create)
def create(*arguments: Any) -> tuple[Response, dict[str, Any]]:
    """What gunicorn's `wsgi.create` makes, with our response, which the environ has too."""
    response, environ = _create(*arguments, response_class=Response)
    environ[RESPONSE] = response
    return response, environ


wsgi.create = create  # gunicorn has no setting for it


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    date: str = http_date(second)
    return date


class _WithoutWaiting:
    """A socket that is read without waiting: it stays blocking for the other threads."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def recv(self, size: int) -> bytes:
        return self._socket.recv(size, socket.MSG_DONTWAIT)


def _discard_body(req: Any) -> bool:
    """Discard what is left of a request's body, as far as it has come. Whether that was all of it, so that another
    request may follow: more is not waited for.
    """
    body = req.body
    if getattr(body.reader, "length", None) == 0 and not body.buf.tell():
        return True
    sock = req.unreader.sock
    req.unreader.sock = _WithoutWaiting(sock)
    try:
        return not body.failed and len(body.read(MOST_UNREAD)) < MOST_UNREAD
    except (OSError, ParseException):
        return False
    finally:
        req.unreader.sock = sock
