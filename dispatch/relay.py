"""Tries the targets of a route in order until one yields its first event; then passes on that target's events.

Before the first event, a failed attempt is retried, then the next target is tried, and the last failure is raised with
its true status. After it, a failure is raised to the encoder, which makes an error frame of it. Another thread keeps
the connection to the caller meanwhile (server/lines.py), so the next target may answer although the headers are sent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, count, islice
from math import inf
from typing import Any

from core.attempts import Attempt
from core.clock import SYSTEM_CLOCK, Clock
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
from dispatch.routing.config import Filler, Guard
from dispatch.routing.route import Route

WHOLE_ANSWER_FACTOR = 4.0
"""An answer in one piece may take so many times FIRST_EVENT_TIMEOUT."""
IMAGES_FACTOR = 12.0
"""The same for images: one takes up to two minutes (https://platform.openai.com/docs/guides/image-generation)."""


GENERATED = frozenset({Text, Refusal, Reasoning, ToolArguments})
"""Events with text that a model has generated."""
WITH_USAGE = frozenset({Verbatim, Vectors, Ranks, Images})


class AnswerStream:
    """An answer under way: iterate it once, and close it. Its attributes are what the request's record needs.

    target             the target that answers, that is tried now, or that failed last
    attempts           the attempts so far, at all targets
    hedged             whether two targets ran at the same time
    tried              the last failure of each target that failed, by the target's name
    first_event        seconds from the request to the first event, None before
    filler             the filler text, and when it is due by the request's clock; ("", inf) for none
    usage              the tokens that the upstream has reported so far
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
        self._buffered: list[Event] = []
        self._started: list[RetryingTarget | Race] = []
        self._events = self._run()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts so far, at all targets."""
        return tuple([attempt for runner in self._started for attempt in runner.attempts])

    @property
    def generated(self) -> int:
        """An estimate of the answer's tokens so far. A frame that passed unread counts as one."""
        return self._frames + self._call.frames + self._characters // CHARACTERS_PER_TOKEN

    @property
    def hedged(self) -> bool:
        """Whether a second target was tried while the first was silent."""
        return any(isinstance(runner, Race) and runner.hedged for runner in self._started)

    @property
    def tried(self) -> Mapping[str, str]:
        """The last failure of each target that failed, by the target's name."""
        return dict(self._failures.tried)

    def commit(self) -> None:
        """Wait for the first event. Raises the last failure if no target yields one."""
        self._buffered.extend(islice(self._events, 1))

    def __iter__(self) -> Iterator[Event]:
        return chain(self._buffered, self._events)

    def close(self) -> None:
        """Close the upstream's response. May be called twice."""
        self._events.close()

    def _run(self) -> Events:
        """Run one runner after the other, until one answers."""
        try:
            for runner in self._runners():
                self._started.append(runner)
                self.target = runner.target
                try:
                    yield from self._events_from(runner)
                    return
                except GatewayError:
                    if runner.has_answered:
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

    def _runners(self) -> Iterator[RetryingTarget | Race]:
        """A runner for each target in order; or one race of all, if a target's silence may start the next."""
        at = range(len(self._route.targets))
        hedge_after = self._hedge_after()
        timeouts = [self._first_event_timeout(each) for each in at]
        if min(hedge_after, *timeouts) < inf:
            contenders = [Contender(self._retrying_target(each, self._call.child()), timeouts[each]) for each in at]
            agents_too = self._route.row is not None and self._route.row.hedge_agents
            yield Race(contenders, self._call, hedge_after=hedge_after, agents_too=agents_too)
        else:
            for each in at:
                attempts = self._retrying_target(each, self._call)
                attempts.why = "fallback" if each else "first"
                yield attempts

    def _hedge_after(self) -> float:
        """Seconds of silence after which the second target is started beside the first; inf for never."""
        row = self._route.row
        return inf if row is None or row.hedge_after is None or not self._has_next(0) else row.hedge_after

    def _has_next(self, at: int) -> bool:
        return at + 1 < len(self._route.targets)

    def _first_event_timeout(self, at: int) -> float:
        """Seconds for a target's first event; inf if its row sets none, for the last target, which nothing can replace,
        and for an answer that is not streamed.
        """
        return (self._has_next(at) and self._streams and self._route.targets[at].ttft_timeout) or inf

    def _retrying_target(self, at: int, call: CallContext) -> RetryingTarget:
        target = self._route.targets[at]
        # Reasoning is no first token: while the deadline runs and another target is left, it is held back.
        thinks = () if self._reasoning and self._first_event_timeout(at) == inf else (Reasoning,)
        return RetryingTarget(
            target,
            self._ask,
            call,
            self._relay.breakers[target.name],
            self._relay.retry_policy,
            self._failures,
            unheard=(AnswerStart, Usage, *thinks),
            more=self._has_next(at),
        )

    def _events_from(self, runner: RetryingTarget | Race) -> Events:
        """The events of a runner, once it has its first event."""
        held: list[Event] = []
        events = runner.run()
        for event in events:
            held.append(event)
            if runner.has_answered:
                break
        if runner.has_answered:
            self._record_first_event(runner)
            if runner.target is not self._route.targets[0]:
                yield AnswerStart(model=runner.target.public_name)
            for each in held:
                self.note(each)
        yield from held
        for event in events:
            self.note(event)
            yield event

    def _record_first_event(self, runner: RetryingTarget | Race) -> None:
        self.target = runner.target
        self._call = runner.call
        self.first_event = self._call.clock.now() - self._call.started

    def note(self, event: Any) -> None:
        """Count an event of the answer: one that the keeper of lines has encoded. Iterated ones are counted already."""
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
    """Starts answers. `state` stores what a provider needs for a conversation's next request; `refused` has the
    parameters that models are known to refuse.
    """

    breakers: Breakers
    retry_policy: RetryPolicy
    state: KeyValueStore | None = None
    refused: RefusedParameters = field(default_factory=lambda: RefusedParameters(0))
    clock: Clock = SYSTEM_CLOCK
    _fillers_used: "count[int]" = field(default_factory=count, repr=False)

    def call(
        self, request_id: str, *, streams: bool, caller: str = "", first_event_factor: float = WHOLE_ANSWER_FACTOR
    ) -> CallContext:
        """The context of a new request. One that is not streamed may take `first_event_factor` times
        FIRST_EVENT_TIMEOUT for its only event.
        """
        factor = 1.0 if streams else first_event_factor
        return CallContext(request_id, factor, caller=caller, state=self.state, clock=self.clock)

    def chat(self, request: ChatRequest, guard: Guard | None = None) -> StreamFactory:
        """Ask a target this chat, under the route's guardrail where it has one."""
        chat = ChatFactory(request, self.refused)
        return chat.with_guard(guard) if guard else chat

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
        """The route's answer. Nothing is sent before it is committed or iterated.

        Reasoning counts as a first event only with `reasoning`: otherwise the caller does not receive it. `fills` tells
        whether a filler may be sent.
        """
        return AnswerStream(
            self,
            route,
            ask,
            call,
            streams=streams,
            reasoning=reasoning,
            filler=self._next_filler(route.filler) if fills else None,
        )

    def _next_filler(self, filler: Filler) -> str | None:
        return filler.texts[next(self._fillers_used) % len(filler.texts)] if filler else None
