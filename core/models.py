"""A model as an upstream lists it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model that an upstream lists. `created` is Unix seconds, 0 when unknown; `description` is for people."""

    id: str
    owned_by: str
    created: int = 0
    description: str = ""
