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
    decode_stream,
    detect_stream,
    parse_json,
    raise_for_status,
    read_body,
)


def answer_events(
    response: Response,
    request: ChatRequest,
    error_factory: ErrorFactory,
    decoder: StreamDecoder,
    whole: Callable[[Any], Iterable[Event]],
    call: CallContext,
    *,
    forwards: bool = False,
) -> Events:
    """A chat's answer as events, read to its end. A stream is decoded as it arrives, by `decode_stream`. For one JSON
    value, `whole` makes the events, cut at words if the request wants a stream. The body decides which it is. Closes
    the response.
    """
    try:
        raise_for_status(response, error_factory)
        streams, pieces = detect_stream(response, expected=request.stream)
        if streams:
            yield from decode_stream(response, pieces, decoder, call, forwards=forwards)
            return
        raw = read_body(response, pieces=pieces)
        answer = parse_json(raw, response, keep_halves=True)
        try:
            events = whole(answer)
            yield from cut_at_words(events) if request.stream else events
        except BAD_SHAPE as error:
            raise response.broken(f"{type(error).__name__}: {error} in {raw[:200]!r}") from error
    finally:
        response.close()


def cut_at_words(events: Iterable[Event]) -> Iterator[Event]:
    """The events of an unstreamed answer, with its text cut at words."""
    for event in events:
        if isinstance(event, Text) and event.logprobs is None:
            yield from (Text(word, event.choice) for word in words(event.text))
        else:
            yield event
