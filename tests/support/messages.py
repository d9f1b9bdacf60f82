"""Reading what a caller got in Anthropic's dialect: whether it is what its own types and rules say it must be."""

import json
from typing import Any

from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from pydantic import TypeAdapter

STREAM_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
DELTAS = {
    "text": {"text_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
    "redacted_thinking": set[str](),
}
NAMES = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def ask_body(text: str = "hi", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "claude-haiku-4-5", "max_tokens": 1000, "messages": messages, **more}


def frames(stream: bytes) -> list[dict[str, Any]]:
    """The data of each frame, pings left out; an event's name is its type, and nothing else stands in the stream."""
    found = []
    pieces = stream.decode().split("\n\n")
    assert pieces.pop() == "", stream[-200:]
    for piece in pieces:
        name, data = piece.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}", piece
        if event["type"] != "ping":
            found.append(event)
    return found


def streamed(stream: bytes) -> dict[str, Any]:
    """The message that a whole, well-formed stream is: one block open at a time, each with its own kinds of deltas."""
    events = frames(stream)
    for event in events:
        STREAM_EVENT.validate_json(json.dumps(event))
    assert [events[0]["type"], events[-2]["type"], events[-1]["type"]] == [
        "message_start",
        "message_delta",
        "message_stop",
    ], events
    message: dict[str, Any] = dict(events[0]["message"])
    assert message["content"] == []
    assert message["usage"]["input_tokens"] + message["usage"]["cache_read_input_tokens"] > 0
    is_open, pieces = False, list[str]()
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert not is_open
            assert event["index"] == len(message["content"])
            is_open, pieces = True, []
            message["content"].append(dict(event["content_block"]))
            continue
        assert is_open
        assert event["index"] == len(message["content"]) - 1
        block = message["content"][-1]
        if event["type"] == "content_block_stop":
            is_open = False
            said = "".join(pieces)
            if block["type"] == "tool_use":
                block["input"] = json.loads(said or "{}")
            elif block["type"] != "redacted_thinking":
                block[block["type"]] += said
            continue
        assert event["type"] == "content_block_delta", event
        delta = event["delta"]
        assert delta["type"] in DELTAS[block["type"]], event
        if delta["type"] == "signature_delta":
            block["signature"] = delta["signature"]
        else:
            pieces.append(delta[NAMES[delta["type"]]])
    assert not is_open
    usage = {key: value for key, value in events[-2]["usage"].items() if value is not None}
    message |= {**events[-2]["delta"], "usage": {**message["usage"], **usage}}
    return whole(json.dumps(message).encode())


def whole(body: bytes) -> dict[str, Any]:
    """A message, valid by Anthropic's own types."""
    Message.model_validate_json(body)
    message: dict[str, Any] = json.loads(body)
    for block in message["content"]:
        assert block["type"] != "text" or block["text"].strip(), message
    return message


def error(body: bytes) -> dict[str, Any]:
    """Anthropic's error object."""
    ErrorResponse.model_validate_json(body)
    found: dict[str, Any] = json.loads(body)["error"]
    return found


def count(body: bytes) -> int:
    return MessageTokensCount.model_validate_json(body).input_tokens


def text(message: dict[str, Any]) -> str:
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def calls(message: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(block["name"], block["input"]) for block in message["content"] if block["type"] == "tool_use"]
