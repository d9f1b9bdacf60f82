"""Those who watch the live view in this worker."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from core.errors import Overloaded
from usage.overview import Overview

MOST_WATCHERS = 8
COME_AGAIN = 5.0
"""Seconds, for Retry-After."""
SHARED_SECONDS = 1.5
"""How old what all see together may be."""


@dataclass(slots=True)
class Watchers:
    """How many there are, and what of the database they see: `overview`, None where no usage is kept."""

    overview: Overview | None = None
    _count: int = 0
    _shared: bytes = b""
    _shared_at: float = 0.0
    _making: threading.Lock = field(default_factory=threading.Lock)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self) -> None:
        """One more. Raises Overloaded."""
        with self._lock:
            if self._count >= MOST_WATCHERS:
                raise Overloaded("Too many pages watch already.", retry_after=COME_AGAIN)
            self._count += 1

    def leave(self) -> None:
        """One has gone."""
        with self._lock:
            self._count -= 1

    def see(self, make: Callable[[], bytes]) -> bytes:
        """What all see together: made by one of them, and not each time."""
        with self._making:
            if not self._shared or monotonic() - self._shared_at > SHARED_SECONDS:
                self._shared, self._shared_at = make(), monotonic()
            return self._shared
