"""POST /images/generations."""

from collections.abc import Iterable

from flask import Response

from dispatch.relay import PATIENCE_FOR_IMAGES
from errors import UpstreamDown
from events import Event, Images
from schemas.images import images_body, load_images
from views.api import Incoming, api
from views.sse import Line, whole


@api.post("/images/generations")
def images(incoming: Incoming) -> Response:
    """Make pictures from a prompt."""
    asked = load_images(incoming.body(), incoming.house.limits)
    route = incoming.house.catalogue.images_route(asked.model, asked.provider)
    facts = {"path": "images", "model": asked.model, "images": asked.n}
    line = Line(
        incoming,
        route,
        lambda target, call: target.provider.images(asked, target, call),
        facts,
        streams=False,
        patience=PATIENCE_FOR_IMAGES,
    )

    def body(events: Iterable[Event]) -> bytes:
        for event in events:
            if isinstance(event, Images):
                return images_body(event)
        raise UpstreamDown("The upstream sent no pictures.")

    return whole(line, body)
