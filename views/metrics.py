"""GET /metrics, for Prometheus. Needs METRICS_KEY or an admin's key."""

from flask import Blueprint, Response, request

from views.services import current_services

metrics = Blueprint("metrics", __name__)


@metrics.get("/metrics")
def read_metrics() -> Response:
    """Return the metrics of all workers."""
    services = current_services()
    services.guard.require_operator(request.environ, services.metrics_key)
    assert services.metrics is not None  # noqa: S101 - create_app gives them
    body, content_type = services.metrics.render(request.headers.get("Accept", ""))
    return Response(body, content_type=content_type, headers={"Cache-Control": "no-store"})
