"""The blueprint of everything that wants a key. A view cannot forget to ask for it: the blueprint does."""

from flask import Blueprint, current_app, g, request

from errors import TooLarge, TooSlow
from views.house import house

api = Blueprint("api", __name__)


TOO_LARGE = "The body is larger than this server takes (MAX_BODY_BYTES)."


@api.before_request
def authenticate() -> None:
    """Know who calls, or refuse. Preflights carry no key."""
    if request.method != "OPTIONS":
        g.caller = house().guard.caller(request)


def read_body() -> bytes:
    """The request's body. Raises TooLarge, and TooSlow for one that does not come."""
    try:
        body = request.get_data(cache=False)
    except OSError:
        raise TooSlow("The body did not come in time.") from None
    if len(body) >= current_app.config["MAX_CONTENT_LENGTH"]:
        raise TooLarge(TOO_LARGE)
    return body
