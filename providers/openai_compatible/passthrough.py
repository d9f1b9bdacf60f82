"""Decides which of an OpenAI-shaped upstream's bytes may reach the caller unchanged (decision 11).

Bytes pass while they have only OpenAI's keys, with OpenAI's types, in OpenAI's order: some voice platforms stay silent
after an unknown key, and some clients fail at a null. A stream's first frames are decoded one by one. After that, a
block passes unparsed if only its text differs from the last decoded frame; any other block is decoded. From the first
frame that may not pass, all frames become events.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, auto
from typing import Any, Literal

from core.context import CallContext
from core.errors import GatewayError
from core.events import Event, Usage, Verbatim
from core.json_values import BAD_SHAPE, JSON_STRING
from providers.common.tool_calls import ToolCallTracker
from providers.common.translate import Pictures
from providers.openai_compatible.decode import (
    ChunkDecoder,
    ErrorFrame,
    are_logprobs,
    parse_chunk,
    says_something,
    usage,
)
from providers.openai_compatible.shape import (
    CHOICE_KEYS,
    CHUNK_KEYS,
    DELTA_KEYS,
    are_values,
    call_may_pass,
    is_chunk,
    is_index,
    is_reason,
    is_usage,
    may_end,
)
from providers.transport.sse import FRAME_END, Frame, parse_frames

STRINGS = re.compile(JSON_STRING + rb"(?:\n" + JSON_STRING + rb")*+")
CONTENT = re.compile(rb'"delta": ?{"content": ?(' + JSON_STRING + rb")")
PADDING = re.compile(rb', ?"obfuscation": ?"[ !#-\[\]-~]*"')
"""OpenAI's random padding: https://platform.openai.com/docs/api-reference/chat/create, stream_options"""
DONE = b"[DONE]"
NO_ENVELOPE = (b"", b"")
EXAMINED_FRAMES = 3
"""Frames with content that are read before blocks may pass unread."""

Mode = Literal["auto", "verbatim", "rebuilt"]


class State(Enum):
    """What happens to the next block; see Passthrough."""

    EXAMINE = auto()
    PASS = auto()
    REBUILD = auto()


