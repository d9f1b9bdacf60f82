"""When each line is checked next. Any thread may request a check; the keeper's thread makes it."""

from collections import deque
from heapq import heappop, heappush
from itertools import count
from math import inf
from time import monotonic
from weakref import ref

from server.line import Line


class Schedule:
    """A heap of lines by their times. Requests of other threads wait in a queue that needs no lock.

    The references are weak: a line that has ended is freed with its answer, and not when its check is due.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, ref[Line]]] = []
        self._number = count()
        self._requests: deque[tuple[ref[Line], float]] = deque()
        self._wakes_at = inf

    def request(self, line: Line, due: float) -> bool:
        """Have a line checked at `due` at the latest; returns whether the keeper's thread must be woken. For any
        thread.
        """
        self._requests.append((ref(line), due))
        return due < self._wakes_at

    def set(self, line: Line, due: float) -> None:
        """Check a line at `due`, and not before."""
        line.due = due
        if due < inf and not line.ended:
            heappush(self._heap, (due, next(self._number), ref(line)))

    def seconds(self, most: float) -> float:
        """Seconds until the next check is due, at most `most`."""
        self._wakes_at = self._first()
        while self._requests:  # later requests are compared with _wakes_at
            reference, due = self._requests.popleft()
            line = reference()
            if line is not None and due < line.due:
                self.set(line, due)
        self._wakes_at = min(self._wakes_at, self._first())
        return min(most, max(0.0, self._wakes_at - monotonic()))

    def take_due(self, now: float) -> list[Line]:
        """Remove and return the lines whose check is due."""
        lines = []
        while self._heap and self._heap[0][0] <= now:
            due, _, reference = heappop(self._heap)
            line = reference()
            if line is not None and line.due == due:
                lines.append(line)
        return lines

    def _first(self) -> float:
        return self._heap[0][0] if self._heap else inf
