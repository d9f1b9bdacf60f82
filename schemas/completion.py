"""Answers on OpenAI's wire: events to chunk frames, or folded into one body.

The encoder is what keeps a stream in order, whoever answers: one id, model and created throughout; a role first;
dense tool indices from 0, an id and a name once each, one call per delta; one finish a choice; usage only when asked;
one [DONE], and nothing after it.
"""

from collections.abc import Iterable
from dataclasses import replace
from time import time
from typing import Any
from uuid import uuid4

import orjson

from errors import ProxyError, UpstreamDown
from events import (
    Citation,
    Event,
    Finish,
    Reasoning,
    Refusal,
    Silence,
    Spoken,
    Start,
    Text,
    ToolArguments,
    ToolCall,
    Usage,
    Verbatim,
)

HEARTBEAT = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


def frame(data: Any) -> bytes:
    """One SSE frame."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


def usage_body(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage object; -1 stands for what an upstream does not tell."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": -1 if min(usage.prompt, usage.completion) < 0 else usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def new_call_id() -> str:
    """An id for a tool call whose upstream gave none."""
    return f"call_{uuid4().hex[:24]}"


class _Choice:
    """What one choice has said so far."""

    def __init__(self) -> None:
        self.opened = False
        self.calls: dict[int | str, int] = {}
        self.finished = False

    def reason(self, finish: Finish) -> str:
        """Whoever calls tools finishes with tool_calls, whatever the upstream says beside them."""
        called = self.calls and finish.reason in ("stop", "function_call")
        return "tool_calls" if called or finish.reason == "function_call" else finish.reason


class ChunkEncoder:
    """Turns one answer's events into SSE bytes: `encode` each, then `end`, or `error` instead.

    `model` is the public name of who answers (R5), used unless the upstream's own frames name another.
    """

    def __init__(self, model: str, *, include_usage: bool = False, include_reasoning: bool = False) -> None:
        self._include_usage = include_usage
        self._include_reasoning = include_reasoning
        self._choices: dict[int, _Choice] = {}
        self._verbatim = False
        self._usage: Usage | None = None
        self._start(Start(model=model))

    def _start(self, start: Start) -> None:
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
            self._choice(index).calls = {key: position for position, key in enumerate(calls)}

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; b"" when the caller is to see nothing of it."""
        match event:
            case Verbatim():
                self._verbatim = True
                return event.data
            case Text():
                return self._opened(event.choice) + self._text(event)
            case Silence():
                return HEARTBEAT
            case Spoken():
                return self._opened(0) + self._text(Text(event.text))
            case ToolCall() | ToolArguments():
                return self._tool(event)
            case Finish():
                return self._finish(event)
            case Refusal() | Reasoning() | Citation():
                return self._aside(event)
            case Usage():
                self._usage = event
            case Start():
                if self._verbatim or not self._choices:  # what has been said has an id, and keeps it
                    self._start(replace(event, model=event.model or self._head["model"]))
            case _:
                raise TypeError(f"{type(event).__name__} has no place in a chat stream")
        return b""

    def end(self) -> bytes:
        """The last bytes. An answer that stopped without a finish is an error, and says so."""
        unfinished = any(not choice.finished for choice in self._choices.values())
        if not self._verbatim and (unfinished or not self._choices):
            return self.error(UpstreamDown("The upstream's answer ended before it was finished."))
        if self._usage is not None and self._include_usage:
            return frame({**self._head, "choices": [], "usage": usage_body(self._usage)}) + DONE
        return DONE

    def error(self, error: ProxyError) -> bytes:
        """An error frame and the end: every client reads its message (and none takes it for the answer)."""
        return frame(error.body()) + DONE

    def _choice(self, index: int) -> _Choice:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
            choice.opened = self._verbatim
        return choice

    def _opened(self, index: int) -> bytes:
        choice = self._choice(index)
        if choice.opened:
            return b""
        choice.opened = True
        return self._delta({"role": "assistant", "content": ""}, index)

    def _text(self, event: Text) -> bytes:
        if event.logprobs is not None:
            return self._delta({"content": event.text}, event.choice, logprobs=event.logprobs)
        envelope = self._envelopes.get(event.choice)
        if envelope is None:
            before, _, after = self._delta({"content": "\x00"}, event.choice).partition(rb'"\u0000"')
            envelope = self._envelopes[event.choice] = before, after
        return envelope[0] + orjson.dumps(event.text) + envelope[1]

    def _aside(self, event: Refusal | Reasoning | Citation) -> bytes:
        if isinstance(event, Reasoning) and not self._include_reasoning:
            return b""
        if isinstance(event, Citation):
            delta: dict[str, Any] = {"annotations": [annotation(event)]}
        else:
            delta = {"refusal" if isinstance(event, Refusal) else "reasoning_content": event.text}
        return self._opened(event.choice) + self._delta(delta, event.choice)

    def _tool(self, event: ToolCall | ToolArguments) -> bytes:
        opened = self._opened(event.choice)
        calls = self._choice(event.choice).calls
        if isinstance(event, ToolArguments):
            call: dict[str, Any] = {"index": calls[event.key], "function": {"arguments": event.text}}
        else:
            calls[event.key] = len(calls)
            call = {
                "index": calls[event.key],
                "id": event.id or new_call_id(),
                "type": "function",
                "function": {"name": event.name, "arguments": ""},
            }
        return opened + self._delta({"tool_calls": [call]}, event.choice)

    def _finish(self, event: Finish) -> bytes:
        opened = self._opened(event.choice)
        choice = self._choice(event.choice)
        if choice.finished:
            return b""
        choice.finished = True
        return opened + self._delta({}, event.choice, finish_reason=choice.reason(event))

    def _delta(self, delta: dict[str, Any], index: int, **fields: Any) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **fields}
        return frame({**self._head, "choices": [choice]})


