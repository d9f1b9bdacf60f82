"""A SQLite file that several processes share. Each opens it on first use; a corrupt file is replaced.

https://www.sqlite.org/howtocorrupt.html, 2.6: a connection must not be used across a fork.
"""

import fcntl
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from contextlib import closing
from logging import getLogger
from pathlib import Path
from typing import TypeVar

log = getLogger("thinkline.state")

CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
T = TypeVar("T")


class SqliteFile:
    """The file at `path` with the tables of `schema`. Each wait for other threads and for other processes is bounded by
    `seconds`; `what` is its name in the log. Safe for all threads.
    """

    def __init__(self, path: Path, schema: str, seconds: float, what: str, synchronous: str = "NORMAL") -> None:
        self._path = path
        self._schema = f"PRAGMA synchronous = {synchronous};{schema}"
        self._seconds = seconds
        self._what = what
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None
        self._inode = 0
        _files.add(self)

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Call `work` with the connection, which no other thread uses meanwhile, and return its result. If the file is
        corrupt, it is called again with a new one. Raises OSError and sqlite3.Error.
        """
        if not self._lock.acquire(timeout=self._seconds):
            raise sqlite3.OperationalError("the file is waited for by too many")
        try:
            return work(self._connection())
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in CORRUPT:
                raise
            self._close()
            set_aside(self._path, self._seconds, self._what)
            return work(self._connection())
        finally:
            self._lock.release()

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
        self._opened = None

    def _connection(self) -> sqlite3.Connection:
        if self._opened is not None and self._inode != _inode(self._path):
            self._close()  # the file was removed, or another process has renamed it
        if self._opened is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists() and not self._path.is_file():  # sqlite would wait for a pipe's other end
                raise OSError(f"{self._path} is no file")
            # One connection, guarded by `_lock`, in autocommit mode.
            opened = sqlite3.connect(self._path, timeout=self._seconds, isolation_level=None, check_same_thread=False)
            try:
                # Readers beside a writer; a power cut may lose the last writes, but does not corrupt the file.
                try:
                    opened.execute("PRAGMA journal_mode = WAL")
                except sqlite3.OperationalError:
                    pass  # another process is setting it; the file keeps the mode
                opened.executescript(self._schema)
            except BaseException:  # without this the connection would never be closed
                opened.close()
                raise
            self._opened, self._inode = opened, _inode(self._path)
        return self._opened

    def reset_after_fork(self) -> None:
        """Forget the parent's connection, which stays open and is not used in this child process."""
        _parents.append(self._opened)
        self._lock = threading.Lock()
        self._opened = None


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def set_aside(path: Path, seconds: float, what: str) -> None:
    """Rename a file that is no database any more, unless another process has. Raises OSError and sqlite3.Error."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            with closing(sqlite3.connect(path, timeout=seconds)) as found:
                if found.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
                    return
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in CORRUPT:
                raise
        aside = path.with_name(f"{path.name}.corrupt")
        path.replace(aside)
        for journal in ("-wal", "-shm"):  # they belong to the renamed file
            path.with_name(path.name + journal).unlink(missing_ok=True)
        log.warning(
            "%s was corrupt; it is set aside, and a new one is made",
            what,
            extra={"facts": {"store": str(path), "aside": str(aside)}},
        )
    finally:
        os.close(folder)


def _reset_all() -> None:
    for file in list(_files):
        file.reset_after_fork()


_files: "weakref.WeakSet[SqliteFile]" = weakref.WeakSet()
_parents: list[sqlite3.Connection | None] = []
os.register_at_fork(after_in_child=_reset_all)
