"""Answers on their way out: a stream of SSE frames, or one body; and the record that tells how it went."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from logging import getLogger
from typing import Any, Protocol, Self
from urllib.parse import quote

from flask import Response

from core.errors import Cancelled, GatewayError, HalfClosed, RequestCancelled, RequestTimeout
from core.events import Event
from dispatch.relay import WHOLE_ANSWER_FACTOR, AnswerStream
from dispatch.resilience.retry import StreamFactory
from dispatch.routing.catalogue import Route
from server.flask_app import REQUEST_ID
from telemetry.records import RequestOutcome
from views.blueprint import ApiRequest
from views.model_access import require_allowed

log = getLogger("thinkline.request")

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


STATUSES: Mapping[RequestOutcome, int] = {"done": 200, "hung_up": 499}


class StreamEncoder(Protocol):
    """How a dialect of callers spells a stream. Each method returns whole SSE frames; b"" says nothing."""

    def encode(self, event: Event) -> bytes:
        """One event. Raises UpstreamDown for one that cannot be passed on."""

    def end(self) -> bytes:
        """The end of the answer, or an error frame and the end where it stopped unfinished."""

    def error(self, error: GatewayError) -> bytes:
        """An error frame and the end, after whatever was sent."""


class Delivery:
    """A caller's line while one request is answered: watched for their leaving, and told of in one record.

    `events` is what is answered, gone `through` something if that is given. `details` are counts for the record.
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
        through: Callable[[Iterable[Event]], Iterator[Event]] | None = None,
        patience: float = WHOLE_ANSWER_FACTOR,
        details: Mapping[str, int] | None = None,
    ) -> None:
        rooms, caller, environ = incoming.services, incoming.caller, incoming.environ
        require_allowed(incoming.key, incoming.model, route, rooms.catalogue)
        incoming.allowed = True
        self.call = rooms.relay.call(environ[REQUEST_ID], streams=streams, caller=caller, patience=patience)
        self.answer: AnswerStream = rooms.relay.answer(
            route, ask, self.call, streams=streams, reasoning=reasoning, fills=fills
        )
        self.events: Iterable[Event] = through(self.answer) if through else self.answer
        self._incoming = incoming
        self._details = details or {}
        self._ended = False
        self._admission = rooms.admission
        self._admission.track(self.call, incoming.key)
        self._watcher = rooms.watcher
        self._watched = rooms.watcher.watch(environ, self.call)

    def end(self, outcome: RequestOutcome, failure: GatewayError | None = None) -> None:
        """Let go of the upstream and of the caller's socket, and report. Only the first end counts."""
        if self._ended:
            return
        self._ended = True
        if isinstance(failure, RequestCancelled):  # as the caller wished
            outcome = "hung_up"
        self.answer.close()
        self._admission.untrack(self.call)
        self._watcher.unwatch(self._watched)
        self._record(outcome, failure)

    def __enter__(self) -> Self:
        """For the time before the response has begun: a failure ends the line, and goes on to become a status."""
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            return
        if isinstance(error, Cancelled):
            if self.call.reason is not None:
                self.end("failed", self.call.reason)
                raise self.call.reason from None
            self.end("hung_up")
        elif isinstance(error, GatewayError):
            self.end("failed", error)
        else:
            self.end("failed", GatewayError("Something went wrong here."))

    def sign(self, response: Response) -> Response:
        """Put on the header that names who answers; none while that is open (a stream may begin before)."""
        if self.answer.first_event is not None:
            response.headers["x-upstream"] = _header(self.answer.target.name)
        return response

    def _record(self, outcome: RequestOutcome, failure: GatewayError | None) -> None:
        """Who answered, how fast, how much, and how it ended."""
        answer = self.answer
        result: dict[str, Any] = {}
        if failure is not None:
            result = {"code": failure.code, "param": failure.param, "error": failure.message, "said": failure.log}
        self._incoming.record(
            began=self.call.started,
            status=failure.status if failure else STATUSES[outcome],
            outcome=outcome,
            provider=answer.target.provider.name,
            target=answer.target.name,
            attempts=answer.attempts,
            tried=answer.tried,
            hedged=answer.hedged,
            filler=answer.filler,
            ttft=answer.first_event,
            usage=answer.usage,
            details=self._details,
            **result,
        )


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
        body = fold(line.events)
        for _ in line.events:  # to its end, so that the target is known to have answered
            pass
    line.end("done")
    return line.sign(UnwrappedResponse(body, content_type="application/json"))


def stream_response(line: Delivery, encoder: StreamEncoder) -> Response:
    """A stream of frames, once the first event has come. Raises what fails before it."""
    with line:
        line.answer.commit()
    response = line.sign(Response(_frames(line, encoder), mimetype="text/event-stream", headers=HEADERS))
    # Whoever leaves early, even before the first byte, is noticed here: a generator not begun runs no `finally`.
    response.call_on_close(lambda: line.end("hung_up"))
    return response


def _frames(line: Delivery, encoder: StreamEncoder) -> Iterator[bytes]:
    try:
        for event in line.events:
            if data := encoder.encode(event):
                yield data
        yield encoder.end()
        line.end("done")
    except Cancelled:
        if line.call.reason is None:
            line.end("hung_up")
        else:
            line.end("failed", line.call.reason)
        yield encoder.error(line.call.reason or HalfClosed())
    except GatewayError as error:
        line.end("hung_up" if isinstance(error, RequestTimeout) else "failed", error)
        yield encoder.error(error)
    except Exception:  # the headers are out: even a fault of our own must reach the caller as a frame, not as a cut
        log.exception("unexpected failure in a stream")
        failure = GatewayError("Something went wrong here.")
        line.end("failed", failure)
        yield encoder.error(failure)