def annotation(citation: Citation) -> dict[str, Any]:
    """OpenAI's url_citation."""
    where = {"start_index": citation.start, "end_index": citation.end}
    return {"type": "url_citation", "url_citation": {"url": citation.url, "title": citation.title, **where}}


class _Message:
    """One choice of a body, as it is put together."""

    def __init__(self) -> None:
        self.state = _Choice()
        self.texts: list[str] = []
        self.refusals: list[str] = []
        self.reasoning: list[str] = []
        self.annotations: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.arguments: list[list[str]] = []
        self.logprobs: dict[str, list[Any]] = {}
        self.finish: str | None = None

    def add(self, event: Event) -> None:
        match event:
            case Text():
                self.texts.append(event.text)
                for name, entries in (event.logprobs or {}).items():
                    self.logprobs.setdefault(name, []).extend(entries or [])
            case ToolCall():
                self.state.calls[event.key] = len(self.calls)
                function = {"name": event.name, "arguments": ""}
                self.calls.append({"id": event.id or new_call_id(), "type": "function", "function": function})
                self.arguments.append([])
            case ToolArguments():
                self.arguments[self.state.calls[event.key]].append(event.text)
            case Refusal():
                self.refusals.append(event.text)
            case Reasoning():
                self.reasoning.append(event.text)
            case Citation():
                self.annotations.append(annotation(event))
            case Finish():
                self.finish = self.finish or self.state.reason(event)

    def body(self, index: int, *, include_reasoning: bool) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(self.texts) if self.texts or not (self.calls or self.refusals) else None,
            "refusal": "".join(self.refusals) or None,
        }
        if self.calls:
            for call, pieces in zip(self.calls, self.arguments, strict=True):
                call["function"]["arguments"] = "".join(pieces)
            message["tool_calls"] = self.calls
        if self.annotations:
            message["annotations"] = self.annotations
        if self.reasoning and include_reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        logprobs = self.logprobs or None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": self.finish}


def fold(events: Iterable[Event], model: str, *, include_reasoning: bool = False) -> bytes:
    """The whole answer as one JSON body. Raises UpstreamDown for an answer without an end."""
    start = Start()
    usage: Usage | None = None
    messages: dict[int, _Message] = {}
    for event in events:
        match event:
            case Verbatim():
                return event.data
            case Start():
                start = replace(event, model=event.model or start.model)
            case Usage():
                usage = event
            case Text() | ToolCall() | ToolArguments() | Refusal() | Reasoning() | Citation() | Finish():
                messages.setdefault(event.choice, _Message()).add(event)
    if not messages or any(message.finish is None for message in messages.values()):
        raise UpstreamDown("The upstream's answer ended before it was finished.")
    body = {
        "id": start.id or f"chatcmpl-{uuid4().hex}",
        "object": "chat.completion",
        "created": start.created or int(time()),
        "model": start.model or model,
        "choices": [messages[index].body(index, include_reasoning=include_reasoning) for index in sorted(messages)],
    }
    if usage is not None:
        body["usage"] = usage_body(usage)
    for name in ("service_tier", "system_fingerprint"):
        if getattr(start, name) is not None:
            body[name] = getattr(start, name)
    return orjson.dumps(body)
