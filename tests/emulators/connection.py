"""One client's connection, as an emulated vendor sees it: reads requests, sends any bytes, notices a hang-up."""

import json
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

PATIENCE = 60.0
"""Seconds. Nothing here waits longer, so that no forgotten client holds up a test run."""
HEAD_BYTES = 1024 * 1024
BODY_BYTES = 256 * 1024 * 1024
RECEIVE_BYTES = 65_536

LEFT = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
"""How poll tells that the other side has closed. Without POLLRDHUP (macOS) POLLHUP alone has to do."""
NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Gone(Exception):
    """The client has left, or this side has closed: there is nobody to talk to."""


class BadRequest(Exception):
    """What came is not HTTP/1.1."""


class Headers(dict[str, str]):
    """Header fields, found in any case. A repeated field is joined with commas."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise BadRequest(line)
            key = name.lower()
            super().__setitem__(key, f"{self[key]}, {value.strip()}" if key in self else value.strip())

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name.lower() if isinstance(name, str) else name)

    def get(self, name: str, default: Any = None) -> Any:
        """The field's value, or the default."""
        return super().get(name.lower(), default)


@dataclass(eq=False)
class Received:
    """A request as it came. Times are monotonic seconds.

    `path` includes the query, `connection` is the number of the connection (from 1) that it came on.
    `closed_at` is when the client was noticed to have closed that connection, while this request was answered or
    before another one came on it; None when it has not, or when this side closed first.
    """

    method: str
    path: str
    headers: Headers
    body: bytes
    connection: int
    arrived_at: float
    closed_at: float | None = None
    _closed: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def wait_closed(self, timeout: float = 5.0) -> float:
        """Wait for `closed_at`. Raises TimeoutError when the client is still there after so many seconds."""
        self._closed.wait(timeout)
        if self.closed_at is None:
            raise TimeoutError(f"The client still holds connection {self.connection} after {timeout} s.")
        return self.closed_at

    def left(self) -> None:
        """The client has closed the connection."""
        if self.closed_at is None:
            self.closed_at = monotonic()
            self._closed.set()


class Connection:
    """What a handler answers on. Used by one thread, `drop` excepted; every method raises Gone once nobody is there.

    `number` counts the server's connections and `requests` the requests that came on this one, both from 1.
    """

    def __init__(self, sock: socket.socket, number: int) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self.number = number
        self.requests = 0
        self.closed = False
        self._sock = sock
        self._poll = select.poll()
        self._poll.register(sock.fileno())
        self._lock = threading.Lock()
        self._dropped = False
        self._buffer = bytearray()
        self._current: Received | None = None

    @contextmanager
    def corked(self) -> Iterator[None]:
        """What is sent within leaves in one piece (Linux)."""
        cork = getattr(socket, "TCP_CORK", None)
        if cork is None:
            yield
            return
        self._sock.setsockopt(socket.IPPROTO_TCP, cork, 1)
        yield
        self._sock.setsockopt(socket.IPPROTO_TCP, cork, 0)

    @property
    def port(self) -> int:
        """The server's port."""
        port: int = self._sock.getsockname()[1]
        return port

    def secure(self, context: ssl.SSLContext) -> None:
        """Shake hands. Raises OSError."""
        with self._lock:
            self._sock.settimeout(PATIENCE)
            self._sock = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
            sock = self._sock
        sock.do_handshake()
        sock.setblocking(False)

    def send(self, data: bytes) -> None:
        """Send exactly these bytes, as one packet where they fit into one."""
        rest = memoryview(data)
        while rest:
            self._wait(select.POLLOUT, PATIENCE)
            try:
                rest = rest[self._sock.send(rest) :]
            except NOT_NOW:
                continue
            except OSError as error:
                raise self._gone() from error

    def pause(self, seconds: float) -> None:
        """Say nothing for so long."""
        until = monotonic() + min(seconds, PATIENCE)
        self._wait(0, 0.0)
        while (left := until - monotonic()) > 0:
            self._wait(0, left)

    def hold(self) -> None:
        """Say nothing more and keep the connection, until the client leaves."""
        self.pause(PATIENCE)
        self.close()

    def close(self) -> None:
        """End it politely: FIN, after close_notify under TLS."""
        with self._lock:
            if isinstance(self._sock, ssl.SSLSocket) and not self.closed:
                try:
                    self._sock.unwrap()
                except (OSError, ValueError):
                    pass  # the client need not answer
            self.closed = True
            self._sock.close()

    def reset(self) -> None:
        """End it rudely: RST."""
        with self._lock:
            if not self.closed:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.closed = True
            self._sock.close()

    def drop(self) -> None:
        """End it from another thread: whoever works on it gets Gone, and the request no `closed_at`."""
        with self._lock:
            self._dropped = True
            try:
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
            except OSError:
                pass  # already closed

    def read(self) -> Received:
        """The next request, its body complete. Raises BadRequest."""
        line, *fields = self._until(b"\r\n\r\n", HEAD_BYTES).decode("latin-1").split("\r\n")
        try:
            method, path, version = line.split(" ")
        except ValueError:
            raise BadRequest(line) from None
        if version != "HTTP/1.1":
            raise BadRequest(line)
        headers = Headers(fields)
        if headers.get("Expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._body(headers)
        self.requests += 1
        self._current = Received(method, path, headers, body, self.number, monotonic())
        return self._current

    def _body(self, headers: Headers) -> bytes:
        if headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(self._chunks())
        try:
            return self._exactly(int(headers.get("Content-Length", "0")))
        except ValueError as error:
            raise BadRequest("Content-Length") from error

    def _chunks(self) -> Iterator[bytes]:
        while True:
            line = self._until(b"\r\n", HEAD_BYTES)
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError as error:
                raise BadRequest(line) from error
            if size == 0:
                break
            yield self._exactly(size)
            self._exactly(2)
        while self._until(b"\r\n", HEAD_BYTES):
            pass  # trailers

    def _until(self, mark: bytes, most: int) -> bytes:
        while (end := self._buffer.find(mark)) < 0:
            if len(self._buffer) > most:
                raise BadRequest(f"more than {most} bytes")
            self._buffer += self._receive()
        return self._take(end + len(mark))[:end]

    def _exactly(self, size: int) -> bytes:
        if not 0 <= size <= BODY_BYTES:
            raise BadRequest(f"{size} bytes")
        while len(self._buffer) < size:
            self._buffer += self._receive()
        return self._take(size)

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _receive(self) -> bytes:
        until = monotonic() + PATIENCE
        while not self.closed:
            try:
                data = self._sock.recv(RECEIVE_BYTES)
            except NOT_NOW:
                self._poll.modify(self._sock.fileno(), select.POLLIN)
                if not self._poll.poll((until - monotonic()) * 1000):
                    raise Gone from None
                continue
            except OSError as error:
                raise self._gone() from error
            if data:
                return data
            raise self._gone()
        raise Gone

    def _wait(self, events: int, seconds: float) -> None:
        """Wait for one of the events, or for the time to pass."""
        if self.closed:
            raise Gone
        self._poll.modify(self._sock.fileno(), events | LEFT)
        ready = self._poll.poll(seconds * 1000)
        if ready and ready[0][1] & LEFT:
            raise self._gone()
        if events and not ready:
            raise Gone

    def _gone(self) -> Gone:
        if self._current is not None and not self._dropped:
            self._current.left()
        return Gone()
