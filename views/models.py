"""GET /models and /models/{id}."""

from typing import Any

import orjson
from flask import Response, jsonify

from core.models import ListedModel
from views.blueprint import ApiRequest, api


@api.get("/models", asks=True)
def models(incoming: ApiRequest) -> Response:
    """List the models that can be called."""
    listed = {"object": "list", "data": [_row(model) for model in incoming.services.models.all()]}
    return Response(orjson.dumps(listed), mimetype="application/json")


@api.get("/models/<path:identifier>", asks=True)
def model(incoming: ApiRequest, identifier: str) -> Response:
    """Show one model; ids may hold slashes."""
    return jsonify(_row(incoming.services.models.one(identifier)))


def _row(model: ListedModel) -> dict[str, Any]:
    row = {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}
    return {**row, "description": model.description} if model.description else row
