"""POST /moderations."""

from collections.abc import Iterable

from flask import Response

from core.errors import UpstreamDown
from core.events import Event, Verbatim
from schemas.moderations import load_moderations
from views.answers import whole_response
from views.blueprint import ApiRequest, api
from views.delivery import Delivery


@api.post("/moderations")
def moderations(incoming: ApiRequest) -> Response:
    """Have a provider judge whether texts are harmful."""
    request = load_moderations(incoming.body(), incoming.services.limits)
    incoming.model = request.model
    route = incoming.services.catalogue.route(request.model, request.provider)
    delivery = Delivery(
        incoming,
        route,
        lambda target, call: target.provider.moderate(request, target, call),
        streams=False,
        estimates=False,
    )

    def body(events: Iterable[Event]) -> bytes:
        for event in events:
            if isinstance(event, Verbatim):
                return event.data
        raise UpstreamDown("The upstream judged nothing.")

    return whole_response(delivery, body)
