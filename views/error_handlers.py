"""Every failure as the error object of the caller's dialect, whatever raised it: never HTML, never a stack."""

import re
from difflib import get_close_matches
from functools import lru_cache
from logging import getLogger

import orjson
from flask import Flask, Response, current_app, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException

from core.errors import Cancelled, GatewayError, HalfClosed, InvalidRequest
from schemas.errors import OPENAI, error_headers
from schemas.messages.errors import ERRORS
from server.flask_app import NOT_HTTP, REQUEST_ID
from views.blueprint import API_REQUEST, SHOWN, ApiRequest
from views.services import current_services

log = getLogger("thinkline.errors")

LIKE = 0.75
"""From this likeness on (difflib's ratio) a path is taken for a misspelt one."""
OLLAMAS = re.compile(r"/api/(?!v1(/|$))")
"""Paths of Ollama's own, whose clients read a sentence where others read an object."""
OF_ANTHROPIC = re.compile(r"/messages(/[^/]*)?/?$")
"""Paths of Anthropic's dialect."""


class NotFound(InvalidRequest):
    """No such path, or no such method there."""

    code = None


def register(app: Flask) -> None:
    """Have the app answer failures so."""
    app.register_error_handler(GatewayError, respond)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Cancelled, _hung_up)
    app.register_error_handler(ParseException, _not_http)
    app.register_error_handler(Exception, _unexpected)


def respond(error: GatewayError) -> Response:
    """The error as a response with its true status."""
    asked = _api_request()
    asked.record_failure(error)
    body = orjson.dumps(asked.errors.body(error, asked.environ[REQUEST_ID]))
    response = Response(body, asked.errors.status(error), mimetype="application/json")
    response.headers.update(error_headers(error))
    if asked.errors.id_header:
        response.headers[asked.errors.id_header] = asked.environ[REQUEST_ID]
    return response


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    if status < 400:  # noqa: PLR2004 - a redirect is no failure
        return Response(status=status, headers=dict(error.get_headers()))
    ours = NotFound(_sentence(status, error.name))
    ours.status = status
    response = respond(ours)
    if OLLAMAS.match(request.path):
        response.set_data(orjson.dumps({"error": ours.message}))
    response.headers.extend((k, v) for k, v in error.get_headers() if k.lower() == "allow")
    return response


def _api_request() -> ApiRequest:
    """The request as its view knows it, or as it would, where it has reached none."""
    known: ApiRequest | None = request.environ.get(API_REQUEST)
    if known is not None:
        return known
    dialect = ERRORS if OF_ANTHROPIC.search(request.path) else OPENAI
    return ApiRequest(current_services(), request.environ, endpoint="", errors=dialect)


def _sentence(status: int, name: str) -> str:
    if status == 405:  # noqa: PLR2004
        return "This path does not answer to that method."
    if status != 404:  # noqa: PLR2004
        return f"The request cannot be served ({name})."
    meant = _meant(request.path)
    rest = "/docs" if "pages" in current_app.blueprints else "/openapi.json"  # without PAGES there is no /docs
    if meant:
        return f"There is nothing at this path. You may have meant {meant} ({rest} shows them all)."
    return f"There is nothing at this path. Chat completions are at /v1/chat/completions; {rest} shows the rest."


def _meant(path: str) -> str:
    """The path that was meant: what a doubled or a lengthened one ends in, or what a misspelt one is like; or ""."""
    path = path[:SHOWN].lower().rstrip("/")
    known = _known_paths(current_app)
    ending = max((each for each in known if path.endswith(each)), key=len, default="")
    if ending:
        return known[ending]
    return next(iter(get_close_matches(path, known, 1, LIKE)), "")


@lru_cache(maxsize=1)
def _known_paths(app: Flask) -> dict[str, str]:
    """The paths that there are, each with how it is recommended."""
    found: dict[str, str] = {}
    for rule in app.url_map.iter_rules():
        if not rule.arguments and rule.rule != "/":
            full = f"/v1{rule.rule}" if rule.endpoint.startswith("api.") else rule.rule
            found |= {rule.rule: full, full: full}
    return found


def _hung_up(_: Cancelled) -> Response:
    error = HalfClosed()
    asked = _api_request()
    asked.record(status=error.status, outcome="hung_up", code=error.code, error=error.message)
    body = orjson.dumps(asked.errors.body(error, asked.environ[REQUEST_ID]))
    return Response(body, error.status, mimetype="application/json")


def _not_http(error: ParseException) -> Response:
    """The body is not what its head said: gunicorn answers, and closes the line, once this reaches it."""
    request.environ[NOT_HTTP] = error
    return Response(status=400)


def _unexpected(error: Exception) -> Response:
    log.error("unexpected failure", exc_info=error)
    return respond(GatewayError("Something went wrong here."))
