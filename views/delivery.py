"""The delivery of one answer, until its request is recorded."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from time import monotonic
from typing import Any, Self
from urllib.parse import quote

from core.errors import Cancelled, GatewayError, RequestCancelled
from core.events import Event
from dispatch.relay import WHOLE_ANSWER_FACTOR, AnswerStream
from dispatch.resilience.retry import StreamFactory
from dispatch.routing.route import Route
from server.flask_app import REQUEST_ID
from telemetry.records import RequestOutcome
from usage.accounting import bill
from views.blueprint import ApiRequest
from views.model_access import require_allowed
from views.timing import own_seconds, server_timing

STATUSES: Mapping[RequestOutcome, int] = {"done": 200, "hung_up": 499}


class Delivery:
    """The delivery of one answer: it watches the caller's line, closes the answer once, and records the request. Making
    it asks no target: that begins when `answer` is committed or iterated.

    `events` are the answer's events, to be encoded. `details` are counts for the record. With `forwards`, the keeper of
    lines may take the upstream's frames over. `filler` is the phrase that was sent. With `estimates`, tokens that the
    upstream has not counted are estimated. An answer that is not `charged` costs nothing.
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
        first_event_factor: float = WHOLE_ANSWER_FACTOR,
        details: Mapping[str, int] | None = None,
        forwards: bool = False,
        estimates: bool = True,
        charged: bool = True,
    ) -> None:
        services, caller, environ = incoming.services, incoming.caller, incoming.environ
        require_allowed(incoming.key, incoming.model, route, services.catalogue)
        incoming.allowed = True
        self.call = services.relay.call(
            environ[REQUEST_ID], streams=streams, caller=caller, first_event_factor=first_event_factor
        )
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
        self.call.end()
        self._record(outcome, failure)

    def __enter__(self) -> Self:
        """Use as a context until the response begins: a failure ends the delivery, and becomes a status."""
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and (failure := self.fail(error)) is not error:
            try:
                raise failure from None
            finally:  # the traceback of `failure` refers to this frame
                self.call.reason = None
                del failure

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

    def headers(self) -> list[tuple[str, str]]:
        """Server-Timing, and x-upstream, which names the target, once a target has answered."""
        headers = []
        if self.answer.first_event is not None:
            headers.append(("x-upstream", _header(self.answer.target.name)))
            self._own = own_seconds(self.answer, self._loading)
        headers.append(("Server-Timing", server_timing(self._own, self.answer, self.call, self._loading)))
        return headers

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
