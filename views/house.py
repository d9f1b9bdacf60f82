"""What the views work with: made once by app.py, found through Flask's current app."""

from dataclasses import dataclass

from flask import current_app

from dispatch.catalogue import Catalogue
from dispatch.models import ModelLists
from dispatch.relay import Relay
from schemas.limits import Limits
from views.admission import Admission
from views.auth import Authenticator
from views.hangup import DisconnectWatcher


@dataclass(frozen=True, slots=True)
class Services:
    """The rooms behind the views."""

    guard: Authenticator
    catalogue: Catalogue
    models: ModelLists
    relay: Relay
    watcher: DisconnectWatcher
    admission: Admission
    max_body_bytes: int
    limits: Limits
    show_reasoning: bool = False
    fills_with_tools: bool = False


def services() -> Services:
    """The house of the app that serves this request."""
    rooms: Services = current_app.extensions["thinkline"]
    return rooms
