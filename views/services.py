"""The services that the views use: built once by app.py, found through Flask's current app."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from logging import getLogger
from typing import Any, Protocol

from flask import current_app

from access.admission import AdmissionCheck
from access.keys import Authenticator
from access.platforms import PlatformProofs
from access.proxies import TrustedProxies
from core.trace_context import TraceContext
from dispatch.relay import Relay
from dispatch.routing.catalogue import Catalogue
from dispatch.routing.model_lists import ModelLists
from schemas.limits import Limits
from server.admission import Admission
from server.lines import LineKeeper
from server.sockets.keeper import SocketKeeper
from telemetry.metrics import Metrics
from telemetry.records import Recorder, RequestRecord
from usage.accounting import AnswerLengths
from usage.ledger import Ledger
from views.response_store import ResponseStore
from views.running import RunningResponses
from views.watchers import Watchers

log = getLogger("thinkline")


class Tracer(Protocol):
    """Begins and sends traces. telemetry/tracing.py implements it with optional packages."""

    def begin(self, environ: Mapping[str, Any]) -> TraceContext:
        """Begin the trace of a WSGI request."""

    def record(self, record: RequestRecord) -> None:
        """Send the spans of a request that has ended."""

    def close(self, seconds: float) -> None:
        """Send the remaining spans, for at most `seconds`."""


@dataclass(frozen=True, slots=True)
class Services:
    """The services behind the views. `at_end` is called when the process ends, each for a bounded time."""

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
    ledger: Ledger | None = None
    watchers: Watchers = field(default_factory=Watchers)
    lengths: AnswerLengths = field(default_factory=AnswerLengths)
    set_request_id: Callable[[str], object] = str
    proxies: TrustedProxies = field(default_factory=TrustedProxies)
    tracer: Tracer | None = None
    at_end: tuple[Callable[[], object], ...] = ()
    metrics: Metrics | None = None
    metrics_key: str = ""
    show_reasoning: bool = False
    fills_with_tools: bool = False
    drops_tools: bool = False

    def close(self) -> None:
        """Close the services: all requests have ended, and the process will."""
        for end in self.at_end:
            try:
                end()
            except Exception:  # any fault: the other services must be closed too
                log.exception("an end has failed")


def current_services() -> Services:
    """The services of the app that serves this request."""
    services: Services = current_app.extensions["thinkline"]
    return services
