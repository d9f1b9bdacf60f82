"""Memory by which gunicorn's master tells its workers why they get SIGTERM: the server stops, or other workers take
over (HUP, USR2, TTOU). A worker ends differently in the two cases.
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
MASTER_SECONDS = 0.25
"""How long the master may take to write the reason: a signal to the whole group (systemd's KillMode=control-group) may
reach a worker first.
"""


class Succession:
    """A page of memory that a master, its workers and, after USR2, the next master share. Byte 0: the server stops.
    Each other byte: a worker that is to take over does not serve yet.
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
    def inherit(cls, environ: MutableMapping[str, str]) -> Self:
        """The page of the master that got USR2, or a new page if there is none."""
        try:
            return cls(int(environ[VARIABLE]))
        except (KeyError, ValueError, OSError):
            return cls()

    def hand_over(self, environ: MutableMapping[str, str]) -> None:
        """Let the next program that is executed with this environment inherit the page."""
        os.set_inheritable(self._descriptor, True)
        environ[VARIABLE] = str(self._descriptor)

    def expect(self, oldest: int, count: int) -> None:
        """Note that `count` workers are about to take over; `oldest` is gunicorn's age of the first. Clears a stop."""
        self._oldest, self._count = oldest, min(count, PAGE_BYTES - 1)
        self._page[:] = (b"\0" + b"\1" * self._count).ljust(PAGE_BYTES, b"\0")

    def is_first(self, age: int) -> bool:
        """Whether the worker of that age is one of those that the server starts with."""
        return self._oldest == 1 and age <= self._count

    def mark_serving(self, age: int) -> None:
        """Note that the worker of that age serves. A worker that replaces one that died at boot uses the same byte."""
        self._page[1 + (age - self._oldest) % self._count] = 0

    def stop(self) -> None:
        """Note that the server stops: no worker takes over."""
        self._page[0] = 1

    def wait_for_stop(self, seconds: float) -> bool:
        """Whether the server stops. If not, wait up to `seconds` until all workers that take over serve."""
        began = monotonic()
        while not self._page[0]:
            waited = monotonic() - began
            if waited >= seconds or (waited >= MASTER_SECONDS and not any(self._page[1:])):
                return False
            sleep(LOOK_SECONDS)
        return True
