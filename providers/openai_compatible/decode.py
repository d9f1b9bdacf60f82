"""Decodes OpenAI's answers: a stream's chunks by ChunkDecoder, a whole body by `events_of_body`.

Compatible servers deviate: tool calls without ids or indices (tool_calls.py), finish reasons of their own
(finish_reasons.py), content in parts, reasoning under two names. The decoder accepts these. It raises one of
BAD_SHAPE for another shape, and ErrorFrame for an error object that comes instead of an answer.
"""

from collections.abc import Iterator, Mapping
from typing import Any

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
from providers.common.finish_reasons import finish_reason, normalize_reason
from providers.common.tool_calls import Key, ToolCallTracker, arguments_of, name_of
from providers.common.translate import Pictures, integer, require_name, token_count

SERVICE_TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})
"""OpenAI's finish reasons: clients that check types accept no others."""


class ErrorFrame(Exception):
    """An error object, or a finish reason that means an error, in an answer."""

    def __init__(self, error: Any) -> None:
        super().__init__("an error instead of an answer")
        self.error = error


def parse_chunk(data: bytes) -> tuple[dict[str, Any], bool]:
    """A frame's JSON, with halves of surrogate pairs kept, and whether every parser reads it the same way. Raises
    ValueError and ErrorFrame.
    """
    chunk, strict = lenient_json.parse(data, keep_halves=True)
    if not isinstance(chunk, dict):
        raise ValueError(f"a frame that is not an object: {data[:200]!r}")
    chunk = unwrap(chunk)
    if chunk.get("error"):
        raise ErrorFrame(chunk["error"])
    return chunk, strict


def unwrap(data: dict[str, Any]) -> dict[str, Any]:
    """The answer in `{"response": {...}}`, which some gateways send. The key stays, so that the frame may not pass."""
    inner = data.get("response")
    return {**inner, "response": True} if isinstance(inner, dict) and "choices" not in data else data


