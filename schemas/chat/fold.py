"""Answers in one piece on OpenAI's wire: events folded into one body."""

from collections.abc import Iterable
from dataclasses import replace
from time import time
from typing import Any
from uuid import uuid4

from core.errors import UpstreamDown
from core.events import (
    AnswerStart,
    Citation,
    Event,
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
from schemas.chat.arguments import object_text
from schemas.chat.encode import Choice, annotation, dumps, image, new_call_id, usage_body


class _Message:
    """One choice of the body while it is built."""

    def __init__(self) -> None:
        self.state = Choice()
        self.texts: list[str] = []
        self.refusals: list[str] = []
        self.reasoning: list[str] = []
        self.annotations: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
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
                function: dict[str, Any] = {"name": event.name, "arguments": []}
                self.calls.append({"id": event.id or new_call_id(), "type": "function", "function": function})
            case ToolArguments():
                self.calls[self.state.calls[event.key]]["function"]["arguments"].append(event.text)
            case Refusal():
                self.refusals.append(event.text)
            case Reasoning():
                self.reasoning.append(event.text)
            case Citation():
                self.annotations.append(annotation(event))
            case Picture():
                self.images.append(image(event))
            case Finish():
                self.finish = self.finish or self.state.reason(event)

    def body(self, index: int, *, include_reasoning: bool) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(self.texts) if self.texts or not (self.calls or self.refusals) else None,
            "refusal": "".join(self.refusals) or None,
            "annotations": self.annotations,
        }
        if self.calls:
            for call in self.calls:
                call["function"]["arguments"] = object_text("".join(call["function"]["arguments"]))
            message["tool_calls"] = self.calls
        if self.images:
            message["images"] = self.images
        if self.reasoning and include_reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        logprobs = self.logprobs or None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": self.finish}


def fold(events: Iterable[Event], model: str, *, include_reasoning: bool = False) -> bytes:
    """The answer as one JSON body. Raises UpstreamDown for an answer without an end."""
    start = AnswerStart()
    usage: Usage | None = None
    messages: dict[int, _Message] = {}
    for event in events:
        match event:
            case Verbatim(dialect="chat"):
                return event.data
            case AnswerStart():
                start = replace(event, model=event.model or start.model)
            case Usage():
                usage = event
            case Text() | ToolCall() | ToolArguments() | Refusal() | Reasoning() | Citation() | Picture() | Finish():
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
    return dumps(body)
