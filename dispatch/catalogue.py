"""From a model's name to a Route: who will be asked, in which order (B1, R2 to R4).

What the sources tell is put together into a Snapshot that never changes; a request works with the one it began with,
and a source that has something new swaps in another.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from math import gcd
from typing import Any

from dispatch.entries import Entry, Listing, Row, Upstream
from errors import InvalidRequest, UnknownModel, Unsupported
from events import ChatRequest
from providers import build
from providers.base import Model, Provider, Target, Timeouts

SOURCES = ("file", "list", "environment")
"""Who is believed, first to last, when two tell of the same name (R11)."""

VENDOR_PREFIXES = ("cohere.", "meta.", "xai.", "openai.", "google.")
"""Names that OCI gives to its models."""


@dataclass(frozen=True, slots=True)
class Route:
    """The targets that may answer a request, the preferred one first; there is always one. `row` if it has one."""

    targets: tuple[Target, ...]
    row: Row | None = None


@dataclass(frozen=True)
class Snapshot:
    """The providers and models at one time. `names` has every name and alias."""

    entries: Mapping[str, Entry]
    names: Mapping[str, Row]
    default: str
    turns: Mapping[str, tuple[int, ...]] = field(repr=False)
    counters: Mapping[str, "count[int]"] = field(repr=False)

    @property
    def rows(self) -> list[Row]:
        """Every row once."""
        return [row for name, row in self.names.items() if name == row.name]

    @cached_property
    def models(self) -> Mapping[str, Model]:
        """The rows that somebody can answer for, under every name and alias."""
        return {
            name: Model(name, row.owned_by, row.created)
            for name, row in self.names.items()
            if any(self.entries[upstream.provider].available for upstream in row.upstreams)
        }

    def available(self) -> list[Entry]:
        """The entries that can be used, in order."""
        return [entry for entry in self.entries.values() if entry.available]


class Catalogue:
    """The providers and models that can be called, and the rules by which a request finds one. Safe for all threads.

    `default` is PROVIDER_NAME, "" for the first that has credentials; `is_open` tells of a target's name whether its
    breaker is open; `hide` is told the keys of all providers, which no log may show. Raises ValueError when `default`
    names a provider that is unknown or lacks its credentials.
    """

    def __init__(
        self,
        listings: Mapping[str, Listing],
        *,
        default: str = "",
        timeouts: Timeouts | None = None,
        is_open: Callable[[str], bool] = lambda _: False,
        hide: Callable[[Iterable[str]], None] = lambda _: None,
    ) -> None:
        self._listings = dict(listings)
        self._chosen = default
        self._timeouts = timeouts or Timeouts()
        self._is_open = is_open
        self._hide = hide
        self._built: dict[str, tuple[Entry, Provider]] = {}
        self._lock = threading.Lock()
        self.snapshot = self._put_together()

    def replace(self, source: str, listing: Listing) -> None:
        """A source tells something new. Raises ValueError, and changes nothing, when the default would be lost."""
        with self._lock:
            before = self._listings.get(source)
            self._listings[source] = listing
            try:
                self.snapshot = self._put_together()
            except ValueError:
                self._listings[source] = before or Listing()
                raise

    @property
    def default(self) -> str:
        """The provider that answers when nobody is named."""
        return self.snapshot.default

    def route(self, model: str, provider: str = "") -> Route:
        """Who answers (B1): the named provider, else the model's prefix if that is a configured provider, else the
        catalogue's row of that name, else the vendor whose prefix it has, else the default provider.

        Raises InvalidRequest (unknown_provider, provider_not_configured) and UnknownModel.
        """
        snapshot = self.snapshot
        prefix, _, rest = model.partition("/")
        if provider:
            entry = _named(snapshot, provider)
            model = rest if prefix == provider and rest else model
        elif rest and (known := snapshot.entries.get(prefix)) is not None and known.available:
            entry, model = known, rest
        elif row := snapshot.names.get(model):
            return self._to_row(snapshot, row)
        elif model.startswith(VENDOR_PREFIXES) and "oci" in snapshot.entries:
            entry = _named(snapshot, "oci")
        else:
            entry = snapshot.entries[snapshot.default]
            if entry.kind == "demo" and not self._chosen and snapshot.names and model:
                raise _unknown(model)
        row = snapshot.names.get(f"{entry.name}/{model}") or snapshot.names.get(model)
        if row and any(_provider_of(upstream) == entry.name for upstream in row.upstreams):
            return self._to_row(snapshot, row, only=entry.name)
        return self._to_entry(entry, model)

    def chat_route(self, request: ChatRequest) -> Route:
        """The route of a chat request. Raises Unsupported too, for what the model is said not to be able to (R12)."""
        route = self.route(request.model, request.provider)
        if route.row is not None:
            _refuse_beyond(route.row, request)
        return route

    def provider(self, entry: Entry) -> Provider:
        """The entry's provider, built on first use, and again when it is configured otherwise."""
        name = entry.name
        built = self._built.get(name)
        if built is None or (built[0] is not entry and built[0] != entry):
            with self._lock:
                built = self._built.get(name)
                if built is None or built[0] != entry:
                    built = self._built[name] = (entry, build(entry.kind, dict(entry.options)))
        return built[1]

    def listing(self) -> list[dict[str, Any]]:
        """Every provider, as /v1/providers shows it. Builds none."""
        rows = []
        for entry in self.snapshot.entries.values():
            row: dict[str, Any] = {
                "name": entry.name,
                "available": entry.available,
                "default_model": entry.default_model,
            }
            if entry.missing:
                row["reason"] = f"Needs {entry.missing}."
            rows.append(row)
        return rows

    def _to_entry(self, entry: Entry, model: str) -> Route:
        if entry.complete and model:
            raise _unknown(model)
        upstream_model = entry.default_model if entry.lenient or not model else model
        if not upstream_model:
            raise InvalidRequest(
                f"Name a model: {entry.name} has no default (set {entry.name.upper()}_MODEL).", param="model"
            )
        timeouts = self._patience(entry.timeouts)
        return Route((Target(self.provider(entry), upstream_model, upstream_model, timeouts),))

    def _patience(self, overrides: Mapping[str, float]) -> Timeouts:
        return replace(self._timeouts, **overrides) if overrides else self._timeouts

    def _to_row(self, snapshot: Snapshot, row: Row, *, only: str = "") -> Route:
        """The row's places in their turn (those of `only` one provider): those whose breaker is open come last, those
        without credentials not.
        """
        turns = snapshot.turns[row.name]
        first = next(snapshot.counters[row.name]) % len(turns) if len(turns) > 1 else 0
        places = dict.fromkeys(row.upstreams[position] for position in dict.fromkeys(turns[first:] + turns[:first]))
        in_turn = [each for each in places if only in ("", _provider_of(each))]
        usable = [upstream for upstream in in_turn if snapshot.entries[upstream.provider].available]
        if not usable:
            _named(snapshot, in_turn[0].provider)
        targets = [self._target(row, upstream, snapshot.entries[upstream.provider]) for upstream in usable]
        if len(targets) > 1:
            targets.sort(key=lambda target: self._is_open(target.name))
        return Route(tuple(targets), row)

    def _target(self, row: Row, upstream: Upstream, entry: Entry) -> Target:
        return Target(
            self.provider(entry),
            upstream.model,
            row.name,
            self._patience({**entry.timeouts, **row.timeouts}),
            row.ttft_timeout,
            row.max_tokens,
            row.rules,
            row.details,
        )

    def _put_together(self) -> Snapshot:
        entries: dict[str, Entry] = {}
        names: dict[str, Row] = {}
        told = [self._listings[source] for source in SOURCES if source in self._listings]
        for listing in reversed(told):  # so that a name keeps its place in the environment's order, and the file's word
            entries.update({entry.name: entry for entry in listing.entries})
        for listing in told:
            for row in listing.rows:
                _check_places(row, entries)
                if row.name not in names:  # one that is not believed has no aliases either
                    for name in (row.name, *row.aliases):
                        names.setdefault(name, row)
        if "demo" in entries:
            entries["demo"] = entries.pop("demo")
        self._hide(str(entry.options.get("api_key", "")) for entry in entries.values())
        rows = {row.name: row for name, row in names.items() if name == row.name}
        return Snapshot(
            entries,
            {name: row for name, row in names.items() if row.name in rows},
            self._default(entries),
            {name: turns(row.upstreams) for name, row in rows.items()},
            {name: count() for name in rows},
        )

    def _default(self, entries: Mapping[str, Entry]) -> str:
        name = self._chosen
        if not name:
            return next(
                entry.name for entry in entries.values() if entry.available and not entry.name.startswith("list-")
            )
        entry = entries.get(name)
        if entry is None:
            raise ValueError(f"PROVIDER_NAME is {name!r}; known are {', '.join(entries)}.")
        if not entry.available:
            raise ValueError(f"PROVIDER_NAME is {name!r}, which is not configured: it needs {entry.missing}.")
        return name


