"""A chat in one of OCI's own styles: asked by /actions/chat, and read until it has ended, streamed or not."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import lenient_json
from events import ChatRequest, Events, Silence, Usage
from providers.base import Call, Target
from providers.chunks import ErrorFrame, Reader, events_of_body
from providers.exchange import arriving, framed, in_words, parsed, read
from providers.http import Reply
from providers.oci.answers import Once, checked
from providers.oci.failures import in_band
from providers.translate import NONSENSE

Json = dict[str, Any]


@dataclass(frozen=True)
class Style:
    """One of OCI's API formats.

    to_upstream  (request, target) -> chatRequest          taken   OpenAI's parameters that it has a counterpart for
    chunk, body  what it says, as OpenAI's                 usage_follows   whether its usage comes after its finish
    repeats      whether its last event says all again    plans   whether text beside calls is the plan to make them
    """

    to_upstream: Callable[[ChatRequest, Target], Json]
    chunk: Callable[[Mapping[str, Any]], Json]
    body: Callable[[Mapping[str, Any]], Json]
    taken: frozenset[str]
    repeats: bool = False
    plans: bool = False
    usage_follows: bool = False


def answered(reply: Reply, request: ChatRequest, call: Call, name: str, style: Style) -> Events:
    """The events of an accepted reply, streamed or whole, whichever was asked for."""
    try:
        streams, pieces = yield from arriving(reply, asked=request.stream)
        if streams:
            yield from _streamed(reply, pieces, request, call, style)
            return
        answer = checked(parsed((yield from read(reply, pieces=pieces)), reply, keep_halves=True))
        events = events_of_body(style.body(answer.get("chatResponse") or answer))
        yield from in_words(events) if request.stream else events
    except NONSENSE as error:
        raise reply.broken(f"{type(error).__name__}: {error}") from error
    except ErrorFrame as error:
        raise in_band(name, error.error) from error


def _streamed(reply: Reply, pieces: Iterable[bytes], request: ChatRequest, call: Call, style: Style) -> Events:
    """Until it has ended: Cohere's styles say no [DONE], and may keep the connection open
    (https://github.com/cohere-ai/cohere-python/issues/756); the others' usage is waited for, a moment.
    """
    reader, once = Reader(request.body.get("n", 1)), Once(repeats=style.repeats, plans=style.plans)
    counted = False
    for frame in framed(reply, pieces, lambda: reader.finished, call):
        if isinstance(frame, Silence):
            yield frame
            continue
        if frame.data == b"[DONE]":
            reply.settle()
            break
        try:
            for event in reader.events(once(style.chunk(checked(lenient_json.loads(frame.data, keep_halves=True))))):
                counted = counted or (reader.finished and isinstance(event, Usage))
                yield event
        except (*NONSENSE, ErrorFrame):
            if not reader.finished:
                raise
        if reader.finished and (counted or not style.usage_follows):
            reply.settle()
            break
    if not reader.sound:
        raise reply.broken("the stream ended without a finish reason")
