"""Every failure as OpenAI's error object, whatever raised it: never HTML, never a stack."""

import re
from logging import getLogger

import orjson
from flask import Flask, Response, g, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException

from errors import HungUp, InvalidRequest, ProxyError

log = getLogger("thinkline.errors")

OLLAMAS = re.compile(r"/api/(?!v1(/|$))")
"""Paths of Ollama's own, whose clients read a sentence where others read an object."""

CLIENT_CLOSED_REQUEST = 499  # nginx's: nobody will read it


NOT_HTTP = "thinkline.not_http"


class NotFound(InvalidRequest):
    """No such path, or no such method there."""

    code = None


def register(app: Flask) -> None:
    """Have the app answer failures in OpenAI's shape."""
    app.register_error_handler(ProxyError, respond)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(HungUp, _hung_up)
    app.register_error_handler(ParseException, _not_http)
    app.register_error_handler(Exception, _unexpected)


def respond(error: ProxyError) -> Response:
    """The error as a response with its true status."""
    if not g.get("reported"):
        facts = {"status": error.status, "code": error.code, "param": error.param, "error": error.message}
        log.info("refused", extra={"facts": facts})
    response = Response(orjson.dumps(error.body()), error.status, mimetype="application/json")
    response.headers.update(error.headers())
    return response


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    if status < 400:  # noqa: PLR2004 - a redirect is no failure
        return Response(status=status, headers=dict(error.get_headers()))
    sentences = {
        404: "There is nothing at this path. Chat completions are at /v1/chat/completions; /docs shows the rest.",
        405: "This path does not answer to that method.",
    }
    ours = NotFound(sentences.get(status, f"The request cannot be served ({error.name})."))
    ours.status = status
    response = respond(ours)
    if OLLAMAS.match(request.path):
        response.set_data(orjson.dumps({"error": ours.message}))
    response.headers.extend((k, v) for k, v in error.get_headers() if k.lower() == "allow")
    return response


def _hung_up(_: HungUp) -> Response:
    return Response(status=CLIENT_CLOSED_REQUEST)


def _not_http(error: ParseException) -> Response:
    """The body is not what its head said: gunicorn answers, and closes the line, once this reaches it."""
    request.environ[NOT_HTTP] = error
    return Response(status=400)


def _unexpected(error: Exception) -> Response:
    log.error("unexpected failure", exc_info=error)
    return respond(ProxyError("Something went wrong here."))
