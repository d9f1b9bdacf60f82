"""Turns each failure into the error object of the caller's dialect: never HTML, never a traceback."""

import re
from difflib import get_close_matches
from functools import lru_cache
from logging import getLogger

import orjson
from flask import Flask, Response, current_app, g, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException

from core.errors import Cancelled, GatewayError, HalfClosed, InvalidRequest
from schemas.errors import OPENAI, error_headers
from schemas.messages.errors import ERRORS
from server.flask_app import NOT_HTTP, REQUEST_ID
from views.blueprint import SHOWN, ApiRequest
from views.services import current_services

log = getLogger("thinkline.errors")

SIMILARITY = 0.75
"""A path with this ratio (difflib) to a known one is taken for a misspelling of it."""
OLLAMA_PATH = re.compile(r"/api/(?!v1(/|$))")
"""Paths of Ollama's own API, whose clients expect the error as a string."""
ANTHROPIC_PATH = re.compile(r"/messages(/[^/]*)?/?$")
"""Paths of Anthropic's dialect."""


class NotFound(InvalidRequest):
    """No such path, or no such method there."""

    code = None


def register(app: Flask) -> None:
    """Register the handlers with the app."""
    app.register_error_handler(GatewayError, respond)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Cancelled, _hung_up)
    app.register_error_handler(ParseException, _not_http)
    app.register_error_handler(Exception, _unexpected)


def respond(error: GatewayError) -> Response:
    """The error as a response with its true status."""
    incoming = _api_request()
    incoming.record_failure(error)
    body = orjson.dumps(incoming.errors.body(error, incoming.environ[REQUEST_ID]))
    response = Response(body, incoming.errors.status(error), mimetype="application/json")
    response.headers.update(error_headers(error))
    if incoming.errors.id_header:
        response.headers[incoming.errors.id_header] = incoming.environ[REQUEST_ID]
    return response


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    if status < 400:  # noqa: PLR2004 - a redirect is no failure
        return Response(status=status, headers=dict(error.get_headers()))
    ours = NotFound(_sentence(status, error.name))
    ours.status = status
    response = respond(ours)
    if OLLAMA_PATH.match(request.path):
        response.set_data(orjson.dumps({"error": ours.message}))
    response.headers.extend((k, v) for k, v in error.get_headers() if k.lower() == "allow")
    return response


def _api_request() -> ApiRequest:
    """The view's ApiRequest; a new one if no view was reached."""
    known: ApiRequest | None = g.get("api_request")
    if known is not None:
        return known
    dialect = ERRORS if ANTHROPIC_PATH.search(request.path) else OPENAI
    return ApiRequest(current_services(), request.environ, endpoint="", errors=dialect)


def _sentence(status: int, name: str) -> str:
    if status == 405:  # noqa: PLR2004
        return "This path does not answer to that method."
    if status != 404:  # noqa: PLR2004
        return f"The request cannot be served ({name})."
    suggestion = _similar_path(request.path)
    rest = "/docs" if "pages" in current_app.blueprints else "/openapi.json"  # without PAGES there is no /docs
    if suggestion:
        return f"There is nothing at this path. You may have meant {suggestion} ({rest} shows them all)."
    return f"There is nothing at this path. Chat completions are at /v1/chat/completions; {rest} shows the rest."


def _similar_path(path: str) -> str:
    """The known path that this one ends in, else the known one that is most similar, else ""."""
    path = path[:SHOWN].lower().rstrip("/")
    known = _known_paths(current_app)
    ending = max((each for each in known if path.endswith(each)), key=len, default="")
    if ending:
        return known[ending]
    return next(iter(get_close_matches(path, known, 1, SIMILARITY)), "")


@lru_cache(maxsize=1)
def _known_paths(app: Flask) -> dict[str, str]:
    """All paths without variables, each with its recommended form."""
    found: dict[str, str] = {}
    for rule in app.url_map.iter_rules():
        if not rule.arguments and rule.rule != "/":
            full = f"/v1{rule.rule}" if rule.endpoint.startswith("api.") else rule.rule
            found |= {rule.rule: full, full: full}
    return found


def _hung_up(_: Cancelled) -> Response:
    error = HalfClosed()
    incoming = _api_request()
    incoming.record(status=error.status, outcome="hung_up", code=error.code, error=error.message)
    body = orjson.dumps(incoming.errors.body(error, incoming.environ[REQUEST_ID]))
    return Response(body, error.status, mimetype="application/json")


def _not_http(error: ParseException) -> Response:
    """Pass the error on to gunicorn, which answers it and closes the connection: the body does not fit its head."""
    request.environ[NOT_HTTP] = error
    return Response(status=400)


def _unexpected(error: Exception) -> Response:
    log.error("unexpected failure", exc_info=error)
    return respond(GatewayError("Something went wrong here."))
