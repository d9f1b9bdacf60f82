"""All providers and models at one time, merged from the sources, and never changed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count

from core.errors import InvalidRequest, UnknownModel
from core.models import ListedModel
from dispatch.routing.config import Deployment, ModelConfig, ProviderConfig, SourceContents
from dispatch.routing.model_ids import ModelIds
from dispatch.routing.rules import weighted_rotation
from providers import missing_package

SOURCES = ("file", "list", "environment")
"""The sources, first the one that wins where two have the same name."""


@dataclass(frozen=True)
class Snapshot:
    """The providers and models at one time. `names` has every name and alias, `patterns` those aliases that have a `*`,
    the most specific first; `ids` has the providers that a model's id means by its form.
    """

    entries: Mapping[str, ProviderConfig]
    names: Mapping[str, ModelConfig]
    patterns: Sequence[tuple[re.Pattern[str], ModelConfig]]
    default: str
    ids: ModelIds = field(repr=False)
    turns: Mapping[str, tuple[int, ...]] = field(repr=False)
    counters: Mapping[str, "count[int]"] = field(repr=False)

    @property
    def rows(self) -> list[ModelConfig]:
        """Every row once."""
        return [row for name, row in self.names.items() if name == row.name]

    @cached_property
    def models(self) -> Mapping[str, ListedModel]:
        """The rows with a provider that can be used, under every name and alias."""
        return {
            name: ListedModel(name, row.owned_by, row.created, row.description)
            for name, row in self.names.items()
            if any(self.entries[upstream.provider].available for upstream in row.upstreams)
        }

    @property
    def answers_as_fallback(self) -> bool:
        """Whether the default provider is one that answers only as long as nothing else is configured."""
        return self.entries[self.default].is_fallback

    def row_of(self, model: str) -> ModelConfig | None:
        """The row that has this name or alias, or a pattern of it; None for none."""
        row = self.names.get(model)
        if row is not None or not self.patterns:
            return row
        return next((row for pattern, row in self.patterns if pattern.fullmatch(model)), None)

    def missing_packages(self) -> dict[str, str]:
        """Providers that lack only a package: name -> the package to install."""
        packages = {entry.name: missing_package(entry.kind) for entry in self.entries.values() if entry.missing}
        return {name: package for name, package in packages.items() if package == self.entries[name].missing}

    def available(self) -> list[ProviderConfig]:
        """The providers that can be used, in order."""
        return [entry for entry in self.entries.values() if entry.available]

    def model_beside_agents(self, model: str, provider: str) -> tuple[str, str]:
        """The model and the provider of a request. If it names a provider of agents, and by its id one of the models
        beside them (`models_provider`), these are that model and its provider. Raises UnknownModel for `provider/NAME`
        where no agent has that name.
        """
        prefix, _, rest = model.partition("/")
        entry = self.entries.get(provider or prefix)
        if entry is None or not entry.models_provider:
            return model, provider
        name = rest if prefix == entry.name else model
        if not name or name in entry.agents or name in self.names or model in self.names:
            return model, provider
        models = self.entries.get(entry.models_provider)
        if models is not None and models.has_id(name):
            return name, models.name
        if entry.available and not provider:
            known = ", ".join(entry.agents)
            raise UnknownModel(f"There is no agent {name[:200]!r}; the agents are {known}.", param="model")
        return model, provider

    def prefix_note(self, model: str) -> str:
        """A hint for the error of an unknown model: the provider before its name lacks its key. "" if it does not."""
        prefix, slash, _ = model.partition("/")
        entry = self.entries.get(prefix) if slash else None
        if entry is None or entry.available:
            return ""
        return f"The provider {prefix!r} before its name is not configured: it needs {entry.missing}."

    def require_provider(self, name: str) -> ProviderConfig:
        """The provider of that name. Raises InvalidRequest (unknown_provider, provider_not_configured)."""
        entry = self.entries.get(name)
        if entry is None:
            known = ", ".join(self.entries)
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


def merge(listings: Mapping[str, SourceContents], chosen: str) -> Snapshot:
    """The sources' contents, merged; `chosen` is PROVIDER_NAME. Raises ValueError for contents that contradict."""
    entries: dict[str, ProviderConfig] = {}
    names: dict[str, ModelConfig] = {}
    ordered = [listings[source] for source in SOURCES if source in listings]
    for listing in reversed(ordered):  # the environment decides the order, and the file the values
        for entry in listing.entries:
            entries[entry.name] = _in_place_of(entries.get(entry.name), _if_installed(entry))
    for listing in ordered:
        for row in listing.rows:
            _check_providers(row, entries)
            if row.name not in names:  # a row that loses its name loses its aliases too
                for name in (row.name, *row.aliases):
                    names.setdefault(name, row)
    entries = {entry.name: entry for entry in sorted(entries.values(), key=lambda entry: entry.order)}
    default = _default(entries, chosen)
    ids = ModelIds(entries, default)
    for listing in ordered:
        for alias, model in listing.aliases.items():
            row = names.get(model) or _alias(model if "*" in alias else alias, model, entries, ids, default)
            names.setdefault(row.name, row)
            names.setdefault(alias, row)
    rows = {row.name: row for name, row in names.items() if name == row.name}
    known = {name: row for name, row in names.items() if row.name in rows}
    return Snapshot(
        entries,
        {name: row for name, row in known.items() if "*" not in name},
        _patterns(known),
        default,
        ids,
        {name: weighted_rotation(row.upstreams) for name, row in rows.items()},
        {name: count() for name in rows},
    )


