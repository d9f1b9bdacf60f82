"""The messages of clients of the Responses socket: https://platform.openai.com/docs/guides/websocket-mode"""

from dataclasses import dataclass

import orjson

from core.errors import InvalidRequest, Unsupported
from schemas.common import parse
from schemas.limits import Limits

TYPES = ("response.create", "response.cancel")
SHOWN = 100
"""The most characters of a client's message that an error repeats."""


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """A client's message. `body` is a Responses request; without `generates` it is only prepared."""

    type: str
    body: bytes = b""
    generates: bool = True
    previous: str = ""
    response_id: str = ""


def load_event(message: str | bytes, limits: Limits, model: str) -> ClientEvent:
    """A client's message; `model` is for those that name none. Raises InvalidRequest."""
    if isinstance(message, bytes):
        raise InvalidRequest("Messages are text; this one is binary.", code="invalid_json")
    fields = parse(message.encode(), limits)
    kind = fields.pop("type", None)
    if kind not in TYPES:
        raise InvalidRequest(f"There is no type {str(kind)[:SHOWN]!r}; known are {', '.join(TYPES)}.", param="type")
    if kind == "response.cancel":
        return ClientEvent(kind, response_id=str(fields.get("response_id") or ""))
    if fields.get("stream_id") is not None:
        raise Unsupported("Responses of one connection come one after another: open several.", param="stream_id")
    generates = fields.pop("generate", True)
    if not isinstance(generates, bool):
        raise InvalidRequest("It must be true or false.", param="generate")
    for name in ("stream", "stream_options", "stream_id", "event_id"):
        fields.pop(name, None)
    named = {"model": model} if model and not fields.get("model") else {}
    body = orjson.dumps({**fields, **named, "stream": True})
    return ClientEvent(kind, body, generates, str(fields.get("previous_response_id") or ""))
