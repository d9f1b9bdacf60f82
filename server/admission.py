"""The bound on requests under way, and the drain when the server stops. The bound leaves threads free, so that health
checks are always answered.
"""

import threading
from collections.abc import Callable
from time import monotonic

from core.context import CallContext
from core.errors import GatewayError, Overloaded

BUSY = "Too many requests are under way here (MAX_IN_FLIGHT)."
STOPPING = "This server is shutting down; another one will answer."
RETRY_AFTER_SECONDS = 1.0


class Admission:
    """Counts the requests under way, `most` at the same time. Safe for all threads.

    `draining`: new requests are refused. `ending`: this worker is about to end, or another one takes over.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._running = 0
        self._calls: dict[CallContext, object] = {}
        self._changed = threading.Condition()
        self.draining = self.ending = False

    def enter(self) -> None:
        """Count a new request. Raises Overloaded when there are too many, or while the server drains."""
        with self._changed:
            if self.draining or self._running >= self._most:
                raise Overloaded(STOPPING if self.draining else BUSY, retry_after=RETRY_AFTER_SECONDS)
            self._running += 1

    def leave(self) -> None:
        """Count a request as ended: it has been answered to its last byte."""
        with self._changed:
            self._running -= 1
            if not self._running:
                self._changed.notify_all()

    @property
    def running(self) -> int:
        """How many requests are under way."""
        return self._running

    def track(self, call: CallContext, owner: object = None) -> None:
        """Remember a call, so that `drain` and `cancel` reach it. `cancel` finds it by its `owner`."""
        self._calls[call] = owner

    def untrack(self, call: CallContext) -> None:
        """Forget a call that is over. May be called twice."""
        self._calls.pop(call, None)

    def cancel(self, matches: Callable[[object], bool], reason: GatewayError) -> None:
        """Cancel the calls whose owner matches. Their callers get `reason` as the error."""
        for call, owner in list(self._calls.items()):
            if matches(owner):
                call.cancel(reason)

    def drain(self, seconds: float, error_seconds: float, *, refuse: bool = True) -> None:
        """Wait until all requests have ended, and `refuse` new ones meanwhile. After `seconds`, cancel those that still
        run, and wait up to `error_seconds` until their errors are sent.
        """
        self.ending = True
        self.draining = self.draining or refuse
        if self._wait_until_idle(monotonic() + seconds):
            return
        for call in list(self._calls):
            call.cancel(Overloaded(STOPPING, retry_after=RETRY_AFTER_SECONDS))
        self._wait_until_idle(monotonic() + error_seconds)

    def _wait_until_idle(self, by: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, max(0.0, by - monotonic()))
