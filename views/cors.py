"""Lets web pages of other origins call (ALLOWED_ORIGINS)."""

import re
from collections.abc import Iterable

from flask import Flask
from flask_cors import CORS

EXPOSED_HEADERS = [
    "x-request-id",
    "Retry-After",
    "Server-Timing",
    *(f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in ("requests", "tokens")),
]
"""Headers of responses that web pages may read."""


def allow_origins(app: Flask, origins: Iterable[str]) -> None:
    """Answer preflights, and add the headers of CORS, for pages of these origins; "*" is any."""
    # Escaped: flask-cors takes some origins for patterns, such as http://[::1].
    patterns = ["*" if each == "*" else re.compile(re.escape(each.lower()) + r"\Z") for each in origins]
    CORS(app, origins=patterns, expose_headers=EXPOSED_HEADERS, max_age=600)
