"""The blueprint of everything that wants a key. A view cannot forget to ask for it: the blueprint does."""

from flask import Blueprint, Response, g, request
from werkzeug.wsgi import get_content_length, get_input_stream

from errors import InvalidRequest, TooLarge, TooSlow
from views.admission import Admission
from views.hangup import BODY_SECONDS
from views.house import house

api = Blueprint("api", __name__)


TOO_LARGE = "The body is larger than this server takes (MAX_BODY_BYTES)."
TOO_SLOW = "The body did not come in time."
BROKEN_OFF = "The body is shorter than announced."


@api.before_request
def admit() -> None:
    """Know who calls, or refuse; and take the request in, if it is work and there are not too many.

    Preflights carry no key. Raises NotAuthorized and Overloaded.
    """
    environ = request.environ
    method = environ["REQUEST_METHOD"]
    if method == "OPTIONS":
        return
    rooms = house()
    g.caller = rooms.guard.caller(environ)
    if method == "POST":
        rooms.admission.enter()
        g.admitted = rooms.admission


@api.after_request
def leave(response: Response) -> Response:
    """A request has left when it is answered; a stream, when its last byte is out."""
    admission: Admission | None = g.pop("admitted", None)
    if admission is None:
        return response
    if response.is_streamed:
        response.call_on_close(admission.leave)
    else:
        admission.leave()
    return response


def read_body() -> bytes:
    """The request's body. Raises TooLarge, TooSlow for one that does not come, InvalidRequest for a part of one."""
    rooms, environ = house(), request.environ
    most = rooms.max_body_bytes
    length = get_content_length(environ)
    if length is not None and length > most:
        raise TooLarge(TOO_LARGE)
    try:
        with rooms.watcher.due(environ.get("gunicorn.socket"), BODY_SECONDS) as due:
            body: bytes = get_input_stream(environ).read(most + 1 if length is None else length)
    except OSError as error:
        if due.late or isinstance(error, (BlockingIOError, TimeoutError)):
            raise TooSlow(TOO_SLOW) from None
        raise InvalidRequest(BROKEN_OFF) from None
    if due.late:
        raise TooSlow(TOO_SLOW)
    if len(body) > most:
        raise TooLarge(TOO_LARGE)
    if length is not None and len(body) < length:
        raise InvalidRequest(BROKEN_OFF)
    return body
