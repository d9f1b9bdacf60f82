"""The services that the views use: built once by app.py, found through Flask's current app."""

from collections.abc import Callable
from dataclasses import dataclass, field

from flask import current_app

from access.admission import AdmissionCheck
from access.keys import Authenticator
from access.platforms import PlatformProofs
from access.proxies import TrustedProxies
from dispatch.relay import Relay
from dispatch.routing.catalogue import Catalogue
from dispatch.routing.model_lists import ModelLists
from schemas.limits import Limits
from server.admission import Admission
from server.lines import LineKeeper
from server.sockets.keeper import SocketKeeper
from telemetry.metrics import Metrics
from telemetry.records import Recorder
from views.response_store import ResponseStore
from views.running import RunningResponses


@dataclass(frozen=True, slots=True)
class Services:
    """The services behind the views."""

    guard: Authenticator
    catalogue: Catalogue
    models: ModelLists
    relay: Relay
    lines: LineKeeper
    admission: Admission
    max_body_bytes: int
    limits: Limits
    responses: ResponseStore
    running: RunningResponses
    sockets: SocketKeeper
    proofs: PlatformProofs = field(default_factory=PlatformProofs)
    checks: tuple[AdmissionCheck, ...] = ()
    record: Recorder = field(default_factory=Recorder)
    proxies: TrustedProxies = field(default_factory=TrustedProxies)
    metrics: Metrics | None = None
    metrics_key: str = ""
    tell_id: Callable[[str], object] = str
    show_reasoning: bool = False
    fills_with_tools: bool = False
    drops_tools: bool = False


def current_services() -> Services:
    """The services of the app that serves this request."""
    services: Services = current_app.extensions["thinkline"]
    return services
