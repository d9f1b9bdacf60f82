"""What the environment tells the catalogue: every vendor of the table, and what those lack that are not configured."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from dispatch.entries import Entry, Listing
from providers.vendors import VENDORS, Vendor

HEADER_TEXT = re.compile(r"[!-~]+")
ADDRESS = re.compile(r"https?://[^\s/?#@]+(:\d{1,5})?([/?][!-~]*)?")


def from_environment(upstreams: Mapping[str, str], *, demo_pace_ms: float) -> Listing:
    """Every provider there is, from {NAME}_API_KEY, {NAME}_BASE_URL and {NAME}_MODEL, in the order of R2.

    Raises ValueError that names the variable which cannot be used.
    """
    entries = [vendor_entry(vendor, upstreams) for vendor in VENDORS]
    return Listing((*entries, Entry("demo", "demo", "demo", {"pace_ms": demo_pace_ms}, lenient=True)))


def vendor_entry(
    vendor: Vendor,
    upstreams: Mapping[str, str],
    *,
    name: str = "",
    address: str = "",
    key: str = "",
    proxy: str = "",
    complete: bool = False,
) -> Entry:
    """A vendor of the table, as the environment has it; what is given by name goes before it. Raises ValueError."""
    stem = vendor.variable
    also_keys, also_urls = vendor.also
    key = key or _first(upstreams, f"{stem}_API_KEY", *also_keys)
    address = address or _first(upstreams, f"{stem}_BASE_URL", *also_urls) or vendor.base_url
    model = upstreams.get(f"{stem}_MODEL", "") or vendor.model
    if key and not HEADER_TEXT.fullmatch(key):
        raise ValueError(f"{stem}_API_KEY is (not shown); allowed: visible ASCII characters, without spaces.")
    if address and not ADDRESS.fullmatch(address):
        raise ValueError(f"{stem}_BASE_URL is {address!r}; allowed: an http:// or https:// address.")
    missing = []
    if not key and not vendor.keyless:
        missing.append(f"{stem}_API_KEY")
    if not address:
        missing.append(f"{stem}_BASE_URL")
    options = {
        "vendor": vendor,
        "name": name or vendor.name,
        "base_url": _with_path(address, vendor.path),
        "api_key": key,
        "model": model,
        "proxy": proxy,
    }
    kind = "openai_compatible"
    return Entry(name or vendor.name, kind, model, options, " and ".join(missing), complete=complete)


def _first(upstreams: Mapping[str, str], *names: str) -> str:
    return next((upstreams[name] for name in names if upstreams.get(name)), "")


def _with_path(address: str, path: str) -> str:
    """The address, with the vendor's path where it is a bare host; a full URL of the chat endpoint is shortened."""
    address = address.rstrip("/").removesuffix("/chat/completions")
    return address + path if path and address and urlsplit(address).path in ("", "/") else address
