"""MODEL_LIST_URL: a list of models by HTTP (seed 003, B4), refreshed in the background; the last good one is kept.

The list names paths, never hosts: whatever it says, requests and the token go to the list's own scheme and host.
"""

import os
import random
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from itertools import chain, count
from logging import getLogger
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
from requests import Request, RequestException, Response
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from dispatch.entries import Entry, Listing, Row, Upstream
from providers import PROVIDERS
from providers.base import USER_AGENT
from providers.vendors import Vendor

log = getLogger("thinkline.model_list")
getLogger("urllib3.connection").setLevel("CRITICAL")  # it warns of odd heads, and shows the whole URL

DIALECTS = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("openai_compatible", r"(.*)/chat/completions/?"),
        ("images", r"(.*)/images/generations/?"),
        ("images", r"(.*?/(?:ideogram|recraft))(?:\W.*)?"),
        ("anthropic", r"(.*?/anthropic(?:/.*)?)/messages/?"),
        ("gemini", r"(.*?)(?:/models/[^/]*)?[:/](?:stream)?generateContent.*"),
        ("gemini", r"(.*?/google)/.*"),
        ("cohere", r"(.*?/cohere)/.*"),
        ("unknown", r"(/[^/]*).*"),
    )
)
"""Kind -> handles; the group is what stands before the dialect's own paths. The first that fits counts."""

OWNERS = {"gemini": "google", **{name: name for name in ("openai", "anthropic", "fireworks", "google", "cohere")}}
FAMILIES = {"gpt": "openai", "dall-e": "openai", "claude": "anthropic", "gemini": "google", "command": "cohere"}
ANY_PATH = re.compile(r"v\d\w*|api|chat|completions", re.IGNORECASE)
ADDRESS = re.compile(r"(https?://[^\s/?#@\\]+)([/?#][!-~]*)?")
FLAGS = ("available", "is_available", "enabled")
STATES = ("status", "availability")
TOO_LONG = "it takes too long"
OUT = ("unavailable", "disabled", "deprecated", "retired", "inactive", "offline")
ID_CHARACTERS, HANDLE_CHARACTERS, PIECE_BYTES, MOST_PRICE = 200, 1000, 65_536, 1e9


class NoList(Exception):
    """There is no usable list. The message says why, without secrets."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one fetch: seconds to connect, between bytes and in all; bytes of the list, unpacked."""

    connect: float = 3.05
    read: float = 10.0
    total: float = 20.0
    size: int = 10_000_000


def listing(data: Any, url: str, token: str) -> Listing:
    """Entries and rows of a list: `{"models": [...]}` or `[...]`, either also below `"response"`.

    An item is {model_version, handle, model_family?, prompt_price_1k?, completion_price_1k?, available?, status?}.
    Those marked unavailable are left out; so are odd ones, which the log counts. Raises ValueError when it is no list.
    """
    items = data["response"] if isinstance(data, dict) and "response" in data else data
    items = items.get("models") if isinstance(items, dict) else items
    if not isinstance(items, list):
        raise ValueError("neither an array nor an object with `models`")
    entries, rows, oddities = _Entries(url, token), dict[str, Row](), list[str]()
    for position, item in enumerate(items, start=1):
        if isinstance(item, dict) and _is_out(item):
            continue
        if oddity := _oddity(item, rows):
            oddities.append(f"row {position}: {oddity}")
            continue
        name, handle = item["model_version"], item["handle"]
        owner = _owner(handle, item.get("model_family")) or str(urlsplit(url).hostname)
        rows[name] = Row(name, (Upstream(entries.name(handle), name),), price=_price(item), owned_by=owner)
    if oddities:
        facts = {"url": shown(url), "left_out": len(oddities), "first": oddities[0]}
        log.warning("the model list has odd rows", extra={"facts": facts})
    return Listing(tuple(entries.by_base.values()), tuple(rows.values()))


def _is_out(item: Mapping[str, Any]) -> bool:
    """Whether the list itself says that this model cannot be had."""
    states = [item.get(key) for key in STATES]
    return any(item.get(key) is False for key in FLAGS) or any(isinstance(s, str) and s.lower() in OUT for s in states)


