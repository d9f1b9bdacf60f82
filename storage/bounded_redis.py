"""Connections of the redis package with one deadline for a whole exchange. The package's own time-out begins anew with
each byte, does not bound a reply's size, and does not cover the lookup of the host name.
"""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from time import monotonic
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

REPLY_BYTES = 16_000_000


class _Bound(threading.local):
    """The deadline of this thread's exchange, and the bytes that it may still receive."""

    by = 0.0
    size = 0


_bound = _Bound()


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Give all commands in this block one deadline, including a retry and a new connection."""
    _bound.by, _bound.size = monotonic() + seconds, REPLY_BYTES
    yield


def connect(url: str, seconds: float) -> Any:
    """A client for use inside `deadline`. Does not connect yet. Raises ValueError."""
    pool = redis.ConnectionPool.from_url(
        url,
        decode_responses=True,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        # One immediate retry, since the server may have closed an idle connection. No more, since a caller waits.
        retry=Retry(NoBackoff(), 1),
    )
    pool.connection_class = type("Bounded", (_Connection, pool.connection_class), {})
    return redis.Redis(connection_pool=pool)


def _seconds_left() -> float:
    left = _bound.by - monotonic()
    if left <= 0:
        raise TimeoutError("it takes too long")
    return left


class _Connection:
    """A mixin for the package's connection classes: TCP, TLS, Unix sockets."""

    def _connect(self) -> "_Socket":
        left = _seconds_left()
        connected: Future[socket.socket] = Future()

        def work() -> None:
            try:
                connected.set_result(super(_Connection, self)._connect())  # type: ignore[misc]
            except (OSError, ValueError, redis.RedisError) as error:
                connected.set_exception(error)

        threading.Thread(target=work, name="redis", daemon=True).start()
        try:
            return _Socket(connected.result(left))
        except TimeoutError:
            connected.add_done_callback(_close)
            raise


def _close(connected: "Future[socket.socket]") -> None:
    """Close a connection that was made too late."""
    if not connected.exception():
        connected.result().close()


class _Socket:
    """A socket whose waits end at the exchange's deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv(self, size: int) -> bytes:
        """Receive as a socket does. Raises ConnectionError for a reply larger than REPLY_BYTES."""
        with self._in_time():
            data = self._sock.recv(size)
        _bound.size -= len(data)
        if _bound.size < 0:
            raise ConnectionError("it sends too much")
        return data

    def sendall(self, data: bytes) -> None:
        """Send as a socket does."""
        with self._in_time():
            self._sock.sendall(data)

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        timeout = self._sock.gettimeout()
        if timeout != 0:  # 0: the package only checks whether there is something to read
            self._sock.settimeout(_seconds_left())
        try:
            yield
        finally:
            self._sock.settimeout(timeout)
