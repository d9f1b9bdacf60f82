"""POST /embeddings."""

from collections.abc import Iterable

from flask import Response

from core.errors import UpstreamDown
from core.events import Event, Vectors
from schemas.embeddings import embeddings_body, load_embeddings
from views.answers import whole_response
from views.blueprint import ApiRequest, api
from views.delivery import Delivery


@api.post("/embeddings")
def embeddings(incoming: ApiRequest) -> Response:
    """Turn texts into vectors."""
    request = load_embeddings(incoming.body(), incoming.services.limits)
    incoming.model = request.model
    route = incoming.services.catalogue.route(request.model, request.provider)
    delivery = Delivery(
        incoming,
        route,
        lambda target, call: target.provider.embed(request, target, call),
        streams=False,
        details={"inputs": len(request.inputs)},
    )

    def body(events: Iterable[Event]) -> bytes:
        for event in events:
            if isinstance(event, Vectors):
                return embeddings_body(event, request, route.targets[0].public_name)
        raise UpstreamDown("The upstream sent no embeddings.")

    return whole_response(delivery, body)
