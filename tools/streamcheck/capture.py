"""One HTTP exchange at the level of bytes: what came, when, and how it ended.

A socket and a parser instead of a client library, because a library's buffers hide when bytes arrived, and its
patience hides how a body ended.
"""

import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, cached_property
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import certifi
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

RECEIVE_BYTES = 65_536
HEAD_BYTES = 1024 * 1024
LINE_BYTES = 4 * 1024 * 1024
MOST_BYTES = 64 * 1024 * 1024
"""No chat answer has a longer head, a longer line, or more in all."""

CONNECT_SECONDS = 10.0
HELD_SECONDS = 1.0
"""How long the body may stay open after [DONE]."""

DONE = b"[DONE]"
DATA = b"data:"
AT_DONE = re.compile(rb"(^|[\r\n])data: ?\[DONE\]\s*\Z")
TAIL_BYTES = 32


class Unreachable(Exception):
    """There is no connection to the endpoint, so nothing to judge."""


class End(StrEnum):
    """How a response ended; the values complete the sentence "the response ..."."""

    WHOLE = "ended as HTTP has it"
    CLOSED = "ended with its connection, having neither a length nor chunks"
    CUT = "was cut: the connection closed in the middle of it"
    RESET = "was cut: the connection was reset in the middle of it"
    SILENT = "fell silent and was given up"
    HELD = f"stayed open for more than {HELD_SECONDS:g} s after [DONE]"
    GARBAGE = "is not HTTP"
    ENDLESS = "was given up: it is far too long, or has a line that is"


@dataclass(frozen=True)
class Arrival:
    """A piece of the body, and the seconds from sending the request until it came."""

    at: float
    data: bytes


@dataclass(frozen=True)
class Capture:
    """A response. Times are seconds since the request was sent; `connect` is what came before that.

    `status` is 0, and `head_at` None, when no answer came. Header names are lower-case.
    """

    status: int
    headers: Mapping[str, str]
    arrivals: tuple[Arrival, ...]
    end: End
    head_at: float | None = None
    ended_at: float = 0.0
    connect: float = 0.0

    @cached_property
    def body(self) -> bytes:
        """All of the body that came."""
        return b"".join(arrival.data for arrival in self.arrivals)


@dataclass
class _Response:
    """What the parser tells of a response."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    headed: bool = False
    complete: bool = False
    body: list[bytes] = field(default_factory=list)
    parser: Any = None

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        if not self.headed:  # later ones are trailers
            text = value.decode("latin-1")
            self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        if self.complete:  # a second response, which was not asked for
            return
        self.status = self.parser.get_status_code()
        self.headed = self.status >= 200  # noqa: PLR2004 - a 1xx announces that the response is still to come

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self.body.append(data)

    def on_message_complete(self) -> None:
        if self.headed:
            self.complete = True
        else:
            self.headers.clear()

    @property
    def has_length(self) -> bool:
        """Whether the response itself says where it ends."""
        return "content-length" in self.headers or "transfer-encoding" in self.headers


class _Reading:
    """One response while it is read from its socket."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._sock = sock
        self._timeout = timeout
        self._response = _Response()
        self._parser = self._response.parser = HttpResponseParser(self._response)
        self._started = monotonic()
        self._deadline = self._started + timeout
        self._arrivals: list[Arrival] = []
        self._head_at: float | None = None
        self._tail = b""
        self._total = 0
        self._line = 0
        self._done = False

    def run(self, connect: float) -> Capture:
        """Read until it ends, in whichever way."""
        end: End | None = None
        while end is None:
            end = self._step()
        response = self._response
        status = response.status if response.headed else 0
        ended_at = monotonic() - self._started
        response.parser = None
        return Capture(status, response.headers, tuple(self._arrivals), end, self._head_at, ended_at, connect)

    def _step(self) -> End | None:
        left = self._deadline - monotonic()
        if left <= 0:
            return End.HELD if self._done else End.SILENT
        self._sock.settimeout(left)
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except TimeoutError:
            return None
        except OSError:
            return End.RESET
        at = monotonic() - self._started
        if not data:
            return End.CLOSED if self._response.headed and not self._response.has_length else End.CUT
        return self._take(data, at)

    def _take(self, data: bytes, at: float) -> End | None:
        response = self._response
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            if not response.complete:
                return End.GARBAGE
        if response.headed and self._head_at is None:
            self._head_at = at
        if response.body:
            self._note(Arrival(at, b"".join(response.body)))
            response.body.clear()
        self._total += len(data)
        if response.complete:
            return End.WHOLE
        most = MOST_BYTES if response.headed else HEAD_BYTES
        return End.ENDLESS if self._total > most or self._line > LINE_BYTES else None

    def _note(self, arrival: Arrival) -> None:
        self._arrivals.append(arrival)
        after_line = arrival.data.rfind(b"\n") + 1
        self._line = len(arrival.data) - after_line + (0 if after_line else self._line)
        news = self._tail[-len(DATA) + 1 :] + arrival.data
        self._tail = (self._tail + arrival.data)[-TAIL_BYTES:]
        if self._done:
            return
        if AT_DONE.search(self._tail):
            self._done = True
            self._deadline = monotonic() + HELD_SECONDS
        elif DATA in news:  # comments keep a line open, but they are not what the caller waits for
            self._deadline = monotonic() + self._timeout


def exchange(method: str, url: str, headers: Mapping[str, str], body: bytes, timeout: float) -> Capture:
    """Send a request and record the response. `timeout` is the patience for the first and for each next event.

    Raises Unreachable, and ValueError for a URL or a header that cannot be sent.
    """
    request = _request(method, url, headers, body)
    started = monotonic()
    with _connect(url, min(timeout, CONNECT_SECONDS)) as sock:
        connect = monotonic() - started
        reading = _Reading(sock, timeout)
        try:
            sock.settimeout(timeout)
            sock.sendall(request)
        except OSError:
            pass  # the endpoint may have answered, and closed, before it had read everything
        return reading.run(connect)


def _request(method: str, url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError(f"{url!r} names no host.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    fields = {
        "Host": parts.netloc.rpartition("@")[2],
        "User-Agent": "thinkline-test-streaming",
        "Accept-Encoding": "identity",
        **headers,
        **({"Content-Length": str(len(body))} if body else {}),
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if not all(line.isascii() and line.isprintable() for line in lines):
        raise ValueError("The address and the key must be plain ASCII.")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _connect(url: str, timeout: float) -> socket.socket:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    try:
        sock = socket.create_connection((parts.hostname, parts.port or (443 if secure else 80)), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not secure:
            return sock
        try:
            return _tls().wrap_socket(sock, server_hostname=parts.hostname)
        except BaseException:  # a socket without an owner is never closed
            sock.close()
            raise
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"{parts.scheme}://{parts.netloc} cannot be reached: {error}.") from error


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
