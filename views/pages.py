"""The web pages: the playground, comparisons, the live view, /docs. They contain no secrets: their scripts call the API
with the key that the reader types. Without configured keys only this machine gets them (decision 6).
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, abort, make_response, render_template, request, send_from_directory

from schemas.openapi.document import document
from views import guides
from views.services import current_services

WEB = Path(__file__).parent.parent / "web"
SANE_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+")
FALLBACK = "http://127.0.0.1:8000"
PREFORMATTED = re.compile(r"(<pre.*?</pre>)", re.DOTALL)
INDENT = re.compile(r"\n\s+")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""For the SVG drawings of guide pages, which have inline styles."""
ASSETS = {".css", ".js"}
PICTURES = {".svg", ".png"}

pages = Blueprint("pages", __name__, template_folder=WEB)


@pages.get("/")
def playground() -> Response:
    """Talk to a model, by text or by voice."""
    return _page("playground.html", page="Playground")


@pages.get("/compare")
def compare() -> Response:
    """Give models the same turn."""
    return _page("compare.html", page="Compare")


@pages.get("/live")
def live() -> Response:
    """Watch requests. The data comes from views/live.py, and needs an admin's key."""
    return _page("live.html", page="Live")


@pages.get("/docs")
def docs() -> Response:
    """Describe the API, with examples for the address that the reader uses."""
    return _page("docs.html", here="/docs", **_api())


@pages.get("/docs/schemas")
def schemas() -> Response:
    """Describe the schemas of answers."""
    return _page("schemas.html", here="/docs/schemas", **_api())


@pages.get("/docs/guide/<path:name>")
def guide(name: str) -> Response:
    """Show a page of docs/, or a picture in one."""
    if Path(name).suffix in PICTURES:
        response = send_from_directory(guides.FOLDER, name, max_age=300)
        response.headers["Content-Security-Policy"] = PICTURE_POLICY
        return response
    found = guides.guides().get(name)
    if found is None:
        abort(404)
    return _page("guide.html", page="Docs", here=found.address, guide=found, guides=guides.menu())


@pages.get("/web/<name>")
def asset(name: str) -> Response:
    """Return a style sheet or a script. Browsers revalidate it each time, so that it fits the page."""
    if Path(name).suffix not in ASSETS:
        abort(404)
    return send_from_directory(WEB, name, max_age=0)


def _page(template: str, **values: Any) -> Response:
    """Render a page. Raises Unauthenticated if only this machine is served."""
    guard = current_services().guard
    if not guard.has_keys:
        guard.authenticate(request.environ)
    response = make_response(_without_indents(render_template(template, **values)))
    response.headers.update(HEADERS)
    return response


def _without_indents(html: str) -> str:
    """Remove indentation, a fifth of a long page; within <pre> it is kept."""
    parts = PREFORMATTED.split(html)
    return "".join(part if part.startswith("<pre") else INDENT.sub("\n", part) for part in parts)


def _api() -> dict[str, Any]:
    """The values of the templates about the API."""
    api = _document()
    operations = [each for methods in api["paths"].values() for each in methods.values()]
    bodies = [
        each["requestBody"]["content"]["application/json"]["schema"] for each in operations if "requestBody" in each
    ]
    return {
        "page": "Docs",
        "api": api,
        "base": f"{_address()}/v1",
        "bodies": {each["$ref"].rpartition("/")[2] for each in bodies},
        "tags": list(dict.fromkeys(each["tags"][0] for each in operations)),
        "guides": guides.menu(),
        "pretty": pretty,
    }


@cache
def _document() -> dict[str, Any]:
    """The document, which is large and never changes."""
    return document()


def _address() -> str:
    """The address by which the reader reached this server. An odd Host header is not used: people copy the examples."""
    if not SANE_HOST.fullmatch(request.host):
        return FALLBACK
    through_tls = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip() == "https"
    return f"{'https' if through_tls else request.scheme}://{request.host}"


def pretty(value: Any, width: int = 88, indent: str = "") -> str:
    """Format JSON: a value that fits the width stays on one line."""
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
