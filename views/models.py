"""GET /models and /models/{id}."""

from typing import Any

import orjson
from flask import Response, jsonify

from dispatch.models import Model
from views.api import api
from views.house import house


@api.get("/models")
def models() -> Response:
    """List the models that can be called."""
    listed = {"object": "list", "data": [_row(model) for model in house().models.all()]}
    return Response(orjson.dumps(listed), mimetype="application/json")


@api.get("/models/<path:identifier>")
def model(identifier: str) -> Response:
    """Show one model; ids may hold slashes."""
    return jsonify(_row(house().models.one(identifier)))


def _row(model: Model) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}
