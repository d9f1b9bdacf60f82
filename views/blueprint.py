"""The blueprint of all endpoints that need a key. It checks the key itself, so no view can forget to."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.wsgi import get_content_length, get_input_stream

from core.errors import InvalidRequest, RequestTimeout, TooLarge
from server.disconnects import BODY_SECONDS
from views.services import Services, current_services

TOO_LARGE = "The body is larger than this server takes (MAX_BODY_BYTES)."
TOO_SLOW = "The body did not come in time."
BROKEN_OFF = "The body is shorter than announced."


@dataclass(slots=True)
class ApiRequest:
    """A request with a valid key: the services, its WSGI environ, and the name of its key, "" without keys."""

    services: Services
    environ: dict[str, Any]
    caller: str

    def body(self) -> bytes:
        """The body. Raises TooLarge; RequestTimeout if it does not come in time; InvalidRequest if it is incomplete."""
        environ, most = self.environ, self.services.max_body_bytes
        length = get_content_length(environ)
        if length is not None and length > most:
            raise TooLarge(TOO_LARGE)
        # gunicorn marks the stream as terminated; under another server Werkzeug decides.
        stream = environ["wsgi.input"] if "wsgi.input_terminated" in environ else get_input_stream(environ)
        try:
            with self.services.watcher.due(environ.get("gunicorn.socket"), BODY_SECONDS) as due:
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
"""Called with an ApiRequest, and with the values of its path."""


def _with_access(view: View, *, works: bool) -> View:
    """The view behind the check of the key. If it `works`, it also takes a place in admission, until the end of its
    answer.

    Raises Unauthenticated and Overloaded. Preflights, which carry no key, never come here.
    """

    @wraps(view)
    def answer(**values: Any) -> Response:
        services, environ = current_services(), request.environ
        incoming = ApiRequest(services, environ, services.guard.caller(environ))
        if not works:
            return view(incoming, **values)
        services.admission.enter()
        try:
            response = view(incoming, **values)
        except BaseException:  # whatever it was, the place must be freed
            services.admission.leave()
            raise
        if response.is_streamed:
            response.call_on_close(services.admission.leave)
        else:
            services.admission.leave()
        return response

    return answer


class Api(Blueprint):
    """A blueprint whose views all check the key. Requests that ask upstreams take a place: POSTs, and asks=True."""

    def add_url_rule(self, rule: str, endpoint: Any = None, view_func: Any = None, *rest: Any, **options: Any) -> None:
        """Flask's, with the check before the view."""
        works = options.pop("asks", False) or "POST" in options.get("methods", ())
        super().add_url_rule(rule, endpoint, view_func and _with_access(view_func, works=works), *rest, **options)


api = Api("api", __name__)
