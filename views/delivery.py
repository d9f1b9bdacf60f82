"""Sends an answer as a stream of SSE frames or as one body, and records the request when it has ended."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from logging import getLogger
from time import monotonic
from typing import Any, Protocol, Self
from urllib.parse import quote

from flask import Response, current_app
from werkzeug.wsgi import ClosingIterator

from core.errors import Cancelled, GatewayError, HalfClosed, RequestCancelled, RequestTimeout
from core.events import Event, FillerText
from dispatch.relay import WHOLE_ANSWER_FACTOR, AnswerStream
from dispatch.resilience.retry import StreamFactory
from dispatch.routing.route import Route
from server.flask_app import REQUEST_ID
from telemetry.records import RequestOutcome
from usage.accounting import bill
from views.blueprint import ApiRequest
from views.model_access import require_allowed
from views.timing import own_seconds, server_timing

log = getLogger("thinkline.request")

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
STATUSES: Mapping[RequestOutcome, int] = {"done": 200, "hung_up": 499}


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


class Delivery:
    """The delivery of one answer: it watches the caller's line, closes the answer once, and records the request. Making
    it asks no target: that begins when `answer` is committed or iterated.

    `events` are the answer's events, to be encoded. `details` are counts for the record. With `forwards`, frames may
    pass without being encoded. `filler` is the phrase that was sent. With `estimates`, tokens that the upstream has not
    counted are estimated. An answer that is not `charged` costs nothing.
    """

    def __init__(
        self,
        incoming: ApiRequest,
        route: Route,
        start: StreamFactory,
        *,
        streams: bool,
        reasoning: bool = True,
        fills: bool = False,
        patience: float = WHOLE_ANSWER_FACTOR,
        details: Mapping[str, int] | None = None,
        forwards: bool = False,
        estimates: bool = True,
        charged: bool = True,
    ) -> None:
        services, caller, environ = incoming.services, incoming.caller, incoming.environ
        require_allowed(incoming.key, incoming.model, route, services.catalogue)
        incoming.allowed = True
        self.call = services.relay.call(environ[REQUEST_ID], streams=streams, caller=caller, patience=patience)
        self.call.trace = incoming.trace
        self.call.traced = incoming.key.admin and environ.get("HTTP_X_TRACE") == "1"
        self.answer: AnswerStream = services.relay.answer(
            route, start, self.call, streams=streams, reasoning=reasoning, fills=fills
        )
        self.events: Iterable[Event] = self.answer
        self._incoming = incoming
        self._loading = self.call.started - incoming.received if incoming.received else 0.0
        self._own: float | None = None
        self._details = details or {}
        self._estimates = estimates and charged
        self._charged = charged
        self._streams = streams
        self.filler = ""
        self.filler_at: float | None = None
        self._ended = False
        self._admission = services.admission
        self._admission.track(self.call, incoming.key)
        self.line = services.lines.watch(environ, self.call)
        if forwards:
            self.call.forwarder = self.line

    def end(self, outcome: RequestOutcome, failure: GatewayError | None = None) -> None:
        """Release the upstream and the caller's line, and record the request. Only the first call counts."""
        if self._ended:
            return
        self._ended = True
        if isinstance(failure, RequestCancelled):  # the caller has cancelled it
            outcome = "hung_up"
        self.answer.close()
        self._admission.untrack(self.call)
        self.line.end()
        self._record(outcome, failure)

    def __enter__(self) -> Self:
        """Use as a context until the response begins: a failure ends the delivery, and becomes a status."""
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and (failure := self.fail(error)) is not error:
            raise failure from None

    def fail(self, error: BaseException) -> BaseException:
        """End the delivery with a failure before the response has begun; returns the error for the caller."""
        if isinstance(error, Cancelled):
            if self.call.reason is not None:
                self.end("failed", self.call.reason)
                return self.call.reason
            self.end("hung_up")
        elif isinstance(error, GatewayError):
            self.end("failed", error)
        else:
            self.end("failed", GatewayError("Something went wrong here."))
        return error

    def sign(self, response: Response) -> Response:
        """Set Server-Timing, and x-upstream, which names the target, once a target has answered."""
        if self.answer.first_event is not None:
            response.headers["x-upstream"] = _header(self.answer.target.name)
            self._own = own_seconds(self.answer, self._loading)
        response.headers["Server-Timing"] = server_timing(self._own, self.answer, self.call, self._loading)
        return response

    def _record(self, outcome: RequestOutcome, failure: GatewayError | None) -> None:
        """Record the request: target, times, tokens, cost and outcome."""
        answer, incoming, lengths = self.answer, self._incoming, self._incoming.services.lengths
        duration = monotonic() - self.call.started
        prompt = incoming.prompt_tokens if self._estimates else None
        counted = answer.usage if self._charged else None
        attempts = answer.attempts
        billed = bill(attempts, counted, answer.generated, prompt, duration)
        target = answer.target.name
        result: dict[str, Any] = {}
        if failure is not None:
            result = {"code": failure.code, "param": failure.param, "error": failure.message, "said": failure.log}
        if outcome == "hung_up":
            result["hung_up_at"] = duration if self.call.gone_at is None else self._since(self.call.gone_at)
            result["tokens_saved"] = lengths.left(target, answer.generated) if self._estimates else None
        elif outcome == "done" and billed.usage is not None:
            lengths.note(target, billed.usage.completion)
        incoming.record(
            began=self.call.started,
            status=failure.status if failure else STATUSES[outcome],
            outcome=outcome,
            provider=answer.target.provider.name,
            target=target,
            attempts=attempts,
            tried=answer.tried,
            hedged=answer.hedged,
            filler=self.filler,
            filler_at=self._since(self.filler_at),
            headers=self._headers_at(),
            heartbeats=tuple(at - self.call.started for at in self.line.heartbeats),
            ttft=answer.first_event,
            overhead=own_seconds(answer, self._loading) if self._own is None else self._own,
            usage=billed.usage if self._charged else answer.usage,
            cost=billed.cost if self._charged else 0.0,
            unpriced=billed.unpriced and self._charged,
            details=self._details,
            **result,
        )

    def _since(self, at: float | None) -> float | None:
        return None if at is None else at - self.call.started

    def _headers_at(self) -> float | None:
        opened_at = self.line.opened_at
        return self.answer.first_event if opened_at is None and self._streams else self._since(opened_at)


