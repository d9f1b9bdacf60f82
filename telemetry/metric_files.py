"""The files of the workers' metrics, which each worker can read (prometheus_client's multiprocess mode). gunicorn's
master makes the folder, and merges the files of workers that have ended.
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
"""The name of the file that a master and its workers keep locked while one of them lives."""
READING = "reading"
"""The name of the file that is locked while files are read or merged."""
KINDS = ("counter", "histogram", "gauge_livesum", "gauge_livemax")
"""The package has a file for each kind, named by it and the worker's process id."""
FILE_BYTES = 65_536
"""The package's initial size; files grow."""
MEMORY = Path("/dev/shm")  # noqa: S108 - each folder in it is made by mkdtemp
"""A file system in memory: a write to a disk could block."""


class MetricFiles:
    """The folder of the files, made by the master. Raises OSError."""

    def __init__(self) -> None:
        parent = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
        remove_abandoned(parent)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._in_use = (self.folder / IN_USE).open("w")
        fcntl.flock(self._in_use, fcntl.LOCK_SH)  # the workers inherit it
        self._ended: set[int] = set()

    def worker_ended(self, pid: int) -> None:
        """Drop a worker's gauges, and merge its counts into those of earlier ended workers, so that reloads do not add
        files. Never blocks: while files are read, the merge is left for the next call.
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
        except (OSError, ValueError, RuntimeError) as error:  # a full disk, or a broken file
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
        """Remove the folder: the server has ended."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._in_use.close()


def prepare_files(folder: Path) -> bool:
    """Make this worker's files, each in one step, since an incomplete file cannot be read. If there is no space, log
    that and return False: a write to a mapped file would then kill the process.
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
def block_merging(folder: Path) -> Iterator[None]:
    """A context in which no files are merged: a reader would see counts twice, or not at all."""
    with (folder / READING).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def remove_abandoned(parent: Path) -> None:
    """Remove the folders of servers that were killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        # OSError: the folder is in use, another user's, or new.
        with suppress(OSError), (folder / IN_USE).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
