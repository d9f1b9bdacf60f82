"""Rate limits in one process, or in a file for several workers of one machine: core.rate_limits.LimitStore."""

import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TypeVar

import orjson

from core.rate_limits import LEASE_SECONDS, WINDOW, LimitKind, LimitStore, Quota, Standing
from storage.sqlite_file import SqliteFile

T = TypeVar("T")
BUSY_SECONDS = 2.0
"""Seconds that a request waits for other workers, at most: on a busy machine each may hold the lock for a while, and
a request that does not wait would count wrongly.
"""
REDIS = ("redis://", "rediss://", "unix://")
SCHEMA = "CREATE TABLE IF NOT EXISTS limits (key TEXT PRIMARY KEY, counts BLOB NOT NULL) WITHOUT ROWID;"


class KeyCounts:
    """The counts of one key. `now` is in seconds of a clock that all processes share, and that never goes back while
    the machine runs.
    """

    def __init__(self) -> None:
        self.granted: list[float] = []
        self.window = 0
        self.current = 0.0
        self.previous = 0.0
        self.leases: dict[str, float] = {}

    @classmethod
    def decode(cls, data: bytes) -> "KeyCounts":
        """Decode the JSON of `encode`."""
        counts = cls()
        counts.granted, counts.window, counts.current, counts.previous, counts.leases = orjson.loads(data)
        return counts

    def encode(self) -> bytes:
        """Encode as JSON."""
        return orjson.dumps((self.granted, self.window, self.current, self.previous, self.leases))

    def take(self, quota: Quota, lease: str, now: float) -> Standing:
        """As LimitStore.take."""
        self._advance(now)
        refused: LimitKind | None = None
        if quota.requests is not None and len(self.granted) >= quota.requests:
            refused = "requests"
        elif quota.tokens is not None and self._used(now) >= quota.tokens:
            refused = "tokens"
        elif quota.concurrent is not None and len(self.leases) >= quota.concurrent:
            refused = "concurrent"
        else:
            if quota.requests is not None:
                self.granted.append(now)
            if quota.concurrent is not None:
                self.leases[lease] = now + LEASE_SECONDS
        return self._standing(refused, now)

    def spend(self, quota: Quota, tokens: int, now: float) -> Standing:
        """As LimitStore.spend."""
        self._advance(now)
        if quota.tokens is not None and self._used(now) + tokens > quota.tokens:
            return self._standing("tokens", now)
        self.current += tokens
        return self._standing(None, now)

    def settle(self, lease: str, tokens: int, now: float) -> None:
        """As LimitStore.settle."""
        self._advance(now)
        self.current += tokens
        self.leases.pop(lease, None)

    def renew(self, lease: str, now: float) -> None:
        """As LimitStore.renew, for one lease."""
        if lease in self.leases:
            self.leases[lease] = now + LEASE_SECONDS

    def _advance(self, now: float) -> None:
        """Forget counts that are over, and those of the future, which are from before a restart of the machine."""
        granted = self.granted
        if granted and (granted[0] <= now - WINDOW or granted[-1] > now):
            self.granted = [at for at in granted if now - WINDOW < at <= now]
        if self.leases:
            self.leases = {lease: until for lease, until in self.leases.items() if now < until <= now + LEASE_SECONDS}
        window = int(now // WINDOW)
        if window != self.window:
            self.previous = self.current if window == self.window + 1 else 0.0
            self.window, self.current = window, 0.0

    def _used(self, now: float) -> float:
        return self.previous * (1 - now % WINDOW / WINDOW) + self.current

    def _standing(self, refused: LimitKind | None, now: float) -> Standing:
        granted = self.granted
        oldest, newest = (now - granted[0], now - granted[-1]) if granted else (0.0, 0.0)
        return Standing(refused, len(granted), oldest, newest, now % WINDOW, self.current, self.previous)


def open_limits(url: str, folder: Path, *, processes: int) -> LimitStore:
    """The store for this number of processes: Redis if `url` is one, else memory for one process and a file in `folder`
    for several. Does not connect yet. Raises ValueError, without the URL's password.
    """
    if url.startswith(REDIS):
        from storage.redis_limits import RedisLimits  # noqa: PLC0415 - loads redis, which only this needs

        return RedisLimits(url)
    return MemoryLimits() if processes == 1 else SqliteLimits(folder / "limits.sqlite3")


class _LocalLimits(ABC):
    """The base of the stores of one machine. A subclass changes a key's counts in one step (`_change`)."""

    failures: tuple[type[Exception], ...] = ()
    where: str

    def take(self, key: str, quota: Quota, lease: str) -> Standing:
        """Count a request."""
        return self._change(key, lambda counts, now: counts.take(quota, lease, now))

    def spend(self, key: str, quota: Quota, tokens: int) -> Standing:
        """Count tokens."""
        return self._change(key, lambda counts, now: counts.spend(quota, tokens, now))

    def settle(self, key: str, lease: str, tokens: int) -> None:
        """Count a request that has ended."""
        self._change(key, lambda counts, now: counts.settle(lease, tokens, now))

    def renew(self, leases: Iterable[tuple[str, str]]) -> None:
        """Renew the leases of requests under way."""
        for key, lease in leases:
            self._change(key, partial(_renew, lease))

    @abstractmethod
    def _change(self, key: str, change: Callable[[KeyCounts, float], T]) -> T:
        """Call `change` with the key's counts and the time, and return its result."""


def _renew(lease: str, counts: KeyCounts, now: float) -> None:
    counts.renew(lease, now)


class MemoryLimits(_LocalLimits):
    """Limits in memory, for one process. `clock` gives seconds."""

    where = "memory"

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[str, KeyCounts] = {}

    def _change(self, key: str, change: Callable[[KeyCounts, float], T]) -> T:
        with self._lock:
            counts = self._counts.get(key)
            if counts is None:
                counts = self._counts[key] = KeyCounts()
            return change(counts, self._clock())


class SqliteLimits(_LocalLimits):
    """Limits in a file with a row for each key, for the workers of one machine. The clock is the machine's monotonic
    one.
    """

    failures: tuple[type[Exception], ...] = (sqlite3.Error, OSError, ValueError)

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        # Counts that a power cut loses would be over by the time the machine is back.
        self._file = SqliteFile(path, SCHEMA, BUSY_SECONDS, "the store for limits", synchronous="OFF")

    def _change(self, key: str, change: Callable[[KeyCounts, float], T]) -> T:
        def work(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            try:
                row = connection.execute("SELECT counts FROM limits WHERE key = ?", (key,)).fetchone()
                counts = KeyCounts.decode(row[0]) if row else KeyCounts()
                result = change(counts, monotonic())
                connection.execute("INSERT OR REPLACE INTO limits VALUES (?, ?)", (key, counts.encode()))
                connection.execute("COMMIT")
            except BaseException:  # any fault: other workers must not wait for this transaction
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

        return self._file.run(work)
