"""OpenAI's answers, read into events: chunks of a stream by a Reader, a whole body by `events_of_body`.

Compatible servers are compatible in parts: tool calls without ids or indices (tool_calls.py), finish reasons of their
own (finish.py), content in parts, thinking under two names. What is read here is what was meant. Raises one of
translate.NONSENSE for what has no meaning, and ErrorFrame for an error object in the place of an answer.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from core import lenient_json
from core.events import (
    AnswerStart,
    Citation,
    Event,
    Finish,
    FinishReason,
    Reasoning,
    Refusal,
    Text,
    ToolArguments,
    ToolCall,
    Usage,
)
from providers.common.finish_reasons import ended, finish_reason
from providers.common.tool_calls import Key, ToolCallTracker, arguments_of, name_of
from providers.common.translate import Pictures, integer, require_name, token_count

SERVICE_TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})
"""Those of OpenAI's: clients that check types take no others."""


class ErrorFrame(Exception):
    """An error object, or a finish reason that means one, where an answer was due."""

    def __init__(self, error: Any) -> None:
        super().__init__("an error instead of an answer")
        self.error = error


def parse_chunk(data: bytes) -> tuple[dict[str, Any], bool]:
    """A frame's JSON as it came, with halves of surrogate pairs kept, and whether any parser reads it so. Raises
    ValueError and ErrorFrame.
    """
    strict = True
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError:
        strict, chunk = False, lenient_json.loads(data, keep_halves=True)
    if not isinstance(chunk, dict):
        raise ValueError(f"a frame that is not an object: {data[:200]!r}")
    chunk = unwrapped(chunk)
    if chunk.get("error"):
        raise ErrorFrame(chunk["error"])
    return chunk, strict


def unwrapped(data: dict[str, Any]) -> dict[str, Any]:
    """The answer in `{"response": {...}}`, as some gateways put it. It keeps that key: as it came it may not pass."""
    inner = data.get("response")
    return {**inner, "response": True} if isinstance(inner, dict) and "choices" not in data else data


