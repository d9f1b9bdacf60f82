"""Which of an OpenAI-shaped upstream's bytes may reach the caller as they came (R6).

They may while they hold only OpenAI's own keys, in OpenAI's own order of things: voice platforms fall silent at a
foreign key. A stream's first frames are read one by one; after that a block passes unread if it is plainly more of
the same, and is read again if not. From the first frame that may not pass, the rest is told as events.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from events import Event, Usage, Verbatim
from providers.chunks import MOST_CALLS, Calls, ErrorFrame, Reader, events_of_body, parse, usage
from providers.sse import frames

CHUNK_KEYS = frozenset(
    {"id", "object", "created", "model", "service_tier", "system_fingerprint", "choices", "usage", "obfuscation"}
)
CHOICE_KEYS = frozenset({"index", "delta", "finish_reason", "logprobs"})
DELTA_KEYS = frozenset({"role", "content", "refusal", "tool_calls", "function_call", "annotations", "audio"})
BODY_KEYS = CHUNK_KEYS | {"metadata", "moderation"}
BODY_CHOICE_KEYS = frozenset({"index", "message", "finish_reason", "logprobs"})
CONTENT = re.compile(rb'"delta": ?{"content": ?("(?:[^"\\\\]++|\\\\.)*+")')
CALL_KEYS = frozenset({"index", "id", "type", "function", "custom"})
FUNCTION_KEYS = frozenset({"name", "arguments"})
FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})

EXAMINED_FRAMES = 3
"""Frames with content that are read before blocks may pass unread."""

Mode = Literal["auto", "verbatim", "rebuilt"]


class Passing:
    """One streamed answer: `block` gives the events of each block of its frames. Raises ValueError and ErrorFrame.

    `done` once [DONE] came; `finished` once every choice has its finish reason. `note` is told each chunk that is read,
    and is true of one that may not pass.
    """

    def __init__(
        self,
        mode: Mode,
        *,
        include_reasoning: bool,
        include_usage: bool,
        choices: int = 1,
        note: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> None:
        self.done = False
        self._mode = mode
        self._include_usage = include_usage
        self._delta_keys = DELTA_KEYS | {"reasoning_content"} if include_reasoning else DELTA_KEYS
        self._choices = choices
        self._reader = Reader(choices)
        self._note = note
        self._examined = 0
        self._envelope = (b"", b"")
        self._held: list[bytes] = []
        self._usage: Usage | None = None
        self._sent = False
        self._telling = False

    @property
    def finished(self) -> bool:
        """Whether the answer itself is whole, whatever may still follow it."""
        return self._reader.finished

    @property
    def sound(self) -> bool:
        """Whether the answer, if nothing more follows, is one."""
        return self._reader.sound

    def block(self, block: bytes) -> Iterator[Event]:
        """The events of a block of whole frames: few and large where they pass."""
        if self._examined >= EXAMINED_FRAMES and not self._telling and plain(block, *self._envelope):
            yield Verbatim(block)
            return
        for frame in frames(block):
            if frame.data == b"[DONE]":
                self.done = True
                break
            try:
                chunk = parse(frame.data)
            except (ValueError, ErrorFrame):
                if self._held and self._sent:
                    yield self._released()
                raise
            noted = self._note is not None and self._note(chunk)
            if not (noted or self._telling) and self._may_pass(chunk):
                self._reader.note(chunk)
                self._usage = usage(chunk.get("usage"))
                self._held.append(b"data: " + frame.data + b"\n\n")
                self._envelope = envelope(frame.data)
                # A role alone is nothing to commit to: it goes with the first frame that says something.
                self._examined += self._examined > 0 or _says_something(chunk)
            else:
                yield from self._told(chunk)
        if self._held and self._examined:
            yield self._released()

    def _released(self) -> Verbatim:
        self._sent = True
        data = b"".join(self._held)
        self._held.clear()
        return Verbatim(data, self._usage)

    def _told(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        """A frame that may not pass as it came, as events; so are all that follow."""
        if not self._telling:
            self._telling = True
            if self._held and self._examined:
                yield self._released()
            if not self._sent:
                self._reader = Reader(self._choices)  # what was noted has not been seen by anybody
            yield self._reader.start(chunk, resumed=self._sent)
            for data in self._held:
                yield from self._reader.events(parse(data[6:]))
            self._held.clear()
        yield from self._reader.events(chunk)

    def _may_pass(self, chunk: Mapping[str, Any]) -> bool:
        if self._mode == "rebuilt":
            return False
        if self._mode == "verbatim":
            return all("index" in choice and "finish_reason" in choice for choice in chunk["choices"])
        if not (chunk.keys() <= CHUNK_KEYS and isinstance(chunk.get("id"), str) and "model" in chunk):
            return False
        if chunk.get("usage") and (chunk["choices"] or not self._include_usage):
            return False
        if not chunk["choices"] and not chunk.get("usage"):
            return False
        return all(self._choice_may_pass(choice) for choice in chunk["choices"])

    def _choice_may_pass(self, choice: Mapping[str, Any]) -> bool:
        if not (choice.keys() <= CHOICE_KEYS and isinstance(choice.get("index"), int) and "finish_reason" in choice):
            return False
        index, delta, finish = choice["index"], choice["delta"], choice["finish_reason"]
        role, is_open = delta.get("role"), index in self._reader.opened
        if not delta.keys() <= self._delta_keys or role != (None if is_open else "assistant"):
            return False
        if not isinstance(delta.get("content"), str | None):
            return False
        called = delta.get("tool_calls")
        known = self._reader.calls.get(index)
        if called and not _call_may_pass(called, known or Calls()):
            return False
        mislabelled = finish == "stop" and (called or known)
        return finish is None or (finish in FINISH_REASONS and index not in self._reader.ended and not mislabelled)


def whole(body: Any, raw: bytes, mode: Mode, *, include_reasoning: bool) -> Iterator[Event]:
    """A whole answer: `raw`, if it may pass, else the events of `body`. Raises as they are drawn, ValueError."""
    keys = DELTA_KEYS | {"reasoning_content"} if include_reasoning else DELTA_KEYS
    choices = body.get("choices") if isinstance(body, dict) else None
    if choices and (mode == "verbatim" or (mode == "auto" and _body_may_pass(body, keys))):
        yield Verbatim(raw, usage(body.get("usage")))
    else:
        yield from events_of_body(body)


def _body_may_pass(body: Mapping[str, Any], message_keys: frozenset[str]) -> bool:
    return (
        body.keys() <= BODY_KEYS
        and isinstance(body.get("id"), str)
        and isinstance(body.get("created"), int)
        and isinstance(body.get("model"), str)
        and body.get("object") == "chat.completion"
        and isinstance(body["choices"], list)
        and all(
            isinstance(choice, dict)
            and choice.keys() <= BODY_CHOICE_KEYS
            and "index" in choice
            and choice.get("finish_reason") in FINISH_REASONS
            and isinstance(message := choice.get("message"), dict)
            and message.keys() <= message_keys
            and message.get("role") == "assistant"
            and isinstance(message.get("content"), str | None)
            and _calls_are_whole(message.get("tool_calls"), choice["finish_reason"])
            for choice in body["choices"]
        )
    )


def _calls_are_whole(calls: Any, finish: str) -> bool:
    if not calls:
        return True
    if len(calls) > MOST_CALLS or not all(isinstance(call, dict) and call.keys() <= CALL_KEYS for call in calls):
        return False
    if not all((call.get("function") or {}).keys() <= FUNCTION_KEYS for call in calls):
        return False
    ids = [call.get("id") for call in calls]
    return finish != "stop" and all(ids) and len(set(ids)) == len(calls)


def _call_may_pass(called: list[Any], calls: Calls) -> bool:
    """One call a delta; a new one has the next index, an id and a name; a known one brings only arguments (N19)."""
    if len(called) != 1:
        return False
    call = called[0]
    function = call.get("function") or {}
    if not call.keys() <= CALL_KEYS or not function.keys() <= FUNCTION_KEYS:
        return False
    if not isinstance(function.get("arguments"), str | None):
        return False
    index, identifier, name = call.get("index"), call.get("id"), function.get("name")
    if index in calls.ids:
        return name is None and identifier in (None, calls.ids[index])
    fresh = isinstance(identifier, str) and identifier != "" and identifier not in calls.keys
    return index == len(calls.ids) and fresh and isinstance(name, str)


def _says_something(chunk: Mapping[str, Any]) -> bool:
    return bool(chunk.get("usage")) or any(
        choice["finish_reason"] or any(value for key, value in choice["delta"].items() if key != "role")
        for choice in chunk["choices"]
    )


def envelope(data: bytes) -> tuple[bytes, bytes]:
    """What stands before and behind the text in a frame's JSON; behind it, as far as OpenAI's random padding."""
    content = CONTENT.search(data)
    if content is None:
        return b"", b""
    behind = data[content.end() :].partition(b'"obfuscation"')
    return b"data: " + data[: content.start(1)], behind[0] + behind[1]


def plain(block: bytes, before: bytes, behind: bytes) -> bool:
    """Whether a block is whole frames of text in the envelope of the one that was read last: decided unread.

    The envelope has quotes, and cannot stand inside a JSON string, where every quote is escaped.
    """
    count = block.count(b"\n\n")
    return (
        bool(before)
        and block.startswith(before)
        and block.endswith(b"}\n\n")
        and block.count(b"\n") == 2 * count
        and block.count(before) == count
        and block.count(behind) == count
        and b'"finish_reason":"' not in block
        and _count_keys(block) == count * (_count_keys(before) + _count_keys(behind))
    )


def _count_keys(block: bytes) -> int:
    """How many keys the JSON has: colons after a quote that is not escaped."""
    return block.count(b'":') - block.count(b'\\":')
