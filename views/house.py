"""What the views work with: made once by app.py, found through Flask's current app."""

from dataclasses import dataclass

from flask import current_app

from dispatch.catalogue import Catalogue
from dispatch.models import Models
from dispatch.relay import Relay
from schemas.limits import Limits
from views.admission import Admission
from views.auth import Guard
from views.hangup import Watcher


@dataclass(frozen=True, slots=True)
class House:
    """The rooms behind the views."""

    guard: Guard
    catalogue: Catalogue
    models: Models
    relay: Relay
    watcher: Watcher
    admission: Admission
    max_body_bytes: int
    limits: Limits
    show_reasoning: bool = False
    fills_with_tools: bool = False


def house() -> House:
    """The house of the app that serves this request."""
    rooms: House = current_app.extensions["thinkline"]
    return rooms