class Passthrough:
    """One streamed answer: `block` gives the events of each block of its frames. Raises ValueError and ErrorFrame.

        EXAMINE   frames are read one by one, and held;  -> PASS     after three with content that may pass
                  the block goes out as it came          -> REBUILD  at the first frame that may not
        PASS      a block that is plainly more of the    -> REBUILD  at the first frame that may not
                  same goes out unread; another is read
                  frame by frame, as in EXAMINE
        REBUILD   frames are decoded to events           until the end

    `done` once [DONE] came; `finished` once every choice has its finish reason. `note` is called with each decoded
    chunk, and returns whether that one may not pass.
    """

    def __init__(
        self,
        mode: Mode,
        *,
        include_reasoning: bool,
        include_usage: bool,
        choices: int = 1,
        pictures: Pictures | None = None,
        note: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> None:
        self.done = False
        self._mode = mode
        self._include_usage = include_usage
        self._delta_keys = DELTA_KEYS | {"reasoning_content"} if include_reasoning else DELTA_KEYS
        self._choices = choices
        self._pictures = pictures
        self._note = note
        self._decoder = ChunkDecoder(choices, pictures)
        self._examined = 0
        self._envelope = NO_ENVELOPE
        self._held: list[bytes] = []
        self._usage: Usage | None = None
        self._head: Mapping[str, Any] = {}
        self._sent = False
        self._state = State.EXAMINE

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, though more frames may follow."""
        return self._decoder.finished

    @property
    def sound(self) -> bool:
        """Whether the answer is valid if the stream ends here."""
        return self._decoder.sound

    def note_in_trace(self, call: CallContext) -> None:
        """Note what the frames say of the answer if some have passed; if none has, the events say it."""
        if self._sent:
            call.note_answer(self._head.get("id", ""), self._head.get("model", ""), self._decoder.ended.items())

    def may_pass(self, block: bytes) -> bool:
        """Whether only the text of a block's frames differs from the last decoded one: then it may pass unread."""
        return self._state is State.PASS and is_plain(block, *self._envelope)

    def never_waits(self, frame: Frame) -> bool:
        """Whether a frame becomes events without waiting: `note` may store what it has collected."""
        return self._state is State.REBUILD and self._note is None and frame.data != DONE

    def rebuilt_events(self, frame: Frame) -> Iterator[Event]:
        """The events of a frame for which `never_waits` is true."""
        return self._read(frame.data)

    def block(self, block: bytes) -> Iterator[Event]:
        """The events of a block of complete frames: one Verbatim if the block passes."""
        if self.may_pass(block):
            yield Verbatim(block, "chat")
            return
        try:
            yield from self._read_block(block)
        except (*BAD_SHAPE, GatewayError, ErrorFrame):
            if self._held and (self._sent or self.finished):
                yield self._release()
            raise
        if self._held and self._examined:
            yield self._release()

    def _read_block(self, block: bytes) -> Iterator[Event]:
        """The events of a block that may not pass as a whole. Those of its frames that may pass are held unread."""
        begin = 0
        while begin < len(block) and not self.done:
            end = block.find(FRAME_END, begin) + len(FRAME_END)
            piece = block[begin:] if end < len(FRAME_END) else block[begin:end]
            begin += len(piece)
            if self.may_pass(piece):
                self._held.append(piece)
                continue
            was_examined = self._state is State.EXAMINE
            for frame in parse_frames(piece):
                if frame.data == DONE:
                    self.done = True
                    return
                yield from self._read(frame.data)
            if was_examined and self.may_pass(block[begin:]):
                self._held.append(block[begin:])
                return

    def _read(self, data: bytes) -> Iterator[Event]:
        """The events of a frame that may not pass; one that may is held, to pass with its block."""
        try:
            chunk, strict = parse_chunk(data)
            is_noted = self._note is not None and self._note(chunk)
            if is_noted or self._state is State.REBUILD or not (strict and self._may_pass(chunk)):
                yield from self._rebuild(chunk)
                return
            self._decoder.note(chunk)
            self._head = self._head or chunk
        except (*BAD_SHAPE, GatewayError, ErrorFrame):
            if not self.finished:
                raise
            return  # the answer is complete: invalid frames after it are ignored
        self._usage = usage(chunk.get("usage"))
        self._held.append(b"data: " + data + b"\n\n")
        self._envelope = NO_ENVELOPE if _finishes(chunk) else envelope_of(data)
        # A role alone does not commit to this target: it is sent with the first frame that has content.
        self._examined += self._examined > 0 or _says_something(chunk)
        if self._examined >= EXAMINED_FRAMES:
            self._state = State.PASS

    def _release(self) -> Verbatim:
        self._sent = True
        data = b"".join(self._held)
        self._held.clear()
        return Verbatim(data, "chat", self._usage)

    def _rebuild(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        """The events of a frame that may not pass, and of the held ones; all later frames become events too."""
        if self._state is not State.REBUILD:
            self._state = State.REBUILD
            if self._held and self._examined:
                yield self._release()
            if not self._sent:  # begin anew, since the caller has got none of the frames that were noted
                self._decoder = ChunkDecoder(self._choices, self._pictures)
            yield self._decoder.start(self._head or chunk, resumed=self._sent)
            for data in self._held:
                yield from self._decoder.events(parse_chunk(data[6:])[0])
            self._held.clear()
        yield from self._decoder.events(chunk)

    def _may_pass(self, chunk: Mapping[str, Any]) -> bool:
        if self._mode == "rebuilt" or not is_chunk(chunk):
            return False
        if self._mode == "verbatim":
            return all("index" in choice and "finish_reason" in choice for choice in chunk["choices"])
        head = self._head or chunk
        if not chunk.keys() <= CHUNK_KEYS or any(chunk[key] != head[key] for key in ("id", "created", "model")):
            return False
        counts = chunk.get("usage")
        if counts is None and not chunk["choices"]:
            return False
        if counts is not None and (chunk["choices"] or not self._include_usage or not is_usage(counts)):
            return False
        return all(self._choice_may_pass(choice) for choice in chunk["choices"])

    def _choice_may_pass(self, choice: Mapping[str, Any]) -> bool:
        if not (choice.keys() <= CHOICE_KEYS and is_index(choice.get("index")) and "finish_reason" in choice):
            return False
        index, delta, finish = choice["index"], choice["delta"], choice["finish_reason"]
        role, is_open = delta.get("role"), index in self._decoder.opened
        if not delta.keys() <= self._delta_keys or role != (None if is_open else "assistant"):
            return False
        if index in self._decoder.ended:
            return False
        if not are_values(delta) or not (choice.get("logprobs") is None or are_logprobs(choice["logprobs"])):
            return False
        known = self._decoder.calls.get(index)
        called = delta.get("tool_calls")
        if called and not call_may_pass(called, known or ToolCallTracker()):
            return False
        if finish is None:
            return True
        return is_reason(finish) and not called and may_end(finish, known)


def _finishes(chunk: Mapping[str, Any]) -> bool:
    return any(choice["finish_reason"] for choice in chunk["choices"])


def _says_something(chunk: Mapping[str, Any]) -> bool:
    return (
        bool(chunk.get("usage"))
        or _finishes(chunk)
        or any(
            says_something(choice["delta"]) or choice["delta"].get("reasoning_content") for choice in chunk["choices"]
        )
    )


def envelope_of(data: bytes) -> tuple[bytes, bytes]:
    """The bytes before and after the text in a frame, without OpenAI's random padding."""
    content = CONTENT.search(data)
    if content is None:
        return NO_ENVELOPE
    return b"data: " + data[: content.start(1)], _without_padding(data[content.end() :]) + b"\n\n"


def is_plain(block: bytes, before: bytes, behind: bytes) -> bool:
    """Whether a block is complete frames of text in the envelope of the last decoded frame, decided without parsing.

    The envelope has quotes, so it cannot be part of a JSON string, where every quote is escaped. The bytes between its
    halves must be JSON strings in UTF-8.
    """
    if not before or not block.startswith(before):
        return False
    block = _without_padding(block)
    if not block.endswith(behind):
        return False
    texts = block[len(before) : -len(behind)].replace(behind + before, b"\n")
    return STRINGS.fullmatch(texts) is not None and (texts.isascii() or _is_utf8(texts))


def _without_padding(data: bytes) -> bytes:
    return PADDING.sub(b"", data) if b'"obfuscation"' in data else data


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
