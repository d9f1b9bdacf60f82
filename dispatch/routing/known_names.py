"""The known names of models and targets, so that an invented name does not become a series of a metric."""

from collections.abc import Collection
from typing import Any

from dispatch.routing.catalogue import Catalogue
from dispatch.routing.model_lists import ModelLists
from dispatch.routing.snapshot import Snapshot

OTHER = "other"


class KnownNames:
    """Names that are configured, and those that providers have listed. Sends no requests."""

    def __init__(self, catalogue: Catalogue, models: ModelLists) -> None:
        self._catalogue = catalogue
        self._models = models
        self._known: tuple[Any, Any, Collection[str]] = (None, None, ())

    def model(self, name: str, target: str) -> str:
        """The public name for a request of the model `name` that `target` has answered: a row's, else the target's;
        "" where none was named.
        """
        if row := self._catalogue.snapshot.row_of(name):
            return row.name
        if target:
            return self.target(target)
        return OTHER if name else ""

    def target(self, name: str) -> str:
        """The target, `provider/model`; `provider/other` where its model is not known."""
        return name if name in self._targets() else f"{name.partition('/')[0]}/{OTHER}"

    def _targets(self) -> Collection[str]:
        snapshot, listed = self._catalogue.snapshot, self._models.listed
        if self._known[0] is not snapshot or self._known[1] is not listed:
            self._known = (snapshot, listed, _targets(snapshot) | listed)
        return self._known[2]


def _targets(snapshot: Snapshot) -> frozenset[str]:
    rows = {f"{each.provider}/{each.model}" for row in snapshot.names.values() for each in row.upstreams}
    defaults = {f"{entry.name}/{entry.default_model}" for entry in snapshot.entries.values() if entry.default_model}
    return frozenset(rows | defaults)
