"""Decodes answers of Anthropic's dialect: https://platform.claude.com/docs/en/build-with-claude/streaming"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from core import lenient_json
from core.errors import GatewayError, UpstreamDown
from core.events import Citation, Event, Finish, FinishReason, Reasoning, Text, ToolArguments, ToolCall, Usage
from core.json_values import Json
from providers.common.finish_reasons import finish_reason
from providers.common.translate import require_name, require_text, token_count
from providers.transport.exchange import StreamDecoder
from providers.transport.sse import Frame


class AnthropicDecoder(StreamDecoder):
    """Decodes one answer: the frames of a stream, or a whole message, to events.

    `fail` makes the exception for an error object; `keep` stores the thinking before a tool call, by the call's id.
    `reason` is why an answer that is `finished` has ended.
    """

    def __init__(self, fail: Callable[[Any], GatewayError], keep: Callable[[str, list[Json]], None]) -> None:
        self.reason: FinishReason = "stop"
        self._fail = fail
        self._keep = keep
        self._blocks: dict[int, Json] = {}
        self._called: dict[int, str] = {}
        self._thoughts: list[Json] = []
        self._usage: dict[str, Any] = {}
        self._characters = 0

    def never_waits(self, frame: Frame) -> bool:
        """Whether the frame continues a content block: only other frames store the thinking."""
        return frame.event == b"content_block_delta"

    def events(self, frame: Frame) -> Iterator[Event]:
        """The events of a frame; none for an unknown type."""
        data = lenient_json.loads(frame.data, keep_halves=True)
        if self.finished:
            self.done = data["type"] == "message_stop"
            return
        if data["type"] == "content_block_delta":  # most frames are
            yield from self._continue_block(data["index"], data["delta"])
        else:
            yield from self._events_of_frame(data)

    def whole(self, message: Any) -> Iterator[Event]:
        """The events of a whole message. Raises as `events` does."""
        if message["type"] == "error":
            raise self._fail(message["error"])
        yield from self._events_of_frame({"type": "message_start", "message": message})
        for index, block in enumerate(message["content"]):
            yield from self._events_of_frame({"type": "content_block_start", "index": index, "content_block": block})
            yield from self._events_of_frame({"type": "content_block_stop", "index": index})
        yield from self._events_of_frame(
            {"type": "message_delta", "delta": {"stop_reason": message.get("stop_reason") or "stop"}}
        )

    def _events_of_frame(self, data: Any) -> Iterator[Event]:
        match data["type"]:
            case "message_start":
                self._count(data["message"].get("usage"))
            case "content_block_start":
                yield from self._start_block(data["index"], data["content_block"])
            case "content_block_stop":
                yield from self._end_block(data["index"])
            case "message_delta":
                self._count(data.get("usage"))
                reason = data["delta"].get("stop_reason")
                if reason and not self.finished:
                    self.reason = _finish(reason)
                    yield Finish(self.reason)
                    self.finished = True
                    yield from self._usage_events()
            case "message_stop":
                self.done = True
            case "error":
                raise self._fail(data["error"])

    def _start_block(self, index: int, block: Mapping[str, Any]) -> Iterator[Event]:
        self._blocks[index] = state = {**block, "from": self._characters, "sources": block.get("citations") or []}
        if block["type"] == "tool_use":
            self._called[index] = require_text(block["id"])
            if self._thoughts:
                self._keep(block["id"], self._thoughts)
                self._thoughts = []
            yield ToolCall(index, require_name(block["name"]), block["id"])
        elif block["type"] == "text" and block.get("text"):
            yield self._text(block["text"])
        elif block["type"] == "thinking" and block.get("thinking"):
            yield Reasoning(require_text(block["thinking"]))
        state["pieces"] = False

    def _continue_block(self, index: int, delta: Mapping[str, Any]) -> Iterator[Event]:
        state = self._blocks[index]
        match delta["type"]:
            case "text_delta" if delta["text"]:
                yield self._text(delta["text"])
            case "input_json_delta" if delta["partial_json"] and index in self._called:
                state["pieces"] = True
                yield ToolArguments(index, require_text(delta["partial_json"]))
            case "thinking_delta":
                state["thinking"] += require_text(delta["thinking"])
                if delta["thinking"]:
                    yield Reasoning(delta["thinking"])
            case "signature_delta":
                state["signature"] = state.get("signature", "") + delta["signature"]
            case "citations_delta":
                state["sources"] = [*state["sources"], delta["citation"]]

    def _end_block(self, index: int) -> Iterator[Event]:
        state = self._blocks.pop(index)
        if index in self._called and not state["pieces"]:
            yield ToolArguments(index, lenient_json.dumps(state.get("input") or {}).decode())
        elif state["type"] == "thinking":
            signed = {"thinking": state["thinking"], "signature": state.get("signature", "")}
            self._thoughts.append({"type": "thinking", **signed})
            yield Reasoning("", signature=require_text(signed["signature"]))
        elif state["type"] == "redacted_thinking":
            self._thoughts.append({"type": "redacted_thinking", "data": state["data"]})
            yield Reasoning("", signature=require_text(state["data"]), redacted=True)
        for source in state["sources"]:
            title = source.get("title") or source.get("document_title") or ""
            url = source.get("url") or source.get("source") or ""
            yield Citation(url, title, state["from"], self._characters)

    def _text(self, text: str) -> Text:
        self._characters += len(require_text(text))
        return Text(text)

    def _count(self, usage: Any) -> None:
        """Keep the last value of each count: the counts at a message's end are those of the whole message."""
        self._usage |= {key: value for key, value in (usage or {}).items() if value is not None}

    @property
    def usage(self) -> Usage | None:
        """The tokens that have been reported so far."""
        return next(self._usage_events(), None)

    def _usage_events(self) -> Iterator[Usage]:
        if "output_tokens" not in self._usage:
            return
        kinds = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
        fresh, written, cached, generated = (token_count(self._usage.get(kind)) for kind in kinds)
        thought = token_count((self._usage.get("output_tokens_details") or {}).get("thinking_tokens"))
        yield Usage(fresh + written + cached, generated, cached, thought, written)


def _finish(word: Any) -> FinishReason:
    """OpenAI's finish reason; an unknown one is `stop`. Raises UpstreamDown for one that means a failure."""
    reason = finish_reason(word, has_content=True)
    if reason is None:
        raise UpstreamDown("The model could not finish its answer.", log=str(word))
    return reason
