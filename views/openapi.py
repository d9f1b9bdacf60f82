"""GET /openapi.json: the OpenAPI document, made from the schemas that check requests. No key."""

import json
from functools import cache

from flask import Blueprint, Response

from schemas.openapi.document import document

description = Blueprint("openapi", __name__)


@description.get("/openapi.json")
def openapi() -> Response:
    """Return the OpenAPI document."""
    return Response(_document(), mimetype="application/json")


@cache
def _document() -> str:
    """The document, which is large and never changes."""
    return json.dumps(document(), ensure_ascii=False)
