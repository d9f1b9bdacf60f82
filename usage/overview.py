"""The data of the live page from the database: the last hour by target and key, costs by day, the last requests."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from time import monotonic, time
from typing import Any

from sqlalchemy import select

from storage.tables import REQUESTS, SPENDING
from usage.ledger import Ledger
from usage.recent import Json

HOUR = 3600.0
MINUTE = 60.0
MOST_ROWS = 5000
"""The newest rows of the last hour. More would delay the answers of this process."""
DAYS = 14
KEPT_SECONDS = 4.0
"""How long a reading is shared among watchers."""


class Overview:
    """Reads the database for all watchers, at most once in KEPT_SECONDS. Safe for all threads. Its methods raise
    `failures` when the database cannot be used.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.failures = ledger.database.failures
        self._database = ledger.database
        self._recent = ledger.recent
        self._lock = threading.Lock()
        self._read_at = 0.0
        self._hour: dict[str, Any] = {}

    def hour(self) -> Mapping[str, Any]:
        """`targets` and `keys` of the last hour by name, and `days`: each key's costs on each of the last days and of
        this month's.
        """
        with self._lock:
            if not self._read_at or monotonic() - self._read_at > KEPT_SECONDS:
                self._hour = self._read()
                self._read_at = monotonic()
            return self._hour

    def requests_after(self, last: int) -> tuple[int, list[Json]]:
        """The newest number, and the requests after number `last`, oldest first."""
        return self._recent.after(last)

    def _read(self) -> dict[str, Any]:
        now = time()
        columns = REQUESTS.c
        wanted = (
            columns.started, columns.key, columns.target, columns.outcome, columns.first_token, columns.prompt_tokens,
            columns.completion_tokens, columns.cost, columns.hedged, columns.fallbacks, columns.tokens_saved,
        )  # fmt: skip
        newest = select(*wanted).where(columns.started >= now - HOUR).order_by(columns.started.desc()).limit(MOST_ROWS)
        today = datetime.now(UTC).date()
        first_day = min(today.replace(day=1), today - timedelta(DAYS - 1))
        with self._database.read() as connection:
            rows = connection.execute(newest).all()
            costs = connection.execute(select(SPENDING).where(SPENDING.c.day >= first_day)).all()
        return {
            "targets": {name: each.to_json(now) for name, each in sorted(_by_target(rows).items())},
            "keys": _last_minute(rows, now),
            "days": [{"day": row.day.isoformat(), "key": row.key, "cost": row.cost} for row in costs],
        }


@dataclass(slots=True)
class _Target:
    """A summary of a target's requests in the last hour."""

    outcomes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    first_tokens: list[tuple[float, float]] = field(default_factory=list)

    def add(self, row: Any) -> None:
        self.outcomes[row.outcome] += 1
        self.sums["hedges"] += row.hedged
        self.sums["fallbacks"] += row.fallbacks
        self.sums["tokens_saved"] += row.tokens_saved or 0
        self.sums["cost"] += row.cost or 0
        if row.first_token is not None:
            self.first_tokens.append((row.started, row.first_token))

    def to_json(self, now: float) -> dict[str, Any]:
        """`minutes` are [minutes ago, p50, p95] of the time to the first token, in seconds."""
        minutes = defaultdict(list)
        for started, seconds in self.first_tokens:
            minutes[int((now - started) // MINUTE)].append(seconds)
        return {
            "requests": sum(self.outcomes.values()),
            "outcomes": dict(self.outcomes),
            **self.sums,
            "first_token": percentiles([seconds for _, seconds in self.first_tokens]),
            "minutes": [[ago, *percentiles(found)] for ago, found in sorted(minutes.items(), reverse=True)],
        }


def _by_target(rows: Iterable[Any]) -> Mapping[str, _Target]:
    targets: dict[str, _Target] = defaultdict(_Target)
    for row in rows:
        targets[row.target].add(row)
    return targets


def _last_minute(rows: Iterable[Any], now: float) -> dict[str, dict[str, int]]:
    """The requests and tokens of each key in the last minute, and its requests in the hour."""
    keys: dict[str, dict[str, int]] = defaultdict(lambda: {"requests": 0, "tokens": 0, "hour": 0})
    for row in rows:
        key = keys[row.key]
        key["hour"] += 1
        if row.started >= now - MINUTE:
            key["requests"] += 1
            key["tokens"] += max(0, row.prompt_tokens or 0) + max(0, row.completion_tokens or 0)
    return keys


def percentiles(values: Sequence[float]) -> list[float]:
    """p50 and p95 by the nearest rank; [] without values."""
    ordered = sorted(values)
    return [round(ordered[ceil(rank * len(ordered)) - 1], 4) for rank in (0.5, 0.95)] if ordered else []
