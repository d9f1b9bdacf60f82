"""Target by target until the first event; from then on, whatever comes.

Before the first event a failure is tried again, then the next target is asked, and what is left is raised as its true
status; after it, a failure is raised to an encoder that makes an error frame of it. Meanwhile the line to the caller is
kept by another thread (server/lines.py): also when the headers are out already, the next target may answer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, count, islice
from math import inf
from time import monotonic
from typing import Any

from core.attempts import Attempt
from core.context import CallContext
from core.errors import Cancelled, GatewayError
from core.events import (
    AnswerStart,
    Event,
    Events,
    Images,
    Ranks,
    Reasoning,
    Refusal,
    Text,
    ToolArguments,
    Usage,
    Vectors,
    Verbatim,
)
from core.requests import ChatRequest
from core.store import KeyValueStore
from core.token_estimate import CHARACTERS_PER_TOKEN
from dispatch.chat_factory import ChatFactory
from dispatch.resilience.breaker import Breakers
from dispatch.resilience.hedge import Contender, Race
from dispatch.resilience.refused_parameters import RefusedParameters
from dispatch.resilience.retry import Failures, RetryingTarget, RetryPolicy, StreamFactory
from dispatch.routing.config import Filler
from dispatch.routing.route import Route

WHOLE_ANSWER_FACTOR = 4.0
"""How many times FIRST_EVENT_TIMEOUT an answer may take that comes in one piece (setting first_event_timeout)."""
IMAGES_FACTOR = 12.0
"""The same for pictures: https://platform.openai.com/docs/guides/image-generation says up to two minutes for one."""


GENERATED = frozenset({Text, Refusal, Reasoning, ToolArguments})
"""Events with text that a model has generated."""
WITH_USAGE = frozenset({Verbatim, Vectors, Ranks, Images})


