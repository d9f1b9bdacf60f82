"""The text of a file when it was last right, shared by a process and those that it forks from then on."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile


class LastGood:
    """One text. A worker that reads the file keeps it here for those that are started later, by their common parent.

    It is in a file without a name, which only these processes can open: there may be keys in it. Where the system can,
    it is in memory.
    """

    def __init__(self, text: bytes) -> None:
        if hasattr(os, "memfd_create"):
            self._file = os.fdopen(os.memfd_create("models"), "r+b", buffering=0)
        else:
            self._file = TemporaryFile(buffering=0)  # noqa: SIM115 - open as long as the processes live
        self.put(text)

    def put(self, text: bytes) -> None:
        """Replace the text."""
        with self._locked(fcntl.LOCK_EX):
            os.ftruncate(self._file.fileno(), 0)
            os.pwrite(self._file.fileno(), text, 0)

    def text(self) -> bytes:
        """The text, as any of the processes put it."""
        with self._locked(fcntl.LOCK_SH):
            return os.pread(self._file.fileno(), os.fstat(self._file.fileno()).st_size, 0)

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """POSIX locks are between processes; in each of them one thread alone comes here, and for a moment."""
        fcntl.lockf(self._file, kind)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
