"""Runs targets under deadlines, at most two at a time: the first one with an event answers.

The state of each target, a contender:

    WAITING   not started                     -> RUNNING, FAILED (its breaker is open)
    RUNNING   no event yet                    -> LATE, WON, LOST, FAILED
    LATE      has missed its deadline, and    -> WON, LOST, FAILED
              still runs
    WON       had the first event: it answers, to its end
    LOST      has been cancelled
    FAILED    has raised

The next WAITING contender whose breaker admits it is started

    when no contender is RUNNING or LATE,
    when all of these are LATE,
    when the first has been silent for `hedge_after` seconds, once.

A missed deadline alone cancels no contender. A contender is cancelled when another one wins, or when its place is
needed: a third one replaces the first, and a target that acts in the world (`Provider.acts`) runs alone.
"""

import threading
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from enum import Enum, auto
from logging import getLogger
from math import inf

from core.attempts import Attempt
from core.context import CallContext
from core.errors import Cancelled, CircuitOpen, GatewayError, UpstreamTimeout
from core.events import Event, Events
from dispatch.resilience.retry import RetryingTarget
from providers.base import Target

log = getLogger("thinkline.relay")

AT_A_TIME = 2


class State(Enum):
    """See this file's head."""

    WAITING = auto()
    RUNNING = auto()
    LATE = auto()
    WON = auto()
    LOST = auto()
    FAILED = auto()


@dataclass(eq=False)
class Contender:
    """A target in a race. Its first event is due `timeout` seconds after its start; inf for no deadline.

    events       its events. Its own thread reads them up to the first one. The thread that runs the race reads the rest
                 of the winner's: passing each token between threads would double a token's cost
    events_read  the events that its own thread has read
    failure      its exception
    """

    attempts: RetryingTarget
    timeout: float = inf
    state: State = State.WAITING
    deadline: float = inf
    events_read: list[Event] = field(default_factory=list)
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self.events = self.attempts.run()

    @property
    def may_answer(self) -> bool:
        """Whether it runs, and may still win."""
        return self.state in (State.RUNNING, State.LATE)


