"""What the views work with: made once by app.py, found through Flask's current app."""

from dataclasses import dataclass

from flask import current_app

from access.keys import Authenticator
from dispatch.relay import Relay
from dispatch.routing.catalogue import Catalogue
from dispatch.routing.model_lists import ModelLists
from schemas.limits import Limits
from server.admission import Admission
from server.lines import LineKeeper


@dataclass(frozen=True, slots=True)
class Services:
    """The rooms behind the views."""

    guard: Authenticator
    catalogue: Catalogue
    models: ModelLists
    relay: Relay
    lines: LineKeeper
    admission: Admission
    max_body_bytes: int
    limits: Limits
    show_reasoning: bool = False
    fills_with_tools: bool = False


def services() -> Services:
    """The house of the app that serves this request."""
    rooms: Services = current_app.extensions["thinkline"]
    return rooms
