"""Targets under a deadline, and two asked at the same time: whoever speaks first answers, the other one is cut off."""

import threading
from collections.abc import Generator, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic

from dispatch.attempts import Attempts
from errors import HungUp, UpstreamTimeout
from events import SILENCE, Event, Events, Silence
from providers.base import Call, Target

SLACK_SECONDS = 0.02
"""The transport keeps the same deadline, and is to be the first to notice."""


@dataclass(eq=False)
class _Lane:
    """A target in the race: what it said up to its first event, and where that goes on; or how it failed.

    Without a failure, and not the winner, it was late: the other one had spoken.
    """

    attempts: Attempts
    events: Events
    held: list[Event] = field(default_factory=list)
    failure: BaseException | None = None
    by: float = inf


class Race:
    """One target, or two: the second starts `after` seconds when the first is silent, or at once when it has failed.

    Each runs in a thread of its own until its first event, on a child of `call`; the winner goes on in the caller's.
    So the line is kept, and a target left at its deadline, whatever that one is about: resolving a name, connecting,
    fetching a credential. `target` is the winner's, `second` tells whether the second was asked at all.
    """

    def __init__(self, attempts: Sequence[Attempts], after: float, call: Call) -> None:
        self.target: Target = attempts[0].target
        self.second = False
        self._lanes = [_Lane(each, each.run()) for each in attempts]
        self._after = after if len(attempts) > 1 else inf
        self._call = call
        self._winner: _Lane | None = None
        self._over = False
        self._deciding = threading.Lock()
        self._ended: SimpleQueue[_Lane] = SimpleQueue()

    @property
    def answered(self) -> bool:
        """Whether a first event came."""
        return self._winner is not None

    @property
    def count(self) -> int:
        """Attempts so far, of all."""
        return sum(lane.attempts.count for lane in self._lanes)

    def run(self) -> Events:
        """The winner's events. Raises the failure of the first when all have failed."""
        try:
            winner = yield from self._won()
            self.target = winner.attempts.target
            yield from winner.held
            winner.attempts.call.beat_by = self._call.beat_by
            for event in winner.events:
                yield event
                winner.attempts.call.beat_by = self._call.beat_by
        finally:
            self._end()

    def _won(self) -> Generator[Event, None, _Lane]:
        """Wait for the lane that speaks first, with a sign of life when one is due."""
        ahead = self._lanes[1:]
        running = [self._start(self._lanes[0])]
        start_second_at = monotonic() + self._after
        while True:
            lane = self._next(min(start_second_at, self._call.beat_by, *(each.by for each in running)))
            if lane is not None and lane is self._winner:
                self._cut_off_all_but(lane)
                return lane
            if self._call.gone:
                raise HungUp
            if lane is not None and lane.failure is not None and not isinstance(lane.failure, Exception):
                raise lane.failure
            running = [each for each in running if each is not lane and not self._left(each)]
            if ahead and (monotonic() >= start_second_at or not running):
                start_second_at, self.second = inf, True
                running.append(self._start(ahead.pop()))
            elif not running and self._winner is None:
                raise self._lanes[0].failure or HungUp
            if monotonic() >= self._call.beat_by:
                self._call.beat_by = monotonic() + self._call.heartbeat
                yield SILENCE

    def _next(self, by: float) -> _Lane | None:
        """The next lane that ends, or None if none does by then."""
        try:
            return self._ended.get(timeout=max(0.0, by - monotonic()))
        except Empty:
            return None

    def _left(self, lane: _Lane) -> bool:
        """Whether a lane has not spoken by its deadline, and is left alone therefore."""
        if monotonic() < lane.by:
            return False
        name = lane.attempts.target.provider.name
        with self._deciding:
            if lane is self._winner:
                return False
            lane.failure = late = UpstreamTimeout(f"{name} did not answer in time.", provider=name)
        lane.attempts.call.hang_up(late)
        return True

    def _cut_off_all_but(self, winner: _Lane | None) -> None:
        for lane in self._lanes:
            if lane is not winner:
                lane.attempts.call.hang_up()

    def _end(self) -> None:
        """Nobody may win any more; the one who has is closed here, and the other one in its own thread."""
        with self._deciding:
            self._over = True
        self._cut_off_all_but(self._winner)
        if self._winner is not None:
            self._winner.events.close()
        for lane in self._lanes:
            lane.failure = None  # it holds on to the frames that hold on to it, and would wait for the collector

    def _start(self, lane: _Lane) -> _Lane:
        lane.by = monotonic() + lane.attempts.within + SLACK_SECONDS
        name = f"race-{lane.attempts.target.name}"
        threading.Thread(target=copy_context().run, args=(self._run, lane), name=name, daemon=True).start()
        return lane

    def _run(self, lane: _Lane) -> None:
        failure: BaseException | None = None
        try:
            for event in lane.events:
                if not isinstance(event, Silence):
                    lane.held.append(event)
                if lane.attempts.answered:
                    break
        except BaseException as error:  # noqa: BLE001 - told to the thread that waits for it
            failure = error
        with self._deciding:
            lane.failure = lane.failure or failure
            if lane.failure is None and self._winner is None and not self._over:
                self._winner = lane
        del failure  # it holds on to this frame
        if lane is not self._winner:
            lane.events.close()
        self._ended.put(lane)