def _oddity(item: Any, rows: Mapping[str, Row]) -> str:
    """What is wrong with an item; "" when nothing is."""
    if not isinstance(item, dict):
        return "not an object"
    name, handle = item.get("model_version"), item.get("handle")
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > ID_CHARACTERS:
        return f"model_version is {_brief(name)}"
    if not isinstance(handle, str) or len(handle) > HANDLE_CHARACTERS or not _is_path(handle):
        return f"the handle of {name!r} is {_brief(handle)}"
    return f"{name!r} stands there twice" if name in rows else ""


def _brief(value: Any) -> str:
    return repr(value[:80]) if isinstance(value, str) else f"of the type {type(value).__name__}"


def _is_path(handle: str) -> bool:
    """Whether it is a plain path on the host, also once somebody has unquoted it."""
    plain = unquote(handle)
    safe = handle.isascii() and plain.isprintable() and not any(mark in plain for mark in ("//", "..", "\\", "#", " "))
    return safe and handle.startswith("/")


def _owner(handle: str, family: Any) -> str:
    """The vendor, as 003 infers it: named in the handle, known by the family, or the handle's first telling part."""
    parts = [part for part in handle.partition("?")[0].split("/") if part]
    family = family.lower() if isinstance(family, str) else ""
    owners = [OWNERS[part.lower()] for part in [*parts, family] if part.lower() in OWNERS]
    owners += [owner for start, owner in FAMILIES.items() if family.startswith(start)]
    return [*owners, *(part for part in parts if not ANY_PATH.fullmatch(part)), ""][0]


def _price(item: Mapping[str, Any]) -> tuple[float, float] | None:
    prices: list[Any] = [item.get("prompt_price_1k"), item.get("completion_price_1k")]
    if not all(type(price) in (int, float) and 0 <= price < MOST_PRICE for price in prices):
        return None
    prompt, completion = (round(price * 1000, 9) for price in prices)  # 0.0007 * 1000 is 0.7000000000000001
    return prompt, completion


class _Entries:
    """The entries that a list's handles need: one per kind and base address."""

    def __init__(self, url: str, token: str) -> None:
        self.by_base: dict[tuple[str, str], Entry] = {}
        self._origin = origin(url)
        self._token = token
        self._names: set[str] = set()

    def name(self, handle: str) -> str:
        """The name of the entry that a handle belongs to."""
        path, mark, query = handle.partition("?")
        kind, base = next((kind, found[1]) for kind, form in DIALECTS if (found := form.fullmatch(path)))
        key = kind, self._origin + base + mark + query
        if key not in self.by_base:
            self.by_base[key] = self._entry(*key, self._new_name(base), handle)
        return self.by_base[key].name

    def _entry(self, kind: str, address: str, name: str, handle: str) -> Entry:
        vendor = Vendor(name=name, label="Model list", key_scheme="OAuth", keyless=True)
        whose = {"vendor": vendor} if kind == "openai_compatible" else {}
        dialect = f"of {handle}" if kind == "unknown" else repr(kind)
        missing = "" if kind in PROVIDERS else f"a provider for the dialect {dialect} (not in this version)"
        options = {**whose, "name": name, "base_url": address, "api_key": self._token, "model": ""}
        return Entry(name, kind, "", options, missing, complete=True)

    def _new_name(self, base: str) -> str:
        first, path = (_slug(text) for text in (base.strip("/").partition("/")[0], base))
        numbers = count(len(self._names) + 1)
        names = chain((f"list-{first}", f"list-{path}"), (f"list-{path}-{number}" for number in numbers))
        name = next(name for name in names if name not in self._names)
        self._names.add(name)
        return name


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "models"


def origin(url: str) -> str:
    """Scheme and host of the list's URL. Raises ValueError, which does not repeat it."""
    if not (found := ADDRESS.fullmatch(url)):
        raise ValueError("MODEL_LIST_URL is not an http:// or https:// address, or has credentials in it.")
    return found[1]


def shown(url: str) -> str:
    """A URL as logs may show it: without a query, which can be secret."""
    return url.partition("?")[0].partition("#")[0]


