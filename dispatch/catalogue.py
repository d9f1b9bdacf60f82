"""From a model's name to a Route: who will be asked, in which order (B1, R2 to R4)."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dispatch.sources import Entry
from errors import InvalidRequest
from providers import build
from providers.base import Provider, Target, Timeouts


@dataclass(frozen=True, slots=True)
class Route:
    """The targets that may answer a request, the preferred one first; there is always one."""

    targets: tuple[Target, ...]


class Catalogue:
    """The providers that are configured, and the rules by which a request finds one. Safe for all threads.

    Raises ValueError when `default` names a provider that is unknown or lacks its credentials.
    """

    def __init__(self, entries: Iterable[Entry], *, default: str = "", timeouts: Timeouts | None = None) -> None:
        self.entries: Mapping[str, Entry] = {entry.name: entry for entry in entries}
        self.default = self._default(default)
        self._timeouts = timeouts or Timeouts()
        self._built: dict[str, Provider] = {}
        self._lock = threading.Lock()

    def route(self, model: str, provider: str = "") -> Route:
        """Who answers: the named provider, else the model's prefix if it is a configured provider, else the default.

        Raises InvalidRequest (unknown_provider, provider_not_configured).
        """
        if provider:
            entry = self._named(provider)
            model = model.removeprefix(f"{provider}/") if model.startswith(f"{provider}/") else model
        else:
            prefix, slash, rest = model.partition("/")
            known = self.entries.get(prefix) if slash and rest else None
            if known is not None and known.available:
                entry, model = known, rest
            else:
                entry = self.entries[self.default]
        upstream_model = entry.default_model if entry.lenient or not model else model
        if not upstream_model:
            raise InvalidRequest(
                f"Name a model: {entry.name} has no default (set {entry.name.upper()}_MODEL).", param="model"
            )
        return Route((Target(self.provider(entry.name), upstream_model, upstream_model, self._timeouts),))

    def provider(self, name: str) -> Provider:
        """The provider of that name, built on first use."""
        built = self._built.get(name)
        if built is None:
            with self._lock:
                built = self._built.get(name)
                if built is None:
                    entry = self.entries[name]
                    built = self._built[name] = build(entry.kind, dict(entry.options))
        return built

    def available(self) -> list[Entry]:
        """The entries that can be used, in order."""
        return [entry for entry in self.entries.values() if entry.available]

    def listing(self) -> list[dict[str, Any]]:
        """Every provider, as /v1/providers shows it. Builds none."""
        rows = []
        for entry in self.entries.values():
            row: dict[str, Any] = {
                "name": entry.name,
                "available": entry.available,
                "default_model": entry.default_model,
            }
            if entry.missing:
                row["reason"] = f"Set {entry.missing}."
            rows.append(row)
        return rows

    def _named(self, name: str) -> Entry:
        entry = self.entries.get(name)
        if entry is None:
            known = ", ".join(self.entries)
            raise InvalidRequest(
                f"There is no provider {name[:80]!r}; known are {known}.", param="provider", code="unknown_provider"
            )
        if not entry.available:
            raise InvalidRequest(
                f"The provider {name!r} is not configured: set {entry.missing}.",
                param="provider",
                code="provider_not_configured",
            )
        return entry

    def _default(self, name: str) -> str:
        if not name:
            return next(entry.name for entry in self.entries.values() if entry.available)
        try:
            return self._named(name).name
        except InvalidRequest as error:
            raise ValueError(f"PROVIDER_NAME is {name!r}. {error.message}") from None
