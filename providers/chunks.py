"""OpenAI's answers, read into events: chunks of a stream by a Reader, a whole body by `events_of_body`.

Compatible servers are compatible in parts: tool calls without ids or indices, finish reasons of their own, content in
parts, thinking under two names. What is read here is what was meant. Raises one of translate.NONSENSE for what has no
meaning, and ErrorFrame for an error object in the place of an answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from events import (
    Citation,
    Event,
    Finish,
    FinishReason,
    Reasoning,
    Refusal,
    Start,
    Text,
    ToolArguments,
    ToolCall,
    Usage,
)

Key = int | str

FINISH_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "function_call",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_length": "length",
    "tool_use": "tool_calls",
}


MOST_CALLS = 4096
"""An answer of more tool calls than that is not one."""


class ErrorFrame(Exception):
    """An error object, or a finish reason that means one, where an answer was due."""

    def __init__(self, error: Any) -> None:
        super().__init__("an error instead of an answer")
        self.error = error


def parse(data: bytes) -> dict[str, Any]:
    """A frame's JSON, with `choices` a list of objects that each have a `delta`. Raises ValueError and ErrorFrame."""
    chunk = orjson.loads(data)
    if not isinstance(chunk, dict):
        raise ValueError(f"a frame that is not an object: {data[:200]!r}")
    chunk = unwrapped(chunk)
    if chunk.get("error"):
        raise ErrorFrame(chunk["error"])
    if chunk.get("choices") is None:
        chunk["choices"] = []
    try:
        for choice in chunk["choices"]:
            if choice.get("delta") is None:
                choice["delta"] = {}
            for call in choice["delta"].get("tool_calls") or []:
                (call.get("function") or {}).get("name")
    except (AttributeError, TypeError) as error:
        raise ValueError(f"a frame of an odd shape: {data[:200]!r}") from error
    return chunk


def unwrapped(data: dict[str, Any]) -> dict[str, Any]:
    """The answer in `{"response": {...}}`, as some gateways put it. It keeps that key: as it came it may not pass."""
    inner = data.get("response")
    return {**inner, "response": True} if isinstance(inner, dict) and "choices" not in data else data


class Calls:
    """The tool calls that one choice has opened: which of them a delta belongs to is a matter of experience.

    `ids` holds their ids in the order of opening, "" where the upstream gave none; `keys` finds them by their ids.
    """

    def __init__(self) -> None:
        self.ids: dict[Key, str] = {}
        self.keys: dict[str, Key] = {}
        self._latest: dict[Any, Key] = {}
        self._last: Key | None = None

    def find(self, call: Mapping[str, Any]) -> Key | None:
        """The key of the call that this delta continues; None when it opens a new one.

        By id where a known one comes; a name without a known id opens a call, even at an index that is taken (several
        whole calls at index 0); whatever has no name goes to the last call opened at its index, or at all (N19).
        """
        identifier, index, name = call.get("id"), call.get("index"), (call.get("function") or {}).get("name")
        known = self.keys.get(identifier) if isinstance(identifier, str) else None
        if known is not None and (index is None or index in self._latest or not name):
            return known
        if name:
            return None
        key = self._latest.get(index, self._last)
        if key is None:
            raise ValueError("arguments of a tool call that has not begun")
        return key

    def open(self, call: Mapping[str, Any]) -> Key:
        """A new call; an id that another call has already counts as none. Raises ValueError for one call too many."""
        if len(self.ids) >= MOST_CALLS:
            raise ValueError(f"more than {MOST_CALLS} tool calls")
        index, identifier = call.get("index"), call.get("id")
        key: Key = index if isinstance(index, int) and index not in self.ids else f"call {len(self.ids)}"
        self.ids[key] = ""
        if isinstance(identifier, str) and identifier and identifier not in self.keys:
            self.ids[key] = identifier
            self.keys[identifier] = key
        self._latest[index] = self._last = key
        return key


