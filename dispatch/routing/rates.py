"""Requests to each deployment in the last minute, for deployments that have a limit (`rpm`) in models.yaml."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

MINUTE = 60.0


@dataclass(slots=True)
class Rates:
    """Counts by name, in this process. Safe for all threads."""

    clock: Callable[[], float] = monotonic
    _asked: dict[str, deque[float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: str) -> None:
        """Count a request. Only names that were given to `wait` before are counted."""
        if name in self._asked:
            with self._lock:
                self._asked[name].append(self.clock())

    def wait(self, name: str, most: int) -> float:
        """Seconds until the next request is within `most` a minute; 0.0 if it is now."""
        now = self.clock()
        with self._lock:
            recent = self._asked.setdefault(name, deque())
            while recent and recent[0] <= now - MINUTE:
                recent.popleft()
            return recent[-most] + MINUTE - now if len(recent) >= most else 0.0
