"""One HTTP exchange with an upstream: check the status, then read the body whole or frame by frame.

    reply = send(account, "POST", path, headers, body, call, target.timeouts)
    try:
        raise_for_status(reply, self._failure)
        raw = read_body(reply)                  # or: yield from decode_stream(reply, pieces, decoder, call)
    finally:
        reply.close()

`request_json` is the whole exchange for an answer of one JSON value; common/answers.py has the one for a chat.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from logging import getLogger
from typing import Any, TypeVar

import orjson

from core import lenient_json
from core.context import CallContext, Timeouts
from core.errors import GatewayError, UpstreamError
from core.events import Event, Events
from core.json_values import BAD_SHAPE
from providers.transport.client import BODY_BYTES, Response, send
from providers.transport.endpoint import Endpoint
from providers.transport.forwarding import DecodedFrames, Forwarding, forward
from providers.transport.sse import Frame, Splitter, parse_frames, starts

log = getLogger("thinkline.providers")

ERROR_BYTES = 65_536
"""The most bytes that are read of an error's body."""
END_MARK = re.compile(rb"\s+data: ?\[DONE\]\s*\Z")

Item = TypeVar("Item")

ErrorFactory = Callable[[int, Mapping[str, str], bytes], GatewayError]
"""(status, headers, body) of an unsuccessful response -> the exception that it means."""


def raise_for_status(reply: Response, failure: ErrorFactory) -> None:
    """Wait for the head; raise the exception for a status other than 2xx."""
    reply.read_head()
    if not 200 <= reply.status < 300:  # noqa: PLR2004
        body = b""
        for data in reply:
            body += data
            if len(body) > ERROR_BYTES:
                break
        raise failure(reply.status, reply.headers, body)


def read_body(reply: Response, most: int = BODY_BYTES, pieces: Iterable[bytes] | None = None) -> bytes:
    """The whole body, from `pieces` if some of it was read before. Raises `reply.broken` for more than `most` bytes."""
    parts, size = [], 0
    for data in reply if pieces is None else pieces:
        parts.append(data)
        size += len(data)
        if size > most:
            raise reply.broken(f"more than {most} bytes")
    return b"".join(parts)


def detect_stream(reply: Response, *, expected: bool) -> tuple[bool, Iterable[bytes]]:
    """Whether a body is a stream of events, and its pieces. The body's beginning decides, not the content type. If it
    looks like neither a stream nor JSON, the result is `expected`.
    """
    pieces, first = iter(reply), b""
    for data in pieces:
        first += data
        if (streams := starts(first, expected)) is not None:
            return streams, chain((first,), pieces)
    return expected, (first,)


def blocks(
    reply: Response,
    pieces: Iterable[bytes],
    finished: Callable[[], bool],
    call: CallContext,
    *forwardings: Forwarding,
) -> Iterator[bytes]:
    """Blocks of complete frames of a body: each has those that have arrived together. Raises ValueError for an invalid
    stream.

    Once the answer is finished, the rest of the stream is read for GRACE_SECONDS at most, and failures are ignored.
    After a block at which one of `forwardings` may begin, the call's forwarder sends the next ones to the caller; these
    are not yielded.
    """
    splitter = Splitter()
    try:
        for data in pieces:
            if block := splitter.feed(data):
                yield block
                for forwarding in forwardings if call.forwarder is not None else ():
                    if forwarding.may_begin(block):
                        yield forward(reply, splitter, forwarding, call)
                        break
            if finished():
                call.mark_finished()
        yield splitter.close()
    except (ValueError, UpstreamError):
        if not finished():
            raise


def iter_sse(
    reply: Response, pieces: Iterable[bytes], finished: Callable[[], bool], call: CallContext
) -> Iterator[Frame]:
    """The SSE frames of the body's pieces, by `blocks`. Raises `reply.broken`."""
    try:
        for block in blocks(reply, pieces, finished, call):
            yield from parse_frames(block)
    except ValueError as error:
        raise reply.broken(str(error)) from error


def parse_json(raw: bytes, reply: Response, *, keep_halves: bool = False) -> Any:
    """A JSON value, parsed by lenient_json. A stream's end mark may follow it. Raises `reply.broken`."""
    return parse_body(without_end_mark(raw), reply, keep_halves=keep_halves)[0]


