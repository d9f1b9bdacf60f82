"""POST /moderations."""

from collections.abc import Iterable

from flask import Response

from errors import UpstreamDown
from events import Event, Verbatim
from schemas.moderations import load_moderations
from views.api import Incoming, api
from views.sse import Line, whole


@api.post("/moderations")
def moderations(incoming: Incoming) -> Response:
    """Have a text judged, by a provider that does so."""
    asked = load_moderations(incoming.body(), incoming.house.limits)
    route = incoming.house.catalogue.route(asked.model, asked.provider)
    facts = {"path": "moderations", "model": asked.model}
    line = Line(
        incoming, route, lambda target, call: target.provider.moderate(asked, target, call), facts, streams=False
    )

    def body(events: Iterable[Event]) -> bytes:
        for event in events:
            if isinstance(event, Verbatim):
                return event.data
        raise UpstreamDown("The upstream judged nothing.")

    return whole(line, body)
