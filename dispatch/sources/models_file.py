"""models.yaml as a source: reads and checks the file, and returns its SourceContents.

Raises CatalogueError with file, line and reason. OCI GenAI access gateway's models.yaml and LLM Bridge's config.yaml
are read as they are.
"""

import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import replace
from logging import getLogger
from pathlib import Path
from typing import Any

from marshmallow import ValidationError

from dispatch.routing.config import ProviderConfig, SourceContents
from dispatch.sources.consistency import Inconsistent, Located, check_consistency
from dispatch.sources.environment import FILE_CLOUDS, vendor_entry
from dispatch.sources.file_keys import api_keys
from dispatch.sources.file_models import as_list, model_config, model_details, over_accounts, timeouts_of
from dispatch.sources.file_vendor import deviations, vendor_named
from dispatch.sources.litellm import from_litellm, is_litellm
from dispatch.sources.yaml_lines import YamlError, YamlPath, dotted, line_of, load, with_names
from providers.transport.proxy import Proxy
from providers.vendors import PROVIDERS, defaults_for_kind
from schemas.models_file import first_error, schema_for

log = getLogger("thinkline.models_file")

FILE_BYTES = 5_000_000
ACCOUNTS = 100
"""The number of accounts that one provider may have: each of its models has a deployment for each."""


class CatalogueError(ValueError):
    """A models file that cannot be used. The message has file, line and reason."""

    def __init__(self, path: Path, line: int, what: str) -> None:
        super().__init__(f"{path}, line {line}: {what}")


def text(path: Path) -> bytes:
    """The contents of the file. Raises CatalogueError."""
    try:
        # Opened so that a pipe without a writer is refused instead of waited for.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
                raise CatalogueError(path, 1, "it is no file")
            raw = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise CatalogueError(path, 1, f"it cannot be read ({error.strerror})") from None
    if len(raw) > FILE_BYTES:
        raise CatalogueError(path, 1, f"the file is larger than {FILE_BYTES} bytes")
    return raw


def read(
    path: Path, variables: Mapping[str, str], known: Collection[str] = (), clouds: Mapping[str, Any] | None = None
) -> SourceContents:
    """The file's providers and models, as `parse`. Raises CatalogueError."""
    return parse(text(path), path, variables, known, clouds or {})


def parse(
    raw: bytes, path: Path, variables: Mapping[str, str], known: Collection[str], clouds: Mapping[str, Any]
) -> SourceContents:
    """The providers and models of a file's text. `variables` replace `${NAME}`; `known` are the names of other sources'
    providers, `clouds` the settings for OCI and AWS. Raises CatalogueError.
    """
    try:
        data, lines = load(raw.decode(), variables)
    except UnicodeDecodeError:
        raise CatalogueError(path, 1, "it is not UTF-8 text") from None
    except YamlError as error:
        raise CatalogueError(path, error.line, error.what) from None
    data = {} if data is None else data
    theirs = is_litellm(data)
    try:
        data = from_litellm(data, variables) if theirs else data
        loaded = schema_for(data).load(data)
    except ValidationError as error:
        place, sentence = first_error(error)
        raise CatalogueError(path, line_of(lines, place), f"{dotted(place)}: {sentence}") from None
    except Inconsistent as error:
        what = with_names(error.what, raw.decode(), variables)
        raise CatalogueError(path, line_of(lines, error.place), f"{dotted(error.place)}: {what}") from None
    try:
        if isinstance(loaded, list):
            listing = _regions(loaded, variables, clouds)
        else:
            listing = _file(loaded, variables, known, clouds)
    except Inconsistent as error:
        what = with_names(error.what, raw.decode(), variables)
        raise CatalogueError(path, line_of(lines, error.place), what) from None
    shape = (
        "LiteLLM's" if theirs else "OCI GenAI access gateway's" if isinstance(loaded, list) else "providers and models"
    )
    aliases = sum(len(row.aliases) for row in listing.rows)
    facts = {"file": str(path), "providers": len(listing.entries), "models": len(listing.rows), "aliases": aliases}
    log.info("read as %s", shape, extra={"facts": facts})
    return listing


