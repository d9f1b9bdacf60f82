"""Streamed answers on OpenAI's wire: events to chunk frames. fold.py makes one body of events.

The encoder keeps a stream in order, whichever provider sends it: one id, model and created throughout; a role first;
dense tool indices from 0, an id and a name once each, one call per delta, arguments that are the text of an object;
one finish for each choice; usage only if requested; one [DONE] and nothing after it; surrogate pairs joined.
"""

from dataclasses import replace
from time import time
from typing import Any
from uuid import uuid4

import orjson

from core import lenient_json
from core.errors import GatewayError, UpstreamDown
from core.events import (
    AnswerStart,
    Citation,
    Event,
    FillerText,
    Finish,
    Picture,
    Reasoning,
    Refusal,
    Text,
    ToolArguments,
    ToolCall,
    Usage,
    Verbatim,
)
from schemas.chat.arguments import Arguments
from schemas.errors import error_body

HEARTBEAT = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


def frame(data: Any) -> bytes:
    """One SSE frame."""
    return b"data: " + dumps(data) + b"\n\n"


def dumps(data: Any) -> bytes:
    """The frame's JSON. Raises UpstreamDown for too deep nesting, which only a part from the upstream can have."""
    try:
        return lenient_json.dumps(data)
    except orjson.JSONEncodeError as error:
        raise UpstreamDown("The upstream's answer cannot be passed on.", log=str(error)) from error