def _if_installed(entry: ProviderConfig) -> ProviderConfig:
    return entry if entry.missing else replace(entry, missing=missing_package(entry.kind))


def _in_place_of(replaced: ProviderConfig | None, entry: ProviderConfig) -> ProviderConfig:
    """The config that takes the place of another one of that name, for the same ids of models."""
    if replaced is None or replaced.model_ids is None or entry.model_ids is not None:
        return entry
    return replace(entry, model_ids=replaced.model_ids)


def _patterns(names: Mapping[str, ModelConfig]) -> list[tuple[re.Pattern[str], ModelConfig]]:
    """The aliases that stand for every name of their form: `claude-*`. The longer of two matching ones is first."""
    found = sorted((name for name in names if "*" in name), key=len, reverse=True)
    return [(re.compile(".*".join(map(re.escape, name.split("*")))), names[name]) for name in found]


def _alias(alias: str, model: str, entries: Mapping[str, ProviderConfig], ids: ModelIds, default: str) -> ModelConfig:
    """The row of an alias for `provider/model`, or for a model at the provider that its id means, or at the default."""
    prefix, _, rest = model.partition("/")
    if rest and prefix in entries:
        models = entries.get(entries[prefix].models_provider)
        provider = models.name if models is not None and models.has_id(rest) else prefix
        return ModelConfig(alias, (Deployment(provider, rest),), owned_by=provider)
    provider = ids.provider_of(model) or default
    return ModelConfig(alias, (Deployment(provider, model),), owned_by=provider)


def _default(entries: Mapping[str, ProviderConfig], name: str) -> str:
    if not name:
        return next(
            entry.name
            for entry in entries.values()
            if entry.available and entry.is_default_candidate and not entry.task
        )
    entry = entries.get(name)
    if entry is None:
        raise ValueError(f"PROVIDER_NAME is {name!r}; known are {', '.join(entries)}.")
    if not entry.available:
        raise ValueError(f"PROVIDER_NAME is {name!r}, which is not configured: it needs {entry.missing}.")
    return name


def _check_providers(row: ModelConfig, entries: Mapping[str, ProviderConfig]) -> None:
    for upstream in row.upstreams:
        if upstream.provider not in entries:
            raise ValueError(f"The model {row.name!r} is at the provider {upstream.provider!r}, which nobody tells of.")
