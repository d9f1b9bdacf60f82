"""Notices that the machine's clock was set, by comparing it to one that never is."""

import time as clocks
from logging import getLogger
from time import time

log = getLogger("thinkline.usage")

NOTABLE_SECONDS = 60.0
STEADY = getattr(clocks, "CLOCK_BOOTTIME", clocks.CLOCK_MONOTONIC)
"""A clock that nobody sets. On Linux it also counts while the machine is suspended."""
CLOCK_SET = "the machine's clock was set by %+d seconds: budgets and keys' expiry follow it; no usage is deleted today"


class ClockWatch:
    """Watches the machine's clock from now on."""

    def __init__(self) -> None:
        self._difference = _difference()

    def was_set(self) -> bool:
        """Whether the clock was set since the last call, by NOTABLE_SECONDS in all. It is logged then."""
        difference = _difference()
        seconds = difference - self._difference
        if abs(seconds) < NOTABLE_SECONDS:
            return False
        self._difference = difference
        log.warning(CLOCK_SET, round(seconds))
        return True


def _difference() -> float:
    return time() - clocks.clock_gettime(STEADY)
