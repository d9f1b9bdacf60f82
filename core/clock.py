"""The clock by which a request's deadlines are kept. A test replaces it, to test them without waiting."""

from math import inf
from threading import Condition, Event
from time import monotonic


class Clock:
    """The monotonic clock of the system, in seconds."""

    now = staticmethod(monotonic)

    def wait(self, waited_for: Condition | Event, by: float) -> bool:
        """Wait until it is notified or set, or until `by`; inf for no limit. False: `by` came first."""
        return waited_for.wait(None if by == inf else max(0.0, by - monotonic()))


SYSTEM_CLOCK = Clock()
