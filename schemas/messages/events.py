"""Answers as Anthropic's events: https://platform.claude.com/docs/en/build-with-claude/streaming

Blocks come strictly one after another, and one is open at a time:

    message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop

The block of a tool call stays open until the answer finishes, since more of its arguments may come. Events that come
meanwhile, such as other tool calls, wait, and become blocks after it.
"""

from collections.abc import Callable, Iterator
from uuid import uuid4

from core import lenient_json
from core.errors import UpstreamDown
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
)
from core.json_values import Json
from core.token_estimate import estimate_tokens
from schemas.chat.arguments import Arguments

STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
UNFINISHED = "The upstream's answer ended before it was finished."


class MessageEvents:
    """Translates the events of one answer to Anthropic's: `translate` for each, then `end`.

    `model` is the model's public name, for an upstream that sends no name. `estimate` returns the estimated tokens of
    the prompt: the first event of this dialect has them, and the upstream's count comes later.
    """

    def __init__(self, model: str, *, include_reasoning: bool = False, estimate: Callable[[], int] = lambda: 0) -> None:
        self.started = False
        self.stop_reason = ""
        self._model = model
        self._include_reasoning = include_reasoning
        self._estimate = estimate
        self._prompt_tokens = 0
        self._said_tokens = 0
        self._usage: Usage | None = None
        self._refused = False
        self._called = False
        self._index = 0
        self._open = ""
        self._half = ""
        self._blank = ""
        self._key: int | str = ""
        self._arguments = Arguments()
        self._waiting: list[list[Event]] = []
        self._groups: dict[int | str, list[Event]] = {}

    def translate(self, event: Event) -> Iterator[Json]:
        """The events of this dialect for one event."""
        match event:
            case AnswerStart():
                self._model = event.model or self._model
            case FillerText() if self._include_reasoning:
                yield {
                    "type": "ping"
                }  # no text before the thinking: Anthropic refuses that when the message is sent back
            case Usage():
                self._usage = event
            case Finish() if not self.stop_reason:
                yield from self._finish(event)
            case Finish() | Citation() | Picture():
                pass  # this dialect has no blocks for pictures, nor for sources of other vendors
            case Text() | FillerText() | Refusal() | Reasoning() | ToolCall() | ToolArguments():
                yield from self._translate_in_order(event)
            case _:
                raise TypeError(f"{type(event).__name__} has no place in a message")

    def end(self) -> Iterator[Json]:
        """The last events. Raises UpstreamDown for an answer without a finish."""
        if not self.stop_reason:
            raise UpstreamDown(UNFINISHED)
        yield from self._start()
        delta = {"stop_reason": self.stop_reason, "stop_sequence": None}
        yield {"type": "message_delta", "delta": delta, "usage": self._usage_body()}
        yield {"type": "message_stop"}

    def _usage_body(self) -> Json:
        """The upstream's counts, else our estimates. In this dialect `input_tokens` are without cached ones."""
        usage = self._usage or Usage(-1, -1)
        estimated = {"input_tokens": self._prompt_tokens or self._estimate(), "output_tokens": self._said_tokens}
        if usage.prompt >= 0:
            estimated["input_tokens"] = max(0, usage.prompt - usage.cached - usage.written)
        if usage.completion >= 0:
            estimated["output_tokens"] = usage.completion
        return {
            **estimated,
            "cache_creation_input_tokens": usage.written,
            "cache_read_input_tokens": usage.cached,
        }

    def _start(self) -> Iterator[Json]:
        if self.started:
            return
        self.started = True
        self._prompt_tokens = self._estimate()
        message: Json = {
            "id": f"msg_{uuid4().hex[:24]}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": self._prompt_tokens,
                "output_tokens": 1,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
            },
        }
        yield {"type": "message_start", "message": message}

    def _translate_in_order(self, event: Event) -> Iterator[Json]:
        """Translate an event now, or have it wait while the block of another tool call is open."""
        if self._open != "tool_use" or (isinstance(event, ToolArguments) and event.key == self._key):
            yield from self._translate_now(event)
        elif isinstance(event, ToolArguments):
            self._groups[event.key].append(event)
        else:
            self._waiting.append([event])
            if isinstance(event, ToolCall):
                self._groups[event.key] = self._waiting[-1]

    def _translate_now(self, event: Event) -> Iterator[Json]:
        match event:
            case Text() | FillerText():
                yield from self._text(event.text)
            case Refusal():
                self._refused = True
                yield from self._text(event.text)
            case Reasoning() if self._include_reasoning:
                yield from self._thinking_delta(event)
            case ToolCall():
                self._called = True
                self._key, self._arguments = event.key, Arguments()
                called = {"id": event.id or f"toolu_{uuid4().hex[:24]}", "name": event.name, "input": {}}
                yield from self._open_block({"type": "tool_use", **called})
            case ToolArguments():
                yield from self._arguments_delta(self._arguments.feed(event.text))

    def _text(self, text: str) -> Iterator[Json]:
        """Translate a piece of text. White space alone opens no block: Anthropic refuses such a block when the message
        is sent back.
        """
        if self._open != "text":
            self._blank += text
            if not self._blank.strip():
                return
            text, blank = self._blank, ""
            yield from self._open_block({"type": "text", "text": ""})
            self._blank = blank
        yield from self._piece("text_delta", "text", text)

    def _thinking_delta(self, event: Reasoning) -> Iterator[Json]:
        if event.redacted:
            yield from self._open_block({"type": "redacted_thinking", "data": event.signature})
            yield from self._close_block()
            return
        if self._open != "thinking":
            if not event.text and not event.signature:
                return
            yield from self._open_block({"type": "thinking", "thinking": "", "signature": ""})
        yield from self._piece("thinking_delta", "thinking", event.text)
        if event.signature:
            yield self._delta({"type": "signature_delta", "signature": event.signature})
            yield from self._close_block()

    def _arguments_delta(self, text: str) -> Iterator[Json]:
        return self._piece("input_json_delta", "partial_json", text)

    def _piece(self, kind: str, name: str, text: str) -> Iterator[Json]:
        """A piece of the open block's text, with halves of surrogate pairs joined."""
        text = self._half + text
        self._half = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        if text:
            text = lenient_json.join_surrogates(text)
            self._said_tokens += estimate_tokens(text)
            yield self._delta({"type": kind, name: text})

    def _delta(self, delta: Json) -> Json:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _open_block(self, block: Json) -> Iterator[Json]:
        yield from self._start()
        yield from self._close_block()
        self._blank = ""
        self._open = block["type"]
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _close_block(self) -> Iterator[Json]:
        """The end of the open block, after the rest of it that was held back."""
        if not self._open:
            return
        if self._open == "tool_use":
            yield from self._arguments_delta(self._arguments.close())
        if self._half:
            lost, self._half = lenient_json.join_surrogates(self._half), ""
            names = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}
            kind, name = names.get(self._open, ("input_json_delta", "partial_json"))
            yield self._delta({"type": kind, name: lost})
        yield {"type": "content_block_stop", "index": self._index}
        self._open = ""
        self._index += 1

    def _finish(self, finish: Finish) -> Iterator[Json]:
        yield from self._close_block()
        waiting, self._waiting = self._waiting, []
        for group in waiting:
            for event in group:
                yield from self._translate_now(event)
            if self._open == "tool_use":
                yield from self._close_block()
        yield from self._close_block()
        if finish.reason in ("stop", "tool_calls"):
            self.stop_reason = "tool_use" if self._called else "refusal" if self._refused else "end_turn"
        else:
            self.stop_reason = STOPS[finish.reason]
