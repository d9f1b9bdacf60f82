"""The log's file. Apart from the other handlers, as the packages that it needs load much that nothing else does."""

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
    """A file that rotates, and that several processes write to."""

    def __init__(self, filename: str, most_bytes: int, backups: int) -> None:
        self.where = filename
        self._made: Callable[[], _File] = lambda: _File(
            filename, maxBytes=most_bytes, backupCount=backups, encoding="utf-8"
        )
        self._file: _File = self._made()
        super().__init__()

    def write(self, data: bytes) -> None:
        """A line."""
        self._file.emit(logging.makeLogRecord({"msg": data.decode().removesuffix("\n")}))

    def close(self) -> None:
        """End the thread, and close the file."""
        super().close()
        self._file.close()

    def forked(self) -> None:
        """This process is a child: the file is opened anew, as its lock is no use to two."""
        super().forked()
        self._file.close()
        self._file = self._made()


class _File(ConcurrentRotatingFileHandler):
    """The package's, which waits for the lock for a bounded time, writes whole lines or nothing, and raises."""

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
        """Write a line, while the lock is held. What was written of it is taken back where that fails."""
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
