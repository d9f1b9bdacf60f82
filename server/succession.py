"""What gunicorn's master tells its workers beside signals: SIGTERM is sent to a worker both when the server stops and
when others take over (HUP, USR2, TTOU), and what it is to do then differs.
"""

import mmap
import os
import tempfile
from collections.abc import MutableMapping
from time import monotonic, sleep
from typing import Self

PAGE_BYTES = 4096
VARIABLE = "THINKLINE_SUCCESSION_FD"
"""Carries the page's descriptor over the exec of USR2."""
LOOK_SECONDS = 0.02
HEARSAY_SECONDS = 0.25
"""Who signals a whole group (systemd's KillMode=control-group) may reach a worker before the master has said why."""


class Succession:
    """A page that a master, its workers and, after USR2, the next master share. Byte 0: the server stops. The others:
    one for each worker that is to take over and does not serve yet.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            with tempfile.TemporaryFile() as file:
                file.truncate(PAGE_BYTES)
                descriptor = os.dup(file.fileno())
        self._descriptor = descriptor
        self._page = mmap.mmap(descriptor, PAGE_BYTES)
        self._oldest, self._count = 1, 1

    @classmethod
    def inherited(cls, environ: MutableMapping[str, str]) -> Self:
        """The page of the master that USR2 was sent to, or a new one where that had none."""
        try:
            return cls(int(environ[VARIABLE]))
        except (KeyError, ValueError, OSError):
            return cls()

    def hand_over(self, environ: MutableMapping[str, str]) -> None:
        """Let the program that is executed next, with this environment, inherit the page."""
        os.set_inheritable(self._descriptor, True)
        environ[VARIABLE] = str(self._descriptor)

    def expect(self, oldest: int, count: int) -> None:
        """So many workers are about to take over; `oldest` is gunicorn's age of the first. Nothing stops, then."""
        self._oldest, self._count = oldest, min(count, PAGE_BYTES - 1)
        self._page[:] = (b"\0" + b"\1" * self._count).ljust(PAGE_BYTES, b"\0")

    def is_first(self, age: int) -> bool:
        """Whether the worker of that age is one of those that the server starts with."""
        return self._oldest == 1 and age <= self._count

    def serves(self, age: int) -> None:
        """The worker of that age serves. One that replaces a worker which died while it booted takes its place."""
        self._page[1 + (age - self._oldest) % self._count] = 0

    def stop(self) -> None:
        """The server stops: nobody takes over."""
        self._page[0] = 1

    def stops(self, seconds: float) -> bool:
        """Whether the server stops; if not, wait until all serve who are to take over, for so many seconds at most."""
        began = monotonic()
        while not self._page[0]:
            waited = monotonic() - began
            if waited >= seconds or (waited >= HEARSAY_SECONDS and not any(self._page[1:])):
                return False
            sleep(LOOK_SECONDS)
        return True
