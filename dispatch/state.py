"""A small store behind STATE_URL, shared by all threads, workers and (with Redis) machines: providers.base.State.

    unset                     the file state.sqlite3 in DATA_DIR
    sqlite:///var/lib/x.db    another file; a plain path will do
    redis://, rediss://, unix://   a Redis server, as the redis package reads it

It never fails a call. A store that is out of reach forgets: what is asked of it is not there, and what is given to it
is lost. The log says so once, and once more when it is back.
"""

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from logging import getLogger
from pathlib import Path
from time import monotonic, time
from typing import Any, TypeVar

from providers.base import State

__all__ = ["open_state"]

log = getLogger("thinkline.state")

PATIENCE = 0.5
"""Seconds that a call waits for the store, at most."""
PAUSE = 5.0
"""Seconds that a store which failed is left alone, so that not every call waits for it."""
SWEEP = 60.0
"""Seconds between two looks for what has expired."""
PREFIX = "thinkline:"

SCHEMA = """
CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS kept_until ON kept (until);
"""

T = TypeVar("T")


def open_state(url: str, folder: Path) -> State:
    """The store at `url`, or in `folder`. Connects to nobody yet. Raises ValueError, without the URL's password."""
    scheme, mark, rest = url.partition("://")
    if not url:
        return SqliteState(folder / "state.sqlite3")
    if scheme in ("redis", "rediss", "unix") and rest:
        try:
            return RedisState(url)
        except ValueError:  # its message may have the password
            raise ValueError("STATE_URL cannot be read; it looks like redis://:PASSWORD@HOST:6379/0.") from None
    if mark and scheme != "sqlite":
        raise ValueError("STATE_URL is none that is known here; allowed: redis://, rediss://, unix://, or a file.")
    return SqliteState(Path(rest if mark else url))


class _Forgetful:
    """Turns a store's failures into forgetting."""

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


class SqliteState(_Forgetful):
    """A file that several processes share. It is opened on first use, in each process anew.

    https://www.sqlite.org/howtocorrupt.html, 2.6: a connection may not be carried across a fork.
    """

    failures = (sqlite3.Error, OSError)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.where = str(path)
        self._path = path
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None
        self._sweep_at = 0.0
        _files.add(self)

    def put(self, key: str, value: str, seconds: float) -> None:
        """Keep a value."""
        now = time()

        def work() -> None:
            connection = self._connection()
            connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", (key, value, now + seconds))
            if now >= self._sweep_at:
                self._sweep_at = now + SWEEP
                connection.execute("DELETE FROM kept WHERE until <= ?", (now,))

        self._locked(work)

    def get(self, key: str) -> str | None:
        """The value, and leave it."""
        return self._one("SELECT value FROM kept WHERE key = ? AND until > ?", key)

    def claim(self, key: str) -> str | None:
        """The value, and take it away: a DELETE is atomic among processes too."""
        return self._one("DELETE FROM kept WHERE key = ? AND until > ? RETURNING value", key)

    def _one(self, statement: str, key: str) -> str | None:
        def work() -> str | None:
            rows = self._connection().execute(statement, (key, time())).fetchall()
            return str(rows[0][0]) if rows else None

        return self._locked(work)

    def _locked(self, work: Callable[[], T]) -> T | None:
        with self._lock:
            return self._try(work)

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # One connection, which `_lock` guards; without a transaction but each statement's own.
            opened = sqlite3.connect(self._path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                # Readers and a writer at once; a power cut may cost the last moment, never the file.
                try:
                    opened.execute("PRAGMA journal_mode = WAL")
                except sqlite3.OperationalError:
                    pass  # another process is about it; the file remembers
                opened.execute("PRAGMA synchronous = NORMAL")
                opened.executescript(SCHEMA)
            except BaseException:  # a connection that nobody knows of is never closed
                opened.close()
                raise
            self._opened = opened
        return self._opened

    def forked(self) -> None:
        """This process is a child: its parent's connection is left open and untouched."""
        _parents.append(self._opened)
        self._lock = threading.Lock()
        self._opened = None


def _forked() -> None:
    for state in list(_files):
        state.forked()


_files: "weakref.WeakSet[SqliteState]" = weakref.WeakSet()
_parents: list[sqlite3.Connection | None] = []
os.register_at_fork(after_in_child=_forked)


class RedisState(_Forgetful):
    """A Redis server, for several machines. The package keeps its connections, and makes new ones after a fork."""

    def __init__(self, url: str) -> None:
        super().__init__()
        import redis  # noqa: PLC0415 - takes a while to load, and only several machines need it
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415

        self.where = "redis"
        self.failures = (redis.RedisError, OSError, UnicodeError)
        # Once more at once: a kept connection may have been closed meanwhile. Not more often: somebody is on the phone.
        self._redis: Any = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 1),
        )

    def check(self) -> None:
        """Write something, for the doctor. Raises what is wrong."""
        self._redis.set(f"{PREFIX}doctor", "", px=1000)

    def put(self, key: str, value: str, seconds: float) -> None:
        """Keep a value."""
        self._try(lambda: self._redis.set(PREFIX + key, value, px=max(1, round(seconds * 1000))))

    def get(self, key: str) -> str | None:
        """The value, and leave it."""
        return self._try(lambda: self._redis.get(PREFIX + key))

    def claim(self, key: str) -> str | None:
        """The value, and take it away, in one transaction (GETDEL is Redis 6.2's)."""

        def work() -> str | None:
            pipeline = self._redis.pipeline(transaction=True)
            found: str | None = pipeline.get(PREFIX + key).delete(PREFIX + key).execute()[0]
            return found

        return self._try(work)
