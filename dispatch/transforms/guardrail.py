"""A guardrail around a chat: the user's text is checked before the request is sent, and the answer before it is passed
on.

A streamed answer is checked sentence by sentence: a sentence is held until it has passed, while the model goes on. What
is blocked is never sent. In its place the caller hears the guardrail's phrase, and the answer ends as content_filter.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from logging import getLogger
from typing import Any

from core.context import CallContext, Timeouts
from core.errors import GatewayError
from core.events import Event, Events, Finish, Reasoning, Text, ToolCall
from core.guardrails import Side, Verdict
from core.requests import ChatRequest
from dispatch.resilience.retry import StreamFactory
from dispatch.routing.config import Guard
from dispatch.transforms.sentences import SentenceSplitter
from providers.base import Target

log = getLogger("thinkline.guardrail")

PHRASE = "I'm sorry, I can't talk about that."
WHOLE_CHARACTERS = 20_000
"""Characters of an answer in one piece that one check may have."""


@dataclass(slots=True)
class GuardedChat:
    """A StreamFactory under a guardrail. The input is checked once for all targets."""

    ask: StreamFactory
    guard: Guard
    request: ChatRequest
    _input: Verdict | None = field(default=None, init=False)

    def __call__(self, target: Target, call: CallContext) -> Events:
        """The answer's events. Raises as `ask` does."""
        sides = self.guard.config.sides
        if "input" in sides and (text := new_words(self.request)):
            self._input = self._input or check(self.guard, text, "input", call)
            if self._input.blocked:
                yield from self._refusal(self._input)
                return
        events = self.ask(target, call)
        try:
            yield from self._check_output(events, call) if "output" in sides else events
        finally:
            events.close()

    def _check_output(self, events: Iterable[Event], call: CallContext) -> Iterator[Event]:
        """The events, with the text that has passed. Reasoning is not checked, so it is not passed on."""
        held: defaultdict[int, _Held] = defaultdict(lambda: _Held(self.request.stream))
        blocked: set[int] = set()
        for event in events:
            choice = getattr(event, "choice", 0)
            if choice in blocked and hasattr(event, "choice"):
                continue
            ready: list[str] = []
            if isinstance(event, Text):
                ready = held[choice].feed(event.text)
            elif isinstance(event, (Finish, ToolCall)):
                ready = held[choice].rest()
            for text in ready:
                verdict = check(self.guard, text, "output", call)
                if verdict.blocked:
                    yield from self._refusal(verdict, choice)
                    blocked.add(choice)
                    break
                yield Text(verdict.text, choice)
            if choice in blocked:
                if self.request.body.get("n", 1) == 1:
                    return  # the rest of the answer is not needed
            elif not isinstance(event, (Text, Reasoning)):
                yield event

    def _refusal(self, verdict: Verdict, choice: int = 0) -> Iterator[Event]:
        yield Text(self.guard.config.phrase or verdict.text or PHRASE, choice)
        yield Finish("content_filter", choice)


class _Held:
    """The text of a choice that is still to be checked: by sentences, or of a whole answer all at once."""

    def __init__(self, streams: bool) -> None:
        self._splitter = SentenceSplitter() if streams else None
        self._text = ""

    def feed(self, text: str) -> list[str]:
        if self._splitter:
            return self._splitter.feed(text)
        self._text += text
        if len(self._text) < WHOLE_CHARACTERS:
            return []
        return self.rest()

    def rest(self) -> list[str]:
        text, self._text = (self._splitter.rest() if self._splitter else self._text), ""
        return [text] if text else []


def new_words(request: ChatRequest) -> str:
    """The user's text since the last answer."""
    words: list[str] = []
    for message in request.messages:
        if message["role"] == "assistant":
            words.clear()
        elif message["role"] == "user":
            content = message.get("content")
            given = [part.get("text") for part in content] if isinstance(content, list) else [content]
            words += [text for text in given if isinstance(text, str)]
    return "\n".join(word for word in words if word.strip())


def check(guard: Guard, text: str, side: Side, call: CallContext) -> Verdict:
    """The verdict on a text, whose white space at both ends stays; on one that cannot be had within the deadline, what
    the row says. Raises Cancelled.
    """
    core = text.strip()
    if not core:
        return Verdict(text)
    config, facts = guard.config, dict[str, Any](provider=guard.provider.name, side=side)
    checking = call.child()
    checking.first_event_factor = 1.0
    checking.begin(Timeouts(*[config.deadline] * 4))
    checking.total_by = checking.clock.now() + config.deadline
    try:
        verdict = guard.provider.guard(core, side, config.rules, checking, config.deadline)
    except GatewayError as error:
        facts |= {"error": error.message, "said": error.log, "passes": config.fails_open}
        log.warning("the guardrail could not be asked", extra={"facts": facts})
        return Verdict(text if config.fails_open else "", not config.fails_open)
    if verdict.blocked:
        log.info("blocked", extra={"facts": {**facts, "reasons": list(verdict.reasons)}})
        return verdict
    start = text.index(core)
    return Verdict(text[:start] + verdict.text + text[start + len(core) :], reasons=verdict.reasons)
