"""The amounts that each key has spent today and this month, in UTC, as this worker knows them, within a second."""

import threading
from collections.abc import Iterable, Mapping
from datetime import date
from time import monotonic

from usage.rows import day_of

WATCH_SECONDS = 60.0
"""How long a key's amounts are kept current after they were needed."""
ROUNDING = 1e-9


class Spending:
    """Amounts by key and day: those in the database, and this worker's own that are not there yet. The ledger's thread
    keeps those of watched keys current. Safe for all threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._written: dict[str, dict[date, float]] = {}
        self._unwritten: dict[str, dict[date, float]] = {}
        self._watched: dict[str, float] = {}

    def watch(self, key: str) -> bool:
        """Have a key's amounts kept current; returns whether they are known already."""
        self._watched[key] = monotonic() + WATCH_SECONDS
        return key in self._written

    def watched(self) -> list[str]:
        """The keys whose amounts are kept current."""
        now = monotonic()
        with self._lock:
            for key, until in list(self._watched.items()):
                if until < now:
                    del self._watched[key]
                    self._written.pop(key, None)
            return list(self._watched)

    def spent(self, key: str, today: date) -> Mapping[str, float]:
        """A key's amounts by period: "day" and "month"."""
        first = today.replace(day=1)
        with self._lock:
            amounts = list(self._written.get(key, {}).items())
            amounts += self._unwritten.get(key, {}).items()
        return {
            "day": sum(cost for day, cost in amounts if day == today),
            "month": sum(cost for day, cost in amounts if day >= first),
        }

    def add(self, key: str, started: float, cost: float) -> None:
        """Add a request's cost, which is not in the database yet."""
        day = day_of(started)
        with self._lock:
            days = self._unwritten.setdefault(key, {})
            days[day] = days.get(day, 0.0) + cost

    def refresh(
        self,
        keys: Iterable[str],
        rows: Iterable[tuple[str, date, float]],
        written: Iterable[tuple[tuple[str, date], float]] = (),
    ) -> None:
        """Replace the amounts of `keys` by the database's `rows`, which include what this worker has `written`."""
        found: dict[str, dict[date, float]] = {key: {} for key in keys}
        for key, day, cost in rows:
            found[key][day] = cost
        with self._lock:
            self._written.update(found)
            for (key, day), cost in written:
                days = self._unwritten.get(key, {})
                left = days.pop(day, 0.0) - cost
                if left > ROUNDING:
                    days[day] = left
                elif not days:
                    self._unwritten.pop(key, None)
