"""Requests in Anthropic's own dialect: the body is sent unchanged, and the answer's bytes are passed on.

A block that holds nothing but pieces of content blocks passes unread. Every other frame is decoded before it passes, so
that an error or a premature end is noticed.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from core import lenient_json
from core.context import CallContext
from core.errors import GatewayError
from core.events import CallerDialect, Event, Events, Usage, Verbatim
from core.json_values import BAD_SHAPE, JSON_STRING, Json
from core.requests import ChatRequest, NativeBody
from providers.anthropic.decode import AnthropicDecoder
from providers.anthropic.request import IDS
from providers.base import Target
from providers.common import claude_models as claude
from providers.common.answers import cut_at_words
from providers.common.translate import fit_id
from providers.transport.client import Response
from providers.transport.exchange import (
    ErrorFactory,
    blocks,
    decode_stream,
    detect_stream,
    parse_body,
    raise_for_status,
    read_body,
    without_end_mark,
)
from providers.transport.forwarding import UnreadFrames
from providers.transport.sse import Frame, parse_frames

DIALECT: CallerDialect = "messages"
PIECES = re.compile(
    rb'(?:event: content_block_delta\ndata: \{"type": ?"content_block_delta", ?"index": ?\d+, ?"delta": ?'
    rb'\{"type": ?"(?:text_delta", ?"text|thinking_delta", ?"thinking|input_json_delta", ?"partial_json)": ?'
    + JSON_STRING
    + rb" *\} *\}\n\n)++"
)
"""Whole frames of nothing but pieces of blocks."""
MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def native_of(request: ChatRequest) -> NativeBody | None:
    """The request's own body, if the request came in this dialect."""
    return request.native if request.native and request.native.dialect == DIALECT else None


def to_upstream(request: ChatRequest, native: NativeBody, target: Target) -> Json:
    """The request's own body, for this model. It loses what other vendors have left in the conversation: call ids that
    Anthropic refuses, and thinking that it has not signed.
    """
    body = {**native.body, "model": target.model}
    if any(_is_foreign(block) for message in body["messages"] for block in _blocks(message)):
        body["messages"] = [_without_foreign(message) for message in body["messages"]]
    if target.max_tokens is not None and "max_tokens" in body:
        body["max_tokens"] = min(body["max_tokens"], target.max_tokens)
    named, family = claude.family_of(str(native.body["model"])), claude.family_of(target.model)
    if named is not family:
        body = _for_family(body, request, family)
    return target.rules.apply(body)


def _blocks(message: Mapping[str, Any]) -> list[Json]:
    content = message["content"]
    return content if isinstance(content, list) else []


def _is_foreign(block: Mapping[str, Any]) -> bool:
    kind = block["type"]
    if kind == "thinking":
        return not block.get("signature")
    name = {"tool_use": "id", "tool_result": "tool_use_id"}.get(kind, "")
    return name in block and not IDS.fullmatch(str(block[name]))


def _without_foreign(message: Json) -> Json:
    content = message["content"]
    if not isinstance(content, list):
        return message
    kept = []
    for block in content:
        if not _is_foreign(block):
            kept.append(block)
        elif block["type"] != "thinking":
            name = "id" if block["type"] == "tool_use" else "tool_use_id"
            kept.append({**block, name: fit_id(str(block[name]), IDS)})
    return {**message, "content": kept or [{"type": "text", "text": "..."}]}  # an empty message is refused


