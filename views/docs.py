"""GET /docs and /openapi.json: the API described from the same schemas that check it."""

from flask import Blueprint

docs = Blueprint("docs", __name__)
