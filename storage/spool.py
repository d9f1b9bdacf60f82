"""Batches of records that wait for the database: each process has a file, to which each batch is appended first.

So neither a killed process nor an unreachable database loses a batch: the file's batches are written when the database
is back, or by another process once the file's own has died. Each line is one batch, oldest first.
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
"""The size of one process's file: some hundred thousand records. Batches that do not fit are lost, and counted."""
SUFFIX = ".spool"

Batch = tuple[str, int, list[list[Any]]]
"""(the process, the batch's number in it, its rows). The number shows whether the batch has been written."""


class Spool:
    """This process's file in `folder`, which the first batch creates. For one thread."""

    def __init__(self, folder: Path, most_bytes: int = SPOOL_BYTES) -> None:
        self.folder = folder
        self._most = most_bytes
        self._file: IO[bytes] | None = None
        self._path: Path | None = None
        self._read_to = 0

    def append(self, batch: Batch) -> bool:
        """Append a batch; False if it does not fit. Raises OSError."""
        line = orjson.dumps(batch) + b"\n"
        file = self._opened_file()
        end = file.seek(0, os.SEEK_END)
        if end + len(line) > self._most:
            return False
        try:
            file.write(line)
            file.flush()
        except OSError:  # the disk is full: remove the half line
            file.close()
            os.truncate(self._path or "", end)
            self._file = None
            raise
        return True

    def first(self) -> Batch | None:
        """The oldest batch; None if there is none. Raises OSError."""
        if self._file is None and self._path is None:
            return None
        file = self._opened_file()
        file.seek(self._read_to)
        line = file.readline()
        return _batch(line) if line else None

    def forget_first(self) -> None:
        """Remove the oldest batch, which has been written. Raises OSError."""
        file = self._opened_file()
        file.seek(self._read_to)
        file.readline()
        self._read_to = file.tell()
        if self._read_to == file.seek(0, os.SEEK_END):
            file.truncate(0)
            self._read_to = 0

    def close(self) -> None:
        """Close the file, and remove it if no batch waits in it. Otherwise another process will adopt it."""
        if self._file is not None and self._path is not None:
            is_empty = self._file.seek(0, os.SEEK_END) == self._read_to
            if is_empty:
                self._path.unlink(missing_ok=True)
            self._file.close()
        self._file = self._path = None
        self._read_to = 0

    def adopt(self) -> "Iterator[Spool]":
        """Yield the files of processes that have died; the caller empties and closes them."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path == self._path:
                continue
            spool = Spool(self.folder, self._most)
            try:
                spool._open(path)
            except OSError:
                continue  # its process lives, or another one has it
            yield spool

    def _opened_file(self) -> IO[bytes]:
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
    """Decode a line; a broken line becomes a batch without rows."""
    try:
        source, number, rows = orjson.loads(line)
    except (orjson.JSONDecodeError, ValueError, TypeError):
        log.warning("a record that waited for the database cannot be read", extra={"facts": {"bytes": len(line)}})
        return "", 0, []
    return source, number, rows
