"""Those who watch the live view in this worker."""

import threading
from dataclasses import dataclass, field

from core.errors import Overloaded
from usage.overview import Overview

MOST_WATCHERS = 8
COME_AGAIN = 5.0
"""Seconds, for Retry-After."""


@dataclass(slots=True)
class Watchers:
    """How many there are, and what of the database they see: `overview`, None where no usage is kept."""

    overview: Overview | None = None
    _count: int = 0
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
