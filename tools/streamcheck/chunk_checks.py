"""Checks of the chunks: OpenAI's shape, keys, order, and what a whole answer has."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from tools.streamcheck.check import Need, Problem, Skipped, check, error, warning
from tools.streamcheck.stream import Chunk, Part, Stream, shorten

# OpenAI's published CreateChatCompletionStreamResponse, and what its SDK's types and API have besides.
CHUNK_KEYS = frozenset({
    "id", "object", "created", "model", "service_tier", "system_fingerprint", "choices", "usage", "obfuscation",
    "moderation",
})  # fmt: skip
CHOICE_KEYS = frozenset({"index", "delta", "finish_reason", "logprobs"})
DELTA_KEYS = frozenset({"role", "content", "refusal", "tool_calls", "function_call", "annotations", "audio"})
FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
MOST_COUNTED = 3


@check("types")
def types(stream: Stream) -> Iterator[Problem]:
    """Each chunk is a ChatCompletionChunk of the openai package, taken strictly."""
    try:
        chunk_type: Any = import_module("openai.types.chat").ChatCompletionChunk
        invalid: Any = import_module("pydantic").ValidationError
    except ImportError:
        raise Skipped("the openai package is not installed") from None
    for chunk in stream.chunks:
        try:
            chunk_type.model_validate_json(chunk.frame.data, strict=True)
        except invalid as problem:
            for each in problem.errors()[:MOST_COUNTED]:
                where = ".".join(str(step) for step in each["loc"])
                yield error(f"frame {chunk.number}, {where}: {each['msg']}")


@check("object")
def object_name(stream: Stream) -> Iterator[Problem]:
    """`object` is chat.completion.chunk."""
    for value in dict.fromkeys(repr(chunk.body.get("object")) for chunk in stream.chunks):
        if value != "'chat.completion.chunk'":
            yield error(f"object is {shorten(value)}")


@check("identity")
def identity(stream: Stream) -> Iterator[Problem]:
    """One id, created and model throughout, none of them empty."""
    for key in ("id", "created", "model"):
        values = list(dict.fromkeys(repr(chunk.body.get(key)) for chunk in stream.chunks))
        if len(values) > 1:
            yield error(f"{key} changes: {shorten(', '.join(values))}")
        kind = int if key == "created" else str
        for chunk in stream.chunks:
            value = chunk.body.get(key)
            if type(value) is not kind or value in ("", 0):
                yield error(f"{key} is {shorten(repr(value))}")


@check("keys")
def keys(stream: Stream) -> Iterator[Problem]:
    """Only OpenAI's own keys; voice platforms fall silent at a foreign one."""
    for level, known in (("chunk", CHUNK_KEYS), ("choice", CHOICE_KEYS), ("delta", DELTA_KEYS)):
        for key in keys_used(stream, level):
            if key not in known:
                yield error(f"`{shorten(key)}` in the {level}")


def keys_used(stream: Stream, level: str) -> list[str]:
    """The keys of a level (chunk, choice, delta, usage), in the order of their first use."""
    found: Mapping[str, list[Mapping[str, Any]]] = {
        "chunk": [chunk.body for chunk in stream.chunks],
        "choice": [part.choice for part in stream.parts],
        "delta": [part.delta for part in stream.parts],
        "usage": [stream.usage or {}],
    }
    return list(dict.fromkeys(key for body in found[level] for key in body))


@check("choices")
def choices(stream: Stream) -> Iterator[Problem]:
    """Each choice has an index, a delta, and a finish_reason that is null until the end."""
    for chunk in stream.chunks:
        given = chunk.body.get("choices")
        if not isinstance(given, list):
            yield error("a chunk has no list `choices`")
            continue
        if not given and not isinstance(chunk.body.get("usage"), Mapping):
            yield error(f"frame {chunk.number} has neither choices nor usage")
        for choice in given:
            if not isinstance(choice, Mapping):
                yield error(f"a choice is {shorten(repr(choice))}")
                continue
            if type(choice.get("index")) is not int:
                yield error("a choice has no index")
            if "finish_reason" not in choice:
                yield error("a choice has no finish_reason; until the end it is null")
            if not isinstance(choice.get("delta"), Mapping):
                yield error("a choice has no delta")


