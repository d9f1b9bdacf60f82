"""The two ends of a provider, as pure values: what is asked, and what is said while it is answered.

Nothing here knows a vendor or a wire. A provider takes a `ChatRequest` (or an `EmbeddingsRequest` ...) and yields
`Event`s; the encoder in schemas/chat/encode.py turns those into OpenAI's frames, or folds them into one body.

The grammar of an answer, which the encoder relies on:

    answer  := Start? item* Finish+ Usage?         (each choice has exactly one Finish)
    item    := Text | Refusal | Reasoning | ToolCall | ToolArguments | Citation | Picture | Verbatim

A provider that cannot finish raises one of core/errors.py's exceptions instead.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

CallerDialect = Literal["chat", "responses", "messages", "moderations"]
"""What callers speak: OpenAI's chat completions, responses and moderations, and Anthropic's messages."""
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class AnswerStart:
    """The upstream's own names for its answer, which its support asks for.

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
    """A piece of the model's thinking. It reaches the caller only when asked for: read aloud, it ruins a call.

    `signature` ends a thought that its vendor wants back as it was; with `redacted` it is all there is of one.
    """

    text: str
    choice: int = 0
    signature: str = ""
    redacted: bool = False


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
    """Tokens of the whole turn. `cached` (read from a cache) and `written` (to it) are parts of `prompt`, `reasoning`
    of `completion`. `estimated` where the upstream has not counted them.
    """

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0
    written: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class FillerText:
    """A phrase of our own, said while the model is silent: heard like Text, and no part of what the model said."""

    text: str


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Bytes already in the caller's dialect: whole SSE frames when streaming, the one JSON body when not.

    `dialect` is the one that ChatRequest.passthrough allows, so that an encoder can trust the bytes to be its own.
    """

    data: bytes
    dialect: CallerDialect
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
    | FillerText
    | Verbatim
    | Vectors
    | Ranks
    | Images
)
Events = Generator[Event, None, None]


@dataclass(frozen=True, slots=True)
class ModerationsRequest:
    """What is to be judged, as it was asked for: `body` is the caller's JSON object, without the keys of ours."""

    body: Mapping[str, Any]
    model: str = ""
    provider: str = ""
