"""The events of an answer, as pure values that belong to no dialect.

A provider takes a `ChatRequest` (or an `EmbeddingsRequest` ...) and yields `Event`s. The encoder of the caller's
dialect, such as schemas/chat/encode.py, makes frames of them, or folds them into one body.

The grammar of an answer, which the encoder relies on:

    answer  := Start? item* Finish+ Usage?         (each choice has exactly one Finish)
    item    := Text | Refusal | Reasoning | ToolCall | ToolArguments | Citation | Picture | Verbatim

A provider that cannot finish raises one of core/errors.py's exceptions instead.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

CallerDialect = Literal["chat", "responses", "messages", "moderations"]
"""The dialects of callers: OpenAI's chat completions, responses and moderations, and Anthropic's messages."""
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class AnswerStart:
    """The upstream's id, model and time of its answer. The vendor's support asks for them.

    Without this event (or with empty fields) the encoder gives the answer an id, a time and the target's public name.
    A stream that began as Verbatim may continue as events after an AnswerStart: `calls` then has, for each choice, the
    keys of the tool calls that it has opened, in order, and whether any of their arguments have come.
    """

    id: str = ""
    model: str = ""
    created: int = 0
    system_fingerprint: str | None = None
    service_tier: str | None = None
    calls: Mapping[int, Mapping[int | str, bool]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer's text, with its white space. `logprobs` is OpenAI's object."""

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
    """A piece of the model's thinking. The caller gets it only on request, since a voice agent would read it aloud.

    `signature` comes at the end of a block of thinking that the vendor wants back unchanged. A `redacted` block has
    only a signature.
    """

    text: str
    choice: int = 0
    signature: str = ""
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call begins. `key` is the provider's own name for it, unique in its choice; the encoder numbers the calls.

    If the upstream gave no `id`, it is "", and the encoder makes one.
    """

    key: int | str
    name: str
    id: str = ""
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolArguments:
    """A piece of the JSON text of a tool call's arguments. The ToolCall with the same `key` has come before."""

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
    """The tokens of a request and its answer. `cached` (read from a cache) and `written` (to a cache) are parts of
    `prompt`, `reasoning` is a part of `completion`. `estimated`: the upstream has not counted them.
    """

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0
    written: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class FillerText:
    """A phrase that this server adds while the model is silent: heard by the caller, and no part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Bytes that are in the caller's dialect already: whole SSE frames of a stream, else the whole JSON body.

    `dialect` is the one that ChatRequest.passthrough allows, so an encoder may send the bytes unchanged.
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
    """Embeddings, in the order of the inputs: lists of floats, or base64 of little-endian float32, as they came."""

    vectors: Sequence[Sequence[float] | str]
    model: str = ""
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Images:
    """The pictures of an answer: each an object with `url` or `b64_json`, and perhaps `revised_prompt`.

    `created` is Unix seconds, 0 if unknown. `details` are the other keys of OpenAI's answer, unchanged: size, quality,
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
    """Texts to be judged. `body` is the caller's JSON object without our own keys."""

    body: Mapping[str, Any]
    model: str = ""
    provider: str = ""
