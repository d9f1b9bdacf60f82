"""Two targets asked at the same time: whoever speaks first answers, and the other one is cut off at once (hedging)."""

import threading
from collections.abc import Generator
from contextvars import copy_context
from dataclasses import dataclass, field
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic

from dispatch.attempts import Attempts
from errors import HungUp
from events import SILENCE, Event, Events, Silence
from providers.base import Call, Target


@dataclass(eq=False)
class _Lane:
    """One of the two: what it said up to its first event, and where that goes on; or how it failed."""

    attempts: Attempts
    events: Events
    held: list[Event] = field(default_factory=list)
    failure: BaseException | None = None


class Race:
    """The second starts `after` seconds when the first is silent, or at once when it has failed.

    Each runs in a thread of its own until its first event, on a child of `call`; the winner goes on in the caller's.
    `target` is the winner's, `second` tells whether the second was asked at all.
    """

    def __init__(self, first: Attempts, second: Attempts, after: float, call: Call) -> None:
        self.target: Target = first.target
        self.second = False
        self._lanes = [_Lane(each, each.run()) for each in (first, second)]
        self._after = after
        self._call = call
        self._winner: _Lane | None = None
        self._deciding = threading.Lock()
        self._ended: SimpleQueue[_Lane] = SimpleQueue()

    @property
    def answered(self) -> bool:
        """Whether a first event came."""
        return self._winner is not None

    @property
    def count(self) -> int:
        """Attempts so far, of both."""
        return sum(lane.attempts.count for lane in self._lanes)

    def run(self) -> Events:
        """The winner's events. Raises the failure of the first when both have failed."""
        winner = None
        try:
            winner = yield from self._won()
            self.target = winner.attempts.target
            yield from winner.held
            winner.attempts.call.beat_by = self._call.beat_by
            for event in winner.events:
                yield event
                winner.attempts.call.beat_by = self._call.beat_by
        finally:
            for lane in self._lanes:
                lane.attempts.call.hang_up() if lane is not winner else lane.events.close()

    def _won(self) -> Generator[Event, None, _Lane]:
        """Wait for the lane that speaks first, with a sign of life when one is due."""
        first, second = self._lanes
        self._start(first)
        start_second_at, running = monotonic() + self._after, 1
        while True:
            try:
                lane = self._ended.get(timeout=max(0.0, min(start_second_at, self._call.beat_by) - monotonic()))
            except Empty:
                lane = None
            if lane is not None:
                running -= 1
                if lane is self._winner:
                    for other in self._lanes:
                        if other is not lane:
                            other.attempts.call.hang_up()
                    return lane
                if self._call.gone or not isinstance(lane.failure, Exception):
                    raise lane.failure or HungUp
            if not self.second and (monotonic() >= start_second_at or running == 0):
                start_second_at, self.second = inf, True
                running += 1
                self._start(second)
            elif running == 0:
                raise first.failure or HungUp
            if monotonic() >= self._call.beat_by:
                self._call.beat_by = monotonic() + self._call.heartbeat
                yield SILENCE

    def _start(self, lane: _Lane) -> None:
        name = f"race-{lane.attempts.target.name}"
        threading.Thread(target=copy_context().run, args=(self._run, lane), name=name, daemon=True).start()

    def _run(self, lane: _Lane) -> None:
        try:
            for event in lane.events:
                if not isinstance(event, Silence):
                    lane.held.append(event)
                if lane.attempts.answered:
                    break
        except BaseException as error:  # noqa: BLE001 - told to the thread that waits for it
            lane.failure = error
        with self._deciding:
            if lane.failure is None and self._winner is None:
                self._winner = lane
        if lane is not self._winner:
            lane.events.close()
        self._ended.put(lane)
