"""GET /models and /models/{id}."""

from typing import Any

import orjson
from flask import Response, jsonify

from core.models import ListedModel
from views.blueprint import ApiRequest, api
from views.model_access import allowed_models


@api.get("/models", asks=True)
def models(incoming: ApiRequest) -> Response:
    """List the models that can be called."""
    services = incoming.services
    allowed = allowed_models(services.models.all(), incoming.key, services.catalogue)
    listed = {"object": "list", "data": [_row(model) for model in allowed]}
    return Response(orjson.dumps(listed), mimetype="application/json")


@api.get("/models/<path:identifier>", asks=True)
def model(incoming: ApiRequest, identifier: str) -> Response:
    """Show one model; ids may hold slashes."""
    services = incoming.services
    found = services.models.one(identifier)
    if not allowed_models([found], incoming.key, services.catalogue):
        raise services.models.unknown(identifier)
    return jsonify(_row(found))


def _row(model: ListedModel) -> dict[str, Any]:
    row = {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}
    return {**row, "description": model.description} if model.description else row
