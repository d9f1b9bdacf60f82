"""Notices that the machine's clock was set, by comparing it to one that never is."""

import time as clocks
from time import time

NOTABLE_SECONDS = 60.0
STEADY = getattr(clocks, "CLOCK_BOOTTIME", clocks.CLOCK_MONOTONIC)
"""A clock that nobody sets. On Linux it also counts while the machine is suspended."""


class ClockWatch:
    """Watches the machine's clock from now on."""

    def __init__(self) -> None:
        self._difference = _difference()

    def moved(self) -> float:
        """Seconds by which the clock was set since the last call; 0 for less than NOTABLE_SECONDS in all."""
        difference = _difference()
        seconds = difference - self._difference
        if abs(seconds) < NOTABLE_SECONDS:
            return 0.0
        self._difference = difference
        return seconds


def _difference() -> float:
    return time() - clocks.clock_gettime(STEADY)
