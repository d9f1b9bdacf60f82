"""The blueprint of everything that wants a key. A view cannot forget to ask for it: the blueprint does."""

from flask import Blueprint, Response, current_app, g, request

from errors import TooLarge, TooSlow
from views.house import house

api = Blueprint("api", __name__)


TOO_LARGE = "The body is larger than this server takes (MAX_BODY_BYTES)."
TOO_SLOW = "The body did not come in time."


@api.before_request
def authenticate() -> None:
    """Know who calls, or refuse. Preflights carry no key."""
    if request.method != "OPTIONS":
        g.caller = house().guard.caller(request)


@api.before_request
def admit() -> None:
    """Take the request in, if it is work and there are not too many. Raises Overloaded."""
    if request.method == "POST":
        house().admission.enter()
        g.admitted = True


@api.after_request
def leave_with(response: Response) -> Response:
    """A stream has left when its last byte has."""
    if response.is_streamed and g.pop("admitted", False):
        response.call_on_close(house().admission.leave)
    return response


@api.teardown_request
def leave(_: BaseException | None) -> None:
    """All else has left when there is an answer, or none."""
    if g.pop("admitted", False):
        house().admission.leave()


def read_body() -> bytes:
    """The request's body. Raises TooLarge, and TooSlow for one that does not come."""
    try:
        with house().watcher.due(request.environ.get("gunicorn.socket")) as due:
            body = request.get_data(cache=False)
    except OSError:
        raise TooSlow(TOO_SLOW) from None
    if due.late:
        raise TooSlow(TOO_SLOW)
    if len(body) >= current_app.config["MAX_CONTENT_LENGTH"]:
        raise TooLarge(TOO_LARGE)
    return body
