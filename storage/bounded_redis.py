"""The redis package's connections, bounded in all: its own time-out is for each wait for bytes, and begins anew with
each byte; a reply may be of any size; and looking a name up takes as long as it takes.
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
    """What this thread's exchange may still take."""

    by = 0.0
    size = 0


_bound = _Bound()


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """What is asked of a server within takes so long in all, whatever it answers, with a retry and a connection."""
    _bound.by, _bound.size = monotonic() + seconds, REPLY_BYTES
    yield


def connect(url: str, seconds: float) -> Any:
    """A client, to be used within `bounded`. Connects to nobody yet. Raises ValueError."""
    pool = redis.ConnectionPool.from_url(
        url,
        decode_responses=True,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        # Once more at once: a kept connection may have been closed meanwhile. Not more often: somebody is on the phone.
        retry=Retry(NoBackoff(), 1),
    )
    pool.connection_class = type("Bounded", (_Connection, pool.connection_class), {})
    return redis.Redis(connection_pool=pool)


def _left() -> float:
    left = _bound.by - monotonic()
    if left <= 0:
        raise TimeoutError("it takes too long")
    return left


class _Connection:
    """Mixed into the package's kinds of connection: TCP, TLS, Unix sockets."""

    def _connect(self) -> "_Socket":
        left = _left()
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
    """Nobody waits for it any longer."""
    if not connected.exception():
        connected.result().close()


class _Socket:
    """A socket whose waits end when the exchange is to have ended."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv(self, size: int) -> bytes:
        """As a socket's. Raises ConnectionError when more has come than may."""
        with self._in_time():
            data = self._sock.recv(size)
        _bound.size -= len(data)
        if _bound.size < 0:
            raise ConnectionError("it sends too much")
        return data

    def sendall(self, data: bytes) -> None:
        """As a socket's."""
        with self._in_time():
            self._sock.sendall(data)

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        timeout = self._sock.gettimeout()
        if timeout != 0:  # else it is only asked whether there is something
            self._sock.settimeout(_left())
        try:
            yield
        finally:
            self._sock.settimeout(timeout)
