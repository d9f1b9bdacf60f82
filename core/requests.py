"""The requests that a provider receives: chats, embeddings, ranks, images."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from core.errors import Unsupported
from core.events import CallerDialect

MESSAGE = re.compile(r"messages\[(\d+)\]")
"""The beginning of a field's name that is within one of the chat's messages."""


CALL_IDS = ("conversation_id", "call_id", "call_sid", "callSid", "CallSid")
"""Keys of `metadata` in which clients send the conversation's id. The last three are Twilio's names."""


@dataclass(frozen=True, slots=True)
class NativeBody:
    """The body of a chat in its caller's own dialect, for upstreams that speak the same dialect.

    provider         the provider that has stored the conversation so far, "" for none
    continuing       the body for that provider: it refers to the stored conversation
    lacks            the error if the translation to a chat lost content, so that no other upstream can be asked; else
                     None
    headers, query   sent with the body; `query` is such as `?beta=true`
    places           for each message of the chat, the field of this body that it was made of
    """

    body: Mapping[str, Any]
    provider: str = ""
    continuing: Mapping[str, Any] = field(default_factory=dict)
    lacks: Unsupported | None = None
    dialect: CallerDialect | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    places: tuple[str, ...] = ()

    def place(self, param: str | None) -> str | None:
        """Translate the name of a chat's field to the field of this body that it was made of."""
        found = MESSAGE.match(param or "")
        return self.places[int(found[1])] if found and int(found[1]) < len(self.places) else param


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat completion request.

    `body` is the caller's JSON object in OpenAI's dialect, without nulls. Our own keys and those of voice platforms are
    in `extras`, since upstreams refuse keys that they do not know. Providers read both and never change them.

    `passthrough` is the dialect of the bytes that may be passed on unchanged (Verbatim). It is None if the answer must
    come as events: bytes cannot follow a filler, and cannot be made fit to be read aloud. `native` is the body in the
    caller's own dialect if that is not OpenAI's chat.

    A body that was translated from Anthropic's dialect has keys that OpenAI's does not have: `cache_control` of parts
    and tools, `thinking_blocks` of an assistant's message, `is_error` of a tool's message.
    """

    body: Mapping[str, Any]
    model: str = ""
    provider: str = ""
    stream: bool = False
    include_usage: bool = False
    include_reasoning: bool = False
    passthrough: CallerDialect | None = "chat"
    native: NativeBody | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)

    def require_chat(self) -> None:
        """Raise Unsupported if the chat lacks content that the body in the caller's own dialect has."""
        lacks = self.native.lacks if self.native else None
        if lacks is not None:
            raise Unsupported(lacks.message, param=lacks.param)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation so far; each message is an object with a role."""
        messages: list[dict[str, Any]] = self.body["messages"]
        return messages

    @property
    def conversation_id(self) -> str:
        """The caller's own id of the conversation or the phone call, "" without one. An id that the caller has set goes
        before one that the platform sends.
        """
        if not self.extras and "metadata" not in self.body:
            return ""
        metadata = _object(self.extras.get("metadata") or self.body.get("metadata"))
        elevenlabs = _object(self.extras.get("elevenlabs_extra_body"))
        given = (
            self.extras.get("session_id"),
            metadata.get("session_id"),
            elevenlabs.get("session_id"),
            elevenlabs.get("conversation_id"),
            _object(self.extras.get("call")).get("id"),
            *(metadata.get(name) for name in CALL_IDS),
        )
        return next((str(each) for each in given if isinstance(each, (str, int)) and str(each).strip()), "")

    @property
    def max_tokens(self) -> int | None:
        """The limit of the answer's tokens: `max_completion_tokens`, else `max_tokens`, its older name."""
        cap: int | None = self.body.get("max_completion_tokens", self.body.get("max_tokens"))
        return cap

    @property
    def stop(self) -> list[str]:
        """The stop sequences as a list, also if one string was given."""
        stop = self.body.get("stop", [])
        return [stop] if isinstance(stop, str) else list(stop)

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The declared tools; legacy `functions` are tools too."""
        functions = [{"type": "function", "function": each} for each in self.body.get("functions", [])]
        return list(self.body.get("tools", [])) + functions

    @property
    def tool_choice(self) -> str | Mapping[str, Any]:
        """none, auto, required, or `{"type": "function", "function": {"name": ...}}`; legacy `function_call` too."""
        legacy = self.body.get("function_call")
        if isinstance(legacy, dict):
            legacy = {"type": "function", "function": legacy}
        choice: str | Mapping[str, Any] = self.body.get("tool_choice") or legacy or "auto"
        return choice


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


@dataclass(frozen=True, slots=True)
class Image:
    """An image to embed. `url` is a data: or https: URL, as the caller gave it."""

    url: str


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """An embeddings request: each input is a string, a list of token ids, or an image."""

    inputs: Sequence[str | Sequence[int] | Image]
    model: str = ""
    provider: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    input_type: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """Documents to be ranked by their relevance to a query. `top_n` is how many are wanted, None for all.

    `options` are the caller's other keys, for upstreams that have a counterpart.
    """

    query: str
    documents: Sequence[str]
    model: str = ""
    provider: str = ""
    top_n: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImagesRequest:
    """An image generation request.

    `body` is the caller's JSON object in OpenAI's dialect, without nulls and without our own keys. It may have keys of
    a vendor too. Providers read it and never change it.
    """

    body: Mapping[str, Any]
    model: str = ""
    provider: str = ""

    @property
    def prompt(self) -> str:
        """The description of the images."""
        return str(self.body["prompt"])

    @property
    def n(self) -> int:
        """The number of images."""
        return int(self.body.get("n", 1))

    @property
    def size(self) -> str:
        """`1024x1024`, or a shape such as `16:9`; "" if the upstream may choose."""
        size = str(self.body.get("size", "auto"))
        return "" if size == "auto" else size

    @property
    def as_base64(self) -> bool:
        """Whether the caller wants the bytes, not a URL."""
        return self.body.get("response_format") == "b64_json"
