"""The requests that a provider receives: chats, embeddings, ranks, images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat completion request.

    `body` is the caller's JSON object in OpenAI's dialect, without nulls. Our own keys and the keys of voice platforms
    are in `extras`. Providers read `body` and never change it. `rebuild` asks for events only: a filler cannot be put
    before passed-through bytes, and their text cannot be made fit for a voice.
    """

    body: Mapping[str, Any]
    model: str = ""
    provider: str = ""
    stream: bool = False
    include_usage: bool = False
    include_reasoning: bool = False
    rebuild: bool = False
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation so far; each message is an object with a role."""
        messages: list[dict[str, Any]] = self.body["messages"]
        return messages

    @property
    def max_tokens(self) -> int | None:
        """The limit of the answer's tokens, under its new name or its old one; the new one goes first."""
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
        """`1024x1024`, or a shape such as `16:9`; "" where the upstream may choose."""
        size = str(self.body.get("size", "auto"))
        return "" if size == "auto" else size

    @property
    def as_base64(self) -> bool:
        """Whether the caller wants the bytes, not a URL."""
        return self.body.get("response_format") == "b64_json"
