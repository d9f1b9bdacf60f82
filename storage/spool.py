"""Records that wait for the database: a file a process, to which each batch goes before it is written there.

So a process that is killed loses no batch, and a database that is away costs none: what is in a file is written when
the database is back, or by another process once the file's own has died. Each line is one batch, oldest first.
"""

import fcntl
import os
from collections.abc import Iterator
from logging import getLogger
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

import orjson

log = getLogger("thinkline.usage")

SPOOL_BYTES = 64 * 1024 * 1024
"""Of one process's file: some hundred thousand records. What does not fit is lost, and counted."""
SUFFIX = ".spool"

Batch = tuple[str, int, list[list[Any]]]
"""(the process that it comes from, its number there, its rows): what has been written can be told from what has not."""


class Spool:
    """This process's file in `folder`, made with the first batch. For one thread."""

    def __init__(self, folder: Path, most_bytes: int = SPOOL_BYTES) -> None:
        self.folder = folder
        self._most = most_bytes
        self._file: IO[bytes] | None = None
        self._path: Path | None = None
        self._read_to = 0

    def append(self, batch: Batch) -> bool:
        """Keep a batch; False where it does not fit. Raises OSError."""
        line = orjson.dumps(batch) + b"\n"
        file = self._opened()
        end = file.seek(0, os.SEEK_END)
        if end + len(line) > self._most:
            return False
        try:
            file.write(line)
            file.flush()
        except OSError:  # the disk is full: half a line must not stand before the next
            file.close()
            os.truncate(self._path or "", end)
            self._file = None
            raise
        return True

    def first(self) -> Batch | None:
        """The oldest batch that waits, None for none. Raises OSError."""
        if self._file is None and self._path is None:
            return None
        file = self._opened()
        file.seek(self._read_to)
        line = file.readline()
        return _batch(line) if line else None

    def forget_first(self) -> None:
        """It has been written. Raises OSError."""
        file = self._opened()
        file.seek(self._read_to)
        file.readline()
        self._read_to = file.tell()
        if self._read_to == file.seek(0, os.SEEK_END):
            file.truncate(0)
            self._read_to = 0

    def close(self) -> None:
        """Remove the file if nothing waits in it; else another process will find it."""
        if self._file is not None and self._path is not None:
            is_empty = self._file.seek(0, os.SEEK_END) == self._read_to
            if is_empty:
                self._path.unlink(missing_ok=True)
            self._file.close()
        self._file = self._path = None
        self._read_to = 0

    def adopt(self) -> "Iterator[Spool]":
        """The files of processes that have died, each to be emptied and closed."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path == self._path:
                continue
            spool = Spool(self.folder, self._most)
            try:
                spool._open(path)
            except OSError:
                continue  # its process lives, or another one is faster
            yield spool

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._open(self._path or self.folder / f"{os.getpid()}-{token_hex(4)}{SUFFIX}")
        assert self._file is not None  # noqa: S101 - _open raises
        return self._file

    def _open(self, path: Path) -> None:
        file = path.open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not path.exists():
                raise FileNotFoundError(path)
        except OSError:
            file.close()
            raise
        self._file, self._path = file, path


def _batch(line: bytes) -> Batch:
    """A line's batch; one without rows for a line that was cut off."""
    try:
        source, number, rows = orjson.loads(line)
    except (orjson.JSONDecodeError, ValueError, TypeError):
        log.warning("a record that waited for the database cannot be read", extra={"facts": {"bytes": len(line)}})
        return "", 0, []
    return source, number, rows