class Reader:
    """A stream's chunks as events. It remembers what has been opened and ended, by choice.

    `note` takes in a chunk that the caller sees as it came; `events` tells one.
    """

    def __init__(self, choices: int = 1) -> None:
        self._choices = choices
        self.opened: set[int] = set()
        self.ended: set[int] = set()
        self.calls: dict[int, Calls] = {}

    @property
    def finished(self) -> bool:
        """Whether every choice that was asked for has its finish reason."""
        return self.ended >= self.opened and len(self.ended) >= self._choices

    @property
    def sound(self) -> bool:
        """Whether every choice that was opened has: all that can be said of an answer that has ended."""
        return bool(self.ended) and self.ended >= self.opened

    def note(self, chunk: Mapping[str, Any]) -> None:
        """Remember what a chunk opens and ends."""
        for choice in chunk["choices"]:
            index = choice["index"]
            self.opened.add(index)
            for call in choice["delta"].get("tool_calls") or ():
                calls = self.calls.setdefault(index, Calls())
                if calls.find(call) is None:
                    calls.open(call)
            if choice["finish_reason"]:
                self.ended.add(index)

    def start(self, chunk: Mapping[str, Any], *, resumed: bool) -> Start:
        """Who answers; `resumed` when what was noted so far has been seen by the caller."""
        calls = {index: list(calls.ids) for index, calls in self.calls.items()} if resumed else {}
        return start(chunk, calls)

    def events(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        """What a chunk says."""
        for position, choice in enumerate(chunk["choices"]):
            index = _index(choice, position)
            delta = choice["delta"]
            self.opened.add(index)
            yield from said(delta, index, choice.get("logprobs"))
            calls = list(delta.get("tool_calls") or ())
            if delta.get("function_call"):
                calls.append({"index": 0, "function": delta["function_call"]})
            for call in calls:
                yield from self._called(call, index)
            if choice.get("finish_reason") and index not in self.ended:
                self.ended.add(index)
                yield Finish(finish_reason(choice["finish_reason"]), index)
        if counted := usage(chunk.get("usage")):
            yield counted

    def _called(self, call: Mapping[str, Any], choice: int) -> Iterator[Event]:
        calls = self.calls.setdefault(choice, Calls())
        key = calls.find(call)
        if key is None:
            key = calls.open(call)
            yield ToolCall(key, str(call["function"]["name"]), calls.ids[key], choice)
        yield from _arguments(call, key, choice)


def events_of_body(body: Any) -> Iterator[Event]:
    """The events of a whole answer. Raises ValueError, at the first of them, for what is none."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        raise ValueError("an answer without choices")
    yield start(body, {})
    for position, choice in enumerate(choices):
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            raise ValueError("a choice without a message")
        index = _index(choice, position)
        yield from said(message, index, choice.get("logprobs"))
        calls = Calls()
        for call in message.get("tool_calls") or ():
            key = calls.open({**call, "index": None})
            yield ToolCall(key, str((call.get("function") or {}).get("name") or ""), calls.ids[key], index)
            yield from _arguments(call, key, index)
        yield Finish(finish_reason(choice.get("finish_reason")), index)
    if counted := usage(body.get("usage")):
        yield counted


def start(chunk: Mapping[str, Any], calls: Mapping[int, Sequence[Key]]) -> Start:
    """Who answers, as far as a chunk or a body says."""

    def text(key: str) -> str | None:
        value = chunk.get(key)
        return value if isinstance(value, str) else None

    created = chunk.get("created")
    return Start(
        id=text("id") or "",
        model=text("model") or "",
        created=int(created) if isinstance(created, (int, float)) else 0,
        system_fingerprint=text("system_fingerprint"),
        service_tier=text("service_tier"),
        calls=calls,
    )


def said(delta: Mapping[str, Any], choice: int, logprobs: Any) -> Iterator[Event]:
    """What a delta or a message says in words."""
    thought = delta.get("reasoning_content") or delta.get("reasoning")
    if isinstance(thought, str) and thought:
        yield Reasoning(thought, choice)
    content = delta.get("content")
    if isinstance(content, list):  # Mistral's content parts
        content = "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    if content:
        whole = isinstance(logprobs, dict) and all(isinstance(each, list | None) for each in logprobs.values())
        yield Text(str(content), choice, logprobs if whole else None)
    if delta.get("refusal"):
        yield Refusal(str(delta["refusal"]), choice)
    for each in delta.get("annotations") or ():
        cited = each.get("url_citation") if isinstance(each, dict) else None
        if isinstance(cited, dict):
            first, last = int(cited.get("start_index") or 0), int(cited.get("end_index") or 0)
            yield Citation(str(cited.get("url") or ""), str(cited.get("title") or ""), first, last, choice)


def finish_reason(reason: Any) -> FinishReason:
    """OpenAI's word for it. A reason that means a failure, or that nobody knows, is one: never "stop" silently."""
    if reason not in FINISH_REASONS:
        raise ErrorFrame({"message": f"The answer was ended early ({reason})."})
    return FINISH_REASONS[reason]


def usage(counts: Any) -> Usage | None:
    """The tokens of a usage object; None when there is none."""
    if not isinstance(counts, dict):
        return None
    return Usage(
        prompt=_count(counts, "prompt_tokens"),
        completion=_count(counts, "completion_tokens"),
        cached=_count(counts.get("prompt_tokens_details"), "cached_tokens"),
        reasoning=_count(counts.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _count(counts: Any, key: str) -> int:
    value = counts.get(key) if isinstance(counts, dict) else None
    return value if isinstance(value, int) else 0


def _index(choice: Mapping[str, Any], position: int) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else position


def _arguments(call: Mapping[str, Any], key: Key, choice: int) -> Iterator[Event]:
    arguments = (call.get("function") or {}).get("arguments")
    if arguments:
        text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
        yield ToolArguments(key, text, choice)
