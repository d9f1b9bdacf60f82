"""Handles the messages of WebSockets in order, in a few threads of the worker's pool."""

import threading
from collections import deque
from collections.abc import Callable
from logging import getLogger

from server.sockets.socket import Socket

log = getLogger("thinkline.errors")

USUAL = 4
"""Threads at the same time. Few are enough, since handlers never block, and the pool's threads are for requests."""
MOST = 64
"""The same while handlers are stuck."""


class Dispatcher:
    """Connections with messages to be handled. `do` has a thread of the pool do a job. Safe for all threads."""

    def __init__(self, do: Callable[[Callable[[], None]], None]) -> None:
        self._do = do
        self._ready: deque[Socket] = deque()
        self._running = 0
        self._handled = self._seen = 0
        self._lock = threading.Lock()

    def add(self, connection: Socket) -> None:
        """Have the connection's handler called, once."""
        with self._lock:
            self._ready.append(connection)
            starts = self._running < USUAL
            self._running += starts
        if starts:
            self._do(self._run)

    def relieve(self) -> None:
        """Use one more thread if no message was handled since the last call."""
        with self._lock:
            is_stuck = bool(self._ready) and self._handled == self._seen and self._running < MOST
            self._seen = self._handled
            self._running += is_stuck
        if is_stuck:
            self._do(self._run)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._ready:
                    self._running -= 1
                    return
                connection = self._ready.popleft()
            try:
                connection.handle_next()
            except Exception:  # any fault: the thread is needed for other connections
                log.exception("a WebSocket's message is lost")
            self._handled += 1
