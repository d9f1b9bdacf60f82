"""The parser of MODEL_LIST_URL's list: its rows become providers and models, or are left out.

The list names paths, never hosts: requests and the token always go to the list's own scheme and host.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, count
from logging import getLogger
from typing import Any
from urllib.parse import unquote, urlsplit

from core.prices import Price
from dispatch.routing.config import Deployment, ModelConfig, ProviderConfig, SourceContents, Task
from providers.vendors import PROVIDERS, Vendor, defaults_for_kind

log = getLogger("thinkline.model_list")

DIALECTS: tuple[tuple[str, Task, str], ...] = (
    ("openai_compatible", "chat", r"(.*)/chat/completions/?"),
    ("ideogram", "images", r"(.*?/ideogram)(|\W.*)"),
    ("recraft", "images", r"(.*?/recraft)(|\W.*)"),
    ("openai_compatible", "images", r"(.*)/images/generations/?"),
    ("anthropic", "chat", r"(.*?/anthropic(?:/.*)?/messages)/?"),
    ("gemini", "chat", r"(.*?)(?:/models/[^/]*)?[:/](?:stream)?generateContent.*"),
    ("gemini", "chat", r"(.*?/google)/.*"),
    ("cohere", "chat", r"(.*?/cohere)/.*"),
    ("unknown", "", r"(/[^/]*).*"),
)
"""Kind and task -> handles. The first group is the path before the dialect's own paths; a second group is the path that
replaces them (Anthropic's address has the path of its messages). The first that fits counts.
"""

OWNERS = {"gemini": "google", **{name: name for name in ("openai", "anthropic", "fireworks", "google", "cohere")}}
FAMILIES = {"gpt": "openai", "dall-e": "openai", "claude": "anthropic", "gemini": "google", "command": "cohere"}
ANY_PATH = re.compile(r"v\d\w*|api|chat|completions", re.IGNORECASE)
ADDRESS = re.compile(r"(https?://[^\s/?#@\\]+)([/?#][!-~]*)?")
FLAGS = ("available", "is_available", "enabled")
STATES = ("status", "availability")
OUT = ("unavailable", "disabled", "deprecated", "retired", "inactive", "offline")
ID_CHARACTERS, HANDLE_CHARACTERS, MOST_PRICE = 200, 1000, 1e9


def parse_model_list(data: Any, url: str, token: str, proxy: str = "") -> SourceContents:
    """Configs and rows of a list: `{"models": [...]}` or `[...]`, either also below `"response"`.

    An item is {model_version, handle, model_family?, prompt_price_1k?, completion_price_1k?, available?, status?}.
    Items marked unavailable are left out, and so are malformed ones, which the log counts. Raises ValueError if it is
    no list.
    """
    items = data["response"] if isinstance(data, dict) and "response" in data else data
    items = items.get("models") if isinstance(items, dict) else items
    if not isinstance(items, list):
        raise ValueError("neither an array nor an object with `models`")
    entries, rows, oddities = _Entries(url, token, proxy), dict[str, ModelConfig](), list[str]()
    for position, item in enumerate(items, start=1):
        if isinstance(item, dict) and _is_out(item):
            continue
        if oddity := _oddity(item, rows):
            oddities.append(f"row {position}: {oddity}")
            continue
        name, handle = item["model_version"], item["handle"]
        owner = _owner(handle, item.get("model_family")) or str(urlsplit(url).hostname)
        entry, task = entries.place(handle)
        rows[name] = ModelConfig(name, (Deployment(entry, name),), price=_price(item), owned_by=owner, task=task)
    if oddities:
        facts = {"url": url_without_query(url), "left_out": len(oddities), "first": oddities[0]}
        log.warning("the model list has odd rows", extra={"facts": facts})
    return SourceContents(tuple(entries.by_base.values()), tuple(rows.values()))


def _is_out(item: Mapping[str, Any]) -> bool:
    """Whether the list marks the model as unavailable."""
    states = [item.get(key) for key in STATES]
    return any(item.get(key) is False for key in FLAGS) or any(isinstance(s, str) and s.lower() in OUT for s in states)


def _oddity(item: Any, rows: Mapping[str, ModelConfig]) -> str:
    """What is wrong with an item; "" if nothing is."""
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
    """Whether it is a plain path on the host, also after unquoting."""
    plain = unquote(handle)
    safe = handle.isascii() and plain.isprintable() and not any(mark in plain for mark in ("//", "..", "\\", "#", " "))
    return safe and handle.startswith("/")


def _owner(handle: str, family: Any) -> str:
    """The vendor of a row: named in the handle, known by the family, or the handle's first telling part."""
    parts = [part for part in handle.partition("?")[0].split("/") if part]
    family = family.lower() if isinstance(family, str) else ""
    owners = [OWNERS[part.lower()] for part in [*parts, family] if part.lower() in OWNERS]
    owners += [owner for start, owner in FAMILIES.items() if family.startswith(start)]
    return [*owners, *(part for part in parts if not ANY_PATH.fullmatch(part)), ""][0]


def _price(item: Mapping[str, Any]) -> Price | None:
    prices: list[Any] = [item.get("prompt_price_1k"), item.get("completion_price_1k")]
    if not all(type(price) in (int, float) and 0 <= price < MOST_PRICE for price in prices):
        return None
    prompt, completion = (round(price * 1000, 9) for price in prices)  # 0.0007 * 1000 is 0.7000000000000001
    return Price(prompt, completion)


SETTING = "MODEL_LIST_AUTH_TOKEN"


class _Entries:
    """The configs that a list's handles need: one for each kind and address."""

    def __init__(self, url: str, token: str, proxy: str) -> None:
        self.by_base: dict[tuple[str, str, str | None], ProviderConfig] = {}
        self._origin = url_origin(url)
        self._token = token
        self._proxy = proxy
        self._names: set[str] = set()

    def place(self, handle: str) -> tuple[str, Task]:
        """The name of the config that a handle belongs to, and the task of a model there."""
        whole, mark, query = handle.partition("?")
        kind, task, found = next(
            (kind, task, found) for kind, task, form in DIALECTS if (found := re.fullmatch(form, whole, re.IGNORECASE))
        )
        base, path = found[1], found[2] if found.re.groups > 1 else None
        key = kind, self._origin + base + mark + query, path
        if key not in self.by_base:
            self.by_base[key] = self._entry(*key, self._new_name(base), handle)
        return self.by_base[key].name, task

    def _entry(self, kind: str, address: str, path: str | None, name: str, handle: str) -> ProviderConfig:
        own = defaults_for_kind(kind, name) or Vendor(name=name, label="Model list", kind=kind)
        vendor = replace(own, key_header="Authorization", key_scheme="OAuth", keyless=True, key_setting=SETTING)
        dialect = f"of {handle}" if kind == "unknown" else repr(kind)
        missing = "" if kind in PROVIDERS else f"a provider for the dialect {dialect} (not in this version)"
        options = {"vendor": vendor, "name": name, "base_url": address, "api_key": self._token, "model": ""}
        options |= {"proxy": self._proxy} if self._proxy else {}
        return ProviderConfig(
            name,
            kind,
            "",
            options if path is None else {**options, "path": path},
            missing,
            is_default_candidate=False,
            has_only_listed_models=True,
        )

    def _new_name(self, base: str) -> str:
        first, path = (_slug(text) for text in (base.strip("/").partition("/")[0], base))
        numbers = count(len(self._names) + 1)
        names = chain((f"list-{first}", f"list-{path}"), (f"list-{path}-{number}" for number in numbers))
        name = next(name for name in names if name not in self._names)
        self._names.add(name)
        return name


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "models"


def url_origin(url: str) -> str:
    """Scheme and host of the list's URL. Raises ValueError, which does not repeat the URL."""
    if not (found := ADDRESS.fullmatch(url)):
        raise ValueError("MODEL_LIST_URL is not an http:// or https:// address, or has credentials in it.")
    return found[1]


def url_without_query(url: str) -> str:
    """A URL as logs may show it: without its query, which can be secret."""
    return url.partition("?")[0].partition("#")[0]
