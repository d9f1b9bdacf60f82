"""gunicorn's response, which sends the head together with the first bytes of the body. The request's thread and the
keeper of lines write whole pieces to it, under one lock.
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
"""How long a caller may read nothing of a stream."""
SMALL = 65_536
"""Bytes. A first piece of a body up to this size is sent together with the head."""
MOST_UNREAD = 65_536
"""Bytes of an unread request body that are discarded to keep the connection."""


def send_now(sock: socket.socket, data: bytes | bytearray | memoryview) -> int:
    """Send without blocking; returns how many bytes were sent. Raises OSError."""
    try:
        return sock.send(data, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return 0


def send_all(sock: socket.socket, data: bytes, seconds: float) -> None:
    """Send all data. Raises OSError, also when the caller reads nothing for `seconds`.

    The socket stays blocking: other threads use it too.
    """
    view = memoryview(data)
    while view := view[send_now(sock, view) :]:
        writable = select.poll()
        writable.register(sock, select.POLLOUT)
        if not writable.poll(seconds * 1000):
            raise ConnectionResetError(errno.ECONNRESET, "nothing was read of it in time")


class Response(wsgi.Response):  # type: ignore[misc]
    """A response to one request. Writing a whole body never blocks: bytes that the caller does not read become the
    request's `unsent`, which the main thread sends. A stream is written by the request's thread, which may block, and
    by the keeper of lines, which does not: its unsent bytes are `unsent` here, and are sent first the next time.

    lock           is held while a stream is written to
    written_at     when something was last written, by the monotonic clock
    unsent_since   since when no byte of `unsent` was sent
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
        self._failure: tuple[Any, ...] | None = None
        self._waits = True

    def default_headers(self) -> list[str]:
        """The first lines of the head. gunicorn's version formats the date each time, and adds a Server header."""
        major, minor = self.req.version
        after = "upgrade" if self.upgrade else "close" if self.should_close() else "keep-alive"
        lines = [
            f"HTTP/{major}.{minor} {self.status}\r\n",
            f"Date: {_date(int(time()))}\r\n",
            f"Connection: {after}\r\n",
        ]
        return [*lines, "Transfer-Encoding: chunked\r\n"] if self.chunked else lines

    def send_headers(self) -> None:
        """Make the head, which is sent together with the next bytes."""
        if self.headers_sent:
            return
        if not self.must_close and not _discard_body(self.req):
            self.force_close()
        lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
        self._head = "".join(lines).encode("latin-1")
        self.headers_sent = True

    def upgrade_to(self, connection: object) -> None:
        """Hand the socket to `connection` once this response is written."""
        self.req.upgraded = connection

    def can_sendfile(self) -> bool:
        """False: files are sent as other bodies are."""
        return False

    def write(self, data: bytes) -> None:
        """Write a piece of the body, and block until it is sent."""
        with self.lock:
            super().write(data)

    def write_now(self, data: bytes) -> None:
        """Write a piece of a stream without blocking. The lock must be held. Raises OSError."""
        self._waits = False
        try:
            super().write(data)
        finally:
            self._waits = True

    def flush_now(self) -> bool:
        """Send `unsent` without blocking; returns whether all of it was sent. The lock must be held. Raises OSError."""
        sent = send_now(self.sock, self.unsent)
        if sent:
            self.unsent = self.unsent[sent:]
            self.unsent_since = monotonic()
        return not self.unsent

    def close(self) -> None:
        """Send the end of the body. Nothing may be written afterwards."""
        with self.lock:
            self.closed = True
            self.send_headers()
            if self.chunked:
                self._send(self._head + b"0\r\n\r\n")
            elif self._head or self.unsent:
                self._send(self._head)

    def _emit_body(self, data: bytes) -> None:
        """Send a piece of the body. The head is sent separately from a large piece, which need not be copied then."""
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
        if self._failure is not None:  # a stream that broke off gets no end
            raise OSError(*self._failure)
        self.written_at = monotonic()
        if self.unsent:
            data, self.unsent = self.unsent + data, b""
        try:
            if self._waits:
                send_all(self.sock, data, STALLED_SECONDS)
            elif rest := data[send_now(self.sock, data) :]:
                self.unsent, self.unsent_since = rest, self.written_at
        except OSError as error:
            self._failure = error.args  # the traceback of `error` refers to this response
            raise

    def _send_whole(self, data: bytes) -> None:
        if self.req.unsent:
            self.req.unsent += data
        else:
            self.req.unsent = data[send_now(self.sock, data) :]


_create = getattr(wsgi.create, "__wrapped__", wsgi.create)  # with RELOAD this module is loaded more than once


@wraps(_create)
def create(*arguments: Any) -> tuple[Response, dict[str, Any]]:
    """Call gunicorn's `wsgi.create` with our response class. The environ gets the response too."""
    response, environ = _create(*arguments, response_class=Response)
    environ[RESPONSE] = response
    return response, environ


wsgi.create = create  # gunicorn has no setting for it


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    date: str = http_date(second)
    return date


class _NonBlockingReader:
    """Reads a socket without blocking; the socket itself stays blocking for the other threads."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def recv(self, size: int) -> bytes:
        return self._socket.recv(size, socket.MSG_DONTWAIT)


def _discard_body(req: Any) -> bool:
    """Discard the unread rest of a request's body, as far as it has arrived, without blocking. Returns whether that was
    all of it, so that another request may follow.
    """
    body = req.body
    if getattr(body.reader, "length", None) == 0 and not body.buf.tell():
        return True
    sock = req.unreader.sock
    req.unreader.sock = _NonBlockingReader(sock)
    try:
        return not body.failed and len(body.read(MOST_UNREAD)) < MOST_UNREAD
    except (OSError, ParseException):
        return False
    finally:
        req.unreader.sock = sock
