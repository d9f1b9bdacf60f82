"""POST /images/generations."""

from collections.abc import Iterable

from flask import Response

from core.errors import UpstreamDown
from core.events import Event, Images
from dispatch.relay import IMAGES_FACTOR
from schemas.images import images_body, load_images
from views.answers import whole_response
from views.blueprint import ApiRequest, api
from views.delivery import Delivery


@api.post("/images/generations")
def images(incoming: ApiRequest) -> Response:
    """Make pictures from a prompt."""
    request = load_images(incoming.body(), incoming.services.limits)
    incoming.model = request.model
    route = incoming.services.catalogue.images_route(request.model, request.provider)
    delivery = Delivery(
        incoming,
        route,
        lambda target, call: target.provider.images(request, target, call),
        streams=False,
        first_event_factor=IMAGES_FACTOR,
        details={"images": request.n},
        estimates=False,
    )

    def body(events: Iterable[Event]) -> bytes:
        for event in events:
            if isinstance(event, Images):
                return images_body(event)
        raise UpstreamDown("The upstream sent no pictures.")

    return whole_response(delivery, body)
