"""Answers on their way out: a stream of SSE frames, or one body; and the record that tells how it went."""

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
    """How a dialect of callers spells a stream. Each method returns whole SSE frames; b"" says nothing. `heartbeat` is
    the frame that breaks a silence.
    """

    heartbeat: bytes

    def encode(self, event: Event) -> bytes:
        """One event. Raises UpstreamDown for one that cannot be passed on."""

    def end(self) -> bytes:
        """The end of the answer, or an error frame and the end where it stopped unfinished."""

    def error(self, error: GatewayError) -> bytes:
        """An error frame and the end, after whatever was sent."""


class Delivery:
    """A caller's line while one request is answered: watched for their leaving, and told of in one record.

    `events` are the answer's, as they are encoded. `details` are counts for the record. With `forwards`, frames that
    may pass as they came need not be encoded. `filler` is the phrase that was said. What an upstream does not count is
    estimated, where it `estimates`. An answer that is not `charged` costs nothing.
    """

    def __init__(
        self,
        incoming: ApiRequest,
        route: Route,
        ask: StreamFactory,
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
            route, ask, self.call, streams=streams, reasoning=reasoning, fills=fills
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
        """Let go of the upstream and of the caller's socket, and report. Only the first end counts."""
        if self._ended:
            return
        self._ended = True
        if isinstance(failure, RequestCancelled):  # as the caller wished
            outcome = "hung_up"
        self.answer.close()
        self._admission.untrack(self.call)
        self.line.end()
        self._record(outcome, failure)

    def __enter__(self) -> Self:
        """For the time before the response has begun: a failure ends the line, and goes on to become a status."""
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and (told := self.fail(error)) is not error:
            raise told from None

    def fail(self, error: BaseException) -> BaseException:
        """A failure before the response has begun ends the line; returns what the caller is told."""
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
        """Put on the header that names who answers; none while that is open (a stream may begin before)."""
        if self.answer.first_event is not None:
            response.headers["x-upstream"] = _header(self.answer.target.name)
            self._own = own_seconds(self.answer, self._loading)
        response.headers["Server-Timing"] = server_timing(self._own, self.answer, self.call, self._loading)
        return response

    def _record(self, outcome: RequestOutcome, failure: GatewayError | None) -> None:
        """Who answered, how fast, how much, and how it ended."""
        answer, incoming, lengths = self.answer, self._incoming, self._incoming.services.lengths
        duration = monotonic() - self.call.started
        prompt = incoming.prompt_tokens if self._estimates else None
        told = answer.usage if self._charged else None
        attempts = answer.attempts
        billed = bill(attempts, told, answer.generated, prompt, duration)
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
    """One body. Werkzeug would copy its headers and wrap it, to find out what is known of it: how long it is, and that
    there is nothing to close.
    """

    def __call__(self, environ: Any, start_response: Callable[..., Any]) -> Any:
        """Send it."""
        start_response(self.status, self.headers.to_wsgi_list())
        return self.response


def whole_response(line: Delivery, fold: Callable[[Iterable[Event]], bytes]) -> Response:
    """One JSON body. Raises what fails."""
    with line:
        body = fold(line.answer)
        for _ in line.answer:  # to its end, so that the target is known to have answered
            pass
    line.end("done")
    return line.sign(UnwrappedResponse(body, content_type="application/json"))


def _same(param: str | None) -> str | None:
    return param


class StreamResponse(Response):
    """A stream of frames. Werkzeug calls it when everything about it is known but the first event: it waits for that,
    while the line is kept; what fails before the head is out becomes the response. `field` is what the caller calls a
    parameter that an error names.
    """

    def __init__(
        self, delivery: Delivery, encoder: StreamEncoder, field: Callable[[str | None], str | None] = _same
    ) -> None:
        super().__init__(mimetype="text/event-stream", headers=HEADERS)
        self.response = iter(())  # so that it counts as streamed
        self._delivery = delivery
        self._encoder = encoder
        self._field = field
        # Whoever leaves early, even before the first byte, is noticed here: a generator not begun runs no `finally`.
        self.call_on_close(lambda: delivery.end("hung_up"))

    def __call__(self, environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Begin it, or answer what kept it from beginning."""
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
        told: Any = self._delivery.fail(failure)
        if isinstance(told, GatewayError):
            told.param = self._field(told.param)
        response = current_app.finalize_request(current_app.handle_user_exception(told))
        self.close()
        answer: Iterable[bytes] = response(environ, start_response)
        return answer


def stream_frames(delivery: Delivery, encoder: StreamEncoder, failures: list[Exception]) -> Iterator[bytes]:
    """The answer's frames; of an answer that has failed already, the failure's. Those that come together are written
    together, where the line takes them: then they are not among these.
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
    except Exception:  # the headers are out: even a fault of our own must reach the caller as a frame, not as a cut
        log.exception("unexpected failure in a stream")
        fault = GatewayError("Something went wrong here.")
        delivery.end("failed", fault)
        line.flush()
        yield encoder.error(fault)


def _raise_first(failures: list[Exception]) -> None:
    if failures:
        raise failures.pop()  # kept nowhere: it holds on to the frames that would hold on to it
