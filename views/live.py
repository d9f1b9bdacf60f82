"""GET /live/events: the data of the page /live, as server-sent events. Needs an admin's key.

A watcher holds a thread, which sleeps between two readings. So their number is bounded (views/watchers.py), and their
time too (WATCH_SECONDS): the page reconnects.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import orjson
from flask import Blueprint, Response, request
from prometheus_client.parser import text_string_to_metric_families

from core.api_keys import ApiKey
from core.context import CallContext
from core.errors import Cancelled
from server.flask_app import REQUEST_ID
from views.services import Services, current_services

WATCH_SECONDS = 600.0
LOOK_SECONDS = 1.0
GAUGES = ("thinkline_requests_in_flight", "thinkline_breaker_state")
STATES = {0: "closed", 1: "half-open", 2: "open"}
UNREADABLE = "The table of usage cannot be read now; the log says why."
NOT_KEPT = "No usage is kept here (USAGE_DAYS=0)."

live = Blueprint("live", __name__)


@live.get("/live/events")
def watch() -> Response:
    """Send events until the watcher leaves. Raises Unauthenticated, PermissionDenied and Overloaded."""
    services = current_services()
    services.guard.require_operator(request.environ, "")
    services.watchers.enter()
    call = CallContext(request.environ[REQUEST_ID])
    line = services.lines.watch(request.environ, call)

    def leave() -> None:
        line.end()
        services.watchers.leave()

    response = Response(_events(services, call), mimetype="text/event-stream")
    response.headers.update({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    response.call_on_close(leave)
    return response


def _events(services: Services, call: CallContext) -> Iterator[bytes]:
    """Yield `overview` when it has changed, and `turns` with the requests that have ended since the last one."""
    until = monotonic() + WATCH_SECONDS
    last, sent = 0, b""
    try:
        while monotonic() < until and not services.admission.ending:
            overview = services.watchers.see(lambda: orjson.dumps(_overview(services)))
            yield b": here\n\n" if overview == sent else _event("overview", overview)
            sent = overview
            last, turns = _turns(services, last)
            if turns:
                yield _event("turns", orjson.dumps(turns))
            call.wait(LOOK_SECONDS)
    except Cancelled:
        return


def _event(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def _turns(services: Services, last: int) -> tuple[int, list[dict[str, Any]]]:
    overview = services.watchers.overview
    if overview is None:
        return last, []
    try:
        return overview.requests_after(last)
    except overview.failures:
        return last, []  # the overview has the problem


def _overview(services: Services) -> dict[str, Any]:
    gauges = _gauges(services)
    overview, hour, problem = services.watchers.overview, {}, NOT_KEPT
    if overview is not None:
        try:
            hour, problem = dict(overview.hour()), ""
        except overview.failures:
            problem = UNREADABLE
    return {
        "problem": problem,
        "providers": services.catalogue.listing(),
        "default": services.catalogue.default,
        "in_flight": gauges["in_flight"],
        "breakers": gauges["breakers"],
        "targets": hour.get("targets", {}),
        "days": hour.get("days", []),
        "keys": [_key(key, hour) for key in services.guard.keys],
    }


def _key(key: ApiKey, hour: Mapping[str, Any]) -> dict[str, Any]:
    """A key's limits and budgets, and its use of them. Of the key itself, only the name."""
    quota = key.quota
    used = hour.get("keys", {}).get(key.name, {})
    today = datetime.now(UTC).date().isoformat()
    costs = [each for each in hour.get("days", []) if each["key"] == key.name]
    return {
        "name": key.name,
        "admin": key.admin,
        "models": list(key.models),
        "limits": {"requests": quota.requests, "tokens": quota.tokens, "concurrent": quota.concurrent},
        "used": {"requests": used.get("requests", 0), "tokens": used.get("tokens", 0), "hour": used.get("hour", 0)},
        "budget": dict(key.budget),
        "spent": {
            "day": sum(each["cost"] for each in costs if each["day"] == today),
            "month": sum(each["cost"] for each in costs if each["day"][:7] == today[:7]),
        },
    }


def _gauges(services: Services) -> dict[str, Any]:
    """The requests in flight and the breakers that are not closed, of all workers."""
    found: dict[str, Any] = {"in_flight": 0, "breakers": {}}
    if services.metrics is None:
        return found
    lines = services.metrics.render("text/plain")[0].decode().splitlines(keepends=True)
    for family in text_string_to_metric_families("".join(line for line in lines if line.startswith(GAUGES))):
        if family.name == "thinkline_requests_in_flight":
            found["in_flight"] = round(sum(sample.value for sample in family.samples))
        elif family.name == "thinkline_breaker_state":
            states = {sample.labels["target"]: STATES[round(sample.value)] for sample in family.samples}
            found["breakers"] = {target: state for target, state in states.items() if state != "closed"}
    return found
