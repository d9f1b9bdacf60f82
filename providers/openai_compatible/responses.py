"""OpenAI's /responses at upstreams that have it: the caller's body is sent unchanged, and the answer's bytes passed on.

    opening   only the response's first events have come: they are held, so that a failure can still become a status
    passing   blocks pass unread, unless they may hold the end
    ended     the response is complete; its usage is known

A failure that the stream reports is raised, at any time.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from core.context import CallContext
from core.events import CallerDialect, Events, Usage, Verbatim
from core.json_values import BAD_SHAPE, Json
from core.requests import ChatRequest
from providers.base import Target
from providers.common.translate import token_count
from providers.transport.client import Response
from providers.transport.exchange import blocks, detect_stream, parse_json, read_body
from providers.transport.sse import FRAME_END, parse_frames
from providers.transport.status_errors import error_from_body

DIALECT: CallerDialect = "responses"
OPENING = frozenset({"response.created", "response.queued", "response.in_progress"})
ENDS = frozenset({"response.completed", "response.incomplete"})
FAILURES = frozenset({"error", "response.failed"})
MARKS = (b"response.completed", b"response.incomplete", b"response.failed", b'"error"', b"[DONE]")
"""A block without these words passes."""
CUT = {"max_output_tokens": "length", "content_filter": "content_filter"}
"""The finish reason of a response that is incomplete, by the reason in it."""


def native_request(request: ChatRequest, target: Target) -> Json:
    """The caller's body for this target."""
    assert request.native is not None  # noqa: S101 - Provider.passes ensures it
    native = request.native
    known = native.provider == target.provider.name and native.continuing
    given = native.continuing if known else native.body
    body = {key: value for key, value in given.items() if key not in target.refused}
    body["model"] = target.model
    if target.max_tokens is not None and "max_output_tokens" in body:
        body["max_output_tokens"] = min(body["max_output_tokens"], target.max_tokens)
    return body


def native_events(reply: Response, request: ChatRequest, call: CallContext, name: str) -> Events:
    """The answer as Verbatim, streamed or whole. Raises the failure that it reports."""
    try:
        streams, pieces = detect_stream(reply, expected=request.stream)
        if streams != request.stream:
            raise reply.broken("a stream where none was asked for" if streams else "no stream where one was asked for")
        if streams:
            yield from _stream_events(reply, pieces, call, name)
            return
        raw = read_body(reply, pieces=pieces)
        body = parse_json(raw, reply)
        _raise_failure(body, name)
        if body["status"] not in ("completed", "incomplete") or not isinstance(body["output"], list):
            raise reply.broken(f"a response of status {body['status']!r}")
        _note_in_trace(body, call)
        yield Verbatim(raw, DIALECT, _usage(body))
    except BAD_SHAPE as error:
        raise reply.broken(f"{type(error).__name__}: {error}") from error


def _stream_events(reply: Response, pieces: Iterable[bytes], call: CallContext, name: str) -> Events:
    held, opens, ended = b"", True, False

    def has_ended() -> bool:
        return ended

    for block in blocks(reply, pieces, has_ended, call):
        is_whole = block.endswith(FRAME_END)
        if not opens and is_whole and not any(mark in block for mark in MARKS):
            yield Verbatim(block, DIALECT)
            continue
        # The last frame of a stream may lack its end, or be incomplete.
        whole = block if is_whole or not block else block + FRAME_END
        usage: Usage | None = None
        for event in _events(whole):
            opens = opens and event["type"] in OPENING
            _raise_failure(event, name)
            if event["type"] in ENDS:
                ended, usage = True, _usage(event["response"])
                _note_in_trace(event["response"], call)
        held += _without_end_mark(whole)
        if not opens and held:
            yield Verbatim(held, DIALECT, usage)
            held = b""
        if ended:
            reply.settle()
            return
    raise reply.broken("the stream ended before the response")


def _events(block: bytes) -> Iterator[Json]:
    for frame in parse_frames(block):
        if frame.data != b"[DONE]":
            yield orjson.loads(frame.data)


def _without_end_mark(block: bytes) -> bytes:
    """The block without the stream's end mark, which the encoder adds."""
    return block.replace(b"data: [DONE]\n\n", b"") if b"[DONE]" in block else block


def _raise_failure(event: Mapping[str, Any], name: str) -> None:
    """Raise the failure that an event, or a whole response, reports."""
    kind = event.get("type")
    if kind == "error":
        raise error_from_body(name, event.get("error") or event)
    response = event["response"] if kind in FAILURES else event
    if response.get("status") == "failed":
        raise error_from_body(name, response.get("error") or "the response failed")


def _note_in_trace(response: Mapping[str, Any], call: CallContext) -> None:
    """Note the answer with the finish reason that a chat's would have."""
    if call.trace is None:
        return
    details, output = response.get("incomplete_details"), response.get("output")
    if response.get("status") == "incomplete":
        reason = CUT.get(str(details.get("reason")) if isinstance(details, dict) else "", "length")
    else:
        items = output if isinstance(output, list) else []
        called = any(isinstance(item, dict) and item.get("type") == "function_call" for item in items)
        reason = "tool_calls" if called else "stop"
    call.note_answer(str(response.get("id") or ""), str(response.get("model") or ""), [(0, reason)])


def _usage(response: Mapping[str, Any]) -> Usage | None:
    """The usage, if its values are counts."""
    counts = response.get("usage")
    if not isinstance(counts, dict):
        return None
    cached = (counts.get("input_tokens_details") or {}).get("cached_tokens")
    reasoning = (counts.get("output_tokens_details") or {}).get("reasoning_tokens")
    return Usage(
        token_count(counts.get("input_tokens")),
        token_count(counts.get("output_tokens")),
        token_count(cached),
        token_count(reasoning),
    )
