"""Batches of rows that the database lacks, oldest first: in the spool, or in memory while it cannot be written."""

import threading
from collections import deque
from collections.abc import Iterator
from itertools import count
from logging import getLogger
from pathlib import Path
from secrets import token_hex
from typing import Any

from storage.spool import Batch, Spool

log = getLogger("thinkline.usage")

MOST_IN_MEMORY = 20_000
"""Rows, while neither the database nor the spool can be written."""


class Backlog:
    """This process's batches. Safe for all threads: no method waits for the database. `folder` is for the spool."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._source = token_hex(8)
        self._numbers = count()
        self._spool = Spool(folder)
        self._spooled = 0
        self._held: deque[Batch] = deque()
        self._failing = False
        self._lock = threading.Lock()

    @property
    def rows(self) -> int:
        """How many rows wait."""
        return self._spooled + self.held

    @property
    def held(self) -> int:
        """How many of them wait in memory."""
        return sum(len(rows) for *_, rows in list(self._held))

    def add(self, rows: list[list[Any]]) -> bool:
        """Add a batch; False if there is no room for it."""
        with self._lock:
            batch = self._source, next(self._numbers), rows
            if not self._held and self._spool_batch(batch):
                self._spooled += len(rows)
            elif self.held + len(rows) > MOST_IN_MEMORY:
                return False
            else:
                self._held.append(batch)
            return True

    def first(self) -> Batch | None:
        """The oldest batch; None if there is none. Raises OSError."""
        with self._lock:
            spooled = self._spool.first() if self._spooled else None
            if spooled is not None:
                return spooled
            self._spooled = 0  # the file was removed
            return self._held[0] if self._held else None

    def forget(self, batch: Batch) -> None:
        """Remove the oldest batch, which `first` has returned. Raises OSError."""
        with self._lock:
            if self._held and self._held[0] is batch:
                self._held.popleft()
            else:
                self._spool.forget_first()
                self._spooled -= len(batch[2])

    def adopt(self) -> Iterator[Spool]:
        """Yield the spools of processes that have died; the caller empties and closes them."""
        spools = self._spool.adopt()
        while True:
            with self._lock:  # this process's own file may be about to be created
                spool = next(spools, None)
            if spool is None:
                return
            yield spool

    def close(self) -> None:
        """Close the spool. A batch that comes later opens it again."""
        with self._lock:
            self._spool.close()

    def _spool_batch(self, batch: Batch) -> bool:
        try:
            has_room = self._spool.append(batch)
        except OSError as error:
            if not self._failing:
                self._failing = True
                log.warning("records of usage cannot be spooled", extra={"facts": {"said": str(error)}})
            return False
        if has_room:
            self._failing = False
        return has_room
