"""The blueprint of all endpoints that need a key. It checks the key itself, so no view can forget to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from time import monotonic, time
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.wsgi import get_content_length, get_input_stream

from core.errors import InvalidRequest, RequestTimeout, TooLarge
from schemas.errors import OPENAI, ErrorFormat
from server.flask_app import REQUEST_ID
from server.read_deadlines import BODY_SECONDS
from telemetry.records import RequestRecord
from views.services import Services, current_services

TOO_LARGE = "The body is larger than this server takes (MAX_BODY_BYTES)."
TOO_SLOW = "The body did not come in time."
SHOWN = 200
"""Characters of what a stranger may make as long as they like."""
BROKEN_OFF = "The body is shorter than announced."


API_REQUEST = "thinkline.api_request"
"""The environ's key of a request's ApiRequest."""


@dataclass(slots=True)
class ApiRequest:
    """A request to a view of the API, and what is known of it for its record.

    `caller` is the name of its key, "" without keys. `endpoint` is the view's name. A view sets `model`, `stream` and
    `conversation` as soon as it has read them. `errors` tells how the caller's dialect has an error. `recorded` is set
    once the request has its record.
    """

    services: Services
    environ: dict[str, Any]
    endpoint: str
    errors: ErrorFormat = OPENAI
    caller: str = ""
    model: str = ""
    stream: bool | None = None
    conversation: str = ""
    recorded: bool = False
    started: float = field(default_factory=monotonic)

    def record(self, **result: Any) -> None:
        """Hand the request's record to the sinks, with `result` as its fields. Only the first record counts."""
        if self.recorded:
            return
        self.recorded = True
        environ = self.environ
        duration = monotonic() - result.pop("began", self.started)
        self.services.record(
            RequestRecord(
                request_id=environ[REQUEST_ID],
                started=time() - duration,
                duration=duration,
                method=environ["REQUEST_METHOD"],
                path=environ["PATH_INFO"][:SHOWN],
                sender=environ.get("REMOTE_ADDR", ""),
                forwarded_for=environ.get("HTTP_X_FORWARDED_FOR", "")[:SHOWN],
                caller=self.caller,
                endpoint=self.endpoint,
                model=self.model,
                stream=self.stream,
                conversation=self.conversation,
                **result,
            )
        )

    def body(self) -> bytes:
        """The body. Raises TooLarge; RequestTimeout if it does not come in time; InvalidRequest if it is incomplete."""
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
        return body


View = Callable[..., Response]
"""Is called with an ApiRequest, and with what its path holds."""


def _with_access(view: View, errors: ErrorFormat, *, works: bool) -> View:
    """The view, for who may call; what `works`, for as many at a time as there may be, and a stream to its last byte.

    Raises Unauthenticated and Overloaded. Preflights, which carry no key, never come here.
    """

    @wraps(view)
    def answer(**values: Any) -> Response:
        services, environ = current_services(), request.environ
        incoming = environ[API_REQUEST] = ApiRequest(services, environ, view.__name__, errors)
        incoming.caller = services.guard.caller(environ)
        if not works:
            response = view(incoming, **values)
            incoming.record(status=response.status_code)
            return response
        services.admission.enter()
        try:
            response = view(incoming, **values)
        except BaseException:  # whatever it was, the place must be freed
            services.admission.leave()
            raise
        if response.is_streamed:
            response.call_on_close(services.admission.leave)
        else:
            incoming.record(status=response.status_code)
            services.admission.leave()
        return response

    return answer


class Api(Blueprint):
    """A blueprint whose views are all admitted. What asks upstreams is work: a POST, and a route with asks=True.

    A route of another dialect than OpenAI's says how that spells errors: errors=....
    """

    def add_url_rule(self, rule: str, endpoint: Any = None, view_func: Any = None, *rest: Any, **options: Any) -> None:
        """Flask's, with a guard before the view."""
        errors = options.pop("errors", OPENAI)
        works = options.pop("asks", "POST" in options.get("methods", ()))
        super().add_url_rule(
            rule, endpoint, view_func and _with_access(view_func, errors, works=works), *rest, **options
        )


api = Api("api", __name__)
