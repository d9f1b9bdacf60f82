"""From a model's name to a Route: which targets are tried, and in which order.

The contents of all sources form a Snapshot that never changes. A request keeps the snapshot that it began with; a
source with new contents replaces the current one.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from core.context import Timeouts
from core.errors import InvalidRequest, RateLimited, UnknownModel, Unsupported, UpstreamDown
from core.prices import Price
from core.requests import ChatRequest
from dispatch.routing.config import (
    NO_FILLER,
    Deployment,
    Filler,
    Guard,
    ModelConfig,
    ProviderConfig,
    SourceContents,
    Task,
)
from dispatch.routing.rates import Rates
from dispatch.routing.route import Route
from dispatch.routing.rules import unsupported_images_reason, unsupported_reason, with_fallbacks
from dispatch.routing.snapshot import Snapshot, merge
from providers import build
from providers.base import Provider, Target

SECRET_OPTION = re.compile(r"(\w+_)?(api_key|access_key|token)|pass_phrase|key_content", re.IGNORECASE)
"""The names of options that hold secrets; credentials of a cloud have the names of its environment variables."""
KEPT_ROUTES = 1000
"""Routes to providers by model. Callers choose the names of models, so their number has no bound."""
UnsupportedReason = Callable[[ModelConfig], Unsupported | None]
"""Why a model cannot serve a request; None if it can."""


class Catalogue:
    """All providers and models, and the rules that choose among them. Safe for all threads.

    `default` is PROVIDER_NAME, "" for the first provider with credentials; `filler` is for models without a filler of
    their own; `is_open` returns for a target's name whether its breaker is open; `hide` receives the keys of all
    providers, which no log may show; `price_of` returns the price of a vendor's model. Raises ValueError if `default`
    is unknown or has no credentials.
    """

    def __init__(
        self,
        listings: Mapping[str, SourceContents],
        *,
        default: str = "",
        timeouts: Timeouts | None = None,
        filler: Filler = NO_FILLER,
        is_open: Callable[[str], bool] = lambda _: False,
        hide: Callable[[Iterable[str]], None] = lambda _: None,
        price_of: Callable[[str, str], Price | None] = lambda *_: None,
    ) -> None:
        self._listings = dict(listings)
        self._chosen = default
        self._timeouts = timeouts or Timeouts()
        self._filler = filler
        self._is_open = is_open
        self._hide = hide
        self._price_of = price_of
        self._rates = Rates()
        self._built: dict[str, tuple[ProviderConfig, Provider]] = {}
        self._routes: dict[tuple[str, str], tuple[ProviderConfig, Route]] = {}
        self._lock = threading.Lock()
        self.snapshot = self._merge(self._listings)

    def contents(self, source: str) -> SourceContents:
        """The contents of one source."""
        return self._listings.get(source, SourceContents())

    def replace(self, source: str, listing: SourceContents) -> None:
        """Replace a source's contents. Raises ValueError, and changes nothing, if the default provider would be lost or
        if a fallback, such as the demo, would replace a real provider.
        """
        with self._lock:
            listings = {**self._listings, source: listing}
            snapshot = self._merge(listings)
            is_asked_for = any(entry.is_fallback for entry in listing.entries)
            if snapshot.answers_as_fallback and not (self.snapshot.answers_as_fallback or self._chosen or is_asked_for):
                raise ValueError(f"without {self.default!r} there is no provider but the {snapshot.default}")
            self._listings, self.snapshot, self._routes = listings, snapshot, {}

    @property
    def default(self) -> str:
        """The name of the provider for requests that name none."""
        return self.snapshot.default

    def chat_route(self, request: ChatRequest) -> Route:
        """The route of a chat request. Also raises Unsupported, if neither the model nor a fallback supports the
        request.
        """
        return self.route(request.model, request.provider, lacking=partial(unsupported_reason, request=request))

    def images_route(self, model: str, provider: str = "") -> Route:
        """The route of an image request. Also raises Unsupported, for a model that only chats."""
        return self.route(model, provider, task="images", lacking=unsupported_images_reason)

    def route(
        self, model: str, provider: str = "", *, task: Task = "", lacking: UnsupportedReason | None = None
    ) -> Route:
        """The route of a model's name. The first rule that fits decides: the named provider; a prefix that is a
        configured provider; the row of that name; the provider that the id means by its form; the default provider. The
        `task` "images" restricts the route to providers of images.

        Raises InvalidRequest (unknown_provider, provider_not_configured) and UnknownModel; and UpstreamDown while the
        list of models has not been loaded.
        """
        note = "" if provider else self.snapshot.prefix_note(model)
        try:
            route = self._route(model, provider, task, lacking)
        except UnknownModel as error:
            error.message = f"{error.message} {note}".rstrip()
            raise
        return replace(route, note=note) if note and route.row is None else route

    def _route(self, model: str, provider: str, task: Task, lacking: UnsupportedReason | None) -> Route:
        snapshot = self.snapshot
        model, provider = snapshot.model_beside_agents(model, provider)
        prefix, _, rest = model.partition("/")
        if provider:
            entry = snapshot.require_provider(provider)
            model = rest if prefix == provider and rest else model
        elif rest and (known := snapshot.entries.get(prefix)) is not None and known.available:
            entry, model = known, rest
        elif row := snapshot.row_of(model):
            return self._to_row(snapshot, row, lacking)
        elif owner := snapshot.ids.provider_of(model):
            entry = snapshot.require_provider(owner)
        else:
            entry = self._provider_by_default(snapshot, task)
            if entry.is_fallback and not self._chosen and model:
                self._require_fallback_may_answer(snapshot, entry, model)
        row = snapshot.names.get(f"{entry.name}/{model}") or snapshot.row_of(model)
        if row and any(_provider_of(upstream) == entry.name for upstream in row.upstreams):
            return self._to_row(snapshot, row, lacking, provider=entry.name)
        return self._to_entry(entry, model)

    def provider(self, entry: ProviderConfig) -> Provider:
        """The config's provider, built on first use, and rebuilt after its configuration has changed."""
        name = entry.name
        built = self._built.get(name)
        if built is None or (built[0] is not entry and built[0] != entry):
            with self._lock:
                built = self._built.get(name)
                if built is None or built[0] != entry:
                    built = self._built[name] = (entry, build(entry.kind, dict(entry.options)))
        return built[1]

    def listing(self) -> list[dict[str, Any]]:
        """Every provider, as /v1/providers lists them. Builds none."""
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

    def _require_fallback_may_answer(self, snapshot: Snapshot, fallback: ProviderConfig, model: str) -> None:
        """Raise if models are configured, or a list of models is awaited: the fallback must not answer for them."""
        if snapshot.names:
            raise _unknown_model(model)
        if "list" in self._listings and model != fallback.default_model:
            message = "The list of models has not come yet; the log says why."
            raise UpstreamDown(message, provider="MODEL_LIST_URL", unavailable=True)

    def _provider_by_default(self, snapshot: Snapshot, task: Task) -> ProviderConfig:
        """The provider for requests that name none; for images, a provider of images goes before a fallback."""
        default = snapshot.entries[snapshot.default]
        if task and default.is_fallback and not self._chosen:
            return next((entry for entry in snapshot.available() if entry.task == task), default)
        return default

    def _to_entry(self, entry: ProviderConfig, model: str) -> Route:
        if entry.has_only_listed_models and model:
            raise _unknown_model(model)
        upstream_model = entry.default_model if entry.accepts_any_model or not model else model
        if not upstream_model:
            raise InvalidRequest(
                f"Name a model: {entry.name} has no default (set {entry.name.upper()}_MODEL).", param="model"
            )
        kept = self._routes.get((entry.name, upstream_model))
        if kept is None or kept[0] is not entry:
            timeouts = self._timeouts_with(entry.timeouts)
            price = self._price_of(entry.price_list, upstream_model)
            target = Target(self.provider(entry), upstream_model, upstream_model, timeouts, price=price)
            kept = entry, Route((target,), filler=self._filler)
            if len(self._routes) >= KEPT_ROUTES:
                self._routes = {}
            self._routes[entry.name, upstream_model] = kept
        return kept[1]

    def _timeouts_with(self, overrides: Mapping[str, float]) -> Timeouts:
        return replace(self._timeouts, **overrides) if overrides else self._timeouts

    def _to_row(
        self, snapshot: Snapshot, row: ModelConfig, lacking: UnsupportedReason | None, *, provider: str = ""
    ) -> Route:
        """The row's targets, then those of its fallbacks, without rows that are `lacking`. At one `provider`, which the
        caller has named, there are no fallbacks to others.
        """
        rows = [row] if provider else with_fallbacks(row, snapshot.names)
        able = [each for each in rows if lacking is None or lacking(each) is None]
        if lacking is not None and not able and (refusal := lacking(row)):
            raise refusal
        waits: list[float] = []
        targets = [target for each in able for target in self._targets(snapshot, each, provider, waits)]
        if not targets and waits:
            message = f"The model {row.name!r} was asked as often as it may be (rpm)."
            raise RateLimited(message, limit="model", retry_after=min(waits))
        if not targets:
            snapshot.require_provider(row.upstreams[0].provider)
        self._rates.count(targets[0].name)
        return Route(tuple(targets), row, row.filler.over(self._filler), guard=self._guard(snapshot, row))

    def _guard(self, snapshot: Snapshot, row: ModelConfig) -> Guard | None:
        config = row.guardrail
        return Guard(self.provider(snapshot.require_provider(config.provider)), config) if config else None

    def _targets(self, snapshot: Snapshot, row: ModelConfig, provider: str, waits: list[float]) -> list[Target]:
        """The row's deployments in rotation (at one `provider`, its own); those with an open breaker are last. Those
        without credentials and those at their limit of requests are left out; the latter's waits are appended to
        `waits`.
        """
        turns = snapshot.turns[row.name]
        first = next(snapshot.counters[row.name]) % len(turns) if len(turns) > 1 else 0
        places = dict.fromkeys(row.upstreams[position] for position in dict.fromkeys(turns[first:] + turns[:first]))
        rotated = [each for each in places if provider in ("", _provider_of(each))]
        usable = [upstream for upstream in rotated if snapshot.entries[upstream.provider].available]
        targets = []
        for upstream in usable:
            target = self._target(row, upstream, snapshot.entries[upstream.provider])
            if upstream.rpm and (wait := self._rates.wait(target.name, upstream.rpm)):
                waits.append(wait)
            else:
                targets.append(target)
        if len(targets) > 1:
            targets.sort(key=lambda target: self._is_open(target.name))
        return targets

    def _target(self, row: ModelConfig, upstream: Deployment, entry: ProviderConfig) -> Target:
        return Target(
            self.provider(entry),
            upstream.model,
            row.name,
            self._timeouts_with({**entry.timeouts, **row.timeouts}),
            row.ttft_timeout,
            row.max_tokens,
            row.rules,
            row.details,
            price=row.price or self._price_of(entry.price_list, upstream.model),
        )

    def _merge(self, listings: Mapping[str, SourceContents]) -> Snapshot:
        snapshot = merge(listings, self._chosen)
        self._hide(secret for entry in snapshot.entries.values() for secret in _secrets(entry.options))
        return snapshot


def _secrets(options: Any) -> Iterator[str]:
    """The secrets among a config's options, at any depth; for an address with a password, the whole address."""
    pairs = options.items() if isinstance(options, Mapping) else ()
    for name, value in pairs:
        if isinstance(value, str) and (SECRET_OPTION.fullmatch(name) or "@" in value):
            yield value
        yield from _secrets(value)


def _provider_of(upstream: Deployment) -> str:
    return upstream.provider.partition("#")[0]


def _unknown_model(model: str) -> UnknownModel:
    return UnknownModel(f"There is no model {model[:200]!r}; /v1/models lists those there are.", param="model")