class ChunkDecoder:
    """A stream's chunks as events. It remembers what has been opened, said and ended, by choice.

    `note` takes in a chunk that the caller sees as it came; `events` tells one.
    """

    def __init__(self, choices: int = 1, pictures: Pictures | None = None) -> None:
        self._choices = choices
        self._pictures = pictures or Pictures()
        self.opened: set[int] = set()
        self.said: set[int] = set()
        self.ended: set[int] = set()
        self.calls: dict[int, ToolCallTracker] = {}

    @property
    def finished(self) -> bool:
        """Whether every choice that was asked for has its finish reason."""
        return self.ended >= self.opened and len(self.ended) >= self._choices

    @property
    def sound(self) -> bool:
        """Whether every choice that was opened has: all that can be said of an answer that has ended."""
        return bool(self.ended) and self.ended >= self.opened

    def note(self, chunk: Mapping[str, Any]) -> None:
        """Remember what a chunk opens, says and ends."""
        for choice in chunk["choices"]:
            index, delta = choice["index"], choice["delta"]
            self._note(index, delta)
            for call in delta.get("tool_calls") or ():
                self.calls.setdefault(index, ToolCallTracker()).take(call)
            if choice["finish_reason"]:
                self.ended.add(index)

    def _note(self, index: int, delta: Mapping[str, Any]) -> None:
        self.opened.add(index)
        if index not in self.said and says_something(delta):
            self.said.add(index)

    def start(self, chunk: Mapping[str, Any], *, resumed: bool) -> AnswerStart:
        """Who answers; `resumed` when what was noted so far has been seen by the caller."""
        if not resumed:
            return start(chunk)
        seen = {index: {key: call.begun for key, call in calls.opened.items()} for index, calls in self.calls.items()}
        return start(chunk, seen)

    def events(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        """What a chunk says."""
        for position, choice in enumerate(chunk.get("choices") or ()):
            index = _index(choice, position)
            if index in self.ended:
                continue
            delta = choice.get("delta") or {}
            if not delta and index not in self.said:
                delta = choice.get("message") or {}  # a whole answer in one frame
            self._note(index, delta)
            yield from delta_events(delta, index, choice.get("logprobs"))
            if images := images_of(delta):
                if self._pictures.wanted:
                    self.said.add(index)
                yield from self._pictures.told(images, index)
            if "tool_calls" in delta or "function_call" in delta:
                for call in calls_of(delta):
                    yield from self._called(call, index)
            if (word := choice.get("finish_reason")) and ended(word):
                yield self._end(word, index)
        if counted := usage(chunk.get("usage")):
            yield counted

    def _called(self, call: Mapping[str, Any], choice: int) -> Iterator[Event]:
        calls = self.calls.setdefault(choice, ToolCallTracker())
        key, named, piece = calls.take(call)
        if named:
            yield ToolCall(key, calls.opened[key].name, calls.opened[key].id, choice)
        if piece:
            yield ToolArguments(key, piece, choice)

    def _end(self, word: Any, choice: int) -> Finish:
        if choice in self.calls and self.calls[choice].nameless:
            raise ValueError("a tool call without a name")
        self._pictures.check(choice, said=choice in self.said)
        reason = reason_of(word, said=choice in self.said)
        self.ended.add(choice)
        return Finish(reason, choice)


def events_of_body(body: Any, pictures: Pictures | None = None) -> Iterator[Event]:
    """The events of a whole answer. Raises ValueError, at the first of them, for what is none."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        raise ValueError("an answer without choices")
    pictures = pictures or Pictures()
    yield start(body)
    for position, choice in enumerate(choices):
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            raise ValueError("a choice without a message")
        index = _index(choice, position)
        yield from delta_events(message, index, choice.get("logprobs"))
        yield from pictures.told(images_of(message), index)
        calls = ToolCallTracker()
        for call in calls_of(message):
            key = calls.open({**call, "index": None})
            yield ToolCall(key, require_name(name_of(call)), calls.opened[key].id, index)
            yield ToolArguments(key, arguments_of(call), index)
        speaks = says_something(message)
        pictures.check(index, said=speaks)
        word = choice.get("finish_reason")
        yield Finish(reason_of(word, said=speaks) if ended(word) else "stop", index)
    if counted := usage(body.get("usage")):
        yield counted


def start(chunk: Mapping[str, Any], calls: Mapping[int, Mapping[Key, bool]] | None = None) -> AnswerStart:
    """Who answers, as far as a chunk or a body says. Raises ValueError for a time beyond 64 bits."""

    def text(key: str) -> str | None:
        value = chunk.get(key)
        return value if isinstance(value, str) else None

    return AnswerStart(
        id=text("id") or "",
        model=text("model") or "",
        created=integer(chunk.get("created")),
        system_fingerprint=text("system_fingerprint"),
        service_tier=tier if (tier := text("service_tier")) in SERVICE_TIERS else None,
        calls=calls or {},
    )


def says_something(delta: Mapping[str, Any]) -> bool:
    """Whether a delta or a message holds more than a role and thinking."""
    get = delta.get
    content = get("content")
    text = _text_of(content) if isinstance(content, list) else content
    return bool(text or get("tool_calls") or get("function_call") or get("refusal") or get("audio"))


def images_of(delta: Mapping[str, Any]) -> list[Any]:
    """The pictures of a delta or a message: OpenRouter's `images`, and those among its content's parts."""
    images, content = delta.get("images"), delta.get("content")
    found = list(images) if isinstance(images, list) else []
    if isinstance(content, list):
        found += [part for part in content if isinstance(part, dict) and part.get("type") == "image_url"]
    return found


def calls_of(delta: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The calls of a delta or a message; the legacy kind is one of them."""
    calls = list(delta.get("tool_calls") or ())
    if delta.get("function_call"):
        calls.append({"index": 0, "function": delta["function_call"]})
    return calls


def delta_events(delta: Mapping[str, Any], choice: int, logprobs: Any) -> Iterator[Event]:
    """What a delta or a message says in words."""
    thought = delta.get("reasoning_content") or delta.get("reasoning")
    if isinstance(thought, str) and thought:
        yield Reasoning(thought, choice)
    content = delta.get("content")
    if content is not None and not isinstance(content, str):
        content = _text_of(content)
    if content:
        yield Text(content, choice, logprobs if are_logprobs(logprobs) else None)
    if delta.get("refusal"):
        yield Refusal(str(delta["refusal"]), choice)
    for each in delta.get("annotations") or ():
        cited = each.get("url_citation") if isinstance(each, dict) else None
        if isinstance(cited, dict):
            first, last = token_count(cited.get("start_index")), token_count(cited.get("end_index"))
            yield Citation(str(cited.get("url") or ""), str(cited.get("title") or ""), first, last, choice)


def _text_of(content: Any) -> str:
    """The text of a content that is none: Mistral's parts, or a number."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    if isinstance(content, (dict, bool)):
        raise ValueError(f"a content that is a {type(content).__name__}")
    return str(content)


def are_logprobs(value: Any) -> bool:
    """Whether it is OpenAI's object of log probabilities."""
    return (
        isinstance(value, dict)
        and value.keys() <= {"content", "refusal"}
        and all(each is None or _are_entries(each) for each in value.values())
    )


def _are_entries(tokens: Any) -> bool:
    return isinstance(tokens, list) and all(
        isinstance(each, dict)
        and isinstance(each.get("token"), str)
        and isinstance(each.get("logprob"), (int, float))
        and isinstance(each.get("bytes"), list | None)
        and _are_entries(each.get("top_logprobs", []))
        for each in tokens
    )


def reason_of(word: Any, *, said: bool) -> FinishReason:
    """OpenAI's word for an end. Raises ErrorFrame for one that means a failure: that is never "stop" silently."""
    reason = finish_reason(word, said=said)
    if reason is None:
        raise ErrorFrame({"message": f"The answer was ended early ({ended(word)})."})
    return reason


def usage(counts: Any) -> Usage | None:
    """The tokens of a usage object; None when there is none. Raises ValueError for a count beyond 64 bits."""
    if not isinstance(counts, dict):
        return None
    return Usage(
        prompt=token_count(counts.get("prompt_tokens")),
        completion=token_count(counts.get("completion_tokens")),
        cached=_count(counts.get("prompt_tokens_details"), "cached_tokens"),
        reasoning=_count(counts.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _count(counts: Any, key: str) -> int:
    return token_count(counts.get(key)) if isinstance(counts, dict) else 0


def _index(choice: Mapping[str, Any], position: int) -> int:
    index = choice.get("index")
    return index if type(index) is int and index >= 0 else position
