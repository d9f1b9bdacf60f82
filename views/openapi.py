"""GET /openapi.json: the API described to programs, from the same schemas that check it. No key."""

import json
from functools import cache

from flask import Blueprint, Response

from schemas.openapi.document import document

description = Blueprint("openapi", __name__)


@description.get("/openapi.json")
def openapi() -> Response:
    """Describe the API to programs."""
    return Response(_document(), mimetype="application/json")


@cache
def _document() -> str:
    """It is always the same, and large."""
    return json.dumps(document(), ensure_ascii=False)
