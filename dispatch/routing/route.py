"""A route: the targets for a model's name, as the catalogue finds them."""

from dataclasses import dataclass

from dispatch.routing.config import NO_FILLER, Filler, Guard, ModelConfig
from providers.base import Target


@dataclass(frozen=True, slots=True)
class Route:
    """The targets that may answer a request, the preferred one first; there is always one.

    row      the model that the request names, None if no row has that name
    filler   the text to send while the first token is awaited, if any
    note     a sentence for the error message when the model does not exist
    guard    the row's guardrail, if any, which goes for its fallbacks too
    """

    targets: tuple[Target, ...]
    row: ModelConfig | None = None
    filler: Filler = NO_FILLER
    note: str = ""
    guard: Guard | None = None
