"""A chat in one of OCI's own formats, by /actions/chat; the answer is read to its end, streamed or not."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core import lenient_json
from core.context import CallContext
from core.events import Events, Usage
from core.json_values import BAD_SHAPE, Json
from core.requests import ChatRequest
from providers.base import Target
from providers.common.answers import cut_at_words
from providers.common.translate import Pictures
from providers.oci.chat.answers import RepeatFilter, check_event
from providers.oci.errors import oci_error_in_body
from providers.openai_compatible.decode import ChunkDecoder, ErrorFrame, events_of_body
from providers.transport.client import Response
from providers.transport.exchange import detect_stream, iter_sse, parse_json, read_body


@dataclass(frozen=True)
class ChatFormat:
    """One of OCI's API formats.

    to_upstream           (request, target) -> chatRequest
    chunk, body           OCI's event, or whole answer, as OpenAI's
    supported_parameters  OpenAI's parameters with a counterpart
    repeats               whether its last event repeats the whole answer
    plans                 whether text beside calls is the plan to make them
    usage_follows         whether usage comes after the finish reason
    """

    to_upstream: Callable[[ChatRequest, Target], Json]
    chunk: Callable[[Mapping[str, Any]], Json]
    body: Callable[[Mapping[str, Any]], Json]
    supported_parameters: frozenset[str]
    repeats: bool = False
    plans: bool = False
    usage_follows: bool = False


def answer_events(response: Response, request: ChatRequest, call: CallContext, name: str, style: ChatFormat) -> Events:
    """The events of a successful response, streamed or whole, whichever the request wanted."""
    try:
        streams, pieces = detect_stream(response, expected=request.stream)
        if streams:
            yield from _until_end(response, pieces, request, call, style)
            return
        answer = check_event(parse_json(read_body(response, pieces=pieces), response, keep_halves=True))
        events = events_of_body(style.body(answer.get("chatResponse") or answer), Pictures(request))
        yield from cut_at_words(events) if request.stream else events
    except BAD_SHAPE as error:
        raise response.broken(f"{type(error).__name__}: {error}") from error
    except ErrorFrame as error:
        raise oci_error_in_body(name, error.error) from error


def _until_end(
    response: Response, pieces: Iterable[bytes], request: ChatRequest, call: CallContext, style: ChatFormat
) -> Events:
    """The pieces up to the end: Cohere's formats send no [DONE], and may keep the connection open
    (https://github.com/cohere-ai/cohere-python/issues/756). The other formats' usage is waited for, for a moment.
    """
    reader, once = (
        ChunkDecoder(request.body.get("n", 1), Pictures(request)),
        RepeatFilter(repeats=style.repeats, plans=style.plans),
    )
    counted = False
    for frame in iter_sse(response, pieces, lambda: reader.finished, call):
        if frame.data == b"[DONE]":
            response.settle()
            break
        try:
            for event in reader.events(
                once(style.chunk(check_event(lenient_json.loads(frame.data, keep_halves=True))))
            ):
                counted = counted or (reader.finished and isinstance(event, Usage))
                yield event
        except (*BAD_SHAPE, ErrorFrame):
            if not reader.finished:
                raise
        if reader.finished and (counted or not style.usage_follows):
            response.settle()
            break
    if not reader.sound:
        raise response.broken("the stream ended without a finish reason")
