"""Attempt by attempt until the first event; from then on, whatever comes (D2, D3, D5).

Before the first event a failure is tried again, and then raised as its true status; after it, it is raised to an
encoder that makes an error frame of it. Silence passes through in both, so that the line to the caller is kept.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from logging import getLogger
from time import monotonic

from dispatch.breaker import Breakers
from dispatch.catalogue import Route
from errors import ProxyError
from events import SILENCE, Event, Events, Images, Ranks, Reasoning, Silence, Start, Usage, Vectors, Verbatim
from providers.base import Call, State, Target

__all__ = ["PATIENCE_FOR_IMAGES", "PATIENCE_FOR_WHOLE", "Answer", "Call", "Patience", "Relay"]

log = getLogger("thinkline.relay")

PATIENCE_FOR_WHOLE = 4.0
"""How many times FIRST_EVENT_TIMEOUT an answer may take that comes in one piece (setting first_event_timeout)."""
PATIENCE_FOR_IMAGES = 12.0
"""The same for pictures: https://platform.openai.com/docs/guides/image-generation says up to two minutes for one."""

Ask = Callable[[Target, Call], Events]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often (R7, D3). Seconds; `retries` per target; `budget` for failed attempts and waits."""

    headers_after: float = 8.0
    retries: int = 2
    budget: float = 2.0
    first_wait: float = 0.1


class Answer:
    """An answer under way: iterate it once, and close it. It knows what the log wants to know.

    target, attempts   who answers, and which attempt it was
    first_event        seconds from the request to the first event, None before
    usage              tokens, as far as the upstream told
    """

    def __init__(
        self, route: Route, ask: Ask, call: Call, breakers: Breakers, patience: Patience, unheard: tuple[type, ...]
    ) -> None:
        self.target = route.targets[0]
        self.attempts = 0
        self.first_event: float | None = None
        self.usage: Usage | None = None
        self._route = route
        self._ask = ask
        self._call = call
        self._breakers = breakers
        self._patience = patience
        self._unheard = unheard
        self._opens_by = call.started + patience.headers_after
        self._pulled: deque[Event] = deque()
        self._events = self._run()

    def commit(self) -> None:
        """Wait for the first event; no longer than HEADERS_AFTER, when the stream opens without. Raises what fails."""
        self._keep_beat()
        for event in self._events:
            if not isinstance(event, Silence):
                self._pulled.append(event)
                if not isinstance(event, self._unheard):
                    return
            elif monotonic() >= self._opens_by:
                self._pulled.append(event)
                return

    def __iter__(self) -> Iterator[Event]:
        while self._pulled:
            yield self._pulled.popleft()
        yield from self._events

    def close(self) -> None:
        """Let go of the upstream. May be called twice."""
        self._events.close()

    def _run(self) -> Events:
        """The attempts, and the answer of the one that succeeds."""
        while True:
            self.attempts += 1
            target = self.target
            breaker = self._breakers[target.name]
            probe = breaker.admit()
            self._call.begin(target.timeouts)
            answered = False
            try:
                with closing(self._ask(target, self._call)) as events:
                    for event in events:
                        heard = not isinstance(event, self._unheard)
                        if heard and not answered and not isinstance(event, Silence):
                            answered = True
                            self._answered()
                            if probe:
                                breaker.succeeded(probe)
                                probe = False
                        self._note(event)
                        yield event
                        if not heard and monotonic() >= self._call.beat_by:
                            yield SILENCE
                            heard = True
                        if heard:
                            self._keep_beat()
                breaker.succeeded(probe)
                return
            except ProxyError as error:
                breaker.failed(probe) if error.counts else breaker.abandoned(probe)
                wait = None if answered else self._wait_before_retry(error)
                if wait is None:
                    raise
                log.info("retry", extra={"facts": _facts(error, target, self.attempts, wait)})
                self._call.wait(wait)
            except BaseException:  # the caller has left, or a fault of our own: neither is the target's
                breaker.abandoned(probe)
                raise

    def _answered(self) -> None:
        self._call.first_event_came()
        self.first_event = monotonic() - self._call.started

    def _note(self, event: Event) -> None:
        if isinstance(event, Usage):
            self.usage = event
        elif isinstance(event, (Verbatim, Vectors, Ranks, Images)) and event.usage is not None:
            self.usage = event.usage

    def _keep_beat(self) -> None:
        """The next sign of life is due a heartbeat from now, or when the stream must open."""
        now = monotonic()
        beat_by = now + self._call.heartbeat
        self._call.beat_by = min(beat_by, self._opens_by) if now < self._opens_by else beat_by

    def _wait_before_retry(self, error: ProxyError) -> float | None:
        """Seconds, with full jitter; the upstream's own Retry-After if it fits the budget. None: no retry."""
        spent_all = self.attempts > self._patience.retries or self._breakers[self.target.name].state == "open"
        if not error.retryable or spent_all:
            return None
        backoff = self._patience.first_wait * 2 ** (self.attempts - 1)
        jittered = random.uniform(0, backoff)  # noqa: S311 - spreads retries, keeps no secret
        wait = jittered if error.retry_after is None else error.retry_after + jittered / 10
        spent = monotonic() - self._call.started
        return wait if spent + wait < self._patience.budget else None


def _facts(error: ProxyError, target: Target, attempt: int, wait: float) -> dict[str, object]:
    return {
        "target": target.name,
        "attempt": attempt,
        "error": error.message,
        "wait": round(wait, 3),
        "said": error.log,
    }


@dataclass(frozen=True, slots=True)
class Relay:
    """Starts answers. `heartbeat` in seconds; `state` is where providers keep what a next request needs."""

    breakers: Breakers
    patience: Patience
    heartbeat: float = 5.0
    state: State | None = None

    def call(self, request_id: str, *, streams: bool, caller: str = "", patience: float = PATIENCE_FOR_WHOLE) -> Call:
        """A caller's request begins. One that is not streamed is given longer for its first and only event."""
        patience = 1.0 if streams else patience
        return Call(request_id, self.heartbeat, patience, caller=caller, state=self.state)

    def answer(self, route: Route, ask: Ask, call: Call, *, reasoning: bool = True) -> Answer:
        """The answer to it. Nothing is sent before it is committed or iterated.

        What the caller does not hear (thinking, unless `reasoning`) is no first event, and no sign of life.
        """
        unheard = (Start, Usage) if reasoning else (Start, Usage, Reasoning)
        return Answer(route, ask, call, self.breakers, self.patience, unheard)