def _file(
    data: Mapping[str, Any], variables: Mapping[str, str], known: Collection[str], clouds: Mapping[str, Any]
) -> SourceContents:
    """Our own shape, and LLM Bridge's. Raises Inconsistent."""
    providers = {name: given or {} for name, given in data.get("providers", {}).items()}
    entries: list[ProviderConfig] = []
    rows: list[Located] = []
    for name, given in providers.items():
        provider = {**given, "places": _places(name, data.get("models", []))}
        entries += _entries(name, provider, _proxy(given, data.get("proxy", {})), variables, clouds)
        rows += _nested(name, given)
    rows += [(model_config(given), ("models", at)) for at, given in enumerate(data.get("models", []))]
    for at, given in enumerate(data.get("models", [])):
        if (guard := given.get("guardrail", {}).get("provider")) and guard not in providers and guard not in known:
            what = f"{given['name']!r} is guarded by the provider {guard!r}, which is not known"
            raise Inconsistent(("models", at, "guardrail", "provider"), what)
        for position, each in enumerate(given.get("upstreams", [given])):
            if each["provider"] not in providers and each["provider"] not in known:
                field = ("upstreams", position, "provider") if "upstreams" in given else ("provider",)
                what = f"{given['name']!r} is at the provider {each['provider']!r}, which is not known"
                raise Inconsistent(("models", at, *field), what)
    accounts = [entry.name for entry in entries]
    rows = [(replace(row, upstreams=over_accounts(row.upstreams, accounts)), place) for row, place in rows]
    checked = check_consistency(rows, data.get("aliases", {}))
    return SourceContents(tuple(entries), checked, keys=api_keys(data.get("keys", [])))


def _regions(regions: list[dict[str, Any]], variables: Mapping[str, str], clouds: Mapping[str, Any]) -> SourceContents:
    """OCI GenAI access gateway's list: four kinds of models, each in a region and compartment. Raises Inconsistent."""
    rows: list[Located] = []
    for at, region in enumerate(regions):
        where = {"region": region["region"], "compartment": region["compartment_id"]}
        for kind, models in region["models"].items():
            for position, model in enumerate(models or []):
                given = {
                    **{key: model[key] for key in ("tool_call", "stream_tool_call", "multimodal") if key in model},
                    "description": model.get("description", ""),
                    "name": model["name"],
                    "provider": "oci",
                    "model": model.get("model_id") or model.get("endpoint") or model["name"],
                    "owned_by": model.get("provider") or _owner(model.get("model_id", ""), model["name"]),
                }
                details = {**where, **model_details(model), "type": kind, "endpoint": model.get("endpoint", "")}
                rows.append((replace(model_config(given), details=details), (at, "models", kind, position, "name")))
    places = dict.fromkeys((region["region"], region["compartment_id"]) for region in regions)
    return SourceContents(
        (_cloud("oci", "oci", {"places": list(places)}, variables, clouds, (0,)),), check_consistency(rows, {})
    )


def _owner(*names: str) -> str:
    """The vendor's prefix of an OCI model's name; OCI if there is none."""
    return next((name.partition(".")[0] for name in names if "." in name and "ocid1." not in name), "oci")


def _cloud(
    name: str,
    kind: str,
    given: Mapping[str, Any],
    variables: Mapping[str, str],
    clouds: Mapping[str, Any],
    place: YamlPath,
) -> ProviderConfig:
    """A cloud's config. Raises Inconsistent."""
    try:
        if given.get("proxy"):
            Proxy.parse(given["proxy"])
        return replace(FILE_CLOUDS[kind](name, clouds, variables, given), timeouts=timeouts_of(given))
    except ValueError as error:
        raise Inconsistent((*place, *_field(str(error), given)), str(error)) from None


