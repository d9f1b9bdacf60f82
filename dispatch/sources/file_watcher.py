"""A file that may change while it is used: read again when it does, and kept as it was when it cannot be.

It is looked at twice a second, by name: an editor that replaces the file and Kubernetes, which turns a symbolic link,
are noticed like anybody who writes to it. It is read once it is the same at two looks: somebody may still be writing.
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
        self._read: Signature | None = None  # so that a change before the first look is seen
        self._ended = threading.Event()

    def start(self) -> None:
        """Follow until `stop`, or until the process ends."""
        threading.Thread(target=self._run, name="follow", daemon=True).start()

    def stop(self) -> None:
        """Follow no more."""
        self._ended.set()

    def poll_once(self) -> None:
        """Look once."""
        before, self._last = self._last, self._signature()
        if self._last == self._read or self._last != before:
            return
        self._read = self._last
        try:
            self._changed()
        except ValueError as error:
            log.error("%s; the last good one stays in use", error)  # noqa: TRY400 - the message says it all
        except Exception:  # a fault of our own must not end the following
            log.exception("what has changed cannot be taken in")

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self.poll_once()

    def _signature(self) -> Signature | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        # Who copies a file with its old time changes the time of the inode all the same.
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
