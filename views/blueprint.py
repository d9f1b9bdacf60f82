"""The blueprint of all endpoints that need a key. It checks the key itself, so that no view can omit the check."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from time import monotonic, time
from typing import Any

from flask import Blueprint, Response, g, request
from werkzeug.wsgi import get_content_length, get_input_stream

from access.admission import Permit, estimated_tokens
from core.api_keys import ANONYMOUS, ApiKey
from core.errors import GatewayError, InvalidRequest, PermissionDenied, RateLimited, RequestTimeout, TooLarge
from core.events import Usage
from core.trace_context import TraceContext
from schemas.errors import OPENAI, ErrorFormat
from server.flask_app import HEADERS, REQUEST_ID
from server.read_deadlines import BODY_SECONDS
from server.sockets.handshake import UPGRADE_HEADERS, UpgradeRequired, check_handshake
from telemetry.records import RequestRecord
from views.model_access import conceal_models
from views.services import Services, current_services

TOO_LARGE = "The body is larger than this server takes (MAX_BODY_BYTES)."
TOO_SLOW = "The body did not come in time."
SHOWN = 200
"""Characters that a record keeps of a text of any length that a caller chooses."""
BROKEN_OFF = "The body is shorter than announced."


@dataclass(slots=True)
class ApiRequest:
    """A request to a view of the API, with the facts for its record.

    endpoint        the view's name
    errors          how the caller's dialect spells an error
    key, permits    the request's key, and the permits of that key's checks
    model, stream, conversation    set by the view as soon as it has read them
    received        when the body was complete, by the monotonic clock
    prompt_tokens   the estimate from the body
    allowed         whether its model is one that the key may call
    recorded        whether the request has its record; `usage` is the one in it
    lacks_key       whether a WebSocket's key is to be sent in a message
    """

    services: Services
    environ: dict[str, Any]
    endpoint: str
    errors: ErrorFormat = OPENAI
    key: ApiKey = ANONYMOUS
    permits: Sequence[Permit] = ()
    model: str = ""
    stream: bool | None = None
    conversation: str = ""
    received: float = 0.0
    allowed: bool = False
    recorded: bool = False
    lacks_key: bool = False
    usage: Usage | None = None
    prompt_tokens: int = 0
    started: float = field(default_factory=monotonic)
    _trace: TraceContext | None = None

    @property
    def trace(self) -> TraceContext | None:
        """The request's trace; None without a tracer."""
        if self._trace is None and self.services.tracer is not None:
            self._trace = self.services.tracer.begin(self.environ)
        return self._trace

    @property
    def caller(self) -> str:
        """The name of the key; "" without keys."""
        return self.key.name

    def enter(self, *, counts: bool) -> None:
        """Pass the checks of the key. Raises RateLimited."""
        permits = [check.permit(self.key) for check in self.services.checks]
        self.permits = [permit for permit in permits if permit is not None]
        for permit in self.permits:
            permit.enter(counts=counts)

    def leave(self) -> None:
        """Release the permits, with the tokens used: as recorded, None if a record has none, 0 without a record."""
        used = self.usage
        tokens = used.prompt + used.completion if used else None if self.recorded else 0
        for permit in self.permits:
            permit.release(tokens)

    def record(self, **result: Any) -> None:
        """Hand the request's record to the sinks, with `result` as its fields. Only the first record counts."""
        if self.recorded:
            return
        self.recorded = True
        self.usage = result.get("usage")
        environ = self.environ
        duration = monotonic() - result.pop("began", self.started)
        self.services.record(
            RequestRecord(
                request_id=environ[REQUEST_ID],
                started=time() - duration,
                duration=duration,
                method=environ["REQUEST_METHOD"],
                path=environ["PATH_INFO"][:SHOWN],
                sender=self.services.proxies.sender(environ),
                forwarded_for=environ.get("HTTP_X_FORWARDED_FOR", "")[:SHOWN],
                caller=self.caller,
                endpoint=self.endpoint,
                model=self.model,
                stream=self.stream,
                conversation=self.conversation,
                trace=self.trace,
                **result,
            )
        )

    def body(self) -> bytes:
        """Read the body. Raises TooLarge; RequestTimeout if it is not sent in time; InvalidRequest if incomplete."""
        environ, most = self.environ, self.services.max_body_bytes
        length = get_content_length(environ)
        if length is not None and length > most:
            raise TooLarge(TOO_LARGE)
        # gunicorn marks the stream as terminated; under another server Werkzeug decides.
        stream = environ["wsgi.input"] if "wsgi.input_terminated" in environ else get_input_stream(environ)
        try:
            with self.services.lines.request_within(environ, BODY_SECONDS) as due:
                body: bytes = stream.read(most + 1 if length is None else length)
        except OSError as error:
            if due.late or isinstance(error, (BlockingIOError, TimeoutError)):
                raise RequestTimeout(TOO_SLOW) from None
            raise InvalidRequest(BROKEN_OFF) from None
        if due.late:
            raise RequestTimeout(TOO_SLOW)
        if len(body) > most:
            raise TooLarge(TOO_LARGE)
        if length is not None and len(body) < length:
            raise InvalidRequest(BROKEN_OFF)
        self.received = monotonic()
        self.spend(body)
        return body

    def spend(self, body: bytes) -> None:
        """Count the body's estimated tokens for the key's limits. Raises RateLimited."""
        self.prompt_tokens = estimated_tokens(body)
        for permit in self.permits:
            permit.spend(self.prompt_tokens)

    def record_failure(self, error: GatewayError) -> None:
        """Record a failure before any target was asked."""
        self.record(
            status=self.errors.status(error),
            outcome="failed" if error.status == 500 else "refused",  # noqa: PLR2004 - a fault of our own
            code=error.code,
            param=error.param,
            error=error.message,
            limit=error.limit if isinstance(error, RateLimited) else "",
        )