def parse_body(raw: bytes, reply: Response, *, keep_halves: bool = False) -> tuple[Any, bool]:
    """A body's JSON value, and whether it is JSON for any parser. Raises `reply.broken`."""
    try:
        return lenient_json.parse(raw, keep_halves=keep_halves)
    except orjson.JSONDecodeError as error:
        raise reply.broken(f"not JSON: {raw[:200]!r}") from error


def without_end_mark(raw: bytes) -> bytes:
    """A body without the end mark of a stream, which some servers append to JSON."""
    return END_MARK.sub(b"", raw) if b"[DONE]" in raw else raw


def request_json(
    account: Endpoint, method: str, path: str, body: bytes, call: CallContext, timeouts: Timeouts, failure: ErrorFactory
) -> Any:
    """Send a request, and return the JSON value of its response."""
    reply = send(account, method, path, request_id_header(call), body, call, timeouts)
    try:
        raise_for_status(reply, failure)
        raw = read_body(reply)
    finally:
        reply.close()
    return parse_json(raw, reply)


def request_id_header(call: CallContext) -> dict[str, str]:
    """The header with the request's id, by which the request is found in an upstream's log."""
    return {"x-request-id": call.request_id} if call.request_id else {}


def until_finished(items: Iterable[Item], finished: Callable[[], bool], call: CallContext) -> Iterator[Item]:
    """The items. Once the answer is finished, the rest is read for GRACE_SECONDS at most, and failures are ignored."""
    try:
        for item in items:
            yield item
            if finished():
                call.mark_finished()
    except UpstreamError:
        if not finished():
            raise


def log_dropped_parameters(provider: str, given: Collection[str], sent: Collection[str]) -> None:
    """Log, at debug level, the request's parameters that have no counterpart at this upstream."""
    if dropped := sorted(set(given) - set(sent)):
        log.debug("not sent on", extra={"facts": {"provider": provider, "parameters": dropped}})


class StreamDecoder(ABC):
    """Decodes one streamed answer: a dialect's frames to events.

    `finished` is true once the answer is complete, though more frames may follow; `done` once none follows. `events`
    raises a GatewayError for a failure that the upstream reports, and one of BAD_SHAPE for another shape.
    """

    finished = False
    done = False

    @property
    def sound(self) -> bool:
        """Whether the answer is valid if the stream ends here."""
        return self.finished

    def never_waits(self, frame: Frame) -> bool:
        """Whether decoding the frame waits for nothing, such as a store, so that the thread of all lines may do it."""
        return True

    @abstractmethod
    def events(self, frame: Frame) -> Iterator[Event]:
        """The events of a frame."""


def _events_of_frame(reply: Response, decoder: StreamDecoder, frame: Frame) -> Iterator[Event]:
    """The events of a frame. Raises a GatewayError; a failure after the answer is finished is ignored."""
    try:
        yield from decoder.events(frame)
    except BAD_SHAPE as error:
        if not decoder.finished:
            raise reply.broken(f"{type(error).__name__}: {error}") from error
    except GatewayError:
        if not decoder.finished:
            raise


def decode_stream(
    reply: Response, pieces: Iterable[bytes], decoder: StreamDecoder, call: CallContext, *, forwards: bool = False
) -> Events:
    """The events of a stream, to its end. Raises `reply.broken` if it ends before the answer is finished. Invalid
    frames after that are ignored. `forwards` is for a provider that changes none of the events: then most of them go
    from the thread of all lines to the caller, and are not yielded.
    """

    def finished() -> bool:
        return decoder.finished

    decode = partial(_events_of_frame, reply, decoder)
    forwarded = DecodedFrames(decode, decoder.never_waits, lambda: decoder.finished or decoder.done, call)
    try:
        for block in blocks(reply, pieces, finished, call, *((forwarded,) if forwards else ())):
            for frame in parse_frames(block):
                if decoder.done:
                    break
                yield from decode(frame)
            if decoder.done:
                reply.settle()
                break
    except ValueError as error:
        raise reply.broken(str(error)) from error
    if not decoder.sound:
        raise reply.broken("the stream ended without a finish reason")
