"""GET /docs and /openapi.json: the API described from the same schemas that check it. No key."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, make_response, render_template, request, send_from_directory

from schemas.openapi.document import document

WEB = Path(__file__).parent.parent / "web"
SANE_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+")
FALLBACK = "http://127.0.0.1:8000"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

docs = Blueprint("docs", __name__, template_folder=WEB)


@docs.get("/openapi.json")
def openapi() -> Response:
    """Describe the API to programs."""
    return Response(_document(), mimetype="application/json")


@cache
def _document() -> str:
    """It is always the same, and large."""
    return json.dumps(document(), ensure_ascii=False)


@docs.get("/docs")
def page() -> Response:
    """Describe the API to people, with examples for the address they came by."""
    html = render_template("docs.html", api=document(), base=f"{_address()}/v1", pretty=pretty)
    response = make_response(html)
    response.headers.update(HEADERS)
    return response


@docs.get("/docs.css")
def style() -> Response:
    """The page's looks."""
    return send_from_directory(WEB, "docs.css", max_age=300)


def _address() -> str:
    """Where the caller found us, unless the Host header is odd: it ends up in commands that people copy."""
    if not SANE_HOST.fullmatch(request.host):
        return FALLBACK
    through_tls = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip() == "https"
    return f"{'https' if through_tls else request.scheme}://{request.host}"


def pretty(value: Any, width: int = 88, indent: str = "") -> str:
    """JSON as people write it: what fits the width stays on one line."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent + flat) <= width or not isinstance(value, (dict, list)):
        return flat
    deeper = indent + "  "
    if isinstance(value, dict):
        rows = [f"{json.dumps(key)}: {pretty(each, width, deeper)}" for key, each in value.items()]
    else:
        rows = [pretty(each, width, deeper) for each in value]
    inside = f",\n{deeper}".join(rows)
    return f"{flat[0]}\n{deeper}{inside}\n{indent}{flat[-1]}"
