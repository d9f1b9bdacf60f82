"""An answer in OpenAI's dialect from any upstream: as bytes if they are as OpenAI would send them, else as events.

passthrough.py decides which bytes may pass, and decode.py decodes the rest.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from core.context import CallContext
from core.events import Event, Events, Verbatim
from core.json_values import BAD_SHAPE
from core.requests import ChatRequest
from providers.common.answers import cut_at_words
from providers.common.translate import Pictures
from providers.openai_compatible.decode import ErrorFrame, events_of_body, unwrap, usage
from providers.openai_compatible.passthrough import Mode, Passthrough
from providers.openai_compatible.shape import DELTA_KEYS, body_may_pass, is_body
from providers.transport.client import Response
from providers.transport.exchange import blocks, detect_stream, parse_body, read_body, without_end_mark
from providers.transport.forwarding import DecodedFrames, UnreadFrames
from providers.transport.status_errors import error_from_body

Note = Callable[[Mapping[str, Any]], bool]
"""Called with each decoded chunk, or the whole answer; returns whether it may not pass unchanged."""


def answer_events(
    reply: Response, request: ChatRequest, call: CallContext, name: str, frames: Mode = "auto", note: Note | None = None
) -> Events:
    """The events of a successful response of the upstream `name`, streamed or not, whichever the request wants."""
    frames = frames if request.passthrough == "chat" else "rebuilt"
    try:
        streams, pieces = detect_stream(reply, expected=request.stream)
        if streams:
            yield from _stream_events(reply, pieces, request, call, frames, note)
            return
        raw = without_end_mark(read_body(reply, pieces=pieces))
        body, is_strict = json_body(raw, reply, name)
        is_noted = note is not None and note(body)
        if is_noted or not is_strict:
            frames = "rebuilt"
        yield from _body_events(body, raw, request, call, frames)
    except BAD_SHAPE as error:
        raise reply.broken(f"{type(error).__name__}: {error}") from error
    except ErrorFrame as error:
        raise error_from_body(name, error.error) from error


def json_body(raw: bytes, reply: Response, name: str) -> tuple[Any, bool]:
    """A body's JSON, without its envelope if it has one, and whether it is JSON for any parser. Raises for an error
    object with status 200.
    """
    data, is_strict = parse_body(raw, reply)
    if isinstance(data, dict):
        data = unwrap(data)
        if data.get("error"):
            raise error_from_body(name, data["error"])
    return data, is_strict


def _body_events(body: Any, raw: bytes, request: ChatRequest, call: CallContext, frames: Mode) -> Events:
    """The events of one JSON body, cut at words if the request wants a stream."""
    pictures = Pictures(request)
    if request.stream:
        yield from cut_at_words(events_of_body(body, pictures))
    else:
        reasoning = request.include_reasoning
        yield from whole_answer(body, raw, frames, call, include_reasoning=reasoning, pictures=pictures)


def _stream_events(
    reply: Response, pieces: Iterable[bytes], request: ChatRequest, call: CallContext, frames: Mode, note: Note | None
) -> Events:
    """The events of a stream. If the request wants none, they are never bytes, because the encoder joins them."""
    answer = Passthrough(
        frames if request.stream else "rebuilt",
        include_reasoning=request.include_reasoning,
        include_usage=request.include_usage,
        choices=request.body.get("n", 1),
        pictures=Pictures(request),
        note=note,
    )
    unread = UnreadFrames(answer.may_pass, call)
    rebuilt = DecodedFrames(answer.rebuilt_events, answer.never_waits, lambda: answer.finished, call)
    try:
        for block in blocks(reply, pieces, lambda: answer.finished, call, unread, rebuilt):
            yield from answer.block(block)
            if answer.done:
                reply.settle()
                break
    finally:
        if call.trace is not None:
            answer.note_in_trace(call)
    if not answer.sound:
        raise reply.broken("the stream ended without a finish reason")


def whole_answer(
    body: Any, raw: bytes, mode: Mode, call: CallContext, *, include_reasoning: bool, pictures: Pictures
) -> Iterator[Event]:
    """A whole answer: `raw`, which every parser accepts, if it may pass, else the events of `body`. Raises ValueError
    while it is iterated.
    """
    keys = DELTA_KEYS | {"reasoning_content"} if include_reasoning else DELTA_KEYS
    may_pass = mode != "rebuilt" and is_body(body) and (mode == "verbatim" or body_may_pass(body, keys))
    if may_pass:
        if call.trace is not None:
            reasons = ((at, choice.get("finish_reason")) for at, choice in enumerate(body["choices"]))
            call.note_answer(body["id"], body["model"], ((at, word) for at, word in reasons if isinstance(word, str)))
        yield Verbatim(raw, "chat", usage(body.get("usage")))
    else:
        yield from events_of_body(body, pictures)
