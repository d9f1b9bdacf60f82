"""A clock that a test moves, in place of the system's."""

import threading
from math import inf

from core.clock import Clock
from tests.conftest import EVER


class ManualClock(Clock):
    """Time passes only by `advance`, and when a thread sleeps: then by as many seconds as it sleeps, at once."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._now = seconds
        self._waiting: list[threading.Condition] = []
        self._lock = threading.Lock()

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass, and wake the threads that wait on a condition."""
        with self._lock:
            self._now += seconds
            waiting = list(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()

    def wait(self, waited_for: threading.Condition | threading.Event, by: float) -> bool:
        if isinstance(waited_for, threading.Event):
            if by == inf or waited_for.is_set():
                return waited_for.wait(EVER)
            self.advance(max(0.0, by - self._now))
            return waited_for.is_set()
        with self._lock:
            self._waiting.append(waited_for)
        try:
            return self._now < by and waited_for.wait(EVER)
        finally:
            with self._lock:
                self._waiting.remove(waited_for)
