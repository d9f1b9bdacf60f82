"""The Flask application: views are plain functions, and every request has an id."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import getrandbits
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Flask, Request
from werkzeug.routing import MapAdapter

from core.api_keys import PATH_KEY
from server.sockets.handshake import is_upgrade

NOT_HTTP = "thinkline.not_http"
"""The environ's key of the exception that says why a request is no HTTP."""
REQUEST_ID = "thinkline.request_id"
"""The environ's key of the request's id."""
HEADERS = "thinkline.headers"
"""The environ's key of a list of headers that every response to this request has."""
KEY_IN_PATH = re.compile(r"/k/([^/]+)")
KEY_IN_URI = re.compile(r"(?:https?://[^/]*)?/+k/+([^/?#]+)")
SANE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
SLASHES = re.compile(r"//+")


class Thinkline(Flask):
    """The application, without the steps of Flask that no view needs.

    `set_request_id` is called with each request's id, in the request's thread. Each path is also answered behind each
    of the `prefixes`. With `key_in_path`, the path may begin with `/k/` and an API key, for clients that can send no
    header; the path of a WebSocket always may.
    """

    def __init__(
        self,
        import_name: str,
        set_request_id: Callable[[str], object],
        prefixes: Sequence[str] = (),
        *,
        key_in_path: bool = False,
    ) -> None:
        super().__init__(import_name, static_folder=None, template_folder="web")
        self._set_request_id = set_request_id
        self._prefix = _prefix_pattern(prefixes)
        self._key_in_path = key_in_path

    def wsgi_app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, with the headers that every answer has.

        Paths joined by hand, `/v1//chat/completions`, are answered too (a redirect would lose the body), and the
        error for a body that is no HTTP goes to gunicorn, which alone can close the connection.
        """
        if "//" in environ["PATH_INFO"]:
            environ["PATH_INFO"] = SLASHES.sub("/", environ["PATH_INFO"])
        if environ["PATH_INFO"].startswith("/k/"):
            self._take_key(environ)
        identifier = environ[REQUEST_ID] = _valid_or_new_id(environ.get("HTTP_X_REQUEST_ID"))
        self._set_request_id(identifier)
        always = environ[HEADERS] = [("x-request-id", identifier), ("X-Content-Type-Options", "nosniff")]
        response: Any = super().wsgi_app(
            environ, lambda status, headers, failure=None: start_response(status, headers + always, failure)
        )
        if NOT_HTTP in environ:
            response.close()
            raise environ[NOT_HTTP]
        answer: Iterable[bytes] = response
        return answer

    def _take_key(self, environ: dict[str, Any]) -> None:
        """Remove a key from the path, so that no log has it, also where keys in paths are not accepted."""
        key, rest = _split_key(environ)
        if not key:
            return
        for name in ("RAW_URI", "REQUEST_URI", "PATH_INFO"):
            environ[name] = f"/k/***{rest}"
        if self._key_in_path or is_upgrade(environ):
            environ[PATH_KEY] = key
            environ["PATH_INFO"] = rest or "/"

    def ensure_sync(self, func: Any) -> Any:
        """Return the function as it is: no view and no hook is a coroutine, and Flask's check takes time."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Bind the URL map without the Host header, on which no route depends. Prefixes are removed here: a rule for
        each of them would be compiled at each start.
        """
        if request is None:
            return None
        scheme, path, query = request.scheme, self._prefix.sub("", request.path, count=1) or "/", request.query_string
        return MapAdapter(self.url_map, "", "/", "", scheme, path, request.method, query.decode("latin-1"))


def _split_key(environ: Mapping[str, Any]) -> tuple[str, str]:
    """The key in a path, and the path behind it. A slash in a key comes as %2F, which PATH_INFO does not show."""
    path: str = environ["PATH_INFO"]
    if found := KEY_IN_URI.match(environ.get("RAW_URI", "")):
        key = unquote_to_bytes(found[1]).decode("latin-1")
        before, _, rest = path.partition(SLASHES.sub("/", f"/k/{key}"))
        if not before and rest[:1] in ("", "/"):
            return key, rest
    found = KEY_IN_PATH.match(path)
    return (found[1], path[found.end() :]) if found else ("", path)


def _prefix_pattern(prefixes: Sequence[str]) -> re.Pattern[str]:
    """A pattern of what may stand before a path. Most clients append /chat/completions, also to an address that has it
    already, and others /v1.
    """
    longest_first = "|".join(re.escape(prefix) for prefix in sorted(prefixes, key=len, reverse=True) if prefix)
    return re.compile(rf"\A(?:{longest_first})?(?:/chat/completions(?:/v1)?(?=/.))?(?=/|\Z)")


def _valid_or_new_id(given: str | None) -> str:
    """The caller's id if it is fit for a header and a log line, else one of ours."""
    return given if given and SANE_ID.fullmatch(given) else f"{getrandbits(128):032x}"
