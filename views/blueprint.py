"""The blueprint of everything that wants a key. A view cannot forget to ask for it: the blueprint does."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.wsgi import get_content_length, get_input_stream

from core.errors import InvalidRequest, RequestTimeout, TooLarge
from server.read_deadlines import BODY_SECONDS
from views.services import Services, services

TOO_LARGE = "The body is larger than this server takes (MAX_BODY_BYTES)."
TOO_SLOW = "The body did not come in time."
BROKEN_OFF = "The body is shorter than announced."


@dataclass(slots=True)
class ApiRequest:
    """A request that was let in: who serves it, its WSGI environ, and the name of its key, "" without keys."""

    services: Services
    environ: dict[str, Any]
    caller: str

    def body(self) -> bytes:
        """Its body. Raises TooLarge, TooSlow for one that does not come, InvalidRequest for a part of one."""
        environ, most = self.environ, self.services.max_body_bytes
        length = get_content_length(environ)
        if length is not None and length > most:
            raise TooLarge(TOO_LARGE)
        # gunicorn says that its stream has an end; with another server's, Werkzeug knows what to do.
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
"""Is called with an Incoming, and with what its path holds."""


def _with_access(view: View, *, works: bool) -> View:
    """The view, for who may call; what `works`, for as many at a time as there may be, and a stream to its last byte.

    Raises NotAuthorized and Overloaded. Preflights, which carry no key, never come here.
    """

    @wraps(view)
    def answer(**values: Any) -> Response:
        rooms, environ = services(), request.environ
        incoming = ApiRequest(rooms, environ, rooms.guard.caller(environ))
        if not works:
            return view(incoming, **values)
        rooms.admission.enter()
        try:
            response = view(incoming, **values)
        except BaseException:  # whatever it was, the place is free again
            rooms.admission.leave()
            raise
        if response.is_streamed:
            response.call_on_close(rooms.admission.leave)
        else:
            rooms.admission.leave()
        return response

    return answer


class Api(Blueprint):
    """A blueprint whose views are all admitted. What asks upstreams is work: a POST, and a route with asks=True."""

    def add_url_rule(self, rule: str, endpoint: Any = None, view_func: Any = None, *rest: Any, **options: Any) -> None:
        """Flask's, with a guard before the view."""
        works = options.pop("asks", False) or "POST" in options.get("methods", ())
        super().add_url_rule(rule, endpoint, view_func and _with_access(view_func, works=works), *rest, **options)


api = Api("api", __name__)
