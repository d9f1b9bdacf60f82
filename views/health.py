"""GET /health and /ready: for load balancers. No key."""

from flask import Blueprint, Response, jsonify

from core.version import VERSION
from views.services import current_services

ops = Blueprint("ops", __name__)


@ops.get("/health")
def health() -> Response:
    """Say that the process lives, and which version it runs."""
    return jsonify(status="ok", version=VERSION)


@ops.get("/ready")
def ready() -> tuple[Response, int]:
    """Say that requests are served, and by which provider by default; 503 while the server shuts down."""
    if current_services().admission.draining:
        return jsonify(status="draining"), 503
    return jsonify(status="ready", provider=current_services().catalogue.default), 200
