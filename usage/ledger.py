"""Writes the table of usage in batches, by two threads for each worker.

    record -> queue -> spool (a file) -> database

One thread moves the queue to the spool every BATCH_SECONDS, and waits for nothing else: so a record is in memory only
for that long and for the write of a file. The other thread writes the spool's batches to the database, in order,
however long that takes.
"""

import atexit
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import date
from logging import getLogger
from pathlib import Path
from time import monotonic
from typing import Any

from core.errors import Overloaded
from storage.database import Database, open_database
from storage.spool import Batch
from telemetry.records import RequestRecord
from usage.backlog import MOST_IN_MEMORY, Backlog
from usage.clock import ClockWatch
from usage.recent import RecentRequests
from usage.reports import Question, report
from usage.rows import costs_of, row_of
from usage.spending import Spending
from usage.store import KEPT_RECENT, UsageStore

log = getLogger("thinkline.usage")

BATCH_SECONDS = 0.4
"""How long a record waits in memory for others of its batch: what a killed worker may lose."""
BATCH_ROWS = 2000
REFRESH_SECONDS = 0.4
"""The time between two readings of the amounts of all workers."""
TRY_AGAIN_SECONDS = 2.0
HOUSEKEEPING_SECONDS = 60.0
"""The time between two searches for spools of workers that have died."""
RETENTION_SECONDS = 3600.0
CLOCK_TRUSTED_SECONDS = 86_400.0
"""How long no row is deleted for its age after the machine's clock was set."""
CLOSE_SECONDS = 0.4
"""How long a worker that ends waits for the database."""
LOG_AGAIN_SECONDS = 60.0
UNKNOWN_KEY = 401
NOTHING: Batch = ("", 0, [])
UNREADABLE = "The table of usage cannot be read now; what is used meanwhile is noted all the same."


