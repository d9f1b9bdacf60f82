"""The watchers of the live view in this worker."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from core.errors import Overloaded
from usage.overview import Overview

MOST_WATCHERS = 8
RETRY_AFTER_SECONDS = 5.0
SHARED_SECONDS = 1.5
"""How old the shared overview may be."""


@dataclass(slots=True)
class Watchers:
    """Counts watchers, and shares one reading of the database among them. `overview` is None if no usage is kept."""

    overview: Overview | None = None
    _count: int = 0
    _shared: bytes = b""
    _shared_at: float = 0.0
    _making: threading.Lock = field(default_factory=threading.Lock)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self) -> None:
        """Count a new watcher. Raises Overloaded."""
        with self._lock:
            if self._count >= MOST_WATCHERS:
                raise Overloaded("Too many pages watch already.", retry_after=RETRY_AFTER_SECONDS)
            self._count += 1

    def leave(self) -> None:
        """Count off a watcher."""
        with self._lock:
            self._count -= 1

    def see(self, make: Callable[[], bytes]) -> bytes:
        """Return the shared value. If it is older than SHARED_SECONDS, one watcher calls `make` to renew it."""
        with self._making:
            if not self._shared or monotonic() - self._shared_at > SHARED_SECONDS:
                self._shared, self._shared_at = make(), monotonic()
            return self._shared