View = Callable[..., Response]
"""Called with an ApiRequest, and with the values in its path."""


def _with_access(view: View, errors: ErrorFormat, *, works: bool, counts: bool) -> View:
    """Wrap a view with the check of the key. If it `works`, a request takes one of MAX_IN_FLIGHT places, a stream until
    its last byte. If it `counts`, a request counts for the key's limits.

    Raises Unauthenticated, Overloaded and RateLimited. Preflights, which have no key, are answered before.
    """

    @wraps(view)
    def answer(**values: Any) -> Response:
        services, environ = current_services(), request.environ
        incoming = g.api_request = ApiRequest(services, environ, view.__name__, errors)
        incoming.key = services.guard.authenticate(environ)
        if works:
            services.admission.enter()

        def leave() -> None:
            incoming.leave()
            if works:
                services.admission.leave()

        try:
            incoming.enter(counts=counts)
            response = view(incoming, **values)
        except GatewayError as error:
            leave()
            if incoming.allowed:
                raise
            raise conceal_models(error, incoming.key, incoming.model, services.catalogue) from None
        except BaseException:  # any fault: the place must be freed
            leave()
            raise
        finally:
            for permit in incoming.permits:
                environ[HEADERS].extend(permit.headers())
        if response.is_streamed:
            response.call_on_close(leave)
        else:
            incoming.record(status=response.status_code)
            leave()
        return response

    return answer


Admit = Callable[[ApiRequest], ApiKey | None]
"""Returns the key of a handshake; None if the first message is to bring it. Raises Unauthenticated."""


def by_key(incoming: ApiRequest) -> ApiKey:
    """Admit a handshake as any other request: by its key."""
    return incoming.services.guard.authenticate(incoming.environ)


def _with_handshake(view: View, admit: Admit) -> View:
    """Wrap the view of a WebSocket with the check of its handshake. Each turn has checks of its own (views/turns.py).

    Raises UpgradeRequired and InvalidRequest for a wrong handshake, PermissionDenied for a web page of another origin,
    and the errors of `admit`.
    """

    @wraps(view)
    def answer(**values: Any) -> Response:
        services, environ = current_services(), request.environ
        incoming = g.api_request = ApiRequest(services, environ, view.__name__)
        try:
            check_handshake(environ)
        except UpgradeRequired:
            environ[HEADERS].extend(UPGRADE_HEADERS)
            raise
        if not services.guard.accepts_origin(environ):
            raise PermissionDenied("Web pages of this origin may not call here (ALLOWED_ORIGINS).")
        key = admit(incoming)
        incoming.key, incoming.lacks_key = key or ANONYMOUS, key is None
        return view(incoming, **values)

    return answer


class Api(Blueprint):
    """A blueprint that checks the key of each request. A POST, and a route with asks=True, takes a MAX_IN_FLIGHT place.

    A route of another dialect than OpenAI's passes its ErrorFormat: errors=.... `sockets` are the routes of
    WebSockets, which an OpenAPI document cannot have.
    """

    def __init__(self, name: str, import_name: str) -> None:
        super().__init__(name, import_name)
        self.sockets: list[str] = []

    def socket(self, rule: str, admit: Admit = by_key) -> Callable[[View], View]:
        """Add a route for WebSockets, whose view returns `views.sockets.upgrade(...)`."""
        self.sockets.append(rule)
        return self.get(rule, admit=admit)

    def add_url_rule(self, rule: str, endpoint: Any = None, view_func: Any = None, *rest: Any, **options: Any) -> None:
        """Add a route as Flask does, with the view wrapped in its checks."""
        if (admit := options.pop("admit", None)) is not None and view_func:
            super().add_url_rule(rule, endpoint, _with_handshake(view_func, admit), *rest, **options)
            return
        errors = options.pop("errors", OPENAI)
        posts = "POST" in options.get("methods", ())
        works = options.pop("asks", posts)
        # A route that asks no upstream does not count, so that a caller at its limit can still cancel.
        view = view_func and _with_access(view_func, errors, works=works, counts=works and posts)
        super().add_url_rule(rule, endpoint, view, *rest, **options)


api = Api("api", __name__)
