"""The files in which workers keep their metrics, so that each can read those of all (prometheus_client's multiprocess
mode). gunicorn's master makes the folder, and clears up after workers that have ended.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging import getLogger
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

log = getLogger("thinkline.metrics")

PREFIX = "thinkline-metrics-"
IN_USE = "in-use"
"""The file that a master and its workers hold a lock on as long as one of them lives."""
READING = "reading"
"""The file that is locked while files are read or merged."""
KINDS = ("counter", "histogram", "gauge_livesum", "gauge_livemax")
"""The package has a file for each, by this name and the worker's process id."""
FILE_BYTES = 65_536
"""As the package makes them; they grow."""
MEMORY = Path("/dev/shm")  # noqa: S108 - each folder in it is made by mkdtemp
"""Files in memory: on a disk, a write could wait for it."""


class MetricFiles:
    """A new folder, in the master. Raises OSError."""

    def __init__(self) -> None:
        parent = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
        remove_abandoned(parent)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._in_use = (self.folder / IN_USE).open("w")
        fcntl.flock(self._in_use, fcntl.LOCK_SH)  # the workers inherit it
        self._ended: set[int] = set()

    def worker_ended(self, pid: int) -> None:
        """Forget a worker's gauges, and add up its counts with those of others that have ended, so that there are not
        more files with each reload. Waits for nobody: what is being read is left for the next time.
        """
        try:
            mark_process_dead(pid, str(self.folder))  # type: ignore[no-untyped-call]
            self._ended.add(pid)
            with (self.folder / READING).open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return
                while self._ended:
                    self._merge(self._ended.pop())
        except (OSError, ValueError, RuntimeError) as error:  # a full disk, or half a file
            log.warning("the metrics of a worker that has ended are lost in part: %s", error)

    def _merge(self, pid: int) -> None:
        for kind in ("counter", "histogram"):
            own = self.folder / f"{kind}_{pid}.db"
            if not own.exists():
                continue
            total = MmapedDict(str(self.folder / f"{kind}_ended.db"))  # type: ignore[no-untyped-call]
            try:
                found = MmapedDict.read_all_values_from_file(str(own))  # type: ignore[no-untyped-call]
                for key, value, *_ in found:
                    before, _ = total.read_value(key)  # type: ignore[no-untyped-call]
                    total.write_value(key, before + value, 0.0)  # type: ignore[no-untyped-call]
            finally:
                total.close()  # type: ignore[no-untyped-call]
            own.unlink()

    def remove(self) -> None:
        """The server has ended."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._in_use.close()


def prepare_files(folder: Path) -> bool:
    """Make this worker's files, whole: one that is just being made cannot be read. False, with a line in the log, where
    there is no room for them: writing to a file in memory would end the process then.
    """
    pid = os.getpid()
    new = folder / f"new_{pid}"
    try:
        for kind in KINDS:
            with new.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
            new.rename(folder / f"{kind}_{pid}.db")
    except OSError as error:
        log.warning("the metrics of this worker are its own alone: %s", error)
        return False
    return True


@contextmanager
def being_read(folder: Path) -> Iterator[None]:
    """Within this block no files are merged: a count would be seen twice, or not at all."""
    with (folder / READING).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def remove_abandoned(parent: Path) -> None:
    """Remove the folders that a server has left which was killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        # An OSError: it is in use, or another user's, or just being made.
        with suppress(OSError), (folder / IN_USE).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
