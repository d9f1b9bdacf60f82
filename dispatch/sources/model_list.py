"""MODEL_LIST_URL: a list of models by HTTP, refreshed in the background; the last good one is kept.

model_list_parser.py reads the list.
"""

import os
import random
import re
import ssl
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from logging import getLogger
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import orjson
from requests import Request, RequestException, Response
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from dispatch.routing.config import SourceContents
from dispatch.sources.model_list_parser import parse_model_list, url_origin, url_without_query
from providers.base import USER_AGENT

log = getLogger("thinkline.model_list")
getLogger("urllib3.connection").setLevel("CRITICAL")  # it warns of odd headers, and shows the whole URL

TOO_LONG = "it takes too long"
AGAIN_SECONDS = 1.0
"""Seconds until the next attempt after a failure; they double each time, up to the usual interval."""
PIECE_BYTES = 65_536


class NoList(Exception):
    """The list cannot be used. The message says why, without secrets."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one fetch: seconds to connect, between bytes and in all; bytes of the list, unpacked."""

    connect: float = 3.05
    read: float = 10.0
    total: float = 20.0
    size: int = 10_000_000


class ModelList:
    """Fetches a list in the background. Safe for all threads.

    `refresh` is in seconds, and shorter after a failure; `folder` keeps the last good list for the next start;
    `on_change` receives each list that differs from the last, in the refreshing thread; `proxy` is the URL of a
    proxy. Raises ValueError for a URL or token that cannot be used. `problem` says why the last fetch failed, "" if
    it succeeded.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        refresh: float = 300.0,
        folder: Path | None = None,
        on_change: Callable[[SourceContents], None],
        proxy: str = "",
        limits: Limits | None = None,
    ) -> None:
        if not re.fullmatch(r"[!-~]*", token):
            raise ValueError("MODEL_LIST_AUTH_TOKEN is (not shown); allowed: visible ASCII characters, without spaces.")
        url_origin(url)
        self.problem = ""
        self._url, self._token, self._proxy = url, token, proxy
        self._refresh = refresh
        self._file = folder / "model_list.json" if folder else None
        self._on_change = on_change
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._asking: threading.Thread | None = None
        self._last = SourceContents()
        self._body_digest = ""
        self._conditions: dict[str, str] = {}

    def load_kept(self) -> SourceContents:
        """The last good list of this URL, from the folder; an empty one if there is none. Sends nothing."""
        try:
            kept = orjson.loads(self._file.read_bytes()) if self._file else {}
            if not kept or kept["url_sha256"] != _digest(self._url.encode()):
                return SourceContents()
            found, conditions = (
                parse_model_list(kept["data"], self._url, self._token, self._proxy),
                dict(kept["conditions"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            if not isinstance(error, FileNotFoundError):
                facts = {"file": str(self._file), "error": type(error).__name__}
                log.warning("the kept model list cannot be read", extra={"facts": facts})
            return SourceContents()
        with self._lock:
            self._last, self._conditions = found, conditions if found.rows else {}
        return found

    def start(self) -> None:
        """Refresh at once and from then on, in a thread of its own."""
        threading.Thread(target=self._follow, name="model-list", daemon=True).start()

    def stop(self) -> None:
        """End the thread: at once, or when the current fetch ends; later lists are ignored."""
        self._stopped.set()

    def refresh_once(self) -> None:
        """Fetch the list. A failure keeps the last list and is logged; what `on_change` raises is raised."""
        with self._lock:
            try:
                answer = self._fetch()
                if answer is not None and not self._stopped.is_set():
                    self._take(*answer)
                self.problem = ""
            except NoList as error:
                self.problem = str(error)
                if not self._stopped.is_set():
                    facts = {"url": url_without_query(self._url), "error": self.problem, "kept": len(self._last.rows)}
                    log.warning("no model list; the last one stays", extra={"facts": facts})

    def _follow(self) -> None:
        again = AGAIN_SECONDS
        while not self._stopped.is_set():
            try:
                self.refresh_once()
            except Exception:  # a bug must not end the refreshing
                log.exception("the model list could not be taken over")
            pause, again = (min(again, self._refresh), again * 2) if self.problem else (self._refresh, AGAIN_SECONDS)
            # Jitter, so that many servers do not send requests at the same moment.
            self._stopped.wait(pause * random.uniform(0.9, 1.1))  # noqa: S311

    def _fetch(self) -> tuple[bytes, dict[str, str]] | None:
        """The body, and the conditions for the next request; None if nothing has changed. Raises NoList.

        The fetch runs in a thread of its own. requests only limits the time between bytes: a server that sends a head
        or a handshake byte by byte blocks that thread alone, and no second fetch starts meanwhile.
        """
        if self._asking and self._asking.is_alive():
            raise NoList("it is still being sent")
        results: SimpleQueue[tuple[bytes, dict[str, str]] | NoList | None] = SimpleQueue()
        self._asking = threading.Thread(target=lambda: results.put(self._result()), name="model-list-get", daemon=True)
        self._asking.start()
        try:
            result = results.get(timeout=self._limits.total)
        except Empty:
            raise NoList(TOO_LONG) from None
        self._asking = None
        if isinstance(result, NoList):
            raise result
        if result is None and not self._last.rows:
            raise NoList("the answer is 304, and there is no list yet")
        return result

    def _result(self) -> tuple[bytes, dict[str, str]] | NoList | None:
        try:
            secure = self._url.startswith("https:")
            with closing(_Trusting() if secure else HTTPAdapter()) as adapter, self._ask(adapter) as response:
                return _answer(response, self._limits.size, monotonic() + self._limits.total)
        except NoList as error:
            return error
        except (RequestException, HTTPError, OSError, ValueError) as error:
            return NoList(_reason(error))

    def _ask(self, adapter: HTTPAdapter) -> Response:
        """Sends one request without a Session, which would read .netrc, proxies from the environment, and a redirect's
        whole body.
        """
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": USER_AGENT}
        if self._token:
            headers["Authorization"] = f"OAuth {self._token}"
        request = Request("GET", self._url, headers={**headers, **self._conditions}).prepare()
        timeout = self._limits.connect, self._limits.read
        proxies = {urlsplit(self._url).scheme: self._proxy} if self._proxy else {}
        return adapter.send(request, stream=True, timeout=timeout, proxies=proxies)

    def _take(self, body: bytes, conditions: dict[str, str]) -> None:
        """Make a list the last good one. Raises NoList."""
        if (body_digest := _digest(body)) != self._body_digest:
            data, found = self._parse(body)
            if found != self._last:
                self._on_change(found)
                facts = {"url": url_without_query(self._url), "models": len(found.rows), "before": len(self._last.rows)}
                log.info("the model list has changed", extra={"facts": facts})
            self._last, self._body_digest = found, body_digest
            self._keep({"url_sha256": _digest(self._url.encode()), "conditions": conditions, "data": data})
        self._conditions = conditions

    def _parse(self, body: bytes) -> tuple[Any, SourceContents]:
        try:
            data = orjson.loads(body)
        except ValueError:
            raise NoList("it is not JSON") from None
        try:
            found = parse_model_list(data, self._url, self._token, self._proxy)
        except ValueError as error:
            raise NoList(f"it is {error}") from None
        if not found.rows or (_is_usable(self._last) and not _is_usable(found)):
            raise NoList("it has no usable model")
        return data, found

    def _keep(self, record: dict[str, Any]) -> None:
        if self._file is None:
            return
        temporary = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch(0o600)
            temporary.write_bytes(orjson.dumps(record))
            temporary.replace(self._file)
        except OSError as error:
            facts = {"file": str(self._file), "error": error.strerror}
            log.warning("the model list cannot be kept for the next start", extra={"facts": facts})


def _is_usable(listing: SourceContents) -> bool:
    """Whether any of its models can be called: their dialects may all be unknown here."""
    return any(entry.available for entry in listing.entries)


def _answer(response: Response, most: int, until: float) -> tuple[bytes, dict[str, str]] | None:
    """A list's body and the conditions for the next request; None for a 304. Raises NoList.

    The body has `most` bytes at most, and is read until `until` of the monotonic clock.
    """
    status, headers = response.status_code, response.headers
    if status == HTTPStatus.NOT_MODIFIED:
        return None
    if response.is_redirect:
        raise NoList(f"it redirects to {urlsplit(headers['Location']).hostname or 'a path'}, which is not followed")
    if status != HTTPStatus.OK:
        hint = " (MODEL_LIST_AUTH_TOKEN)" if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) else ""
        raise NoList(f"the answer is {status}{hint}")
    body = bytearray()
    while piece := response.raw.read1(PIECE_BYTES, decode_content=True):
        body += piece
        if len(body) > most or monotonic() > until:
            raise NoList(f"it is larger than {most} bytes" if len(body) > most else TOO_LONG)
    marks = {"If-None-Match": headers.get("ETag"), "If-Modified-Since": headers.get("Last-Modified")}
    return bytes(body), {name: mark for name, mark in marks.items() if mark}


def _reason(error: Exception) -> str:
    """Why a list could not be fetched. An exception's own text may hold the whole URL, so it is not used."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__context__
    return type(error).__name__


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()


class _Trusting(HTTPAdapter):
    """Trusts the authorities that chat requests trust: the system's, besides certifi's."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, ssl_context=ssl.create_default_context(), **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=ssl.create_default_context(), **options)