class ChunkDecoder:
    """Decodes a stream's chunks to events. It records for each choice what has begun and ended.

    `note` takes a chunk that is passed to the caller unchanged; `events` decodes one. `ended` has the finish reason of
    each choice that has ended.
    """

    def __init__(self, choices: int = 1, pictures: Pictures | None = None) -> None:
        self._choices = choices
        self._pictures = pictures or Pictures()
        self.opened: set[int] = set()
        self._with_content: set[int] = set()
        self.ended: dict[int, str] = {}
        self.calls: dict[int, ToolCallTracker] = {}

    @property
    def finished(self) -> bool:
        """Whether every requested choice has its finish reason."""
        return self.ended.keys() >= self.opened and len(self.ended) >= self._choices

    @property
    def sound(self) -> bool:
        """Whether every choice that has begun is finished: the most that an ended stream can show."""
        return bool(self.ended) and self.ended.keys() >= self.opened

    def note(self, chunk: Mapping[str, Any]) -> None:
        """Record what begins and ends in a chunk."""
        for choice in chunk["choices"]:
            index, delta = choice["index"], choice["delta"]
            self._note(index, delta)
            for call in delta.get("tool_calls") or ():
                self.calls.setdefault(index, ToolCallTracker()).take(call)
            if choice["finish_reason"]:
                self.ended[index] = choice["finish_reason"]

    def _note(self, index: int, delta: Mapping[str, Any]) -> None:
        self.opened.add(index)
        if index not in self._with_content and says_something(delta):
            self._with_content.add(index)

    def start(self, chunk: Mapping[str, Any], *, resumed: bool) -> AnswerStart:
        """The answer's identity; `resumed` if the caller has seen all chunks so far."""
        if not resumed:
            return start(chunk)
        seen = {index: {key: call.begun for key, call in calls.opened.items()} for index, calls in self.calls.items()}
        return start(chunk, seen)

    def text(self, index: int, text: str) -> Text | None:
        """The event of a piece of text of a choice; None once the choice has ended."""
        if index in self.ended:
            return None
        self.opened.add(index)
        self._with_content.add(index)
        return Text(text, index)

    def events(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        """The events of a chunk."""
        for position, choice in enumerate(chunk.get("choices") or ()):
            index = _index(choice, position)
            if index in self.ended:
                continue
            delta = choice.get("delta") or {}
            if not delta and index not in self._with_content:
                delta = choice.get("message") or {}  # a whole answer in one frame
            self._note(index, delta)
            yield from delta_events(delta, index, choice.get("logprobs"))
            if images := images_of(delta):
                if self._pictures.wanted:
                    self._with_content.add(index)
                yield from self._pictures.pictures(images, index)
            if "tool_calls" in delta or "function_call" in delta:
                for call in calls_of(delta):
                    yield from self._call_events(call, index)
            if (word := choice.get("finish_reason")) and normalize_reason(word):
                yield self._end(word, index)
        if counted := usage(chunk.get("usage")):
            yield counted

    def _call_events(self, call: Mapping[str, Any], choice: int) -> Iterator[Event]:
        calls = self.calls.setdefault(choice, ToolCallTracker())
        key, named, piece = calls.take(call)
        if named:
            yield ToolCall(key, calls.opened[key].name, calls.opened[key].id, choice)
        if piece:
            yield ToolArguments(key, piece, choice)

    def _end(self, word: Any, choice: int) -> Finish:
        if choice in self.calls and self.calls[choice].nameless:
            raise ValueError("a tool call without a name")
        self._pictures.check(choice, has_content=choice in self._with_content)
        reason = reason_of(word, has_content=choice in self._with_content)
        self.ended[choice] = reason
        return Finish(reason, choice)


def events_of_body(body: Any, pictures: Pictures | None = None) -> Iterator[Event]:
    """The events of a whole answer. Raises ValueError, at the first event, for another shape."""
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
        yield from pictures.pictures(images_of(message), index)
        calls = ToolCallTracker()
        for call in calls_of(message):
            key = calls.open({**call, "index": None})
            yield ToolCall(key, require_name(name_of(call)), calls.opened[key].id, index)
            yield ToolArguments(key, arguments_of(call), index)
        speaks = says_something(message)
        pictures.check(index, has_content=speaks)
        word = choice.get("finish_reason")
        yield Finish(reason_of(word, has_content=speaks) if normalize_reason(word) else "stop", index)
    if counted := usage(body.get("usage")):
        yield counted


def start(chunk: Mapping[str, Any], calls: Mapping[int, Mapping[Key, bool]] | None = None) -> AnswerStart:
    """The identity that a chunk or a body gives. Raises ValueError for a time beyond 64 bits."""

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
    """Whether a delta or a message holds more than a role and reasoning."""
    get = delta.get
    content = get("content")
    text = _text_of(content) if isinstance(content, list) else content
    return bool(text or get("tool_calls") or get("function_call") or get("refusal") or get("audio"))


def images_of(delta: Mapping[str, Any]) -> list[Any]:
    """The images of a delta or a message: OpenRouter's `images`, and those among the content's parts."""
    images, content = delta.get("images"), delta.get("content")
    found = list(images) if isinstance(images, list) else []
    if isinstance(content, list):
        found += [part for part in content if isinstance(part, dict) and part.get("type") == "image_url"]
    return found


def calls_of(delta: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The calls of a delta or a message, including a legacy function call."""
    calls = list(delta.get("tool_calls") or ())
    if delta.get("function_call"):
        calls.append({"index": 0, "function": delta["function_call"]})
    return calls


def delta_events(delta: Mapping[str, Any], choice: int, logprobs: Any) -> Iterator[Event]:
    """The text events of a delta or a message."""
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
    """The text of a content that is no string: Mistral's parts, or a number."""
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


def reason_of(word: Any, *, has_content: bool) -> FinishReason:
    """OpenAI's finish reason. Raises ErrorFrame for one that means a failure, which must not become "stop"."""
    reason = finish_reason(word, has_content=has_content)
    if reason is None:
        raise ErrorFrame({"message": f"The answer was ended early ({normalize_reason(word)})."})
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
