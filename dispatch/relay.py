"""Target by target until the first event; from then on, whatever comes (D2, D3, D5).

Before the first event a failure is tried again, then the next target is asked, and what is left is raised as its true
status; after it, a failure is raised to an encoder that makes an error frame of it. Silence passes through in all of
this, so that the line to the caller is kept: also when the headers are out already, the next target may answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, count
from logging import getLogger
from math import inf
from time import monotonic

from dispatch.attempts import Ask, Attempts, Patience, facts
from dispatch.breaker import Breakers
from dispatch.catalogue import Route
from dispatch.entries import Filler
from dispatch.race import Race
from dispatch.refused import RefusedParameters
from errors import ProxyError, UpstreamError
from events import (
    SILENCE,
    ChatRequest,
    Event,
    Events,
    Images,
    Ranks,
    Reasoning,
    Silence,
    Spoken,
    Start,
    Usage,
    Vectors,
    Verbatim,
)
from providers.base import Call, State, Target

__all__ = ["PATIENCE_FOR_IMAGES", "PATIENCE_FOR_WHOLE", "Answer", "Ask", "Call", "Patience", "Relay"]

log = getLogger("thinkline.relay")

PATIENCE_FOR_WHOLE = 4.0
"""How many times FIRST_EVENT_TIMEOUT an answer may take that comes in one piece (setting first_event_timeout)."""
PATIENCE_FOR_IMAGES = 12.0
"""The same for pictures: https://platform.openai.com/docs/guides/image-generation says up to two minutes for one."""


class Answer:
    """An answer under way: iterate it once, and close it. It knows what the log wants to know.

    target, attempts   who answers (until then: who is asked), and how often anybody was asked
    hedged             whether a second target was asked beside the first
    first_event        seconds from the request to the first event, None before
    usage              tokens, as far as the upstream told
    """

    def __init__(
        self,
        relay: "Relay",
        route: Route,
        ask: Ask,
        call: Call,
        *,
        streams: bool,
        reasoning: bool,
        filler: str | None,
    ) -> None:
        self.target = route.targets[0]
        self.first_event: float | None = None
        self.usage: Usage | None = None
        self._relay = relay
        self._route = route
        self._ask = ask
        self._call = call
        self._streams = streams
        self._reasoning = reasoning
        self._filler = filler
        self._filler_by = call.started + route.filler.after if filler and route.filler.after else inf
        self._opens_by = call.started + relay.patience.headers_after
        self._pulled: list[Event] = []
        self._turns: list[Attempts | Race] = []
        self._events = self._run()

    @property
    def attempts(self) -> int:
        """How often anybody was asked."""
        return sum([turn.count for turn in self._turns])

    @property
    def hedged(self) -> bool:
        """Whether a second target was asked while the first was silent."""
        return any(isinstance(turn, Race) and turn.second for turn in self._turns)

    def commit(self) -> None:
        """Wait for the first event; no longer than HEADERS_AFTER, when the stream opens without. Raises what fails."""
        self._keep_beat()
        for event in self._events:
            if not isinstance(event, Silence):
                self._pulled.append(event)
                return
            if monotonic() >= self._opens_by:
                self._pulled.append(event)
                return

    def __iter__(self) -> Iterator[Event]:
        return chain(self._pulled, self._events)

    def close(self) -> None:
        """Let go of the upstream. May be called twice."""
        self._events.close()

    def _run(self) -> Events:
        """One turn after the other, until one answers."""
        failures: list[ProxyError] = []
        try:
            for turn in self._in_turn():
                self._turns.append(turn)
                self.target = turn.target
                try:
                    yield from self._heard(turn)
                    return
                except ProxyError as error:
                    if turn.answered:
                        raise
                    failures.append(error)
                    log.info("no answer", extra={"facts": facts(turn.target, error)})
            # What an upstream failed with tells more than that another is left alone, or cannot do this.
            raise next((error for error in failures if isinstance(error, UpstreamError)), failures[-1])
        finally:
            failures.clear()  # they hold on to this frame, which would wait for the collector with all it knows

    def _in_turn(self) -> Iterator[Attempts | Race]:
        """The targets in their order: the first two together, if hedging is wanted."""
        targets = self._route.targets
        left = list(range(len(targets)))
        hedge_after = self._hedge_after()
        if hedge_after is not None:
            first, second, *left = left
            pair = (self._attempts(first, self._call.child()), self._attempts(second, self._call.child()))
            yield Race(pair, hedge_after, self._call)
        for at in left:
            if self._filler_by < inf or self._within(at) < inf:
                yield Race([self._attempts(at, self._call.child())], inf, self._call)
            else:
                yield self._attempts(at, self._call)

    def _hedge_after(self) -> float | None:
        """Seconds after which the second target is asked beside the first; None: not at all. Agents act in the world,
        and are not asked twice unless the model says so.
        """
        row, targets = self._route.row, self._route.targets[:2]
        if row is None or len(targets) == 1:
            return None
        acts = any(target.provider.acts for target in targets)
        return None if acts and not row.hedge_agents else row.hedge_after

    def _more(self, at: int) -> bool:
        return at + 1 < len(self._route.targets)

    def _within(self, at: int) -> float:
        """Seconds for a target's first event; inf for the last one, which is never cut, and where nothing is said."""
        return (self._more(at) and self._streams and self._route.targets[at].ttft_timeout) or inf

    def _attempts(self, at: int, call: Call) -> Attempts:
        target = self._route.targets[at]
        within = self._within(at)
        # Thinking aloud is no first token: while the clock runs and another target is left, it is held back.
        thinks = () if self._reasoning and within == inf else (Reasoning,)
        return Attempts(
            target,
            self._ask,
            call,
            self._relay.breakers[target.name],
            self._relay.patience,
            unheard=(Start, Usage, *thinks),
            within=within,
            more=self._more(at),
        )

    def _heard(self, turn: Attempts | Race) -> Events:
        """What a turn says, from its first event on; Silence as it falls."""
        held: list[Event] = []
        for event in turn.run():
            if isinstance(event, Silence):
                yield self._sign_of_life()
            elif not turn.answered:
                held.append(event)
                if monotonic() >= self._call.beat_by:
                    yield self._sign_of_life()
            else:
                if self.first_event is None:
                    self._begins(turn)
                    if turn.target is not self._route.targets[0]:
                        yield Start(model=turn.target.public_name)
                held.append(event)
                for each in held:
                    self._note(each)
                    yield each
                held.clear()
                if self._reasoning or not isinstance(event, Reasoning):
                    self._keep_beat()
                elif monotonic() >= self._call.beat_by:
                    yield self._sign_of_life()
        yield from held

    def _begins(self, turn: Attempts | Race) -> None:
        self.target = turn.target
        self.first_event = monotonic() - self._call.started
        self._filler_by = inf

    def _sign_of_life(self) -> Event:
        """A heartbeat, or the filler if it is time for it."""
        filler = None
        if monotonic() >= self._filler_by:
            filler, self._filler_by = self._filler, inf
        self._keep_beat()
        return Spoken(filler) if filler else SILENCE

    def _note(self, event: Event) -> None:
        if isinstance(event, Usage):
            self.usage = event
        elif isinstance(event, (Verbatim, Vectors, Ranks, Images)) and event.usage is not None:
            self.usage = event.usage

    def _keep_beat(self) -> None:
        """The next sign of life is due a heartbeat from now, or when the stream must open, or the filler is due."""
        now = monotonic()
        due = (now + self._call.heartbeat, self._filler_by, self._opens_by if now < self._opens_by else inf)
        self._call.beat_by = min(due)


