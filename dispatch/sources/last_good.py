"""The last valid text of a file, shared by a process and the children that it forks later."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile


class LastGood:
    """One text. A worker stores it here for workers that the common parent starts later.

    The file has no name, so only these processes can open it: it may hold keys. If the system has memfd_create, it is
    in memory.
    """

    def __init__(self, text: bytes) -> None:
        if hasattr(os, "memfd_create"):
            self._file = os.fdopen(os.memfd_create("models"), "r+b", buffering=0)
        else:
            self._file = TemporaryFile(buffering=0)  # noqa: SIM115 - open as long as the processes live
        self.put(text)

    def put(self, text: bytes) -> None:
        """Replace the text."""
        with self._lock(fcntl.LOCK_EX):
            os.ftruncate(self._file.fileno(), 0)
            os.pwrite(self._file.fileno(), text, 0)

    def text(self) -> bytes:
        """The text, as the last of the processes stored it."""
        with self._lock(fcntl.LOCK_SH):
            return os.pread(self._file.fileno(), os.fstat(self._file.fileno()).st_size, 0)

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        """POSIX locks work between processes; within a process only one thread comes here, and for a moment."""
        fcntl.lockf(self._file, kind)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
