"""models.yaml as a source (B3): read, checked, and told as a Listing.

Raises CatalogueError with file, line and reason. Seed 001's models.yaml and seed 002's config.yaml are
read as they are.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from logging import getLogger
from pathlib import Path
from typing import Any

from marshmallow import ValidationError

from dispatch.coherence import Incoherent, Placed, coherent
from dispatch.entries import Entry, Filler, Listing, Row, Upstream
from dispatch.environment import CLOUDS, vendor_entry
from dispatch.yaml_lines import Place, YamlError, load, with_names
from providers import PROVIDERS
from providers.base import Rules
from providers.connect import Proxy
from providers.vendors import VENDORS, Vendor, of_kind
from schemas.catalogue import schema_for

log = getLogger("thinkline.models_file")

FILE_BYTES = 5_000_000
WHERE = ("region", "compartment", "endpoint", "type", "api_format", "stream_by")
ACCOUNTS = 100
"""So many may one provider have: each of its models then has as many places."""
TIMEOUTS = {
    "connect_timeout": "connect",
    "first_event_timeout": "first_event",
    "idle_timeout": "idle",
    "total_timeout": "total",
}


class CatalogueError(ValueError):
    """A models file that cannot be used. The message has file, line and reason."""

    def __init__(self, path: Path, line: int, what: str) -> None:
        super().__init__(f"{path}, line {line}: {what}")


def read(
    path: Path, variables: Mapping[str, str], known: Collection[str] = (), clouds: Mapping[str, Any] | None = None
) -> Listing:
    """The file's providers and models. `variables` are what `${NAME}` means; `known` are the names of the providers
    that others tell of, `clouds` the settings for those of OCI and AWS. Raises CatalogueError.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES + 1)
        if len(raw) > FILE_BYTES:
            raise CatalogueError(path, 1, f"the file is larger than {FILE_BYTES} bytes")
        data, lines = load(raw.decode(), variables)
    except OSError as error:
        raise CatalogueError(path, 1, f"it cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise CatalogueError(path, 1, "it is not UTF-8 text") from None
    except YamlError as error:
        raise CatalogueError(path, error.line, error.what) from None
    if data is None:
        return Listing()
    try:
        loaded = schema_for(data).load(data)
    except ValidationError as error:
        place, sentence = _first(error.normalized_messages(), ())  # type: ignore[no-untyped-call]
        raise CatalogueError(path, _line(lines, place), f"{_dotted(place)}: {sentence}") from None
    try:
        if isinstance(loaded, list):
            listing = _regions(loaded, variables, clouds or {})
        else:
            listing = _file(loaded, variables, known, clouds or {})
    except Incoherent as error:
        what = with_names(error.what, raw.decode(), variables)
        raise CatalogueError(path, _line(lines, error.place), what) from None
    shape = "seed 001's shape" if isinstance(loaded, list) else "providers and models"
    aliases = sum(len(row.aliases) for row in listing.rows)
    facts = {"file": str(path), "providers": len(listing.entries), "models": len(listing.rows), "aliases": aliases}
    log.info("read as %s", shape, extra={"facts": facts})
    return listing


def _file(
    data: Mapping[str, Any], variables: Mapping[str, str], known: Collection[str], clouds: Mapping[str, Any]
) -> Listing:
    """Ours, and seed 002's. Raises Incoherent."""
    providers = {name: given or {} for name, given in data.get("providers", {}).items()}
    entries: list[Entry] = []
    rows: list[Placed] = []
    for name, given in providers.items():
        told = {**given, "places": _places(name, data.get("models", []))}
        entries += _entries(name, told, _proxy(given, data.get("proxy", {})), variables, clouds)
        rows += _nested(name, given)
    rows += [(_row(given), ("models", at)) for at, given in enumerate(data.get("models", []))]
    for row, place in rows:
        for upstream in row.upstreams:
            if upstream.provider not in providers and upstream.provider not in known:
                raise Incoherent(place, f"{row.name!r} is at the provider {upstream.provider!r}, which is not known")
    accounts = [entry.name for entry in entries]
    rows = [(replace(row, upstreams=_over_accounts(row.upstreams, accounts)), place) for row, place in rows]
    return Listing(tuple(entries), coherent(rows, data.get("aliases", {})))


def _regions(regions: list[dict[str, Any]], variables: Mapping[str, str], clouds: Mapping[str, Any]) -> Listing:
    """Seed 001's list: four kinds of models, each in a region and a compartment, on OCI. Raises Incoherent."""
    rows: list[Placed] = []
    for at, region in enumerate(regions):
        where = {"region": region["region"], "compartment": region["compartment_id"]}
        for kind, models in region["models"].items():
            for position, model in enumerate(models or []):
                given = {
                    **{key: model[key] for key in ("tool_call", "stream_tool_call", "multimodal") if key in model},
                    "name": model["name"],
                    "provider": "oci",
                    "model": model.get("model_id") or model.get("endpoint") or model["name"],
                    "owned_by": model.get("provider") or _owner(model.get("model_id", ""), model["name"]),
                }
                details = {**where, **_details(model), "type": kind, "endpoint": model.get("endpoint", "")}
                rows.append((replace(_row(given), details=details), (at, "models", kind, position, "name")))
    places = dict.fromkeys((region["region"], region["compartment_id"]) for region in regions)
    return Listing((_cloud("oci", "oci", {"places": list(places)}, variables, clouds, (0,)),), coherent(rows, {}))


def _owner(*names: str) -> str:
    """The vendor that an OCI model's names begin with; OCI where none has one."""
    return next((name.partition(".")[0] for name in names if "." in name and "ocid1." not in name), "oci")


def _cloud(
    name: str,
    kind: str,
    given: Mapping[str, Any],
    variables: Mapping[str, str],
    clouds: Mapping[str, Any],
    place: Place,
) -> Entry:
    """A cloud's entry. Raises Incoherent."""
    try:
        if given.get("proxy"):
            Proxy.parse(given["proxy"])
        return replace(CLOUDS[kind](name, clouds, variables, given), timeouts=_timeouts(given))
    except ValueError as error:
        raise Incoherent(place, str(error)) from None


def _places(provider: str, models: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The regions and compartments of a provider's models, where these say so themselves."""
    mine = [_details(model) for model in models if model.get("provider") == provider]
    return list(dict.fromkeys((each["region"], each.get("compartment", "")) for each in mine if "region" in each))


def _proxy(given: Mapping[str, Any], proxies: Mapping[str, str]) -> str:
    """The provider's own proxy, or seed 002's common one where it asks for it."""
    common = (proxies.get("https") or proxies.get("http")) if given.get("requires_proxy") else ""
    return given.get("proxy") or common or ""


def _entries(
    name: str, given: Mapping[str, Any], proxy: str, variables: Mapping[str, str], clouds: Mapping[str, Any]
) -> list[Entry]:
    """The provider's accounts: one for each of its addresses and keys, `name`, `name#2` ..."""
    place: Place = ("providers", name)
    if "#" in name or "/" in name:
        raise Incoherent(place, f"a provider's name may have neither # nor /: {name!r}")
    named = next((row for row in VENDORS if row.name == name), Vendor(name=name, label=name, keyless=True))
    kind = given.get("kind", name if name in CLOUDS else named.kind)
    if kind == "demo":
        return [Entry(name, kind, "demo", {"name": name}, lenient=True)]
    if kind not in PROVIDERS:
        return [
            Entry(name, kind, "", missing=f"a kind of provider that this version has; it has {', '.join(PROVIDERS)}")
        ]
    if kind in CLOUDS:
        return [_cloud(name, kind, {**given, "proxy": proxy}, variables, clouds, place)]
    vendor = replace(of_kind(kind, name) or named, kind=kind, compatible="") if "kind" in given else named
    overrides = {key: given[key] for key in ("frames", "strict", "usage", "embedding_batch") if key in given}
    vendor = replace(vendor, **overrides)
    complete = "models" in given and not given.get("pass_unknown", False)
    accounts = [(address, key) for address in _listed(given.get("base_url")) for key in _listed(given.get("api_key"))]
    if len(accounts) > ACCOUNTS:
        raise Incoherent(place, f"{len(accounts)} pairs of address and key are more than the {ACCOUNTS} that are taken")
    try:
        if proxy:
            Proxy.parse(proxy)
        return [
            vendor_entry(
                vendor,
                variables,
                name=name if number == 1 else f"{name}#{number}",
                address=address,
                key=key,
                model=given.get("model", ""),
                proxy=proxy,
                complete=complete,
                timeouts=_timeouts(given),
            )
            for number, (address, key) in enumerate(accounts, start=1)
        ]
    except ValueError as error:
        raise Incoherent(place, str(error)) from None


def _nested(provider: str, given: Mapping[str, Any]) -> list[Placed]:
    """Seed 002's models of a provider, by `provider/model`; `model<variant>` is another one of the same model."""
    rows: list[Placed] = []
    for name, settings in given.get("models", {}).items():
        upstream = name.partition("<")[0] if name.endswith(">") else name
        described = {**(settings or {}), "name": f"{provider}/{name}", "provider": provider, "model": upstream}
        rows.append((_row(described), ("providers", provider, "models", name)))
    return rows


def _row(given: Mapping[str, Any]) -> Row:
    model = given.get("model") or given.get("model_id") or given["name"]
    places = given.get("upstreams") or [{"provider": given["provider"]}]
    upstreams = tuple(Upstream(each["provider"], each.get("model", model), each.get("weight", 1)) for each in places)
    ttft, price = given.get("ttft_timeout_ms"), given.get("price")
    return Row(
        name=given["name"],
        upstreams=upstreams,
        aliases=tuple(given.get("aliases", ())),
        fallbacks=tuple(given.get("fallbacks", ())),
        timeouts=_timeouts(given),
        ttft_timeout=ttft / 1000 if ttft else None,
        hedge_after=given["hedge_after_ms"] / 1000 if "hedge_after_ms" in given else None,
        hedge_agents=given.get("hedge_agents", False),
        filler=Filler.of(given.get("filler_after_ms"), _listed(given.get("filler_text"))),
        speech=given.get("speech", False),
        max_tokens=given.get("max_tokens"),
        rules=_rules(given.get("params") or given.get("param_config") or {}),
        tools=given.get("tool_call", True),
        stream_tools=given.get("stream_tool_call", True),
        images=given.get("multimodal", True),
        price=(price["prompt"], price["completion"]) if price else None,
        owned_by=given.get("owned_by") or upstreams[0].provider,
        details=_details(given),
    )


def _details(given: Mapping[str, Any]) -> dict[str, Any]:
    details = {key: given[key] for key in WHERE if key in given}
    return {**details, **({"compartment": given["compartment_id"]} if "compartment_id" in given else {})}


def _over_accounts(upstreams: tuple[Upstream, ...], accounts: list[str]) -> tuple[Upstream, ...]:
    """A provider with several accounts is as many places where the model can be had."""
    spread = []
    for upstream in upstreams:
        names = [name for name in accounts if name.partition("#")[0] == upstream.provider] or [upstream.provider]
        spread += [replace(upstream, provider=name) for name in names]
    return tuple(spread)


def _timeouts(given: Mapping[str, Any]) -> dict[str, float]:
    total = {"total": given["timeout"]} if "timeout" in given else {}
    return {**total, **{ours: given[name] for name, ours in TIMEOUTS.items() if name in given}}


def _rules(given: Mapping[str, Any]) -> Rules:
    def rule(name: str) -> Any:
        return given.get(name) or given.get(f"{name}_params") or {}

    return Rules(rule("update"), rule("add"), rule("rename"), tuple(rule("delete")))


def _listed(value: Any) -> list[str]:
    given = value if isinstance(value, list) else [value]
    return [each for each in given if each] or [""]


def _first(messages: Any, place: Place) -> tuple[Place, str]:
    """The first message of marshmallow's nested dictionaries, and the place it is about."""
    while isinstance(messages, dict):
        key, messages = next(iter(messages.items()))
        place = place if key in ("_schema", "value") else (*place, key)
    return place, str(messages[0] if isinstance(messages, list) else messages)


def _line(lines: Mapping[Place, int], place: Place) -> int:
    """The line of a place, or of what it would stand in."""
    while place not in lines:
        place = place[:-1]
    return lines[place]


def _dotted(place: Place) -> str:
    return (
        "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".") or "the file"
    )
