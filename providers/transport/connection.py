"""One HTTP/1.1 connection and its parser, for client.py and pool.py."""

import socket
import ssl
from math import inf
from select import POLLIN, POLLOUT, poll
from time import monotonic
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

RECEIVE_BYTES = 65_536
"""The most bytes of one read. A burst of frames arrives in one piece, and is sent in one."""

BARREN_BYTES = 262_144
"""The most bytes without a byte of the body: the bound of heads, trailers and chunk extensions."""

QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux has it

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class ProtocolError(Exception):
    """The response is not HTTP, or exceeds a bound."""


class PrematureClose(Exception):
    """The upstream closed before the response was complete; `before_first_byte`: before any byte of it."""

    def __init__(self, *, before_first_byte: bool) -> None:
        super().__init__("closed early")
        self.before_first_byte = before_first_byte


class Connection:
    """A connected socket (plain or TLS) and the response that is arriving on it. Used by one thread at a time.

    After `expect`, call `receive` until `complete`: `status` and `headers` (lower-case names) are there once
    `headed`, and `take` gives the body as far as it has come.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reused = False
        self.kept_at = 0.0
        sock.setblocking(False)
        self._secure = isinstance(sock, ssl.SSLSocket)
        self._poll = poll()
        self._poll.register(sock.fileno(), POLLIN)
        self._parser: Any = HttpResponseParser(self)
        self.expect()

    def expect(self) -> None:
        """Prepare the parser for the next response."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.headed = False
        self.complete = False
        self._touched = False
        self._framed = False
        self._keep_alive = False
        self._surplus = False
        self._barren = 0
        self._body: list[bytes] = []
        self.failure: Exception | None = None

    def send(self, data: bytes, seconds: float) -> None:
        """Write all of it. Raises OSError (TimeoutError when it takes longer)."""
        give_up_by = monotonic() + seconds
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except WOULD_BLOCK as error:
                wanted = POLLIN if isinstance(error, ssl.SSLWantReadError) else POLLOUT
                if not self._ready(wanted, give_up_by - monotonic()):
                    raise TimeoutError("the upstream takes nothing in") from None

    def receive_now(self) -> None:
        """Read what has arrived, without waiting. An exception is kept for the next `receive`."""
        try:
            self._take_in(self._next(0, ready=True))
        except (PrematureClose, ProtocolError, OSError) as error:
            self.failure = error

    @property
    def has_more(self) -> bool:
        """Whether TLS has decrypted bytes already, which the socket does not show."""
        return self._secure and bool(self.sock.pending())  # type: ignore[attr-defined]

    def receive(self, seconds: float) -> bool:
        """Read what arrives within so many seconds; False if nothing does. Raises PrematureClose, ProtocolError and
        OSError.
        """
        if self.failure is not None:
            try:
                raise self.failure
            finally:
                self.failure = None  # its traceback refers to this connection
        return self._take_in(self._next(seconds, ready=self.has_more))

    def _take_in(self, data: bytes | None) -> bool:
        if data is None:
            return False
        if not data:
            self._end_of_stream()
            return True
        self._touched = True
        self._barren += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            raise ProtocolError(str(error)) from error
        if self._barren > BARREN_BYTES:
            raise ProtocolError(f"{self._barren} bytes without a byte of body")
        if not self.complete:
            self._acknowledge()
        return True

    def _next(self, seconds: float, *, ready: bool) -> bytes | None:
        """The bytes that have arrived; b"" at the end of the stream, None after so many seconds without any."""
        give_up_by = monotonic() + seconds
        while True:
            if not ready and not self._ready(POLLIN, give_up_by - monotonic()):
                return None
            try:
                return self.sock.recv(RECEIVE_BYTES)
            except WOULD_BLOCK:
                ready = False  # half a TLS record
            except ConnectionError as error:
                raise PrematureClose(before_first_byte=not self._touched) from error

    def _acknowledge(self) -> None:
        """Acknowledge the received bytes at once. Many upstreams send the next piece only then (Nagle's algorithm), and
        the kernel delays an acknowledgement by 40 ms. TCP_QUICKACK does not last, so it is set each time: tcp(7).
        """
        if QUICKACK is not None:
            self.sock.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)

    def _ready(self, wanted: int, seconds: float) -> bool:
        """Whether the socket can be read from, or written to, within so many seconds."""
        waiting = self._poll
        if wanted != POLLIN:
            waiting = poll()
            waiting.register(self.sock, wanted)
        return bool(waiting.poll(None if seconds == inf else max(0.0, seconds) * 1000))

    def _end_of_stream(self) -> None:
        # llhttp cannot know that the stream ended: only a body with neither length nor chunks is made whole by it.
        if not self.headed or self._framed:
            raise PrematureClose(before_first_byte=not self._touched)
        self.complete = True

    def take(self) -> bytes:
        """The body's bytes that came since the last call."""
        body = self._body
        data = body[0] if len(body) == 1 else b"".join(body)
        body.clear()
        return data

    def reusable(self) -> bool:
        """Whether the next request may use it: the response is complete, and the upstream keeps it open."""
        return self.complete and self._framed and self._keep_alive and not self._surplus

    def alive(self) -> bool:
        """Whether an idle connection is usable: not after unexpected bytes or an end of stream. Session tickets of TLS
        are expected.
        """
        if not self._poll.poll(0):
            return True
        try:
            if self._secure:
                self.sock.recv(1)
        except WOULD_BLOCK:
            return True
        except OSError:
            pass  # it has failed meanwhile
        return False

    def close(self) -> None:
        """Close it, and release what refers to this object."""
        self._parser = self.failure = None
        self.sock.close()

    def on_message_begin(self) -> None:
        """httptools: a response begins. A second one belongs to no request, and is ignored."""
        self._surplus = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a header, or a trailer."""
        if not self.headed and not self._surplus:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """httptools: the head is complete."""
        if self._surplus:
            return
        self.status = self._parser.get_status_code()
        headers = self.headers
        self._framed = "content-length" in headers or "transfer-encoding" in headers or self.status in (204, 304)
        self.headed = self.status >= 200  # noqa: PLR2004 - a 1xx announces that the response is still to come

    def on_body(self, data: bytes) -> None:
        """httptools: a piece of the body."""
        if not self._surplus:
            self._barren = 0
            self._body.append(data)

    def on_message_complete(self) -> None:
        """httptools: the response is complete."""
        if self._surplus:
            return
        if self.headed:
            self.complete = True
            self._keep_alive = bool(self._parser.should_keep_alive())
        else:
            self.headers = {}
