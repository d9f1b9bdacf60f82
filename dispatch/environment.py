"""What the environment tells the catalogue: every vendor of the table, and what those lack that are not configured."""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from dispatch.entries import Entry, Listing
from providers.vendors import VENDORS, Vendor

VISIBLE = re.compile(r"[!-~]+")


Cloud = Callable[[str, Mapping[str, Any], Mapping[str, str], Mapping[str, Any]], Entry]
"""(name, the settings marked `cloud`, the environment, what models.yaml gives) -> entry. Raises ValueError."""

CLOUDS: Mapping[str, Cloud] = {}
"""Providers whose entries are more than an address and a key: kind (and usual name) -> who makes their entries."""


def from_environment(
    upstreams: Mapping[str, str], *, demo_pace_ms: float, clouds: Mapping[str, Any] | None = None
) -> Listing:
    """Every provider there is, from {NAME}_API_KEY, {NAME}_BASE_URL and {NAME}_MODEL, and the settings of the clouds;
    in the order of R2: OpenAI, the clouds, the table.

    Raises ValueError that names the variable which cannot be used.
    """
    first, *others = [vendor_entry(vendor, upstreams) for vendor in VENDORS]
    cloudy = [entry(kind, clouds, upstreams, {}) for kind, entry in CLOUDS.items()] if clouds is not None else []
    demo = Entry("demo", "demo", "demo", {"pace_ms": demo_pace_ms}, lenient=True)
    return Listing((first, *cloudy, *others, demo))


def vendor_entry(
    vendor: Vendor,
    upstreams: Mapping[str, str],
    *,
    name: str = "",
    address: str = "",
    key: str = "",
    model: str = "",
    proxy: str = "",
    complete: bool = False,
    timeouts: Mapping[str, float] | None = None,
) -> Entry:
    """A vendor of the table, as the environment has it; what is given by name goes before it. Raises ValueError."""
    stem = vendor.variable
    also_keys, also_urls = vendor.also
    key_name, key = (f"{stem}_API_KEY", key) if key else _first(upstreams, f"{stem}_API_KEY", *also_keys)
    url_name, url = (f"{stem}_BASE_URL", address) if address else _first(upstreams, f"{stem}_BASE_URL", *also_urls)
    url = url or vendor.base_url
    model = model or upstreams.get(f"{stem}_MODEL", "") or vendor.model
    if key and not VISIBLE.fullmatch(key):
        raise ValueError(f"{key_name} is (not shown); allowed: visible ASCII characters, without spaces.")
    if url and not is_address(url):
        shown = "(not shown)" if "@" in url else repr(url)
        raise ValueError(f"{url_name} is {shown}; allowed: an http:// or https:// address, without a password.")
    missing = []
    # Who answers at an address of the user's own may want no key; the vendor itself does (and nobody has none at all).
    if not key and not vendor.keyless and urlsplit(url).hostname == urlsplit(vendor.base_url).hostname:
        missing.append(f"{stem}_API_KEY")
    if not url:
        missing.append(f"{stem}_BASE_URL")
    options: dict[str, Any] = {
        "vendor": vendor,
        "name": name or vendor.name,
        "base_url": _with_path(url, vendor.path),
        "api_key": key,
        "model": model,
        "proxy": proxy,
    }
    return Entry(
        name or vendor.name,
        vendor.dialect(options["base_url"]),
        model,
        options,
        " and ".join(missing),
        complete=complete,
        timeouts=timeouts or {},
        only=vendor.only,
    )


def is_address(url: str) -> bool:
    """Whether it is an http(s) URL that a request can be sent to, with nobody's password in it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:
        return False
    return usable and bool(VISIBLE.fullmatch(url)) and "@" not in parts.netloc


def _first(upstreams: Mapping[str, str], *names: str) -> tuple[str, str]:
    """The first of these variables that is set, and its value."""
    return next(((name, upstreams[name]) for name in names if upstreams.get(name)), (names[0], ""))


def _with_path(address: str, path: str) -> str:
    """The address, with the vendor's path where it is a bare host; a full URL of an endpoint is shortened."""
    address = address.rstrip("/").removesuffix("/chat/completions").removesuffix("/images/generations")
    return address + path if path and address and urlsplit(address).path in ("", "/") else address
