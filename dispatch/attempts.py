"""One target's attempts at an answer: repeated before its first event, never after it (D3, D4)."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from logging import getLogger
from math import inf
from time import monotonic

from dispatch.breaker import Breaker
from errors import ProxyError, Unsupported
from events import SILENCE, Events, Silence
from providers.base import Call, Target

log = getLogger("thinkline.relay")

Ask = Callable[[Target, Call], Events]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often (R7, D3). Seconds; `retries` per target; `budget` for failed attempts and waits."""

    headers_after: float = 8.0
    retries: int = 2
    budget: float = 2.0
    first_wait: float = 0.1


class Attempts:
    """A target asked, and asked again while it fails in a way that passes.

    unheard   kinds of events that are not yet a first event
    within    seconds in which the first event must come, whatever the attempts; inf for no limit but the time-outs
    more      whether others are left to ask: then nobody waits for this one's Retry-After
    count     attempts so far; `answered` once the first event came
    """

    def __init__(
        self,
        target: Target,
        ask: Ask,
        call: Call,
        breaker: Breaker,
        patience: Patience,
        *,
        unheard: tuple[type, ...],
        within: float = inf,
        more: bool = False,
    ) -> None:
        self.target = target
        self.call = call
        self.count = 0
        self.answered = False
        self._ask = ask
        self._breaker = breaker
        self._patience = patience
        self._unheard = (*unheard, Silence)
        self.within = within
        self._more = more

    def run(self) -> Events:
        """The events of the attempt that succeeds, and what stood before its first one. Raises the last failure."""
        by = monotonic() + self.within
        while True:
            self.count += 1
            probe = self._breaker.admit()
            self.call.begin(self.target.timeouts, by)
            try:
                events = self._ask(self.target, self.call)
                try:
                    for event in events:
                        if not self.answered and not isinstance(event, self._unheard):
                            self.answered = True
                            self.call.first_event_came()
                            if probe:
                                self._breaker.succeeded(probe)
                                probe = False
                        yield event
                finally:
                    events.close()
                self._breaker.succeeded(probe)
                return
            except ProxyError as error:
                _name_provider(error, self.target)
                self._breaker.failed(probe) if error.counts else self._breaker.abandoned(probe)
                wait = None if self.answered else self._wait_before_retry(error, by)
                if wait is None:
                    raise
                log.info("retry", extra={"facts": {**facts(self.target, error), "wait": round(wait, 3)}})
                yield from self._sleep(wait)
            except BaseException:  # the caller has left, or a fault of our own: neither is the target's
                late = self.call.reason is not None and self.call.reason.counts
                self._breaker.failed(probe) if late else self._breaker.abandoned(probe)
                raise

    def _sleep(self, seconds: float) -> Events:
        """Wait, with a sign of life when one is due."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            self.call.wait(max(0.0, min(left, self.call.beat_by - monotonic())))
            if monotonic() >= self.call.beat_by:
                self.call.beat_by = monotonic() + self.call.heartbeat
                yield SILENCE

    def _wait_before_retry(self, error: ProxyError, by: float) -> float | None:
        """Seconds, with full jitter; the upstream's own Retry-After if it fits the budget. None: no retry."""
        spent_all = self.count > self._patience.retries or self._breaker.state == "open"
        if not error.retryable or spent_all or (self._more and error.retry_after):
            return None
        backoff = self._patience.first_wait * 2 ** (self.count - 1)
        jittered = random.uniform(0, backoff)  # noqa: S311 - spreads retries, keeps no secret
        wait = jittered if error.retry_after is None else error.retry_after + jittered / 10
        now = monotonic()
        return wait if now - self.call.started + wait < self._patience.budget and now + wait < by else None


def facts(target: Target, error: ProxyError) -> dict[str, object]:
    """What a log line tells of a failed attempt."""
    return {"target": target.name, "error": error.message, "said": error.log}


def _name_provider(error: ProxyError, target: Target) -> None:
    """Have a sentence about what cannot be done say where, as the translations do not know: "anthropic: ..."."""
    name = target.provider.name
    if isinstance(error, Unsupported) and name.partition("-")[0] not in error.message.lower():
        error.message = f"{name}: {error.message}"
