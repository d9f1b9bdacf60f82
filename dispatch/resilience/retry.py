"""Retries one target before its first event, never after it."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from logging import getLogger
from math import inf

from core.attempts import Attempt, AttemptOutcome, AttemptReason
from core.context import CallContext
from core.errors import GatewayError, Unsupported, UpstreamError
from core.events import Events
from dispatch.resilience.breaker import Breaker
from providers.base import Target

log = getLogger("thinkline.relay")

StreamFactory = Callable[[Target, CallContext], Events]

DETAIL_CHARACTERS = 200
"""The most of an upstream's own error text in `Failures.tried`."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`retries` per target; `budget` in seconds for failed attempts and waits; `first_wait` in seconds."""

    retries: int = 2
    budget: float = 2.0
    first_wait: float = 0.1


class Failures:
    """The failures of one request's targets; each is logged as it happens. Safe for all threads.

    `targets` are the route's, in order. `tried` has each target's last failure by its name: the message for the caller,
    and the upstream's own text.
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        self.tried: dict[str, str] = {}
        self._targets = targets
        self._failures: list[tuple[Target, GatewayError]] = []

    def add(self, target: Target, error: GatewayError, wait: float | None = None) -> None:
        """Record a target's failure; it is final, or retried after `wait` seconds."""
        detail = f" ({error.log[:DETAIL_CHARACTERS]})" if error.log else ""
        self.tried[target.name] = error.message + detail
        facts: dict[str, object] = {"target": target.name, "error": error.message, "said": error.log}
        if wait is None:
            self._failures.append((target, error))
            log.info("no answer", extra={"facts": facts})
        else:
            log.info("retry", extra={"facts": {**facts, "wait": round(wait, 3)}})

    def most_telling(self) -> tuple[Target, GatewayError]:
        """The failure to raise: the first target's that an upstream reported, else the last one (an open breaker, or an
        unsupported request).
        """
        upstreams = [each for each in self._failures if isinstance(each[1], UpstreamError)]
        return min(upstreams, key=lambda each: self._targets.index(each[0]), default=self._failures[-1])

    def forget(self) -> None:
        """Release the exceptions: their tracebacks form reference cycles with the frames that hold them."""
        self._failures.clear()


class RetryingTarget:
    """A target that is tried again while its failures are retryable.

    failures      records each failure, unless the call has been cancelled
    unheard       types of events that do not count as a first event
    more          whether another target is left: then this one's Retry-After is not waited for
    has_answered  whether the first event has come
    why, due      the reason of the first attempt, and the deadline by the request's clock
    cut_off       how and when another target replaced this one
    """

    def __init__(
        self,
        target: Target,
        ask: StreamFactory,
        call: CallContext,
        breaker: Breaker,
        retry_policy: RetryPolicy,
        failures: Failures,
        *,
        unheard: tuple[type, ...],
        more: bool = False,
    ) -> None:
        self.target = target
        self.call = call
        self.breaker = breaker
        self.failures = failures
        self._ended: list[Attempt] = []
        self._started: float | None = None
        self._first_event: float | None = None
        self._unheard_characters = 0
        self.has_answered = False
        self.why: AttemptReason = "first"
        self.due = inf
        self.cut_off: tuple[AttemptOutcome, float] | None = None
        self._ask = ask
        self._retry_policy = retry_policy
        self._unheard = unheard
        self._more = more

    def run(self) -> Events:
        """The events of the attempt that succeeds, with those before its first event. Raises the last failure."""
        while True:
            self._started, self._first_event, self._unheard_characters = self._now(), None, 0
            self.call.begin_span()
            probe = False
            try:
                probe = self.breaker.admit()
                self.call.begin(self.target.timeouts)
                events = self._ask(self.target, self.call)
                try:
                    for event in events:
                        if not self.has_answered:
                            if isinstance(event, self._unheard):
                                self._unheard_characters += len(getattr(event, "text", ""))
                            else:
                                self._begin_answer()
                                if probe:
                                    self.breaker.record_success(probe)
                                    probe = False
                        yield event
                finally:
                    events.close()
                self._end_attempt("answered")
                self.breaker.record_success(probe)
                return
            except GatewayError as error:
                _name_provider(error, self.target)
                self._end_attempt("failed", error)
                self.breaker.record_failure(probe) if error.trips_breaker else self.breaker.release(probe)
                wait = None if self.has_answered else self._wait_before_retry(error)
                if not self.call.gone:
                    self.failures.add(self.target, error, wait)
                if wait is None:
                    raise
                self.call.wait(wait)
            except BaseException:  # the caller has left, or a fault of our own: neither is the target's
                late = self.call.reason is not None and self.call.reason.trips_breaker
                self._end_attempt("late" if late else "cancelled", self.call.reason)
                self.breaker.record_failure(probe) if late else self.breaker.release(probe)
                raise

    def _begin_answer(self) -> None:
        self.has_answered = True
        self._first_event = self._now()
        self.call.mark_first_event()

    def _now(self) -> float:
        return self.call.clock.now() - self.call.started

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts so far, with the one under way."""
        started = self._started
        running = [] if started is None else [self._attempt(started, None, "running")]
        return [*self._ended, *running]

    def cut(self, outcome: AttemptOutcome, reason: GatewayError | None = None) -> None:
        """Cancel it, because another target takes its place."""
        self.cut_off = outcome, self._now()
        self.call.cancel(reason)

    def _end_attempt(self, outcome: AttemptOutcome, error: GatewayError | None = None) -> None:
        if self._started is not None:
            self._ended.append(self._attempt(self._started, self._now(), outcome, error))
            self._started = None

    def _attempt(
        self, started: float, ended: float | None, outcome: AttemptOutcome, error: GatewayError | None = None
    ) -> Attempt:
        target, call, began = self.target, self.call, self.call.started
        if self.cut_off is not None and outcome != "failed":
            outcome, ended = self.cut_off
            error = call.reason
        return Attempt(
            target.name,
            target.provider.name,
            started,
            self._first_event,
            ended,
            outcome,
            error.code if error else None,
            error.message if error else "",
            model=target.model,
            why="retry" if self._ended else self.why,
            headers=None if call.headers_at is None else call.headers_at - began,
            status=error.upstream_status if isinstance(error, UpstreamError) else None,
            deadline=None if self.due == inf else self.due - began,
            unheard=self._unheard_characters,
            price=target.price,
            span_id=call.span_id,
        )

    def _wait_before_retry(self, error: GatewayError) -> float | None:
        """Seconds, with full jitter; the upstream's own Retry-After if it fits the budget. None: no retry."""
        spent_all = len(self._ended) > self._retry_policy.retries or self.breaker.state == "open"
        if not error.retryable or spent_all or (self._more and error.retry_after):
            return None
        backoff = self._retry_policy.first_wait * 2 ** (len(self._ended) - 1)
        jittered = random.uniform(0, backoff)  # noqa: S311 - spreads retries, keeps no secret
        wait = jittered if error.retry_after is None else error.retry_after + jittered / 10
        return wait if self._now() + wait < self._retry_policy.budget else None


def _name_provider(error: GatewayError, target: Target) -> None:
    """Prefix an Unsupported error with the provider, which the translation does not know: "anthropic: ..."."""
    name = target.provider.name
    if isinstance(error, Unsupported) and name.partition("-")[0] not in error.message.lower():
        error.message = f"{name}: {error.message}"