def _for_family(body: Json, request: ChatRequest, family: claude.Family) -> Json:
    """The body with the thinking, effort and sampling parameters that this family accepts: the caller may have named an
    alias, or a model of which this one is the fallback.
    """
    thinks = (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")
    wish = str(request.body.get("reasoning_effort") or ("medium" if thinks else ""))
    forced = (body.get("tool_choice") or {}).get("type") in ("any", "tool")
    room = body.get("max_tokens", family.max_tokens)
    thinking, effort = claude.thinking_options(
        family, wish, shown=request.include_reasoning, forced=forced, max_tokens=room
    )
    left = ("temperature", "top_p", "top_k") if thinking or family.sampling == "none" else ()
    if family.sampling == "one" and "temperature" in body:
        left = (*left, "top_p")
    kept = {key: value for key, value in body.items() if key not in (*left, "thinking", "output_config")}
    output = {key: value for key, value in (body.get("output_config") or {}).items() if key != "effort"}
    output |= {"effort": effort} if effort else {}
    return kept | ({"thinking": thinking} if thinking else {}) | ({"output_config": output} if output else {})


def answer_events(
    reply: Response, request: ChatRequest, failure: ErrorFactory, decoder: AnthropicDecoder, call: CallContext
) -> Events:
    """The answer as bytes if it is streamed as the request wants, else as events. Closes the response."""
    try:
        raise_for_status(reply, failure)
        streams, pieces = detect_stream(reply, expected=request.stream)
        if streams and request.stream:
            yield from _pass_frames(reply, pieces, decoder, call)
        elif streams:
            yield from decode_stream(reply, pieces, decoder, call)
        else:
            raw = without_end_mark(read_body(reply, pieces=pieces))
            answer, is_strict = parse_body(raw, reply, keep_halves=True)
            events = list(decoder.whole(answer))
            raw = raw if is_strict else lenient_json.dumps(answer)
            if request.stream:
                yield from cut_at_words(events)
            else:
                _note_in_trace(decoder, call)
                yield Verbatim(raw, DIALECT, decoder.usage)
    except BAD_SHAPE as error:
        raise reply.broken(f"{type(error).__name__}: {error}") from error
    finally:
        reply.close()


def _pass_frames(reply: Response, pieces: Iterable[bytes], decoder: AnthropicDecoder, call: CallContext) -> Events:
    """A stream's frames, to its end. Raises `reply.broken` if it ends before a stop reason."""
    passing = _Passing(decoder)
    for block in blocks(reply, pieces, lambda: decoder.finished, call, UnreadFrames(passing.may_pass, call)):
        yield from passing.block(block)
        if decoder.done:
            _note_in_trace(decoder, call)
            reply.settle()
            return
    _note_in_trace(decoder, call)
    if not decoder.finished:
        raise reply.broken("the stream ended without a stop reason")
    yield Verbatim(MESSAGE_STOP, DIALECT)


def _note_in_trace(decoder: AnthropicDecoder, call: CallContext) -> None:
    if decoder.finished and call.trace is not None:
        call.note_answer(reasons=[(0, decoder.reason)])


class _Passing:
    """Passes a stream's blocks of frames. Frames before the first content are held, so a failure keeps its status."""

    def __init__(self, decoder: AnthropicDecoder) -> None:
        self._decoder = decoder
        self._held: list[bytes] = []
        self._begun = False

    def may_pass(self, block: bytes) -> bool:
        """Whether a block continues a content block, and may pass unread."""
        return self._begun and PIECES.fullmatch(block) is not None

    def block(self, block: bytes) -> Iterator[Event]:
        """The bytes of a block, with the usage once it is known. Raises BAD_SHAPE, and the error of an error frame."""
        if self.may_pass(block):
            yield Verbatim(block, DIALECT)
            return
        was_finished = self._decoder.finished
        try:
            for each in parse_frames(block):
                self._hold(each)
                if self._decoder.done:
                    break
        except (*BAD_SHAPE, GatewayError):
            if was_finished:
                return  # the answer is complete: invalid frames after it are ignored
            yield from self._release()
            raise
        yield from self._release(self._decoder.usage if self._decoder.finished and not was_finished else None)

    def _hold(self, each: Frame) -> None:
        """Decode a frame, and hold it to pass with its block. After the stop reason only message_stop passes."""
        finished = self._decoder.finished
        self._begun = any([*self._decoder.events(each)]) or self._begun
        if self._decoder.done and not self._decoder.finished:
            raise ValueError("a message_stop before the stop reason")
        if self._decoder.done or not finished:
            self._held.append(_encode_frame(each))

    def _release(self, usage: Usage | None = None) -> Iterator[Event]:
        if self._begun and self._held:
            data = b"".join(self._held)
            self._held.clear()
            yield Verbatim(data, DIALECT, usage)


def _encode_frame(each: Frame) -> bytes:
    """The frame's bytes: strict JSON on one line, with its type as the event's name."""
    data = each.data
    value, is_strict = lenient_json.parse(data, keep_halves=True)
    if b"\n" in data or not is_strict:
        data = lenient_json.dumps(value)
    return b"event: " + str(value["type"]).encode() + b"\ndata: " + data + b"\n\n"
