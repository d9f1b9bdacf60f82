"""How many requests are under way, and until when: a bound, so that health and hang-ups always get a thread; and
an end, when the server is to stop.
"""

import threading
from collections.abc import Callable
from time import monotonic

from core.context import CallContext
from core.errors import GatewayError, Overloaded

BUSY = "Too many requests are under way here (MAX_IN_FLIGHT)."
STOPPING = "This server is shutting down; another one will answer."
COME_AGAIN = 1.0
"""Seconds, for Retry-After."""


class Admission:
    """Counts the requests that are worked on, `most` at the same time. Safe for all threads.

    `draining` says that no more are taken, `ending` that this worker is about to end, or another one takes over.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._running = 0
        self._calls: dict[CallContext, object] = {}
        self._changed = threading.Condition()
        self.draining = self.ending = False

    def enter(self) -> None:
        """A request comes. Raises Overloaded when there are too many, or none is taken any more."""
        with self._changed:
            if self.draining or self._running >= self._most:
                raise Overloaded(STOPPING if self.draining else BUSY, retry_after=COME_AGAIN)
            self._running += 1

    def leave(self) -> None:
        """One has been answered, to its last byte."""
        with self._changed:
            self._running -= 1
            if not self._running:
                self._changed.notify_all()

    @property
    def running(self) -> int:
        """How many requests are worked on."""
        return self._running

    def track(self, call: CallContext, owner: object = None) -> None:
        """A call is answered from now on. `owner` is what `cancel` finds it by."""
        self._calls[call] = owner

    def untrack(self, call: CallContext) -> None:
        """It is over. May be told twice."""
        self._calls.pop(call, None)

    def cancel(self, is_meant: Callable[[object], bool], reason: GatewayError) -> None:
        """End the calls whose owner is meant, and tell their callers why."""
        for call, owner in list(self._calls.items()):
            if is_meant(owner):
                call.cancel(reason)

    def drain(self, seconds: float, last_words: float, *, refuse: bool = True) -> None:
        """Take nothing more (unless not to `refuse`), and wait until all have ended; after so many seconds, tell those
        who have not, and wait for their last words.
        """
        self.ending = True
        self.draining = self.draining or refuse
        if self._emptied(monotonic() + seconds):
            return
        for call in list(self._calls):
            call.cancel(Overloaded(STOPPING, retry_after=COME_AGAIN))
        self._emptied(monotonic() + last_words)

    def _emptied(self, by: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, max(0.0, by - monotonic()))
