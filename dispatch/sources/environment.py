"""The environment as a source: every vendor of the table, and what each lacks that is not configured."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from dispatch.routing.config import ProviderConfig, SourceContents
from dispatch.sources import aws, oci
from dispatch.sources.addresses import VISIBLE, is_address
from dispatch.sources.proxies import proxy_for
from providers.vendors import VENDORS, Vendor

REGION = "{region}"
"""The placeholder for AWS_REGION in an address."""

Cloud = Callable[[str, Mapping[str, Any], Mapping[str, str], Mapping[str, Any]], ProviderConfig]
"""(name, the settings marked `cloud`, the environment, models.yaml's options) -> config. Raises ValueError."""

CLOUDS: Mapping[str, Cloud] = {"bedrock": aws.agents, "oci": oci.entry, "bedrock-models": aws.models}
"""Providers that need more than an address and a key: kind (and usual name) -> the function that makes the config."""

FILE_CLOUDS: Mapping[str, Cloud] = {
    **CLOUDS,
    "agentcore-harness": aws.agentcore,
    "agentcore-runtime": aws.agentcore,
    "oci-agent": oci.agent,
}
"""The same for models.yaml, which alone can tell of agents of these kinds."""

ALIAS = re.compile(r"(?P<name>[!-<>-~]+)=(?P<model>[!-~]+)")
LATE = ("bedrock-models",)
"""Clouds after the vendors' table: credentials of Amazon alone do not mean that its models are wanted."""


def from_environment(
    upstreams: Mapping[str, str],
    *,
    demo_pace_ms: float,
    clouds: Mapping[str, Any] | None = None,
    aliases: Iterable[str] = (),
) -> SourceContents:
    """Every provider, from {NAME}_API_KEY, {NAME}_BASE_URL and {NAME}_MODEL, and the settings of the clouds. The order
    is that in which the default provider is chosen: OpenAI, the clouds, the table, the late clouds, the demo.
    `aliases` are MODEL_ALIASES.

    Raises ValueError that names the wrong variable.
    """
    first, *others = [vendor_entry(vendor, upstreams) for vendor in VENDORS]
    cloud_entries = (
        {} if clouds is None else {kind: entry(kind, clouds, upstreams, {}) for kind, entry in CLOUDS.items()}
    )
    late = [cloud_entries.pop(kind) for kind in LATE if kind in cloud_entries]
    demo = ProviderConfig(
        "demo", "demo", "demo", {"pace_ms": demo_pace_ms}, order=1, is_fallback=True, accepts_any_model=True
    )
    entries = (first, *cloud_entries.values(), *others, *late, demo)
    return SourceContents(entries, aws.agent_rows(clouds or {}), _aliases(aliases))


def _aliases(texts: Iterable[str]) -> dict[str, str]:
    """MODEL_ALIASES as name -> model. Raises ValueError."""
    found: dict[str, str] = {}
    for text in texts:
        alias = ALIAS.fullmatch(text)
        if alias is None:
            raise ValueError(f"MODEL_ALIASES has {text!r}; allowed: name=provider/model, comma-separated.")
        if alias["name"] in found:
            raise ValueError(f"MODEL_ALIASES has {alias['name']!r} twice.")
        found[alias["name"]] = alias["model"]
    return found


def vendor_entry(
    vendor: Vendor,
    upstreams: Mapping[str, str],
    *,
    name: str = "",
    address: str = "",
    key: str = "",
    model: str = "",
    proxy: str = "",
    has_only_listed_models: bool = False,
    timeouts: Mapping[str, float] | None = None,
) -> ProviderConfig:
    """A vendor of the table with the environment's values; the given ones go before them. Raises ValueError."""
    stem = vendor.variable
    also_keys, also_urls = vendor.env_aliases
    in_file = f"api_key of {name or vendor.name}" if key else ""
    key_name, key = (f"{stem}_API_KEY", key) if key else _first(upstreams, f"{stem}_API_KEY", *also_keys)
    url_name, url = (f"{stem}_BASE_URL", address) if address else _first(upstreams, f"{stem}_BASE_URL", *also_urls)
    region = upstreams.get("AWS_REGION") or upstreams.get("AWS_DEFAULT_REGION") or REGION
    usual = vendor.base_url.replace(REGION, region)
    url = url or usual
    model = model or upstreams.get(f"{stem}_MODEL", "") or vendor.model
    if key and not VISIBLE.fullmatch(key):
        raise ValueError(f"{key_name} is (not shown); allowed: visible ASCII characters, without spaces.")
    if url and not is_address(url.replace(REGION, "region")):
        shown = "(not shown)" if "@" in url else repr(url)
        raise ValueError(f"{url_name} is {shown}; allowed: an http:// or https:// address, without a password.")
    missing = []
    # A server of the user's own may need no key. The vendor itself always does.
    if not key and not vendor.keyless and urlsplit(url).hostname == urlsplit(usual).hostname:
        missing.append(f"{stem}_API_KEY")
    if not url:
        missing.append(f"{stem}_BASE_URL")
    if REGION in url:
        missing.append("AWS_REGION")
    url = _with_path(url.rstrip("/").removesuffix(vendor.chat_path), vendor.path)
    vendor = replace(vendor.at(url), key_setting=in_file or key_name)
    options: dict[str, Any] = {
        "vendor": vendor,
        "name": name or vendor.name,
        "base_url": url,
        "api_key": key,
        "model": model,
        "proxy": proxy or ("" if missing else proxy_for(url, upstreams)),
    }
    return ProviderConfig(
        name or vendor.name,
        vendor.kind,
        model,
        options,
        " and ".join(missing),
        timeouts=timeouts or {},
        task=vendor.task,
        has_only_listed_models=has_only_listed_models,
        has_vendor_prefixes=vendor.has_vendor_prefixes,
    )


def _first(upstreams: Mapping[str, str], *names: str) -> tuple[str, str]:
    """The first of these variables that is set, and its value."""
    return next(((name, upstreams[name]) for name in names if upstreams.get(name)), (names[0], ""))


def _with_path(address: str, path: str) -> str:
    """The address, with the vendor's path where it is a bare host; a full URL of an endpoint is shortened."""
    address = address.rstrip("/").removesuffix("/chat/completions").removesuffix("/images/generations")
    return address + path if path and address and urlsplit(address).path in ("", "/") else address
