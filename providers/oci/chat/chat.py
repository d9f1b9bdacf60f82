"""A chat in one of OCI's own formats, by /actions/chat; the answer is read to its end, streamed or not."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core import lenient_json
from core.context import CallContext
from core.events import Event, Events, Usage
from core.json_values import BAD_SHAPE, Json
from core.requests import ChatRequest
from providers.base import Target
from providers.common.answers import cut_at_words
from providers.common.translate import Pictures
from providers.oci.chat.answers import RepeatFilter, check_event
from providers.oci.errors import oci_error_in_body
from providers.openai_compatible.decode import ChunkDecoder, ErrorFrame, events_of_body
from providers.transport.client import Response
from providers.transport.exchange import StreamDecoder, decode_stream, detect_stream, parse_json, read_body
from providers.transport.sse import Frame


@dataclass(frozen=True)
class ChatFormat:
    """One of OCI's API formats.

    to_upstream           (request, target) -> chatRequest
    chunk, body           OCI's event, or whole answer, as OpenAI's
    plain_text            the choice and the text of an event that is nothing else; None for another event
    supported_parameters  OpenAI's parameters with a counterpart
    repeats               whether its last event repeats the whole answer
    plans                 whether text beside calls is the plan to make them
    usage_follows         whether usage comes after the finish reason
    """

    to_upstream: Callable[[ChatRequest, Target], Json]
    chunk: Callable[[Mapping[str, Any]], Json]
    body: Callable[[Mapping[str, Any]], Json]
    supported_parameters: frozenset[str]
    plain_text: Callable[[Mapping[str, Any]], tuple[int, str] | None] = lambda _: None
    repeats: bool = False
    plans: bool = False
    usage_follows: bool = False


def answer_events(
    response: Response, request: ChatRequest, call: CallContext, name: str, style: ChatFormat, *, forwards: bool
) -> Events:
    """The events of a successful response, streamed or whole, whichever the request wanted. `forwards` as for
    `decode_stream`.
    """
    try:
        streams, pieces = detect_stream(response, expected=request.stream)
        if streams:
            yield from decode_stream(response, pieces, ChatDecoder(request, name, style), call, forwards=forwards)
            return
        answer = check_event(parse_json(read_body(response, pieces=pieces), response, keep_halves=True))
        events = events_of_body(style.body(answer.get("chatResponse") or answer), Pictures(request))
        yield from cut_at_words(events) if request.stream else events
    except BAD_SHAPE as error:
        raise response.broken(f"{type(error).__name__}: {error}") from error
    except ErrorFrame as error:
        raise oci_error_in_body(name, error.error) from error


class ChatDecoder(StreamDecoder):
    """Decodes a stream of one of OCI's formats. Cohere's formats send no [DONE], and may keep the connection open
    (https://github.com/cohere-ai/cohere-python/issues/756). The other formats' usage is waited for, for a moment.
    """

    def __init__(self, request: ChatRequest, name: str, style: ChatFormat) -> None:
        self._chunks = ChunkDecoder(request.body.get("n", 1), Pictures(request))
        self._without_repeats = RepeatFilter(repeats=style.repeats, plans=style.plans)
        self._style = style
        self._name = name

    @property
    def sound(self) -> bool:
        """Whether every choice that has begun is finished."""
        return self._chunks.sound

    def events(self, frame: Frame) -> Iterator[Event]:
        """The events of a frame."""
        if frame.data == b"[DONE]":
            self.done = True
            return
        try:
            event = check_event(lenient_json.loads(frame.data, keep_halves=True))
            if (plain := self._style.plain_text(event)) is not None and (text := self._chunks.text(*plain)):
                self._without_repeats.note_text(*plain)
                yield text
                return
            counted = False
            for each in self._chunks.events(self._without_repeats(self._style.chunk(event))):
                counted = counted or isinstance(each, Usage)
                yield each
        except ErrorFrame as error:
            raise oci_error_in_body(self._name, error.error) from error
        finally:
            self.finished = self._chunks.finished
        self.done = self.done or (self.finished and (counted or not self._style.usage_follows))