class ModelList:
    """Follows a list in the background. Safe for all threads.

    `refresh` is in seconds; `folder` keeps the last good list for the next start; `on_change` is told each list that
    differs from the last, by the thread that refreshes. Raises ValueError for a URL or token that cannot be used.
    `problem` is why there was no list the last time, "" when there was one.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        refresh: float = 300.0,
        folder: Path | None = None,
        on_change: Callable[[Listing], None],
        limits: Limits | None = None,
    ) -> None:
        if not re.fullmatch(r"[!-~]*", token):
            raise ValueError("MODEL_LIST_AUTH_TOKEN is (not shown); allowed: visible ASCII characters, without spaces.")
        origin(url)
        self.problem = ""
        self._url, self._token = url, token
        self._refresh = refresh
        self._file = folder / "model_list.json" if folder else None
        self._on_change = on_change
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._asking: threading.Thread | None = None
        self._last = Listing()
        self._body_digest = ""
        self._conditions: dict[str, str] = {}

    def load_kept(self) -> Listing:
        """The last good list of this URL, from the folder; an empty one when there is none. Asks nobody."""
        try:
            kept = orjson.loads(self._file.read_bytes()) if self._file else {}
            if not kept or kept["url_sha256"] != _digest(self._url.encode()):
                return Listing()
            found, conditions = listing(kept["data"], self._url, self._token), dict(kept["conditions"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if not isinstance(error, FileNotFoundError):
                facts = {"file": str(self._file), "error": type(error).__name__}
                log.warning("the kept model list cannot be read", extra={"facts": facts})
            return Listing()
        with self._lock:
            self._last, self._conditions = found, conditions if found.rows else {}
        return found

    def start(self) -> None:
        """Refresh at once and from then on, in a thread of its own."""
        threading.Thread(target=self._follow, name="model-list", daemon=True).start()

    def stop(self) -> None:
        """End the thread: at once, or when the fetch that it is in ends; nothing is taken over any more."""
        self._stopped.set()

    def refresh_once(self) -> None:
        """Fetch the list. A failure keeps the last one and is logged; what `on_change` raises is raised."""
        with self._lock:
            try:
                answer = self._fetch()
                if answer is not None and not self._stopped.is_set():
                    self._take(*answer)
                self.problem = ""
            except NoList as error:
                self.problem = str(error)
                if not self._stopped.is_set():
                    facts = {"url": shown(self._url), "error": self.problem, "kept": len(self._last.rows)}
                    log.warning("no model list; the last one stays", extra={"facts": facts})

    def _follow(self) -> None:
        while not self._stopped.is_set():
            try:
                self.refresh_once()
            except Exception:
                log.exception("the model list could not be taken over")
            # So that many do not ask at the same moment.
            self._stopped.wait(self._refresh * random.uniform(0.9, 1.1))  # noqa: S311

    def _fetch(self) -> tuple[bytes, dict[str, str]] | None:
        """The body, and the conditions to ask under next time; None when nothing has changed. Raises NoList.

        In a thread of its own, for requests limits only the time between bytes: who sends a head or a handshake byte
        by byte is waited for by that thread alone, and is not asked again meanwhile.
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
        """Without a Session, which reads .netrc and proxies from the environment, and a redirect's whole body."""
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": USER_AGENT}
        if self._token:
            headers["Authorization"] = f"OAuth {self._token}"
        request = Request("GET", self._url, headers={**headers, **self._conditions}).prepare()
        return adapter.send(request, stream=True, timeout=(self._limits.connect, self._limits.read))

    def _take(self, body: bytes, conditions: dict[str, str]) -> None:
        """Make a list the last good one. Raises NoList."""
        if (body_digest := _digest(body)) != self._body_digest:
            data, found = self._understood(body)
            if found != self._last:
                self._on_change(found)
                facts = {"url": shown(self._url), "models": len(found.rows), "before": len(self._last.rows)}
                log.info("the model list has changed", extra={"facts": facts})
            self._last, self._body_digest = found, body_digest
            self._keep({"url_sha256": _digest(self._url.encode()), "conditions": conditions, "data": data})
        self._conditions = conditions

    def _understood(self, body: bytes) -> tuple[Any, Listing]:
        try:
            data = orjson.loads(body)
        except ValueError:
            raise NoList("it is not JSON") from None
        try:
            found = listing(data, self._url, self._token)
        except ValueError as error:
            raise NoList(f"it is {error}") from None
        if not found.rows:
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


def _answer(response: Response, most: int, until: float) -> tuple[bytes, dict[str, str]] | None:
    """A list's body and the conditions to ask for it under next time; None for a 304. Raises NoList.

    At `most` so many bytes, and not later than `until`, of the monotonic clock.
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
    """Why a list could not be fetched. Never an exception's own text, which may hold the whole URL."""
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
