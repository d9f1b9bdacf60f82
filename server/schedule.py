"""When which line is looked at next: any thread may ask for a look, and the keeper's thread looks."""

from collections import deque
from heapq import heappop, heappush
from itertools import count
from math import inf
from time import monotonic

from server.line import Line


class Schedule:
    """A heap of lines by their times; what other threads ask for waits in a queue that needs no lock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Line]] = []
        self._number = count()
        self._asked: deque[tuple[Line, float]] = deque()
        self._wakes_at = inf

    def ask(self, line: Line, due: float) -> bool:
        """Have a line looked at by then; whether the keeper's thread must be woken for that. For any thread."""
        self._asked.append((line, due))
        return due < self._wakes_at

    def set(self, line: Line, due: float) -> None:
        """Look at a line then, and not before."""
        line.due = due
        if due < inf and not line.ended:
            heappush(self._heap, (due, next(self._number), line))

    def seconds(self, most: float) -> float:
        """How long nothing is due; no longer than `most`."""
        self._wakes_at = self._first()
        while self._asked:  # what is asked for from here on is compared with _wakes_at
            line, due = self._asked.popleft()
            if due < line.due:
                self.set(line, due)
        self._wakes_at = min(self._wakes_at, self._first())
        return min(most, max(0.0, self._wakes_at - monotonic()))

    def take_due(self, now: float) -> list[Line]:
        """The lines whose time has come."""
        lines = []
        while self._heap and self._heap[0][0] <= now:
            due, _, line = heappop(self._heap)
            if line.due == due:
                lines.append(line)
        return lines

    def _first(self) -> float:
        return self._heap[0][0] if self._heap else inf