class Ledger:
    """A sink of records. Its threads start with `start`, or with the first record: after a fork.

    `folder` is for the spool, `days` how long a row is kept, and `shares` how many of a batch's last requests are
    written for other workers. `waiting` counts the records that are not in the database yet, `lost` those that were
    given up.
    """

    def __init__(self, store: UsageStore, folder: Path, *, days: float, shares: int = KEPT_RECENT) -> None:
        self.spending = Spending()
        self.recent = RecentRequests(store, shares)
        self.lost = 0
        self._store = store
        self._days = days
        self._queue: deque[RequestRecord] = deque()
        self._backlog = Backlog(folder)
        self._failing = False
        self._log_lost_at = self._try_at = self._refresh_at = self._housekeeping_at = self._retention_at = 0.0
        self._wake = threading.Event()
        self._wake_writer = threading.Event()
        self._clock = ClockWatch()
        self._refreshed = threading.Event()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._writer: threading.Thread | None = None

    def __call__(self, record: RequestRecord) -> None:
        """Note a request that has ended; a sink of records."""
        if not record.target and (record.method != "POST" or record.status == UNKNOWN_KEY or not record.endpoint):
            return
        if record.cost:
            self.spending.add(record.caller, record.started, record.cost)
        self.recent.add(record)
        if len(self._queue) >= MOST_IN_MEMORY:  # the thread is stuck
            self._lose(1)
            return
        self._queue.append(record)
        if self._closing.is_set():
            self._save_last()
        elif not self._wake.is_set():
            self.start()
            self._wake.set()

    @property
    def database(self) -> Database:
        """The database of the rows."""
        return self._store.database

    @property
    def waiting(self) -> int:
        """How many records wait for the database."""
        return len(self._queue) + self._backlog.rows

    def start(self) -> None:
        """Start the threads: the database is migrated, and waiting records are written. May be called twice."""
        if self._writer is None:
            with self._lock:
                if self._writer is None:
                    threading.Thread(target=self._run_spooler, name="usage-spool", daemon=True).start()
                    self._writer = threading.Thread(target=self._run_writer, name="usage", daemon=True)
                    self._writer.start()
                    atexit.register(self.close)  # for the development server

    def watch_spending(self, key: str, seconds: float) -> None:
        """Have a key's amounts kept current. The first call waits up to `seconds` until they are known."""
        if not self.spending.watch(key) and not self._failing:
            self._refreshed.clear()
            self._refresh_at = 0.0
            self.start()
            self._wake_writer.set()
            self._refreshed.wait(seconds)

    def spent(self, key: str, today: date) -> Mapping[str, float]:
        """A key's amounts by period: "day" and "month"."""
        return self.spending.spent(key, today)

    def report(self, question: Question) -> list[dict[str, Any]]:
        """Answer a question about usage. Raises Overloaded if the database cannot be read in time."""
        try:
            return report(self.database, question)
        except self._store.failures as error:
            log.warning("usage cannot be read", extra={"facts": {"said": _message(error)}})
            raise Overloaded(UNREADABLE, code="usage_unavailable", retry_after=TRY_AGAIN_SECONDS) from None

    def close(self) -> None:
        """Write or spool all records, since the worker ends. Later records are spooled at once."""
        self._closing.set()
        self._wake.set()
        self._save()
        self._wake_writer.set()
        if self._writer is not None:
            self._writer.join(CLOSE_SECONDS)
        self._save_last()

    def _save_last(self) -> None:
        self._save()
        self._backlog.close()

    def _run_spooler(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._closing.wait(BATCH_SECONDS)
            self._wake.clear()
            try:
                self._save()
            except Exception:  # any fault: the next records need this thread
                log.exception("records of usage cannot be spooled")
            self._wake_writer.set()

    def _run_writer(self) -> None:
        while not self._closing.is_set():
            self._wake_writer.clear()
            try:
                self._turn()
            except Exception:  # any fault: the next records need this thread
                log.exception("the table of usage cannot be written")
                self._try_at = monotonic() + TRY_AGAIN_SECONDS
            self._wake_writer.wait(self._seconds_to_wait())
        self._write()

    def _turn(self) -> None:
        now = monotonic()
        # A full or read-only database is back only when it takes the waiting records.
        is_idle = self._failing and not self._backlog.rows
        if now < self._try_at or (is_idle and not self._try(self._store.check)) or not self._write():
            return
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + HOUSEKEEPING_SECONDS
            self._write_adopted()
        if self._clock.was_set():  # what is old by a wrong clock may be new
            self._retention_at = now + CLOCK_TRUSTED_SECONDS
        if now >= self._retention_at:
            self._retention_at = now + RETENTION_SECONDS
            self._try(lambda: self._store.delete_old(self._days))
        self._refresh(now)

    def _seconds_to_wait(self) -> float:
        now = monotonic()
        if now < self._try_at:
            return self._try_at - now
        until = self._refresh_at if self.spending.watched() else self._housekeeping_at
        return max(0.0, until - now)

    def _save(self) -> None:
        """Move queued records to the spool, in order."""
        with self._lock:
            while self._queue:
                records = [self._queue[at] for at in range(min(BATCH_ROWS, len(self._queue)))]
                try:
                    self.recent.share(records)
                    rows = [row_of(record) for record in records if record.target]
                    if rows and not self._backlog.add(rows):
                        self._lose(len(rows))
                finally:  # only now, so that `waiting` has each record all the time
                    for _ in records:
                        self._queue.popleft()

    def _lose(self, rows: int) -> None:
        self.lost += rows
        if monotonic() >= self._log_lost_at:
            self._log_lost_at = monotonic() + LOG_AGAIN_SECONDS
            log.error("records of usage are lost", extra={"facts": {"so_far": self.lost}})

    def _write(self) -> bool:
        """Write waiting batches, oldest first. Returns whether the database has them all."""
        while self._backlog.rows or self.recent.has_unshared:
            batch = self._backlog.first()
            with self._lock:
                recent = self.recent.take_unshared()
            if not self._try(lambda: self._write_batch(batch or NOTHING, recent)):  # noqa: B023 - called at once
                return False
            if batch is not None:
                self._backlog.forget(batch)
        return True

    def _write_batch(self, batch: Batch, recent: list[RequestRecord]) -> None:
        self._count_lost(self._store.write(batch, recent))
        if costs := costs_of(batch[2]):
            keys = self.spending.watched()
            self.spending.refresh(keys, self._store.spending(keys) if keys else (), costs.items())

    def _write_adopted(self) -> None:
        """Write the spooled batches of workers that have died."""
        for spool in self._backlog.adopt():
            rows = 0
            while (batch := spool.first()) is not None:
                if not self._try(lambda: self._count_lost(self._store.write(batch))):
                    spool.close()
                    return
                spool.forget_first()
                rows += len(batch[2])
            spool.close()
            if rows:
                log.info("records of a worker that has died are written", extra={"facts": {"records": rows}})

    def _count_lost(self, rows: int) -> None:
        if rows:
            self.lost += rows
            log.error("the database refuses records of usage", extra={"facts": {"records": rows, "so_far": self.lost}})

    def _refresh(self, now: float) -> None:
        keys = self.spending.watched()
        if now >= self._refresh_at and keys:
            self._refresh_at = now + REFRESH_SECONDS
            self._try(lambda: self.spending.refresh(keys, self._store.spending(keys)))
        self._refreshed.set()

    def _try(self, work: Callable[[], object]) -> bool:
        try:
            work()
        except self._store.failures as error:
            self._note_failure(error)
            return False
        if self._failing:
            self._failing = False
            log.info("the database of usage is back", extra={"facts": {"database": self._store.database.where}})
        return True

    def _note_failure(self, error: Exception) -> None:
        self._try_at = monotonic() + TRY_AGAIN_SECONDS
        self._refreshed.set()
        if not self._failing:
            self._failing = True
            facts = {
                "database": self._store.database.where,
                "said": _message(error),
                "spool": str(self._backlog.folder),
            }
            log.warning("the database of usage is out of reach; records wait in the spool", extra={"facts": facts})


def open_ledger(url: str, folder: Path, *, days: float, processes: int) -> Ledger | None:
    """The ledger of one of `processes` processes, with the database at `url`, or in `folder`; None for 0 `days`. Does
    not connect yet. Raises ValueError.
    """
    database = open_database(url, folder)
    # About this many of a process's last requests are among the last of all processes.
    shares = KEPT_RECENT // processes if processes > 1 or database.is_shared else 0
    return Ledger(UsageStore(database), folder / "usage-spool", days=days, shares=shares) if days else None


def _message(error: Exception) -> str:
    """The driver's message without the statement and its values."""
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
