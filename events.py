"""The two ends of a provider, as pure values: what is asked, and what is said while it is answered.

Nothing here knows a vendor or a wire. A provider takes a `ChatRequest` (or an `EmbeddingsRequest` ...) and yields
`Event`s; the encoder in schemas/completion.py turns those into OpenAI's frames, or folds them into one body.

The grammar of an answer, which the encoder relies on:

    answer  := Start? item* Finish+ Usage?         (each choice has exactly one Finish)
    item    := Text | Refusal | Reasoning | ToolCall | ToolArguments | Citation | Picture | Verbatim | Silence

`Silence` may stand anywhere, `Spoken` (which is the relay's) before the first item. A provider that cannot finish
raises one of errors.py's exceptions instead.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class AnswerStart:
    """Who answers, where the upstream says so: its ids are worth keeping for its support desk.

    Without one (or with empty fields) the encoder gives the answer an id, a time and the target's public name. A
    stream that began as Verbatim goes on as events after a Start whose `calls` hold the keys of the tool calls that
    each choice has opened, in order, and whether any of their arguments have come.
    """

    id: str = ""
    model: str = ""
    created: int = 0
    system_fingerprint: str | None = None
    service_tier: str | None = None
    calls: Mapping[int, Mapping[int | str, bool]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer, exactly as it came: white space belongs to it. `logprobs` is OpenAI's object."""

    text: str
    choice: int = 0
    logprobs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A piece of a refusal (OpenAI's `refusal` field)."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's thinking. It reaches the caller only when asked for: read aloud, it ruins a call."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call opens. `key` is the provider's own handle, unique in its choice; the encoder makes dense indices of it.

    An empty `id` means that the upstream gave none: the encoder makes one.
    """

    key: int | str
    name: str
    id: str = ""
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolArguments:
    """A piece of the JSON text of an opened call's arguments."""

    key: int | str
    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Citation:
    """A source for a span of the answer (OpenAI's url_citation). Offsets are in characters."""

    url: str
    title: str
    start: int
    end: int
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture in the answer. `url` is a data: or https: URL."""

    url: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Finish:
    """A choice has ended, and why."""

    reason: FinishReason
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the whole turn. `cached` is a part of `prompt`, `reasoning` a part of `completion`."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Silence:
    """The upstream is quiet, and has been for one heartbeat. The line to the caller must not be."""


@dataclass(frozen=True, slots=True)
class FillerText:
    """A phrase of our own, said while the model is silent: heard like Text, and no part of what the model said."""

    text: str


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Bytes already in the caller's dialect: whole SSE frames when streaming, the one JSON body when not."""

    data: bytes
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Ranks:
    """A reranking: (index of the document, relevance), the most relevant first."""

    ranks: Sequence[tuple[int, float]]
    model: str = ""
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Vectors:
    """Embeddings, in the order of the inputs: lists of floats, or base64 of little-endian float32 where that came."""

    vectors: Sequence[Sequence[float] | str]
    model: str = ""
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Images:
    """Pictures that were made: each an object with `url` or `b64_json`, and `revised_prompt` where there is one.

    `created` is Unix seconds, 0 when unknown; `details` what else OpenAI's answer may have, as it came: size, quality,
    background, output_format, usage.
    """

    data: Sequence[dict[str, str]]
    created: int = 0
    usage: Usage | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


Event = (
    AnswerStart
    | Text
    | Refusal
    | Reasoning
    | ToolCall
    | ToolArguments
    | Citation
    | Picture
    | Finish
    | Usage
    | Silence
    | FillerText
    | Verbatim
    | Vectors
    | Ranks
    | Images
)
Events = Generator[Event, None, None]

SILENCE = Silence()


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat completion as it was asked for.

    `body` is the caller's JSON object in OpenAI's dialect: without nulls, and without the keys of ours and of the
    voice platforms, which stand in `extras` (R8). Providers read it and never change it. `rebuild` asks for events
    only: what passes through as bytes could not be put behind a phrase of ours, or be made fit for a voice.
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
        """The cap on the answer, under its new name or its old one; the new one wins."""
        cap: int | None = self.body.get("max_completion_tokens", self.body.get("max_tokens"))
        return cap

    @property
    def stop(self) -> list[str]:
        """The stop sequences, as a list whichever way they were given."""
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
    """A picture to embed. `url` is a data: or https: URL, as it was given."""

    url: str


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """Embeddings as they were asked for: each input is a string, a list of token ids, or a picture."""

    inputs: Sequence[str | Sequence[int] | Image]
    model: str = ""
    provider: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    input_type: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class ModerationsRequest:
    """What is to be judged, as it was asked for: `body` is the caller's JSON object, without the keys of ours."""

    body: Mapping[str, Any]
    model: str = ""
    provider: str = ""


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """Documents to put in order of their relevance to a query. `top_n` is how many are wanted, None for all.

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
    """Pictures as they were asked for.

    `body` is the caller's JSON object in OpenAI's dialect: without nulls, and without the keys of ours (R8). It may
    have a vendor's own keys too. Providers read it and never change it.
    """

    body: Mapping[str, Any]
    model: str = ""
    provider: str = ""

    @property
    def prompt(self) -> str:
        """What the pictures are to show."""
        return str(self.body["prompt"])

    @property
    def n(self) -> int:
        """How many are wanted."""
        return int(self.body.get("n", 1))

    @property
    def size(self) -> str:
        """`1024x1024`, or a shape such as `16:9`; "" where the upstream may choose."""
        size = str(self.body.get("size", "auto"))
        return "" if size == "auto" else size

    @property
    def as_base64(self) -> bool:
        """Whether the bytes are wanted, rather than an address."""
        return self.body.get("response_format") == "b64_json"