def usage_body(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage object. A count that the upstream does not send is -1."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": -1 if min(usage.prompt, usage.completion) < 0 else usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def new_call_id() -> str:
    """An id for a tool call that has none from the upstream."""
    return f"call_{uuid4().hex[:24]}"


class Choice:
    """The text and calls of one choice so far. `arguments` are those of its calls, in order."""

    def __init__(self) -> None:
        self.opened = False
        self.calls: dict[int | str, int] = {}
        self.arguments: list[Arguments] = []
        self.finished = False

    def reason(self, finish: Finish) -> str:
        """The finish reason: `tool_calls` if the choice has calls, and only then, whatever the upstream sends."""
        if finish.reason in ("stop", "tool_calls"):
            return "tool_calls" if self.calls else "stop"
        return finish.reason


class ChunkEncoder:
    """Encodes one answer's events as SSE bytes: `encode` for each, then `end`, or `error` instead.

    `model` is the target's public name; it is used unless the upstream's own frames name another model.
    """

    heartbeat = HEARTBEAT

    def __init__(self, model: str, *, include_usage: bool = False, include_reasoning: bool = False) -> None:
        self._include_usage = include_usage
        self._include_reasoning = include_reasoning
        self._choices: dict[int, Choice] = {}
        # First halves of surrogate pairs, until the second halves come: by choice and kind of text, or by call.
        self._halves: dict[tuple[int, str | int], str] = {}
        self._verbatim = False
        self._usage: Usage | None = None
        self._start(AnswerStart(model=model))

    def _start(self, start: AnswerStart) -> None:
        self._head: dict[str, Any] = {
            "id": start.id or f"chatcmpl-{uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": start.created or int(time()),
            "model": start.model,
        }
        if start.service_tier is not None:
            self._head["service_tier"] = start.service_tier
        if start.system_fingerprint is not None:
            self._head["system_fingerprint"] = start.system_fingerprint
        self._envelopes: dict[int, tuple[bytes, bytes]] = {}
        for index, calls in start.calls.items():
            choice = self._choice(index)
            choice.calls = {key: position for position, key in enumerate(calls)}
            choice.arguments = [Arguments(begun=begun) for begun in calls.values()]

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; b"" if the event is not for the caller."""
        match event:
            case Verbatim(dialect="chat"):
                self._verbatim = True
                return event.data
            case Text():
                return self._open_choice(event.choice) + self._text(event)
            case FillerText():
                return self._open_choice(0) + self._text(Text(event.text))
            case ToolCall() | ToolArguments():
                return self._tool(event)
            case Finish():
                return self._finish(event)
            case Refusal() | Reasoning() | Citation() | Picture():
                return self._aside(event)
            case Usage():
                self._usage = event
            case AnswerStart():
                if self._verbatim or not self._choices:  # once a frame is sent, the id must not change
                    self._start(replace(event, model=event.model or self._head["model"]))
            case _:
                raise TypeError(f"{type(event).__name__} has no place in a chat stream")
        return b""

    def end(self) -> bytes:
        """The last bytes. An answer without a finish becomes an error frame."""
        unfinished = any(not choice.finished for choice in self._choices.values())
        if not self._verbatim and (unfinished or not self._choices):
            return self.error(UpstreamDown("The upstream's answer ended before it was finished."))
        if self._usage is not None and self._include_usage:
            return frame({**self._head, "choices": [], "usage": usage_body(self._usage)}) + DONE
        return DONE

    def error(self, error: GatewayError) -> bytes:
        """An error frame and the end. Every client shows the frame's message, and none takes it for the answer."""
        return frame(error_body(error)) + DONE

    def _choice(self, index: int) -> Choice:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = Choice()
            choice.opened = self._verbatim
        return choice

    def _open_choice(self, index: int) -> bytes:
        choice = self._choice(index)
        if choice.opened:
            return b""
        choice.opened = True
        return self._delta({"role": "assistant", "content": ""}, index)

    def _text(self, event: Text) -> bytes:
        if event.logprobs is None and not self._halves:
            try:
                text = orjson.dumps(event.text)
            except orjson.JSONEncodeError:
                pass
            else:
                before, after = self._envelope(event.choice)
                return before + text + after
        return self._text_delta("content", event.text, event.choice, logprobs=event.logprobs)

    def _envelope(self, index: int) -> tuple[bytes, bytes]:
        """The JSON before and behind a choice's text."""
        envelope = self._envelopes.get(index)
        if envelope is None:
            before, _, after = self._delta({"content": "\x00"}, index).partition(rb'"\u0000"')
            envelope = self._envelopes[index] = before, after
        return envelope

    def _text_delta(self, kind: str, text: str, index: int, **fields: Any) -> bytes:
        text = self._join_halves(text, index, kind)
        return self._delta({kind: text}, index, **fields) if text else b""

    def _join_halves(self, text: str, index: int, kind: str | int) -> str:
        """The text with surrogate pairs joined, also across events; a first half at the end is kept back."""
        text = self._halves.pop((index, kind), "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._halves[index, kind] = text[-1]
            text = text[:-1]
        return lenient_json.join_surrogates(text)

    def _aside(self, event: Refusal | Reasoning | Citation | Picture) -> bytes:
        if isinstance(event, Reasoning) and not (self._include_reasoning and event.text):
            return b""
        opened = self._open_choice(event.choice)
        if isinstance(event, (Refusal, Reasoning)):
            kind = "refusal" if isinstance(event, Refusal) else "reasoning_content"
            return opened + self._text_delta(kind, event.text, event.choice)
        delta = {"images": [image(event)]} if isinstance(event, Picture) else {"annotations": [annotation(event)]}
        return opened + self._delta(delta, event.choice)

    def _tool(self, event: ToolCall | ToolArguments) -> bytes:
        opened = self._open_choice(event.choice)
        choice = self._choice(event.choice)
        if isinstance(event, ToolArguments):
            at = choice.calls[event.key]
            return opened + self._arguments_delta(at, choice.arguments[at].feed(event.text), event.choice)
        choice.calls[event.key] = len(choice.arguments)
        choice.arguments.append(Arguments())
        call = {
            "index": choice.calls[event.key],
            "id": event.id or new_call_id(),
            "type": "function",
            "function": {"name": event.name, "arguments": ""},
        }
        return opened + self._delta({"tool_calls": [call]}, event.choice)

    def _arguments_delta(self, at: int, text: str, index: int) -> bytes:
        """A piece of the arguments of one call of a choice."""
        if text := self._join_halves(text, index, at):
            return self._delta({"tool_calls": [{"index": at, "function": {"arguments": text}}]}, index)
        return b""

    def _finish(self, event: Finish) -> bytes:
        index = event.choice
        data = self._open_choice(index)
        choice = self._choice(index)
        if choice.finished:
            return b""
        choice.finished = True
        for at, arguments in enumerate(choice.arguments):
            data += self._arguments_delta(at, arguments.close(), index)
        for which, kind in [each for each in self._halves if each[0] == index]:
            lost = lenient_json.join_surrogates(self._halves.pop((which, kind)))
            data += (
                self._arguments_delta(kind, lost, index)
                if isinstance(kind, int)
                else self._text_delta(kind, lost, index)
            )
        return data + self._delta({}, index, finish_reason=choice.reason(event))

    def _delta(self, delta: dict[str, Any], index: int, **fields: Any) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **fields}
        return frame({**self._head, "choices": [choice]})


def annotation(citation: Citation) -> dict[str, Any]:
    """OpenAI's url_citation."""
    where = {"start_index": citation.start, "end_index": citation.end}
    return {"type": "url_citation", "url_citation": {"url": citation.url, "title": citation.title, **where}}


def image(picture: Picture) -> dict[str, Any]:
    """OpenRouter's shape, as OpenAI has none: https://openrouter.ai/docs/features/multimodal/image-generation"""
    return {"type": "image_url", "image_url": {"url": picture.url}}
