"""GET /health, /ready and /: for load balancers and for people who try the address in a browser. No key."""

from flask import Blueprint, Response, jsonify, redirect
from werkzeug.wrappers import Response as AnyResponse

from views.house import house

ops = Blueprint("ops", __name__)


@ops.get("/health")
def health() -> Response:
    """Tell that the process lives."""
    return jsonify(status="ok")


@ops.get("/ready")
def ready() -> Response:
    """Tell that requests can be served, and by whom."""
    return jsonify(status="ready", provider=house().catalogue.default)


@ops.get("/")
def root() -> AnyResponse:
    """Show the way."""
    return redirect("/docs")
