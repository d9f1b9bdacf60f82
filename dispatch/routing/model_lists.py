"""The models that can be called: the union of the lists of all configured upstreams.

The first request for the list asks all upstreams at once, and the lists are kept for a while. An upstream that fails
keeps its last list, or shows its default model. Neither an import nor a chat request loads a list.
"""

import operator
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from logging import getLogger
from time import monotonic

from core.context import CallContext, Timeouts
from core.errors import Cancelled, GatewayError, UnknownModel
from core.models import ListedModel
from dispatch.routing.catalogue import Catalogue
from dispatch.routing.config import ProviderConfig
from dispatch.routing.snapshot import Snapshot

log = getLogger("thinkline.models")

LIST_TIMEOUTS = Timeouts(connect=2.0, first_event=4.0, idle=4.0, total=4.0)
RETRY_SECONDS = 15.0
"""Seconds until the next attempt after a failure."""


@dataclass(frozen=True, slots=True)
class _CachedList:
    models: Sequence[ListedModel]
    until: float


class ModelLists:
    """The list of models. `ttl` is in seconds; `clock` gives seconds. `listed` has the models of all lists so far, as
    `provider/model`.
    """

    def __init__(self, catalogue: Catalogue, ttl: float, clock: Callable[[], float] = monotonic) -> None:
        self._catalogue = catalogue
        self._ttl = ttl
        self._clock = clock
        self.listed: frozenset[str] = frozenset()
        self._kept: dict[str, _CachedList] = {}
        self._union: tuple[tuple[object, ...], Sequence[ListedModel]] = ((), ())
        self._lock = threading.Lock()

    def all(self) -> Sequence[ListedModel]:
        """Every model under the ids to call it by: the catalogue's names and aliases, the default provider's models and
        the others' models with the provider's name before them. The demo is listed only if it is the only provider.
        """
        snapshot = self._catalogue.snapshot
        configs = [
            entry for entry in snapshot.available() if not entry.has_only_listed_models and "#" not in entry.name
        ]
        if snapshot.models or not snapshot.answers_as_fallback:
            configs = [entry for entry in configs if not entry.is_fallback]
        with self._lock:  # one thread sends the requests, the others wait for its result
            due = [entry for entry in configs if self._is_due(entry)]
            if due:
                with ThreadPoolExecutor(max_workers=len(due), thread_name_prefix="models") as pool:
                    self._kept.update(zip((entry.name for entry in due), pool.map(self._load, due), strict=True))
                self.listed = frozenset(
                    f"{name}/{model.id}" for name, kept in self._kept.items() for model in kept.models
                )
            lists = [self._kept[entry.name] for entry in configs]
            before, models = self._union
            if len(before) != 1 + len(lists) or any(map(operator.is_not, before, (snapshot, *lists))):
                models = _union(snapshot, zip(configs, lists, strict=True))
                self._union = (snapshot, *lists), models
            return models

    def one(self, identifier: str) -> ListedModel:
        """The model with that id, with or without the default provider's name before it. Raises UnknownModel."""
        plain = identifier.removeprefix(f"{self._catalogue.default}/")
        for model in self.all():
            if model.id in (identifier, plain):
                return replace(model, id=identifier)
        raise self.unknown(identifier)

    @staticmethod
    def unknown(identifier: str) -> UnknownModel:
        """The error for an id that is not listed."""
        return UnknownModel(f"There is no model {identifier[:200]!r}.", param="model")

    def _is_due(self, entry: ProviderConfig) -> bool:
        kept = self._kept.get(entry.name)
        return kept is None or kept.until <= self._clock()

    def _load(self, entry: ProviderConfig) -> _CachedList:
        call = CallContext()
        call.begin(LIST_TIMEOUTS)
        try:
            models = self._catalogue.provider(entry).models(call)
            return _CachedList(models, self._clock() + self._ttl)
        except (GatewayError, Cancelled) as error:
            log.warning("no list of models", extra={"facts": {"provider": entry.name, "error": str(error)}})
        last = self._kept.get(entry.name)
        fallback = [ListedModel(entry.default_model, entry.name)] if entry.default_model else []
        return _CachedList(last.models if last else fallback, self._clock() + min(RETRY_SECONDS, self._ttl))


def _union(snapshot: Snapshot, lists: Iterable[tuple[ProviderConfig, _CachedList]]) -> list[ListedModel]:
    models = dict(snapshot.models)
    for entry, kept in lists:
        prefix = "" if entry.name == snapshot.default else f"{entry.name}/"
        for model in kept.models:
            models.setdefault(prefix + model.id, replace(model, id=prefix + model.id))
    return list(models.values())
