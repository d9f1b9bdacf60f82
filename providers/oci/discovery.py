"""An account's models at OCI: those that can be called on demand, and its dedicated endpoints by their names.

https://docs.oracle.com/en-us/iaas/api/#/en/generative-ai/20231130/ModelCollection/ListModels
https://docs.oracle.com/en-us/iaas/api/#/en/generative-ai/20231130/EndpointCollection/ListEndpoints
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from logging import getLogger
from time import monotonic, time
from typing import Any, NamedTuple
from urllib.parse import urlencode

from core.context import CallContext, Timeouts
from core.errors import GatewayError, UnknownModel, UpstreamAuthFailed
from core.models import ListedModel
from providers.base import Target
from providers.oci.client import Location, OciClient, SignedRequest
from providers.oci.credentials import credential_error
from providers.vendors import OCI_PREFIXES

log = getLogger("thinkline.providers")

USEFUL = {"CHAT", "TEXT_EMBEDDINGS", "TEXT_RERANK"}
"""Capabilities of which a model needs one to be listed; some models can only be fine-tuned."""
PAGES = 50
AGAIN_SECONDS = 60.0
"""Seconds between two lookups of a name that no endpoint has."""

Row = Mapping[str, Any]


class PageRows(NamedTuple):
    """The rows of one list, and the error that ended it early."""

    rows: list[Row]
    error: GatewayError | None = None


@dataclass(frozen=True, slots=True)
class LocatedModel:
    """The place of a model; for a dedicated endpoint its OCID too, and its base model."""

    place: Location
    endpoint: str = ""
    base: str = ""

    @property
    def details(self) -> dict[str, str]:
        """The location as a target's details."""
        where = {"region": self.place.region, "compartment": self.place.compartment}
        return {**where, "endpoint": self.endpoint, "base": self.base} if self.endpoint else where


class ModelDirectory:
    """The models of an account at OCI, in the settings' region and compartment and in `places`. Safe for all
    threads. It remembers the locations, because OCI takes no names of endpoints, and regions have different models.
    """

    def __init__(self, service: OciClient, places: Sequence[tuple[str, str]] = ()) -> None:
        self._service = service
        self._places = places
        self.failures: list[GatewayError] = []
        """The last error of a place's list."""
        self.has_loaded = False
        self._found: Mapping[str, LocatedModel] = {}
        self._look_again = 0.0

    def models(self, call: CallContext) -> list[ListedModel]:
        """Every model that can be called, once, by the name to call it by. Raises the error if all lists failed.

        All lists are loaded at the same time. The rows before an error count.
        """
        self._look_again = monotonic() + AGAIN_SECONDS
        places = self._all_places(call)
        regions: dict[str, Location] = {}
        for place in places:
            regions.setdefault(place.region, place)  # a base model belongs to every compartment
        jobs = [("models", place) for place in regions.values()] + [("endpoints", place) for place in places]
        with ThreadPoolExecutor(len(jobs), thread_name_prefix="oci-models") as pool:
            pages = list(pool.map(lambda job: self._rows(job[0], job[1], call), jobs))
        self.has_loaded = True
        models, found = merge_models(zip(jobs, pages, strict=True), time())
        self.failures = errors = [each.error for each in pages if each.error is not None]
        if errors and not models:
            raise errors[0]
        for error in errors:
            log.warning("a list of models breaks off", extra={"facts": {"provider": self._service.name, **_why(error)}})
        self._found = {**self._found, **found} if errors else found
        return models

    def locate(self, target: Target, call: CallContext) -> Target:
        """The target; with an endpoint's details if the model is an endpoint's name, and with another region than the
        settings' if only that region has the model.

        An unknown name is looked up, but not too often; that takes as long as loading the lists.
        """
        name, details = target.model, target.details
        usual = name.startswith(OCI_PREFIXES) and (not self._places or "region" in details)
        if usual or details.get("endpoint") or "ocid1." in name:
            return target
        if name not in self._found and monotonic() >= self._look_again:
            try:
                self.models(call)
            except GatewayError as error:  # then the inference service decides about the name
                log.warning("no list of endpoints", extra={"facts": {"provider": self._service.name, **_why(error)}})
        found = self._found.get(name)
        return replace(target, details={**found.details, **details}) if found else target

    def _all_places(self, call: CallContext) -> list[Location]:
        places: list[Location] = []
        try:
            places.append(self._service.place({}, call))
        except UpstreamAuthFailed:
            if not self._places:  # else every model may have a place of its own
                raise
        for region, compartment in self._places:
            places.append(self._service.place({"region": region, "compartment": compartment}, call))
        return list(dict.fromkeys(places))

    def _rows(self, kind: str, place: Location, call: CallContext) -> PageRows:
        """All pages of `models` or `endpoints`. Without filters: older services refuse newer ones' filters."""
        rows: list[Row] = []
        page = ""
        try:
            for _ in range(PAGES):
                query = urlencode({"compartmentId": place.compartment, **({"page": page} if page else {})})
                base = self._service.management(place)
                request = SignedRequest("GET", base, f"/{kind}?{query}", about="lists nothing there.")
                data, headers = self._service.json(request, call, Timeouts())
                rows += _usable(data)
                before, page = page, headers.get("opc-next-page", "")
                if page in ("", before):
                    break
        except UnknownModel as error:
            what = "that compartment is not there, or no policy lets us see what it has (OCI_COMPARTMENT)."
            return PageRows(rows, credential_error(self._service.name, what, "OCI_COMPARTMENT", log=error.log))
        except GatewayError as error:
            return PageRows(rows, error)
        return PageRows(rows)


