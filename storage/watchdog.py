"""Bounds what a server may keep a thread waiting: PostgreSQL's driver waits for an answer however long it takes."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep

LOOK_SECONDS = 0.5


class Watchdog:
    """Shuts the sockets of connections that are used for too long, by a thread that starts with the first. Safe for all
    threads.
    """

    def __init__(self) -> None:
        self._watched: dict[object, tuple[float, int]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, descriptor: int, seconds: float) -> Iterator[None]:
        """Within this block, the socket is shut once so many seconds are over: who reads from it gets an error."""
        use = object()
        with self._lock:
            self._watched[use] = monotonic() + seconds, descriptor
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._watched.pop(use, None)

    def _look(self) -> None:
        while True:
            sleep(LOOK_SECONDS)
            now = monotonic()
            with self._lock:  # so that no descriptor is another's by now
                for use, (until, descriptor) in list(self._watched.items()):
                    if now >= until:
                        del self._watched[use]
                        _shut(descriptor)


def _shut(descriptor: int) -> None:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # closed already
