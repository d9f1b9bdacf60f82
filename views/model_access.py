"""Which models a key may call. The error for another model does not say whether it exists."""

from collections.abc import Iterable

from core.api_keys import ApiKey
from core.errors import GatewayError, PermissionDenied, UnknownModel
from core.models import ListedModel
from dispatch.routing.catalogue import Catalogue
from dispatch.routing.route import Route

ABOUT_PROVIDERS = ("unknown_provider", "provider_not_configured")
"""Codes of errors that name providers."""


def require_allowed(key: ApiKey, model: str, route: Route, catalogue: Catalogue) -> None:
    """Raises PermissionDenied if the requested `model` has led to one that the key may not call."""
    if key.models and not key.allows(_names_of(route, model, catalogue)):
        raise _permission_denied(key)


def conceal_models(error: GatewayError, key: ApiKey, model: str, catalogue: Catalogue) -> GatewayError:
    """Return an error from before the routing, or one in its place that says nothing of models that the key may not
    call. `model` is "" if the body was not read, or names none.
    """
    if not key.models or not (model or error.code in ABOUT_PROVIDERS):
        return error
    if error.code in ABOUT_PROVIDERS or not key.allows(_names(model, catalogue)):
        return _permission_denied(key)
    if isinstance(error, UnknownModel):
        return UnknownModel(f"There is no model {model[:200]!r}; /v1/models lists those for this key.", param="model")
    return error


def allowed_models(models: Iterable[ListedModel], key: ApiKey, catalogue: Catalogue) -> list[ListedModel]:
    """The listed models that the key may call."""
    return [model for model in models if key.allows(_names(model.id, catalogue))]


def _permission_denied(key: ApiKey) -> PermissionDenied:
    return PermissionDenied(f"The key {key.name!r} may call these models: {', '.join(key.models)}.", param="model")


def _names(model: str, catalogue: Catalogue) -> set[str]:
    """The names of a requested or listed model, as far as they are known without a route."""
    if row := catalogue.snapshot.names.get(model):
        return {row.name, *row.aliases}
    return {model, f"{catalogue.default}/{model}"}


def _names_of(route: Route, requested: str, catalogue: Catalogue) -> set[str]:
    """The names of the model that a route leads to: a row's, else `provider/model`, and without the provider where it
    can be called so.
    """
    if route.row is not None:
        return {route.row.name, *route.row.aliases}
    target = route.targets[0]
    provider = target.provider.name.partition("#")[0]
    names = {f"{provider}/{target.model}"}
    if provider in (catalogue.default, catalogue.snapshot.ids.provider_of(target.model)):
        names |= {requested, target.model} - catalogue.snapshot.names.keys() - {""}
    return names
