"""A chat's answer, streamed or in one piece, as events."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from core.context import CallContext
from core.events import Event, Events, Text
from core.json_values import BAD_SHAPE
from core.requests import ChatRequest
from providers.common.words import words
from providers.transport.client import Response
from providers.transport.exchange import (
    ErrorFactory,
    StreamDecoder,
    arriving,
    decode_stream,
    parse_json,
    raise_for_status,
    read_body,
)


def answer_events(
    reply: Response,
    request: ChatRequest,
    failure: ErrorFactory,
    reading: StreamDecoder,
    whole: Callable[[Any], Iterable[Event]],
    call: CallContext,
) -> Events:
    """A chat's answer, from the reply to its end: a stream as it is read, or one JSON value, of which `whole` makes the
    events; cut at words, if a stream was asked for. It counts what comes, not what was asked for. Closes the reply.
    """
    try:
        raise_for_status(reply, failure)
        streams, pieces = arriving(reply, asked=request.stream)
        if streams:
            yield from decode_stream(reply, pieces, reading, call)
            return
        raw = read_body(reply, pieces=pieces)
        answer = parse_json(raw, reply, keep_halves=True)
        try:
            events = whole(answer)
            yield from cut_at_words(events) if request.stream else events
        except BAD_SHAPE as error:
            raise reply.broken(f"{type(error).__name__}: {error} in {raw[:200]!r}") from error
    finally:
        reply.close()


def cut_at_words(events: Iterable[Event]) -> Iterator[Event]:
    """The events of an answer that came in one lump, its text cut at words."""
    for event in events:
        if isinstance(event, Text) and event.logprobs is None:
            yield from (Text(word, event.choice) for word in words(event.text))
        else:
            yield event