def on_demand(rows: Iterable[Row], now: float) -> Iterator[ListedModel]:
    """The models among ListModels' rows that can be called without a dedicated cluster now."""
    for row in rows:
        retired = _unix(row.get("timeOnDemandRetired"))
        if row.get("type", "BASE") == "BASE" and USEFUL & set(row.get("capabilities") or ()) and not 0 < retired <= now:
            yield ListedModel(row["displayName"], _vendor(row), int(_unix(row.get("timeCreated"))))


def merge_models(
    pages: Iterable[tuple[tuple[str, Location], PageRows]], now: float
) -> tuple[list[ListedModel], dict[str, LocatedModel]]:
    """The models of all lists, each name once, from the first place that has it; and their locations."""
    models: dict[str, ListedModel] = {}
    found: dict[str, LocatedModel] = {}
    bases: dict[Any, Row] = {}
    for (kind, place), (rows, _) in pages:
        if kind == "models":
            bases |= {row["id"]: row for row in rows}
            for model in on_demand(rows, now):
                models.setdefault(model.id, model)
                found.setdefault(model.id, LocatedModel(place))
            continue
        for row in rows:
            base, name = bases.get(row.get("modelId"), {}), row["displayName"]
            owner = _vendor(base) if base else "oci"
            models.setdefault(name, ListedModel(name, owner, int(_unix(row.get("timeCreated")))))
            found.setdefault(name, LocatedModel(place, row["id"], base.get("displayName", "")))
    return list(models.values()), found


def _usable(data: Any) -> list[Row]:
    """The active rows of a page that have an id and a name."""
    items = data.get("items") if isinstance(data, dict) else data
    rows = [row for row in items or () if isinstance(row, dict) and row.get("lifecycleState") == "ACTIVE"]
    return [row for row in rows if isinstance(row.get("displayName"), str) and isinstance(row.get("id"), str)]


def _vendor(row: Row) -> str:
    return str(row.get("vendor") or row["displayName"].partition(".")[0]).lower()


def _why(error: GatewayError) -> dict[str, str]:
    return {"error": error.message, "said": error.log}


def _unix(text: Any) -> float:
    """RFC 3339 as Unix seconds; 0 for anything else."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return 0.0