@check("role")
def role(stream: Stream) -> Iterator[Problem]:
    """The role assistant comes first, and once."""
    for index, parts in stream.choices.items():
        roles = [part.delta.get("role") for part in parts]
        if roles[0] != "assistant":
            yield error(f"choice {index} begins with the role {shorten(repr(roles[0]))}")
        if sum(given is not None for given in roles) > 1:
            yield error(f"choice {index} has {sum(given is not None for given in roles)} roles")


@check("finish")
def finish(stream: Stream) -> Iterator[Problem]:
    """One finish_reason of OpenAI's for each choice, and nothing after it."""
    if not stream.choices:
        yield error("no choice, so no finish_reason")
    for index, parts in stream.choices.items():
        places = [place for place, part in enumerate(parts) if part.choice.get("finish_reason") is not None]
        if not places:
            yield error(f"choice {index} has no finish_reason")
            continue
        if len(places) > 1:
            yield error(f"choice {index} has {len(places)} finish_reasons")
        if places[0] != len(parts) - 1:
            yield error(f"choice {index} goes on after its finish_reason, in frame {parts[places[0] + 1].chunk.number}")
        for reason in dict.fromkeys(repr(parts[place].choice["finish_reason"]) for place in places):
            if reason.strip("'") not in FINISH_REASONS:
                yield error(f"finish_reason is {shorten(reason)}")


@check("finish fits")
def finish_fits(stream: Stream) -> Iterator[Problem]:
    """finish_reason is tool_calls when tools are called, and only then."""
    for index, parts in stream.choices.items():
        called = any(part.calls for part in parts)
        for part in parts:
            reason = part.choice.get("finish_reason")
            if called and reason == "stop":
                yield error(f"choice {index} calls a tool and finishes with stop: some clients then drop the call")
            if not called and reason == "tool_calls":
                yield error(f"choice {index} finishes with tool_calls and calls none")


@check("usage")
def usage(stream: Stream) -> Iterator[Problem]:
    """Usage comes when it was asked for, and only then: in one last chunk whose choices are []."""
    telling = [chunk for chunk in stream.chunks if chunk.body.get("usage") is not None]
    if not stream.asked.usage:
        if telling:
            yield error("usage comes unasked")
        return
    if len(telling) != 1:
        yield error(f"usage comes {len(telling)} times" if telling else "usage was asked for and does not come")
    for chunk in telling:
        if chunk.body.get("choices") != []:
            yield error(f"usage comes in frame {chunk.number} with choices; its own chunk has []")
        yield from _counts(chunk.body["usage"])
    if telling and telling[-1] is not stream.chunks[-1]:
        yield error(f"after the usage comes frame {stream.chunks[-1].number}")


def _counts(usage: Any) -> Iterator[Problem]:
    counts: dict[str, Any] = {name: usage.get(name) if isinstance(usage, Mapping) else None for name in COUNTS}
    for name, value in counts.items():
        if type(value) is not int or value < -1:
            yield error(f"{name} is {shorten(repr(value))}")
        elif value == -1:
            yield warning(f"{name} is -1, so it is unknown")
    prompt, completion, total = counts.values()
    if all(type(value) is int and value >= 0 for value in counts.values()) and prompt + completion != total:
        yield error(f"{prompt} and {completion} tokens are told to be {total}")


@check("content", Need.ANSWER)
def content(stream: Stream) -> Iterator[Problem]:
    """Something is said, or a tool called."""
    whole = "".join(str(part.delta.get(name) or "") for part in stream.parts for name in ("content", "refusal"))
    called = any(part.calls for part in stream.parts)
    if not whole.strip() and not called:
        yield error("the answer is empty")
    for part in _not_text(stream.parts):
        yield error(f"frame {part.chunk.number} has content that is no text: {shorten(repr(part.delta['content']))}")


def _not_text(parts: list[Part]) -> Iterator[Part]:
    for part in parts:
        if part.delta.get("content") is not None and not isinstance(part.delta["content"], str):
            yield part


def first_delta(chunk: Chunk) -> Any:
    """The delta that a stream opens with."""
    first = next(iter(chunk.choices), None)
    return first.get("delta") if isinstance(first, Mapping) else None
