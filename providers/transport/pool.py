"""Connections kept for the next request."""

from collections import deque
from time import monotonic

from providers.transport.connection import Connection

KEPT_SECONDS = 50.0
"""How long a connection waits for its next request: less than the 60 s after which load balancers drop it."""

KEPT_CONNECTIONS = 512


class Pool:
    """Idle connections, last used first, so that surplus ones reach their maximum age and are closed."""

    def __init__(self) -> None:
        self._kept: deque[Connection] = deque()

    def take(self) -> Connection | None:
        """Remove and return a connection that is still open; None if there is none."""
        while self._kept:
            try:
                connection = self._kept.pop()
            except IndexError:  # another thread took the last one
                return None
            # Also one that has just been returned: unexpected bytes on it would become the next request's answer.
            if monotonic() - connection.kept_at < KEPT_SECONDS and connection.alive():
                connection.reused = True
                return connection
            connection.close()
        return None

    def put(self, connection: Connection) -> None:
        """Keep a connection for the next request, and close those beyond the maximum age or number, oldest first."""
        connection.kept_at = monotonic()
        self._kept.append(connection)
        while self._kept:
            try:
                eldest = self._kept.popleft()
            except IndexError:
                return
            if len(self._kept) < KEPT_CONNECTIONS and connection.kept_at - eldest.kept_at < KEPT_SECONDS:
                self._kept.appendleft(eldest)
                return
            eldest.close()

    def lasts(self, seconds: float) -> bool:
        """Whether a pooled connection will still be usable in so many seconds."""
        try:
            newest = self._kept[-1]
        except IndexError:
            return False
        return monotonic() - newest.kept_at < KEPT_SECONDS - seconds and newest.alive()

    def __len__(self) -> int:
        return len(self._kept)
