"""Where the catalogue's entries come from. Each source gives Entry values; none builds a provider."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from providers.vendors import VENDORS, Vendor

HEADER_TEXT = re.compile(r"[!-~]+")
ADDRESS = re.compile(r"https?://[^\s/?#@]+(:\d{1,5})?([/?][!-~]*)?")


@dataclass(frozen=True, slots=True)
class Entry:
    """A provider as it is configured, or what is missing for it to be.

    missing  names the setting to set; "" when the provider can be used
    lenient  answers to any model name, as single-model providers do (R4)
    """

    name: str
    kind: str
    default_model: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    missing: str = ""
    lenient: bool = False

    @property
    def available(self) -> bool:
        """Whether it can be used."""
        return not self.missing


def from_environment(upstreams: Mapping[str, str], *, demo_pace_ms: float) -> list[Entry]:
    """Every provider there is, from {NAME}_API_KEY, {NAME}_BASE_URL and {NAME}_MODEL, in the order of R2.

    Raises ValueError that names the variable which cannot be used.
    """
    entries = [_vendor_entry(vendor, upstreams) for vendor in VENDORS]
    return [*entries, Entry("demo", "demo", "demo", {"pace_ms": demo_pace_ms}, lenient=True)]


def _vendor_entry(vendor: Vendor, upstreams: Mapping[str, str]) -> Entry:
    stem = vendor.variable
    also_keys, also_urls = vendor.also
    key = _first(upstreams, f"{stem}_API_KEY", *also_keys)
    address = _first(upstreams, f"{stem}_BASE_URL", *also_urls) or vendor.base_url
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
    options = {"vendor": vendor, "base_url": _with_path(address, vendor.path), "api_key": key, "model": model}
    return Entry(vendor.name, "openai_compatible", model, options, " and ".join(missing))


def _first(upstreams: Mapping[str, str], *names: str) -> str:
    return next((upstreams[name] for name in names if upstreams.get(name)), "")


def _with_path(address: str, path: str) -> str:
    """The address, with the vendor's path where it is a bare host; a full URL of the chat endpoint is shortened."""
    address = address.rstrip("/").removesuffix("/chat/completions")
    return address + path if path and address and urlsplit(address).path in ("", "/") else address