@lru_cache(maxsize=1024)
def _header(name: str) -> str:
    return quote(name, safe="/:@.<>#+ ")


class UnwrappedResponse(Response):
    """A response with one body. Werkzeug would copy its headers and wrap the body, to find its length and whether it
    needs closing, both of which are known.
    """

    def __call__(self, environ: Any, start_response: Callable[..., Any]) -> Any:
        """Send the response."""
        start_response(self.status, self.headers.to_wsgi_list())
        return self.response


def whole_response(delivery: Delivery, fold: Callable[[Iterable[Event]], bytes]) -> Response:
    """Fold the answer's events into one JSON body. Raises GatewayError and Cancelled."""
    with delivery:
        body = fold(delivery.answer)
        for _ in delivery.answer:  # read to the end, so that the attempt counts as done
            pass
    delivery.end("done")
    return delivery.sign(UnwrappedResponse(body, content_type="application/json"))


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

    def __call__(self, environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Begin the stream, or send the failure that came before its head."""
        delivery, encoder = self._delivery, self._encoder
        delivery.sign(self)
        start = partial(start_response, self.status, self.headers.to_wsgi_list())
        delivery.line.keep(start, encoder.heartbeat, self._filler, delivery.answer.filler[1])
        failures: list[Exception] = []
        try:
            delivery.answer.commit()
        except Exception as error:  # noqa: BLE001 - raised again, where it becomes a status or a frame
            failures.append(error)
        if not delivery.line.begin():
            if failures:
                return self._refuse(failures.pop(), environ, start_response)
            start_response(self.status, delivery.sign(self).headers.to_wsgi_list())
        return ClosingIterator(stream_frames(delivery, encoder, failures), self.close)

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
        for event in delivery.events:
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


def _raise_first(failures: list[Exception]) -> None:
    if failures:
        raise failures.pop()  # not kept in a variable: its traceback would form a cycle with this frame
