"""GET /models and /models/{id}."""

from typing import Any

import orjson
from flask import Response, jsonify

from dispatch.models import Model
from views.api import Incoming, api


@api.get("/models", asks=True)
def models(incoming: Incoming) -> Response:
    """List the models that can be called."""
    listed = {"object": "list", "data": [_row(model) for model in incoming.house.models.all()]}
    return Response(orjson.dumps(listed), mimetype="application/json")


@api.get("/models/<path:identifier>", asks=True)
def model(incoming: Incoming, identifier: str) -> Response:
    """Show one model; ids may hold slashes."""
    return jsonify(_row(incoming.house.models.one(identifier)))


def _row(model: Model) -> dict[str, Any]:
    row = {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}
    return {**row, "description": model.description} if model.description else row
