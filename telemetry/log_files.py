"""The handler of the log file. It has a module of its own, since its packages are slow to load."""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

from concurrent_log_handler import ConcurrentRotatingFileHandler
from portalocker import LOCK_EX, LOCK_NB, AlreadyLocked, lock

from telemetry.log_handlers import LOCK_SECONDS, BackgroundHandler


class BackgroundFileHandler(BackgroundHandler):
    """A rotating file that several processes write to."""

    def __init__(self, filename: str, most_bytes: int, backups: int) -> None:
        self.where = filename
        self._create: Callable[[], _File] = lambda: _File(
            filename, maxBytes=most_bytes, backupCount=backups, encoding="utf-8"
        )
        self._file: _File = self._create()
        super().__init__()

    def write(self, data: bytes) -> None:
        """Write a line."""
        self._file.emit(logging.makeLogRecord({"msg": data.decode().removesuffix("\n")}))

    def close(self) -> None:
        """End the thread, and close the file."""
        super().close()
        self._file.close()

    def forked(self) -> None:
        """Open the file anew in this child process: two processes cannot share its lock."""
        super().forked()
        self._file.close()
        self._file = self._create()


class _File(ConcurrentRotatingFileHandler):
    """The package's handler, changed to wait a bounded time for the lock, to write whole lines or nothing, and to
    raise.
    """

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.maxLockAttempts = 1

    def _lock_stream_lock(self, stream_lock: object) -> None:
        by = monotonic() + LOCK_SECONDS
        while True:
            try:
                lock(stream_lock, LOCK_EX | LOCK_NB)  # type: ignore[arg-type]
            except AlreadyLocked:
                if monotonic() >= by:
                    raise
                sleep(0.001)
            else:
                return

    def do_write(self, msg: str) -> None:
        """Write a line while the lock is held. After a failure the file is truncated to its size before."""
        path = Path(self.baseFilename)
        size = path.stat().st_size if path.exists() else 0
        try:
            super().do_write(msg)
        except OSError:
            self._close()
            with suppress(OSError):
                os.truncate(path, size)
            raise

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Raise what `emit` has caught."""
        raise  # noqa: PLE0704
