"""The blueprint of everything that wants a key. A view cannot forget to ask for it: the blueprint does."""

from flask import Blueprint, g, request

from views.house import house

api = Blueprint("api", __name__)


@api.before_request
def authenticate() -> None:
    """Know who calls, or refuse. Preflights carry no key."""
    if request.method != "OPTIONS":
        g.caller = house().guard.caller(request)
