"""Jobs with a time, which one thread takes when they are due."""

import threading
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf


class _Timer:
    __slots__ = ("job",)

    def __init__(self, job: Callable[[], None] | None) -> None:
        self.job = job

    def cancel(self) -> None:
        self.job = None  # frees what the job refers to now; the timer itself is removed when it is due


class Timers:
    """Jobs by their times, of the monotonic clock. Safe for all threads."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _Timer]] = []
        self._number = count()
        self._lock = threading.Lock()

    def add(self, due: float, job: Callable[[], None]) -> tuple[Callable[[], None], bool]:
        """Add a job; returns a function that cancels it, and whether it is the next job that is due."""
        timer = _Timer(job)
        with self._lock:
            heappush(self._heap, (due, next(self._number), timer))
            return timer.cancel, self._heap[0][2] is timer

    @property
    def next(self) -> float:
        """When the next job is due; inf if there is none."""
        with self._lock:
            return self._heap[0][0] if self._heap else inf

    def take(self, now: float) -> list[Callable[[], None]]:
        """Remove and return the jobs that are due."""
        due = []
        with self._lock:
            while self._heap and self._heap[0][0] <= now:
                due.append(heappop(self._heap)[2].job)
        return [job for job in due if job is not None]
