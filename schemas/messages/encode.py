"""Answers in Anthropic's dialect: the events of an answer to the frames of a stream, or to one message."""

from collections.abc import Iterable, Mapping
from typing import Any

from core import lenient_json
from core.errors import GatewayError, UpstreamDown
from core.events import (
    Event,
    Verbatim,
)
from core.json_values import Json
from schemas.chat.encode import dumps
from schemas.messages.errors import error_body
from schemas.messages.events import MessageEvents


def frame(event: Mapping[str, Any]) -> bytes:
    """One SSE frame; its name is the event's type."""
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + dumps(event) + b"\n\n"


class MessageEncoder:
    """Turns one answer's events into SSE bytes: `encode` each, then `end`, or `error` instead."""

    heartbeat = frame({"type": "ping"})

    def __init__(self, message_events: MessageEvents) -> None:
        self._events = message_events
        self._verbatim = False

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; b"" if the event is not for the caller."""
        if isinstance(event, Verbatim):
            self._verbatim = True
            return event.data
        if self._verbatim:
            return b""
        return b"".join(map(frame, self._events.translate(event)))

    def end(self) -> bytes:
        """The last bytes. An answer without a finish ends with an error event."""
        if self._verbatim:
            return b""
        try:
            return b"".join(map(frame, self._events.end()))
        except UpstreamDown as error:
            return self.error(error)

    def error(self, error: GatewayError) -> bytes:
        """An error event, which ends the stream."""
        return frame(error_body(error))


def fold(message_events: MessageEvents, events: Iterable[Event]) -> bytes:
    """The whole answer as one message. Raises UpstreamDown for an answer without an end."""
    message: Json = {}
    pieces: list[str] = []
    for event in events:
        if isinstance(event, Verbatim):
            return event.data
        for each in message_events.translate(event):
            _add(message, pieces, each)
    for each in message_events.end():
        _add(message, pieces, each)
    return dumps(message)


def _add(message: Json, pieces: list[str], event: Json) -> None:
    """Put an event of a stream into the message, as Anthropic's own SDKs do it."""
    match event["type"]:
        case "message_start":
            message |= event["message"]
        case "content_block_start":
            message["content"].append(dict(event["content_block"]))
            pieces.clear()
        case "content_block_delta":
            delta, block = event["delta"], message["content"][-1]
            if delta["type"] == "signature_delta":
                block["signature"] = delta["signature"]
            else:
                pieces.append(delta.get("text") or delta.get("thinking") or delta.get("partial_json"))
        case "content_block_stop":
            block, said = message["content"][-1], "".join(pieces)
            if block["type"] == "tool_use":
                block["input"] = lenient_json.loads(said.encode())
            elif block["type"] in ("text", "thinking"):
                block[block["type"]] = said
        case "message_delta":
            message |= event["delta"]
            message["usage"] |= event["usage"]