@dataclass(frozen=True, slots=True)
class Relay:
    """Starts answers. `heartbeat` in seconds; `state` is where providers keep what a next request needs; `refused` what
    is known of the parameters that models refuse.
    """

    breakers: Breakers
    patience: Patience
    heartbeat: float = 5.0
    state: State | None = None
    refused: RefusedParameters = field(default_factory=lambda: RefusedParameters(0))
    _turn: "count[int]" = field(default_factory=count, repr=False)

    def call(self, request_id: str, *, streams: bool, caller: str = "", patience: float = PATIENCE_FOR_WHOLE) -> Call:
        """A caller's request begins. One that is not streamed is given longer for its first and only event."""
        patience = 1.0 if streams else patience
        return Call(request_id, self.heartbeat, patience, caller=caller, state=self.state)

    def chat(self, request: ChatRequest) -> Ask:
        """How a target is asked this chat."""

        def ask(target: Target, call: Call) -> Events:
            return self.refused.chat(request, target, call)

        return ask

    def answer(
        self,
        route: Route,
        ask: Ask,
        call: Call,
        *,
        streams: bool = False,
        reasoning: bool = True,
        fills: bool = False,
    ) -> Answer:
        """The answer to it. Nothing is sent before it is committed or iterated.

        What the caller does not hear (thinking, unless `reasoning`) is no first event, and no sign of life. `fills`
        tells whether a filler may be said.
        """
        return Answer(
            self,
            route,
            ask,
            call,
            streams=streams,
            reasoning=reasoning,
            filler=self._next(route.filler) if fills else None,
        )

    def _next(self, filler: Filler) -> str | None:
        return filler.texts[next(self._turn) % len(filler.texts)] if filler else None
