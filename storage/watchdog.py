"""Bounds how long a thread waits for a database server: PostgreSQL's driver has no such limit."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep

LOOK_SECONDS = 0.5


class Watchdog:
    """Shuts the sockets of connections that are used for too long, in a thread that starts with the first use. Safe for
    all threads.
    """

    def __init__(self) -> None:
        self._uses: dict[object, tuple[float, int]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, descriptor: int, seconds: float) -> Iterator[None]:
        """A context after whose `seconds` the socket is shut, so that a blocked read fails."""
        use = object()
        with self._lock:
            self._uses[use] = monotonic() + seconds, descriptor
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._uses.pop(use, None)

    def _watch(self) -> None:
        while True:
            sleep(LOOK_SECONDS)
            now = monotonic()
            with self._lock:  # so that no descriptor was closed and reused
                for use, (until, descriptor) in list(self._uses.items()):
                    if now >= until:
                        del self._uses[use]
                        _shut(descriptor)


def _shut(descriptor: int) -> None:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # closed already
