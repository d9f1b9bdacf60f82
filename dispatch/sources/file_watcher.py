"""Watches a file, and reads it again after each change; while it cannot be read, the last contents stay in use.

The file's name is checked twice a second, so a replaced file and Kubernetes' swapped symbolic link are noticed too.
The file is read once two checks find the same: before that, a writer may not have finished.
"""

import threading
from collections.abc import Callable
from logging import getLogger
from pathlib import Path

log = getLogger("thinkline.follow")

LOOK_SECONDS = 0.5
Signature = tuple[int, int, int, int]


class FileWatcher:
    """Calls `changed` in a thread of its own after each change of the file; a ValueError is logged."""

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        self._path = path
        self._changed = changed
        self._last: Signature | None = None
        self._read: Signature | None = None  # so that a change before the first check is noticed
        self._ended = threading.Event()

    def start(self) -> None:
        """Watch until `stop`, or until the process ends."""
        threading.Thread(target=self._run, name="follow", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._ended.set()

    def poll_once(self) -> None:
        """Check once."""
        before, self._last = self._last, self._signature()
        if self._last == self._read or self._last != before:
            return
        self._read = self._last
        try:
            self._changed()
        except ValueError as error:
            log.error("%s; the last good one stays in use", str(error).rstrip("."))  # noqa: TRY400 - the message suffices
        except Exception:  # a bug must not end the watching
            log.exception("what has changed cannot be taken in")

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self.poll_once()

    def _signature(self) -> Signature | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        # Copying a file with its old time still changes the inode's time.
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
