"""One exchange with an upstream over the transport: is it accepted, and what came, whole or frame by frame.

    reply = send(account, "POST", path, headers, body, call, target.timeouts)
    try:
        yield from accepted(reply, self._failure)
        raw = yield from read(reply)            # or: for frame in framed(reply): ...
    finally:
        reply.close()

What is yielded meanwhile is Silence, a heartbeat of it each.
"""

from collections.abc import Callable, Generator, Iterator, Mapping

from errors import ProxyError
from events import SILENCE, Silence
from providers.http import BODY_BYTES, Reply
from providers.sse import Frame, Splitter, frames

ERROR_BYTES = 65_536
"""As much of an error's body is read."""

Failure = Callable[[int, Mapping[str, str], bytes], ProxyError]
"""Status, headers and body of an answer that is no success, as the exception it means."""


def accepted(reply: Reply, failure: Failure) -> Generator[Silence, None, None]:
    """Wait for the head; raise what a status other than 2xx means."""
    yield from reply.head()
    if not 200 <= reply.status < 300:  # noqa: PLR2004
        body = b""
        for data in reply:
            body += data
            if len(body) > ERROR_BYTES:
                break
            if not data:
                yield SILENCE
        raise failure(reply.status, reply.headers, body)


def read(reply: Reply, most: int = BODY_BYTES) -> Generator[Silence, None, bytes]:
    """The whole body. Raises `reply.broken` for one of more than `most` bytes."""
    parts, size = [], 0
    for data in reply:
        if data:
            parts.append(data)
            size += len(data)
            if size > most:
                raise reply.broken(f"more than {most} bytes")
        else:
            yield SILENCE
    return b"".join(parts)


def framed(reply: Reply) -> Iterator[Frame | Silence]:
    """The SSE frames of the body as they come. Raises `reply.broken` for what is no stream of frames."""
    splitter = Splitter()
    try:
        for data in reply:
            if not data:
                yield SILENCE
            elif block := splitter.feed(data):
                yield from frames(block)
        yield from frames(splitter.close())
    except ValueError as error:
        raise reply.broken(str(error)) from error
