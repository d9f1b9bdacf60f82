"""An answer in OpenAI's dialect, whoever gives it: bytes where they are what OpenAI itself would say, else events.

passing.py judges which they are (R6), and chunks.py reads the rest into events.
"""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from errors import UpstreamError
from events import SILENCE, ChatRequest, Events
from providers.base import Call
from providers.chunks import ErrorFrame, events_of_body, unwrapped
from providers.exchange import GRACE_SECONDS, in_words, parsed, read
from providers.failures import in_band
from providers.http import Reply
from providers.passing import Mode, Passing, whole
from providers.sse import Splitter
from providers.translate import NONSENSE

Note = Callable[[Mapping[str, Any]], bool]
"""Is told each chunk that is read, or the whole answer; true when it may not pass as it came."""


def answered(
    reply: Reply, request: ChatRequest, call: Call, name: str, frames: Mode = "auto", note: Note | None = None
) -> Events:
    """The events of an accepted reply from the upstream `name`, streamed or whole."""
    frames = "rebuilt" if request.rebuild else frames
    if request.stream and "json" not in reply.headers.get("content-type", ""):
        yield from _streamed(reply, request, call, name, frames, note)
    else:
        yield from _in_one(reply, request, name, frames, note)


def value(raw: bytes, reply: Reply, name: str) -> Any:
    """A body's JSON, out of an envelope where it is in one. Raises for an error object that came with status 200."""
    data = parsed(raw, reply)
    if isinstance(data, dict):
        data = unwrapped(data)
    if isinstance(data, dict) and data.get("error"):
        raise in_band(name, data["error"])
    return data


def _in_one(reply: Reply, request: ChatRequest, name: str, frames: Mode, note: Note | None) -> Events:
    """One JSON body; when a stream was asked for, it is a lump, and is cut at words."""
    raw = yield from read(reply)
    body = value(raw, reply, name)
    try:
        if note is not None and note(body):
            frames = "rebuilt"
        if not request.stream:
            yield from whole(body, raw, frames, include_reasoning=request.include_reasoning)
            return
        yield from in_words(events_of_body(body))
    except NONSENSE as error:
        raise reply.broken(f"{error}: {raw[:200]!r}") from error
    except ErrorFrame as error:
        raise in_band(name, error.error) from error


def _streamed(reply: Reply, request: ChatRequest, call: Call, name: str, frames: Mode, note: Note | None) -> Events:
    splitter = Splitter()
    answer = Passing(
        frames,
        include_reasoning=request.include_reasoning,
        include_usage=request.include_usage,
        choices=request.body.get("n", 1),
        note=note,
    )
    try:
        for data in reply:
            if not data:
                if answer.finished:
                    return
                yield SILENCE
            elif block := splitter.feed(data):
                yield from answer.block(block)
                if answer.done:
                    reply.settle()
                    break
                if answer.finished:
                    call.beat_by = monotonic() + GRACE_SECONDS
        else:
            yield from answer.block(splitter.close())
    except NONSENSE as error:
        raise reply.broken(str(error)) from error
    except ErrorFrame as error:
        raise in_band(name, error.error) from error
    except UpstreamError:
        if not answer.finished:
            raise
    if not answer.sound:
        raise reply.broken("the stream ended without a finish reason")
