"""The KeyValueStore behind STATE_URL, shared by all threads, workers and (with Redis) machines.

    unset                     the file state.sqlite3 in DATA_DIR
    sqlite:///var/lib/x.db    another file; a plain path will do
    redis://, rediss://, unix://   a Redis server, as the redis package reads it

The store never makes a request fail. While it cannot be reached, reads find nothing and writes are lost. The log says
so once, and once more when the store is back. A corrupt file is renamed, and a new one is made.
"""

import sqlite3
from collections.abc import Callable
from logging import getLogger
from pathlib import Path
from time import monotonic, time
from typing import Any, TypeVar

from core.extras import missing_extra
from core.store import KeyValueStore
from storage.sqlite_file import SqliteFile

log = getLogger("thinkline.state")

STORE_SECONDS = 0.5
"""Seconds that a request waits for the store, at most."""
PAUSE = 5.0
"""Seconds without an attempt after a failure, so that not every request waits for the store."""
SWEEP = 60.0
"""Seconds between two deletions of expired values."""
MOST_BYTES = 1024 * 1024 * 1024
"""The size of a file. When it is reached, the values that expire first are deleted; most are answers of /v1/responses.
"""
PREFIX = "thinkline:"

SCHEMA = """
CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS kept_until ON kept (until);
"""

SHORTEN = """
DELETE FROM kept WHERE key IN (SELECT key FROM kept ORDER BY until LIMIT (SELECT count(*) / 4 + 1 FROM kept))
"""

T = TypeVar("T")


def open_store(url: str, folder: Path) -> KeyValueStore:
    """The store at `url`, or in `folder`. Does not connect yet. Raises ValueError, without the URL's password."""
    scheme, mark, rest = url.partition("://")
    if not url:
        return SqliteStore(folder / "state.sqlite3")
    if scheme in ("redis", "rediss", "unix") and rest:
        if package := missing_extra("redis", "redis"):
            raise ValueError(f"STATE_URL is a Redis server's, which needs {package}.")
        try:
            return RedisStore(url)
        except ValueError:  # its message may hold the password
            raise ValueError("STATE_URL cannot be read; it looks like redis://:PASSWORD@HOST:6379/0.") from None
    if mark and scheme != "sqlite":
        raise ValueError("STATE_URL is none that is known here; allowed: redis://, rediss://, unix://, or a file.")
    return SqliteStore(Path(rest if mark else url))


class FailSoftStore:
    """A store that behaves as if it were empty while it fails."""

    failures: tuple[type[Exception], ...] = ()
    where = ""

    def __init__(self) -> None:
        self._failed = False
        self._again = 0.0

    def _try(self, work: Callable[[], T]) -> T | None:
        if self._failed and monotonic() < self._again:
            return None
        try:
            done = work()
        except self.failures as error:
            self._again = monotonic() + PAUSE
            if not self._failed:
                self._failed = True
                log.warning(
                    "the store for sessions is out of reach; conversations begin new sessions",
                    extra={"facts": {"store": self.where, "said": f"{type(error).__name__}: {error}"}},
                )
            return None
        if self._failed:
            self._failed = False
            log.info("the store for sessions is back", extra={"facts": {"store": self.where}})
        return done


class SqliteStore(FailSoftStore):
    """A SQLite file that several processes share."""

    failures = (sqlite3.Error, OSError)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.where = str(path)
        self._file = SqliteFile(path, SCHEMA, STORE_SECONDS, "the store for sessions")
        self._sweep_at = 0.0

    def put(self, key: str, value: str, seconds: float) -> None:
        """Keep a value."""
        now = time()

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", (key, value, now + seconds))
            if now >= self._sweep_at:
                self._sweep_at = now + SWEEP
                connection.execute("DELETE FROM kept WHERE until <= ?", (now,))
                if _bytes_used(connection) > MOST_BYTES:
                    connection.execute(SHORTEN)

        self._try(lambda: self._file.run(work))

    def get(self, key: str) -> str | None:
        """Return the value, which stays in the store."""
        return self._one("SELECT value FROM kept WHERE key = ? AND until > ?", key)

    def pop(self, key: str) -> str | None:
        """Remove and return the value. A DELETE is atomic among processes too."""
        return self._one("DELETE FROM kept WHERE key = ? AND until > ? RETURNING value", key)

    def _one(self, statement: str, key: str) -> str | None:
        def work(connection: sqlite3.Connection) -> str | None:
            rows = connection.execute(statement, (key, time())).fetchall()
            return str(rows[0][0]) if rows else None

        return self._try(lambda: self._file.run(work))


class RedisStore(FailSoftStore):
    """A Redis server, for several machines. The package keeps the connections, and makes new ones after a fork."""

    failures = (Exception,)
    """The package raises these for replies that it cannot parse."""
    where = "redis"

    def __init__(self, url: str) -> None:
        super().__init__()
        from storage import bounded_redis  # noqa: PLC0415 - slow to load, and only several machines need it

        self._redis = bounded_redis.connect(url, STORE_SECONDS)
        self._deadline = bounded_redis.deadline

    def check(self) -> None:
        """Write a value, for the doctor. Raises the failure."""
        self._redis.set(f"{PREFIX}doctor", "", px=1000)

    def put(self, key: str, value: str, seconds: float) -> None:
        """Keep a value."""
        self._run_with_deadline(lambda: self._redis.set(PREFIX + key, value, px=max(1, round(seconds * 1000))))

    def get(self, key: str) -> str | None:
        """Return the value, which stays in the store."""
        return _text(self._run_with_deadline(lambda: self._redis.get(PREFIX + key)))

    def pop(self, key: str) -> str | None:
        """Remove and return the value, in one transaction (GETDEL needs Redis 6.2)."""
        pipeline = self._redis.pipeline(transaction=True)
        return _text(self._run_with_deadline(lambda: pipeline.get(PREFIX + key).delete(PREFIX + key).execute()[0]))

    def _run_with_deadline(self, work: Callable[[], T]) -> T | None:
        with self._deadline(STORE_SECONDS):
            return self._try(work)


def _bytes_used(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _text(found: Any) -> str | None:
    return found if isinstance(found, str) else None
