"""The messages of /v1/ws, in both directions.

client -> {"type": "chat", "api_key": "...", "payload": {a chat completion's body}}
          {"type": "cancel"}   {"type": "ping"}
client <- {"type": "chunk", a chat completion chunk's fields}   {"type": "done"}   {"type": "pong"}
          {"type": "error", "status": 400, "error": {"message", "type", "param", "code"}}
"""

from dataclasses import dataclass
from typing import Any

from core import lenient_json
from core.errors import GatewayError, InvalidRequest
from schemas.chat.encode import ChunkEncoder, dumps
from schemas.common import parse
from schemas.errors import error_body
from schemas.limits import Limits

TYPES = ("chat", "cancel", "ping")
SHOWN = 100
"""The most characters of a client's message that an error repeats."""
DONE = '{"type":"done"}'
PONG = '{"type":"pong"}'


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """A message. `api_key` is None if it has none; `payload` is the body of a streamed chat."""

    type: str
    api_key: str | None = None
    payload: bytes = b""


def load_message(message: str | bytes, limits: Limits) -> ClientMessage:
    """A client's message. Raises InvalidRequest."""
    if isinstance(message, bytes):
        raise InvalidRequest("Messages are text; this one is binary.", code="invalid_json")
    fields = parse(message.encode(), limits)
    kind = fields.get("type")
    if kind not in TYPES:
        raise InvalidRequest(f"There is no type {str(kind)[:SHOWN]!r}; known are {', '.join(TYPES)}.", param="type")
    if kind != "chat":
        return ClientMessage(kind)
    key, payload = fields.get("api_key"), fields.get("payload")
    if key is not None and not isinstance(key, str):
        raise InvalidRequest("Must be a string.", param="api_key")
    if not isinstance(payload, dict):
        raise InvalidRequest("Must be an object: the body of a chat completion.", param="payload")
    return ClientMessage(
        kind, (key or "").removeprefix("Bearer ") or None, lenient_json.dumps({**payload, "stream": True})
    )


def error_message(error: GatewayError) -> str:
    """The message of a failure, which ends its turn."""
    fields: dict[str, Any] = {"type": "error", "status": error.status, **error_body(error)}
    if error.retry_after is not None:
        fields["retry_after"] = error.retry_after
    return dumps(fields).decode()


class MessageEncoder(ChunkEncoder):
    """Encodes a chat's chunks as messages. A failure, which would be an error frame of a stream, is raised."""

    def messages(self, data: bytes) -> list[str]:
        """The messages for the frames that `encode` or `end` has returned."""
        frames = data.decode().split("\n\n")
        return ['{"type":"chunk",' + frame.removeprefix("data: {") for frame in frames if frame.startswith("data: {")]

    def error(self, error: GatewayError) -> bytes:
        """Raise the error, because its message has another shape than a frame."""
        raise error
