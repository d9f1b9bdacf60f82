"""Targets asked under deadlines, at most two of them at a time: whoever speaks first answers.

The state of each target, a contender:

    WAITING   has not been asked              -> RUNNING, FAILED (its breaker is open)
    RUNNING   has said nothing yet            -> LATE, WON, LOST, FAILED
    LATE      has missed its deadline, and is -> WON, LOST, FAILED
              still listened to
    WON       spoke first: it answers, to its end
    LOST      has been cut off
    FAILED    has raised

The next contender that waits, and whose breaker lets it through, is asked

    when none is left that could answer,
    when all that could have missed their deadlines,
    when the first has been silent for `hedge_after` seconds, once.

A deadline alone cuts nobody off. What does is that another one speaks, or that its place is needed: a third one is
asked in the place of the first, and two of which one acts in the world (`Provider.acts`) do not run at the same time.
"""

import threading
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from enum import Enum, auto
from logging import getLogger
from math import inf
from time import monotonic

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
    """A target in a race: `within` seconds from when it is asked, its first event is due; inf for no deadline.

    events   what it says; its own thread reads them up to the first, and the winner's are read on by who runs the race:
             a hop between threads for each token would double what a token costs
    said     what was read by then
    failure  what it failed with
    """

    attempts: RetryingTarget
    within: float = inf
    state: State = State.WAITING
    by: float = inf
    said: list[Event] = field(default_factory=list)
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self.events = self.attempts.run()

    @property
    def may_answer(self) -> bool:
        """Whether it has been asked, and may still speak first."""
        return self.state in (State.RUNNING, State.LATE)


class Race:
    """Contenders in the order in which they are asked, each in a thread of its own, on a child of `call`.

    So a target is left whatever that one is about: resolving a name, connecting, fetching a credential. `target` is the
    winner's, and `call` the one it is asked on. `hedged` tells whether two have run at the same time. With
    `agents_too`, that goes for agents as well.
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
        self._failed = False
        self._changed = threading.Condition()

    @property
    def answered(self) -> bool:
        """Whether one has won."""
        return self._winner is not None

    @property
    def attempts(self) -> list[Attempt]:
        """Attempts so far, of all contenders, in the order of asking."""
        attempts = [attempt for each in self._contenders for attempt in each.attempts.attempts]
        return sorted(attempts, key=lambda each: each.started)

    def run(self) -> Events:
        """The winner's events. Raises a failure when all have failed, and the winner's own."""
        try:
            with self.call.on_cancel(self._wake):
                winner = self._won()
            self.target, self.call = winner.attempts.target, winner.attempts.call
            yield from winner.said
            yield from winner.events
        finally:
            self._end()

    def _won(self) -> Contender:
        """Have one after the other asked, until one speaks. Raises Cancelled."""
        with self._changed:
            while self._winner is None:
                if self.call.gone:
                    raise Cancelled
                self._failed = False
                self._look(monotonic())
                seconds = self._next_deadline() - monotonic()
                self._changed.wait_for(
                    lambda: self._winner or self._failed or self.call.gone, None if seconds == inf else seconds
                )
            return self._winner

    def _wake(self) -> None:
        """The call is cancelled."""
        with self._changed:
            self._changed.notify_all()

    def _look(self, now: float) -> None:
        """Note who is late, and ask the next one if it is time to. Raises a failure when nobody is left."""
        for each in self._contenders:
            if each.state is State.RUNNING and now >= each.by:
                each.state = State.LATE
        running = [each for each in self._contenders if each.may_answer]
        if all(each.state is State.LATE for each in running) or now >= self._hedge_at:
            self._ask_next(running, now)
        if not any(each.may_answer for each in self._contenders):
            raise next(each.failure for each in self._contenders if each.failure is not None)

    def _next_deadline(self) -> float:
        running = [each for each in self._contenders if each.state is State.RUNNING]
        return min([self._hedge_at, *(each.by for each in running)])

    def _ask_next(self, running: Sequence[Contender], now: float) -> None:
        """Ask the next one that may be asked; without one, those that run are left alone."""
        is_first = all(each.state is State.WAITING for each in self._contenders)
        self._hedge_at = now + self._hedge_after if is_first else inf
        in_time = any(each.state is State.RUNNING for each in running)
        for each in self._contenders:
            if each.state is State.WAITING and self._is_let_through(each):
                if in_time and not all(self._may_run_together(each, one) for one in running):
                    return
                self._make_room(each, running)
                each.state, each.by = State.RUNNING, now + each.within
                each.attempts.why = "first" if is_first else "hedge" if in_time else "fallback"
                each.attempts.due = each.by
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
        """Cut off who may not run beside the newcomer: where one of the two acts, and of more than two the first."""
        staying = [each for each in running if self._may_run_together(each, newcomer)][-(AT_A_TIME - 1) :]
        for each in running:
            if each not in staying:
                self._cut_off(each)
        self.hedged = self.hedged or bool(staying)

    def _may_run_together(self, one: Contender, other: Contender) -> bool:
        return self._agents_too or not (one.attempts.target.provider.acts or other.attempts.target.provider.acts)

    def _start(self, contender: Contender) -> None:
        name = f"race-{contender.attempts.target.name}"
        threading.Thread(target=copy_context().run, args=(self._read, contender), name=name, daemon=True).start()

    def _cut_off(self, contender: Contender) -> None:
        """Nobody hears it any more. That it was late is a failure of the target's; to be second is none."""
        late, contender.state = contender.state is State.LATE, State.LOST
        reason = None
        if late:
            target = contender.attempts.target
            reason = contender.failure = UpstreamTimeout(
                f"{target.provider.name} did not answer in time.",
                provider=target.provider.name,
                log=f"nothing within {contender.within} s (ttft_timeout_ms)",
            )
            contender.attempts.failures.add(target, reason)
        if self.call.gone:
            contender.attempts.call.cancel(reason)
        else:
            contender.attempts.cut("late" if late else "lost", reason)

    def _read(self, contender: Contender) -> None:
        """In the contender's thread: keep what it says, until it has won, lost or failed."""
        failure: BaseException | None = None
        try:
            for event in contender.events:
                contender.said.append(event)
                if contender.attempts.answered or not contender.may_answer:
                    break
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for it
            failure = error
        with self._changed:
            self._fails(contender, failure) if failure is not None else self._speaks(contender)
            has_won = contender.state is State.WON
            self._changed.notify_all()
        del failure  # it holds on to this frame
        if not has_won:
            contender.events.close()

    def _speaks(self, contender: Contender) -> None:
        """The first who does, or has ended without a word, has won; the others are cut off."""
        if contender.may_answer:
            contender.state, self._winner = State.WON, contender
            for each in self._contenders:
                if each.may_answer:
                    self._cut_off(each)

    def _fails(self, contender: Contender, failure: BaseException) -> None:
        if contender.may_answer:
            contender.state, contender.failure, self._failed = State.FAILED, failure, True
            if not isinstance(failure, (GatewayError, Cancelled)):
                log.error("unexpected failure of %s", contender.attempts.target.name, exc_info=failure)

    def _end(self) -> None:
        """Nobody listens any more."""
        with self._changed:
            for each in self._contenders:
                if each.may_answer:
                    self._cut_off(each)
                each.failure = None  # it holds on to the frames that hold on to it, and would wait for the collector
        if self._winner is not None:
            self._winner.events.close()
