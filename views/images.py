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
    request = load_images(incoming.body(), incoming.services.limits)
    route = incoming.services.catalogue.images_route(request.model, request.provider)
    facts = {"path": "images", "model": request.model, "images": request.n}
    delivery = Delivery(
        incoming,
        route,
        lambda target, call: target.provider.images(request, target, call),
        facts,
        streams=False,
        patience=IMAGES_FACTOR,
    )

    def body(events: Iterable[Event]) -> bytes:
        for event in events:
            if isinstance(event, Images):
                return images_body(event)
        raise UpstreamDown("The upstream sent no pictures.")

    return whole_response(delivery, body)