class Race:
    """Contenders in the order of their start, each in its own thread, with a child of `call` as its context.

    So the next target can start while one still resolves a name, connects or fetches a credential. `target` and `call`
    become the winner's. `hedged` tells whether two have run at the same time. `agents_too` lets targets that act in the
    world do so.
    """

    def __init__(
        self, contenders: Sequence[Contender], call: CallContext, *, hedge_after: float = inf, agents_too: bool = False
    ) -> None:
        self.target: Target = contenders[0].attempts.target
        self.hedged = False
        self.call = call
        self._contenders = contenders
        self._hedge_after = hedge_after
        self._hedge_at = inf
        self._agents_too = agents_too
        self._winner: Contender | None = None
        self._changed = threading.Condition()

    @property
    def has_answered(self) -> bool:
        """Whether a contender has won."""
        return self._winner is not None

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts so far, of all contenders, in the order of their start."""
        attempts = [attempt for each in self._contenders for attempt in each.attempts.attempts]
        return sorted(attempts, key=lambda each: each.started)

    def run(self) -> Events:
        """The winner's events. Raises the first failure if all contenders fail, and the winner's own."""
        try:
            with self.call.on_cancel(self._wake):
                winner = self._wait_for_winner()
            self.target, self.call = winner.attempts.target, winner.attempts.call
            yield from winner.events_read
            yield from winner.events
        finally:
            self._end()

    def _wait_for_winner(self) -> Contender:
        """Start the contenders as they are due, until one wins. Raises Cancelled."""
        with self._changed:
            while self._winner is None:
                if self.call.gone:
                    raise Cancelled
                self._advance(self.call.clock.now())
                self.call.clock.wait(self._changed, self._next_deadline())
            return self._winner

    def _wake(self) -> None:
        """Wake the waiting thread: the call is cancelled."""
        with self._changed:
            self._changed.notify_all()

    def _advance(self, now: float) -> None:
        """Mark late contenders, and start the next one if it is due. Raises the first failure if none can win."""
        for each in self._contenders:
            if each.state is State.RUNNING and now >= each.deadline:
                each.state = State.LATE
        running = [each for each in self._contenders if each.may_answer]
        if all(each.state is State.LATE for each in running) or now >= self._hedge_at:
            self._start_next(running, now)
        if not any(each.may_answer for each in self._contenders):
            raise next(each.failure for each in self._contenders if each.failure is not None)

    def _next_deadline(self) -> float:
        running = [each for each in self._contenders if each.state is State.RUNNING]
        return min([self._hedge_at, *(each.deadline for each in running)])

    def _start_next(self, running: Sequence[Contender], now: float) -> None:
        """Start the next contender whose breaker admits it; without one, those that run continue."""
        is_first = all(each.state is State.WAITING for each in self._contenders)
        self._hedge_at = now + self._hedge_after if is_first else inf
        in_time = any(each.state is State.RUNNING for each in running)
        for each in self._contenders:
            if each.state is State.WAITING and self._is_let_through(each):
                if in_time and not all(self._may_run_at_once(each, one) for one in running):
                    return
                self._make_room(each, running)
                each.state, each.deadline = State.RUNNING, now + each.timeout
                each.attempts.why = "first" if is_first else "hedge" if in_time else "fallback"
                each.attempts.due = each.deadline
                self._start(each)
                return

    def _is_let_through(self, contender: Contender) -> bool:
        try:
            contender.attempts.breaker.check()
        except CircuitOpen as error:
            contender.state, contender.failure = State.FAILED, error
            contender.attempts.failures.add(contender.attempts.target, error)
            return False
        return True

    def _make_room(self, newcomer: Contender, running: Sequence[Contender]) -> None:
        """Cancel contenders that may not run beside the newcomer: if one of the two acts, and the first of three."""
        staying = [each for each in running if self._may_run_at_once(each, newcomer)][-(AT_A_TIME - 1) :]
        for each in running:
            if each not in staying:
                self._cancel(each)
        self.hedged = self.hedged or bool(staying)

    def _may_run_at_once(self, one: Contender, other: Contender) -> bool:
        return self._agents_too or not (one.attempts.target.provider.acts or other.attempts.target.provider.acts)

    def _start(self, contender: Contender) -> None:
        name = f"race-{contender.attempts.target.name}"
        threading.Thread(target=copy_context().run, args=(self._read, contender), name=name, daemon=True).start()

    def _cancel(self, contender: Contender) -> None:
        """Cancel a contender. To have been late counts as the target's failure; to have lost does not."""
        late, contender.state = contender.state is State.LATE, State.LOST
        reason = None
        if late:
            # Two, because the first may be raised: then its traceback refers to all that refers to `reason`.
            contender.failure, reason = _too_late(contender), _too_late(contender)
            contender.attempts.failures.add(contender.attempts.target, contender.failure)
        if self.call.gone:
            contender.attempts.call.cancel(reason)
        else:
            contender.attempts.cut("late" if late else "lost", reason)

    def _read(self, contender: Contender) -> None:
        """In the contender's thread: collect its events until it has won, lost or failed."""
        failure: BaseException | None = None
        try:
            for event in contender.events:
                contender.events_read.append(event)
                if contender.attempts.has_answered or not contender.may_answer:
                    break
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for it
            failure = error
        with self._changed:
            self._set_failed(contender, failure) if failure is not None else self._set_winner(contender)
            has_won = contender.state is State.WON
            self._changed.notify_all()
        del failure  # it holds on to this frame
        if not has_won:
            contender.events.close()

    def _set_winner(self, contender: Contender) -> None:
        """The first contender with an event, or whose events have ended, wins; the others are cancelled."""
        if contender.may_answer:
            contender.state, self._winner = State.WON, contender
            for each in self._contenders:
                if each.may_answer:
                    self._cancel(each)

    def _set_failed(self, contender: Contender, failure: BaseException) -> None:
        if contender.may_answer:
            contender.state, contender.failure = State.FAILED, failure
            if not isinstance(failure, (GatewayError, Cancelled)):
                log.error("unexpected failure of %s", contender.attempts.target.name, exc_info=failure)

    def _end(self) -> None:
        """Cancel those that still run, and release the exceptions."""
        with self._changed:
            for each in self._contenders:
                if each.may_answer:
                    self._cancel(each)
                each.failure = None  # it holds on to the frames that hold on to it, and would wait for the collector
        if self._winner is not None:
            self._winner.events.close()


def _too_late(contender: Contender) -> UpstreamTimeout:
    provider = contender.attempts.target.provider.name
    return UpstreamTimeout(
        f"{provider} did not answer in time.",
        provider=provider,
        log=f"nothing within {contender.timeout} s (ttft_timeout_ms)",
    )
