"""The Flask responses of an answer: one JSON body, or a stream of SSE frames."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from logging import getLogger
from time import monotonic
from typing import Any, Protocol

from flask import Response, current_app
from werkzeug.wsgi import ClosingIterator

from core.errors import Cancelled, GatewayError, HalfClosed, RequestTimeout
from core.events import Event, FillerText
from core.forwarding import EncodingFailed
from views.delivery import Delivery

log = getLogger("thinkline.request")

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class StreamEncoder(Protocol):
    """Encodes a stream in a dialect of callers. Each method returns whole SSE frames, or b"" for nothing. `heartbeat`
    is the frame that is sent in a silence.
    """

    heartbeat: bytes

    def encode(self, event: Event) -> bytes:
        """Encode an event. Raises UpstreamDown for one that the dialect cannot express."""

    def end(self) -> bytes:
        """Encode the end; if the answer stopped unfinished, an error frame before it."""

    def error(self, error: GatewayError) -> bytes:
        """Encode an error frame and the end."""


class WholeResponse(Response):
    """An answer in one body of JSON. Werkzeug would copy its headers and wrap the body, to find its length and whether
    it needs closing, both of which are known.
    """

    def __init__(self, body: bytes, headers: list[tuple[str, str]]) -> None:
        super().__init__(body, content_type="application/json")
        self._headers = headers

    def __call__(self, environ: Any, start_response: Callable[..., Any]) -> Any:
        """Send the response."""
        start_response(self.status, self.headers.to_wsgi_list() + self._headers)
        return self.response


def whole_response(delivery: Delivery, fold: Callable[[Iterable[Event]], bytes]) -> Response:
    """Fold the answer's events into one JSON body. Raises GatewayError and Cancelled."""
    with delivery:
        body = fold(delivery.answer)
        for _ in delivery.answer:  # read to the end, so that the attempt counts as done
            pass
    delivery.end("done")
    return WholeResponse(body, delivery.headers())


def _same(param: str | None) -> str | None:
    return param


class StreamResponse(Response):
    """A stream of SSE frames. Flask calls it after the view has returned it. Only then is a target asked: the call
    waits for the first event, while the keeper keeps the line. A failure before the head is sent becomes the response.
    `field` maps a parameter in an error to its name in the caller's dialect.
    """

    def __init__(
        self, delivery: Delivery, encoder: StreamEncoder, field: Callable[[str | None], str | None] = _same
    ) -> None:
        super().__init__(mimetype="text/event-stream", headers=HEADERS)
        self.response = iter(())  # makes `is_streamed` true
        self._delivery = delivery
        self._encoder = encoder
        self._field = field
        # Also ends a delivery whose caller leaves before the first byte: a generator not begun runs no `finally`.
        self.call_on_close(lambda: delivery.end("hung_up"))
        is_sampled = delivery.call.trace is not None and delivery.call.trace.sampled  # such a trace notes each event
        if delivery.call.forwarder is not None and not is_sampled:
            delivery.line.encode = self._encode

    def __call__(self, environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Begin the stream, or send the failure that came before its head."""
        delivery, encoder = self._delivery, self._encoder
        headers = self.headers.to_wsgi_list()
        start = partial(start_response, self.status, headers + delivery.headers())
        delivery.line.keep(start, encoder.heartbeat, self._filler, delivery.answer.filler[1])
        failures: list[Exception] = []
        try:
            delivery.answer.commit()
        except Exception as error:  # noqa: BLE001 - raised again, where it becomes a status or a frame
            failures.append(error)
        if not delivery.line.begin():
            if failures:
                return self._refuse(failures.pop(), environ, start_response)
            start_response(self.status, headers + delivery.headers())
        return ClosingIterator(stream_frames(delivery, encoder, failures), self.close)

    def _encode(self, event: Event) -> bytes:
        data = self._encoder.encode(event)
        self._delivery.answer.note(event)
        return data

    def _filler(self) -> bytes:
        self._delivery.filler, self._delivery.filler_at = self._delivery.answer.filler[0], monotonic()
        return self._encoder.encode(FillerText(self._delivery.filler))

    def _refuse(self, failure: Exception, environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        error: Any = self._delivery.fail(failure)
        if isinstance(error, GatewayError):
            error.param = self._field(error.param)
        response = current_app.finalize_request(current_app.handle_user_exception(error))
        self.close()
        answer: Iterable[bytes] = response(environ, start_response)
        return answer


def stream_frames(delivery: Delivery, encoder: StreamEncoder, failures: list[Exception]) -> Iterator[bytes]:
    """Yield the answer's frames, or an error frame if it has failed already. Frames that the line gathers, to write
    them together, are not yielded.
    """
    line = delivery.line
    try:
        _raise_first(failures)
        for event in _own_failures(delivery.events):
            if (data := encoder.encode(event)) and not line.gather(data):
                yield data
        if not line.gather(data := encoder.end()):
            yield data
        line.flush()
        delivery.end("hung_up" if delivery.call.gone else "done")
    except Cancelled:
        if delivery.call.reason is None:
            delivery.end("hung_up")
        else:
            delivery.end("failed", delivery.call.reason)
        line.flush()
        yield encoder.error(delivery.call.reason or HalfClosed())
    except GatewayError as error:
        delivery.end("hung_up" if isinstance(error, RequestTimeout) else "failed", error)
        line.flush()
        yield encoder.error(error)
    except Exception:  # the head is sent: a fault of our own must become a frame too
        log.exception("unexpected failure in a stream")
        fault = GatewayError("Something went wrong here.")
        delivery.end("failed", fault)
        line.flush()
        yield encoder.error(fault)


def _own_failures(events: Iterable[Event]) -> Iterator[Event]:
    """The events. What has made the encoding of one fail, in the keeper's thread, is raised here as itself."""
    try:
        yield from events
    except EncodingFailed as failed:
        raise failed.__cause__ or failed from None


def _raise_first(failures: list[Exception]) -> None:
    if failures:
        raise failures.pop()  # not kept in a variable: its traceback would form a cycle with this frame