class AnswerStream:
    """An answer under way: iterate it once, and close it. It knows what the log wants to know.

    target             answers, or failed last; until then, it is asked
    attempts           each time that a target was asked
    hedged             whether two targets were asked at the same time
    tried              what each target that failed has failed with last, by its name
    first_event        seconds from the request to the first event, None before
    filler             what may be said meanwhile, and at what time of the monotonic clock; ("", inf) for nothing
    usage              tokens, as far as the upstream told
    """

    def __init__(
        self,
        relay: "Relay",
        route: Route,
        ask: StreamFactory,
        call: CallContext,
        *,
        streams: bool,
        reasoning: bool,
        filler: str | None,
    ) -> None:
        self.target = route.targets[0]
        self.first_event: float | None = None
        self.usage: Usage | None = None
        self._characters = self._frames = 0
        self._relay = relay
        self._route = route
        self._ask = ask
        self._call = call
        self._streams = streams
        self._reasoning = reasoning
        self.filler = (filler, call.started + route.filler.after) if filler and route.filler.after else ("", inf)
        self._failures = Failures(route.targets)
        self._pulled: list[Event] = []
        self._turns: list[RetryingTarget | Race] = []
        self._events = self._run()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Each time that a target was asked so far."""
        return tuple([attempt for turn in self._turns for attempt in turn.attempts])

    @property
    def generated(self) -> int:
        """About how many tokens of the answer have come. A frame that passed unread counts as one."""
        return self._frames + self._call.frames + self._characters // CHARACTERS_PER_TOKEN

    @property
    def hedged(self) -> bool:
        """Whether a second target was asked while the first was silent."""
        return any(isinstance(turn, Race) and turn.hedged for turn in self._turns)

    @property
    def tried(self) -> Mapping[str, str]:
        """What each target that failed has failed with last, by its name."""
        return dict(self._failures.tried)

    def commit(self) -> None:
        """Wait for the first event. Raises what fails."""
        self._pulled.extend(islice(self._events, 1))

    def __iter__(self) -> Iterator[Event]:
        return chain(self._pulled, self._events)

    def close(self) -> None:
        """Let go of the upstream. May be called twice."""
        self._events.close()

    def _run(self) -> Events:
        """One turn after the other, until one answers."""
        try:
            for turn in self._in_turn():
                self._turns.append(turn)
                self.target = turn.target
                try:
                    yield from self._heard(turn)
                    return
                except GatewayError:
                    if turn.answered:
                        raise
            if self._call.gone:
                raise Cancelled
            self.target = self._failures.most_telling()[0]
            raise self._failures.most_telling()[1]
        except GatewayError as error:
            if error.status == 404 and self._route.note:  # noqa: PLR2004
                error.message = f"{error.message} {self._route.note}"
            raise
        finally:
            self._failures.forget()

    def _in_turn(self) -> Iterator[RetryingTarget | Race]:
        """The targets in their order: one at a time, or all in a race, where something is to happen while one is
        silent.
        """
        at = range(len(self._route.targets))
        hedge_after = self._hedge_after()
        within = [self._within(each) for each in at]
        if min(hedge_after, *within) < inf:
            contenders = [Contender(self._attempts(each, self._call.child()), within[each]) for each in at]
            agents_too = self._route.row is not None and self._route.row.hedge_agents
            yield Race(contenders, self._call, hedge_after=hedge_after, agents_too=agents_too)
        else:
            for each in at:
                attempts = self._attempts(each, self._call)
                attempts.why = "fallback" if each else "first"
                yield attempts

    def _hedge_after(self) -> float:
        """Seconds after which the second target is asked beside the first; inf: not at all."""
        row = self._route.row
        return inf if row is None or row.hedge_after is None or not self._more(0) else row.hedge_after

    def _more(self, at: int) -> bool:
        return at + 1 < len(self._route.targets)

    def _within(self, at: int) -> float:
        """Seconds for a target's first event; inf where nothing is said, and for the last one: nobody would be asked in
        its place. A whole answer has no first event.
        """
        return (self._more(at) and self._streams and self._route.targets[at].ttft_timeout) or inf

    def _attempts(self, at: int, call: CallContext) -> RetryingTarget:
        target = self._route.targets[at]
        # Thinking aloud is no first token: while the clock runs and another target is left, it is held back.
        thinks = () if self._reasoning and self._within(at) == inf else (Reasoning,)
        return RetryingTarget(
            target,
            self._ask,
            call,
            self._relay.breakers[target.name],
            self._relay.patience,
            self._failures,
            unheard=(AnswerStart, Usage, *thinks),
            more=self._more(at),
        )

    def _heard(self, turn: RetryingTarget | Race) -> Events:
        """What a turn says, from its first event on."""
        held: list[Event] = []
        events = turn.run()
        for event in events:
            held.append(event)
            if turn.answered:
                break
        if turn.answered:
            self._begins(turn)
            if turn.target is not self._route.targets[0]:
                yield AnswerStart(model=turn.target.public_name)
            for each in held:
                self._note(each)
        yield from held
        for event in events:
            self._note(event)
            yield event

    def _begins(self, turn: RetryingTarget | Race) -> None:
        self.target = turn.target
        self._call = turn.call
        self.first_event = monotonic() - self._call.started

    def _note(self, event: Any) -> None:
        kind = type(event)  # cheaper than isinstance, for each piece of an answer
        if kind in GENERATED:
            self._characters += len(event.text)
        elif kind is Usage:
            self.usage = event
        elif kind in WITH_USAGE:
            if kind is Verbatim:
                data = event.data
                if self._streams:
                    self._frames += data.count(b"\n\n")
                else:
                    self._characters += len(data)
            if event.usage is not None:
                self.usage = event.usage


@dataclass(frozen=True, slots=True)
class Relay:
    """Starts answers. `state` is where providers keep what a next request needs; `refused` what is known of the
    parameters that models refuse.
    """

    breakers: Breakers
    patience: RetryPolicy
    state: KeyValueStore | None = None
    refused: RefusedParameters = field(default_factory=lambda: RefusedParameters(0))
    _turn: "count[int]" = field(default_factory=count, repr=False)

    def call(
        self, request_id: str, *, streams: bool, caller: str = "", patience: float = WHOLE_ANSWER_FACTOR
    ) -> CallContext:
        """A caller's request begins. One that is not streamed is given longer for its first and only event."""
        return CallContext(request_id, 1.0 if streams else patience, caller=caller, state=self.state)

    def chat(self, request: ChatRequest) -> ChatFactory:
        """How a target is asked this chat."""
        return ChatFactory(request, self.refused)

    def answer(
        self,
        route: Route,
        ask: StreamFactory,
        call: CallContext,
        *,
        streams: bool = False,
        reasoning: bool = True,
        fills: bool = False,
    ) -> AnswerStream:
        """The answer to it. Nothing is sent before it is committed or iterated.

        What the caller does not hear (thinking, unless `reasoning`) is no first event. `fills` tells whether a filler
        may be said. A chat is asked under the route's guardrail, unless it is already.
        """
        return AnswerStream(
            self,
            route,
            ask.guarded(route.guard) if route.guard and isinstance(ask, ChatFactory) else ask,
            call,
            streams=streams,
            reasoning=reasoning,
            filler=self._next(route.filler) if fills else None,
        )

    def _next(self, filler: Filler) -> str | None:
        return filler.texts[next(self._turn) % len(filler.texts)] if filler else None
