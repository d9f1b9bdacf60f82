"""POST /images/generations."""

from collections.abc import Iterable

from flask import Response

from core.errors import UpstreamDown
from core.events import Event, Images
from dispatch.relay import IMAGES_FACTOR
from schemas.images import images_body, load_images
from views.blueprint import ApiRequest, api
from views.delivery import Delivery, whole_response


@api.post("/images/generations")
def images(incoming: ApiRequest) -> Response:
    """Make pictures from a prompt."""
    asked = load_images(incoming.body(), incoming.services.limits)
    incoming.model = asked.model
    route = incoming.services.catalogue.images_route(asked.model, asked.provider)
    line = Delivery(
        incoming,
        route,
        lambda target, call: target.provider.images(asked, target, call),
        streams=False,
        patience=IMAGES_FACTOR,
        details={"images": asked.n},
    )

    def body(events: Iterable[Event]) -> bytes:
        for event in events:
            if isinstance(event, Images):
                return images_body(event)
        raise UpstreamDown("The upstream sent no pictures.")

    return whole_response(delivery, body)
