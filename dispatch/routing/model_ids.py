"""Which provider a model's id means by its form alone, where neither the request nor a list of models says so."""

from collections.abc import Mapping

from dispatch.routing.config import ProviderConfig


class ModelIds:
    """The providers whose models' ids have a form of their own (`ProviderConfig.model_ids`).

    The default provider may have ids of such a form too: it is that provider, or another account or a gateway with the
    same models. Its default model shows it. Ids of that form stay with the default provider.
    """

    def __init__(self, entries: Mapping[str, ProviderConfig], default: str) -> None:
        self._default = entries[default]
        self._owners = [entry for entry in entries.values() if entry.model_ids is not None]
        alike = self._owners_of(self._default.default_model)
        self._alike = alike[-1] if alike else None
        """The provider that has ids like the default provider's, maybe the same."""

    def provider_of(self, model: str) -> str:
        """The provider whose form of ids a name has; "" if there is none, or if the default provider is meant.

        Two forms may fit: then it is the later provider, whose form is the narrower. If none of them can be used, it is
        the first, whose missing setting the error names; but not if the default provider may have the model.
        """
        owners = self._owners_of(model)
        if not owners:
            return ""
        others = [entry for entry in owners if entry is not self._alike]
        usable = [entry.name for entry in others if entry.available]
        if usable:
            return usable[-1]
        may_be_the_defaults = len(others) < len(owners) or self._default.has_vendor_prefixes
        return "" if may_be_the_defaults else others[0].name

    def _owners_of(self, model: str) -> list[ProviderConfig]:
        return [entry for entry in self._owners if entry.has_id(model)]