def _refuse_beyond(row: Row, request: ChatRequest) -> None:
    if request.tools and not (row.tools and (row.stream_tools or not request.stream)):
        how = "" if not row.tools else " in a stream"
        raise Unsupported(f"The model {row.name!r} calls no tools{how} (tool_call, stream_tool_call).", param="tools")
    if not row.images:
        for position, message in enumerate(request.messages):
            parts = message.get("content")
            if isinstance(parts, list) and any(part.get("type") == "image_url" for part in parts):
                raise Unsupported(
                    f"The model {row.name!r} takes no images (multimodal).", param=f"messages[{position}].content"
                )


def turns(upstreams: Sequence[Upstream]) -> tuple[int, ...]:
    """One round of requests, by position: each place as often as its weight says, spread evenly over the round."""
    common = gcd(*(upstream.weight for upstream in upstreams))
    weights = [upstream.weight // common for upstream in upstreams]
    due = [((turn + 0.5) / weight, at) for at, weight in enumerate(weights) for turn in range(weight)]
    return tuple(at for _, at in sorted(due))


def _check_places(row: Row, entries: Mapping[str, Entry]) -> None:
    for upstream in row.upstreams:
        if upstream.provider not in entries:
            raise ValueError(f"The model {row.name!r} is at the provider {upstream.provider!r}, which nobody tells of.")


def _provider_of(upstream: Upstream) -> str:
    return upstream.provider.partition("#")[0]


def _named(snapshot: Snapshot, name: str) -> Entry:
    entry = snapshot.entries.get(name)
    if entry is None:
        known = ", ".join(snapshot.entries)
        raise InvalidRequest(
            f"There is no provider {name[:80]!r}; known are {known}.", param="provider", code="unknown_provider"
        )
    if not entry.available:
        raise InvalidRequest(
            f"The provider {name!r} is not configured: it needs {entry.missing}.",
            param="provider",
            code="provider_not_configured",
        )
    return entry


def _unknown(model: str) -> UnknownModel:
    return UnknownModel(f"There is no model {model[:200]!r}; /v1/models lists those there are.", param="model")