def _field(message: str, given: Mapping[str, Any]) -> YamlPath:
    """The field of an error message about a setting: `OCI_REGION is ...` is about region."""
    setting = message.partition(" is ")[0].lower().replace("oci_service_endpoint", "base_url")
    fields = [name for name in given if setting.endswith((name, name.removesuffix("_id")))]
    return (max(fields, key=len),) if fields else ()


def _places(provider: str, models: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The regions and compartments that a provider's models name themselves."""
    mine = [model_details(model) for model in models if model.get("provider") == provider]
    return list(dict.fromkeys((each["region"], each.get("compartment", "")) for each in mine if "region" in each))


def _proxy(given: Mapping[str, Any], proxies: Mapping[str, str]) -> str:
    """The provider's own proxy, or LLM Bridge's common one if the provider wants it."""
    common = (proxies.get("https") or proxies.get("http")) if given.get("requires_proxy") else ""
    return given.get("proxy") or common or ""


def _entries(
    name: str, given: Mapping[str, Any], proxy: str, variables: Mapping[str, str], clouds: Mapping[str, Any]
) -> list[ProviderConfig]:
    """The provider's accounts: one for each of its addresses and keys, named `name`, `name#2` ..."""
    place: YamlPath = ("providers", name)
    if "#" in name or "/" in name:
        raise Inconsistent(place, f"a provider's name may have neither # nor /: {name!r}")
    base = vendor_named(name, given)
    kind = given.get("kind", name if name in FILE_CLOUDS else base.kind)
    if kind == "demo":
        order = int(name == kind)
        options = {"name": name}
        return [ProviderConfig(name, kind, "demo", options, order=order, is_fallback=True, accepts_any_model=True)]
    if kind not in PROVIDERS:
        return [
            ProviderConfig(
                name, kind, "", missing=f"a kind of provider that this version has; it has {', '.join(PROVIDERS)}"
            )
        ]
    if kind in FILE_CLOUDS:
        return [_cloud(name, kind, {**given, "kind": kind, "proxy": proxy}, variables, clouds, place)]
    vendor = replace(defaults_for_kind(kind, name) or base, kind=kind, openai_suffix="") if "kind" in given else base
    vendor = replace(vendor, **deviations(given, vendor))
    has_only_listed_models = "models" in given and not given.get("pass_unknown", False)
    accounts = [(address, key) for address in as_list(given.get("base_url")) for key in as_list(given.get("api_key"))]
    if len(accounts) > ACCOUNTS:
        raise Inconsistent(
            place, f"{len(accounts)} pairs of address and key are more than the {ACCOUNTS} that are taken"
        )
    entries = []
    for number, (address, key) in enumerate(accounts, start=1):
        try:
            if proxy:
                Proxy.parse(proxy)
            entries.append(
                vendor_entry(
                    vendor,
                    variables,
                    name=name if number == 1 else f"{name}#{number}",
                    address=address,
                    key=key,
                    model=given.get("model", ""),
                    proxy=proxy,
                    has_only_listed_models=has_only_listed_models,
                    timeouts=timeouts_of(given),
                )
            )
        except ValueError as error:
            field = _field(str(error), given)
            value = address if field == ("base_url",) else key
            position = [as_list(given[field[0]]).index(value)] if field in (("base_url",), ("api_key",)) else []
            raise Inconsistent((*place, *field, *position), str(error)) from None
    return entries


def _nested(provider: str, given: Mapping[str, Any]) -> list[Located]:
    """LLM Bridge's models of a provider, by `provider/model`; `model<variant>` is a variant of that model."""
    rows: list[Located] = []
    for name, settings in given.get("models", {}).items():
        upstream = name.partition("<")[0] if name.endswith(">") else name
        described = {**(settings or {}), "name": f"{provider}/{name}", "provider": provider, "model": upstream}
        rows.append((model_config(described), ("providers", provider, "models", name)))
    return rows
