"""One breaker per target: after so many failures in a row, leave the target alone for a while, then try once."""

import threading
from collections.abc import Callable
from logging import getLogger
from time import monotonic
from typing import Literal

from core.errors import CircuitOpen

log = getLogger("thinkline.breaker")

State = Literal["closed", "open", "half-open"]
StateListener = Callable[[str, State], object]
"""Called with a target's name and its breaker's new state, "open" or "closed". Must not wait."""


def log_change(name: str, state: State) -> None:
    """Log the change; an opened breaker is a warning."""
    if state == "open":
        log.warning("breaker opened", extra={"facts": {"target": name}})
    else:
        log.info("breaker closed", extra={"facts": {"target": name}})


class Breaker:
    """closed -> (failures in a row) -> open -> (seconds) -> half-open -> one probe decides.

    `clock` gives seconds; `changed` is called at each opening and closing. Safe for all threads.
    """

    def __init__(
        self,
        name: str,
        failures: int,
        seconds: float,
        clock: Callable[[], float] = monotonic,
        changed: StateListener = log_change,
    ) -> None:
        self._name = name
        self._changed = changed
        self._limit = failures
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False

    @property
    def state(self) -> State:
        """The state as the next request will find it."""
        if self._opened_at is None:
            return "closed"
        return "half-open" if self._clock() - self._opened_at >= self._seconds else "open"

    @property
    def at_rest(self) -> bool:
        """Whether it is closed and counts no failures."""
        return self._opened_at is None and not self._failures

    def admit(self) -> bool:
        """Admit an attempt, or raise CircuitOpen. Returns whether the attempt is the probe. The attempt passes that to
        record_success, record_failure or release: the probe at its first event, every attempt at its end.
        """
        if self._opened_at is None:
            return False
        with self._lock:
            self.check()
            self._probing = self._opened_at is not None
            return self._probing

    def check(self) -> None:
        """Raise CircuitOpen if `admit` would refuse an attempt now."""
        opened_at = self._opened_at
        if opened_at is None:
            return
        left = self._seconds - (self._clock() - opened_at)
        if left > 0 or self._probing:
            raise CircuitOpen(
                f"{self._name} has failed too often and is left alone for now.", retry_after=max(left, 1.0)
            )

    def record_success(self, probe: bool) -> None:
        """The attempt had an answer."""
        if not (probe or self._failures):
            return
        with self._lock:
            closes = probe and self._opened_at is not None
            self._failures = 0
            if probe:
                self._opened_at = None
                self._probing = False
        if closes:
            self._changed(self._name, "closed")

    def record_failure(self, probe: bool) -> None:
        """The attempt failed in a way that counts."""
        with self._lock:
            self._failures += 1
            if probe:
                self._probing = False
            opens = self._failures >= self._limit and self._opened_at is None
            if probe or opens:
                self._opened_at = self._clock()
        if opens:
            self._changed(self._name, "open")

    def release(self, probe: bool) -> None:
        """The attempt showed nothing about the target: the caller disconnected, or the request was invalid."""
        if probe:
            with self._lock:
                self._probing = False


KEPT_BREAKERS = 1000


class Breakers:
    """The breakers by target, made as targets are first used.

    Callers choose the names of models, so their number has no bound: breakers at rest are dropped. `listeners` are
    called at each breaker's opening and closing.
    """

    def __init__(self, failures: int, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self._settings = (failures, seconds, clock)
        self.listeners: list[StateListener] = [log_change]
        self._breakers: dict[str, Breaker] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Breaker:
        breaker = self._breakers.get(name)
        if breaker is None:
            with self._lock:
                if len(self._breakers) >= KEPT_BREAKERS:
                    self._breakers = {name: each for name, each in self._breakers.items() if not each.at_rest}
                breaker = self._breakers.setdefault(name, Breaker(name, *self._settings, self._notify))
        return breaker

    def _notify(self, name: str, state: State) -> None:
        for listener in self.listeners:
            listener(name, state)

    def all_states(self) -> dict[str, State]:
        """The breakers that are not closed, by target."""
        states = {name: breaker.state for name, breaker in list(self._breakers.items())}
        return {name: state for name, state in states.items() if state != "closed"}

    def __len__(self) -> int:
        return len(self._breakers)

    def states(self, provider: str) -> dict[str, State]:
        """The breakers of a provider's targets that are not closed, by model."""
        prefix = f"{provider}/"
        return {
            name.removeprefix(prefix): state for name, state in self.all_states().items() if name.startswith(prefix)
        }
