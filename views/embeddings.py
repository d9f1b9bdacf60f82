"""POST /embeddings."""

from collections.abc import Iterable

from flask import Response

from core.errors import UpstreamDown
from core.events import Event, Vectors
from schemas.embeddings import embeddings_body, load_embeddings
from views.blueprint import ApiRequest, api
from views.delivery import Delivery, whole_response


@api.post("/embeddings")
def embeddings(incoming: ApiRequest) -> Response:
    """Turn texts into vectors."""
    asked = load_embeddings(incoming.body(), incoming.services.limits)
    incoming.model = asked.model
    route = incoming.services.catalogue.route(asked.model, asked.provider)
    line = Delivery(
        incoming,
        route,
        lambda target, call: target.provider.embed(asked, target, call),
        streams=False,
        details={"inputs": len(asked.inputs)},
    )

    def body(events: Iterable[Event]) -> bytes:
        for event in events:
            if isinstance(event, Vectors):
                return embeddings_body(event, request, route.targets[0].public_name)
        raise UpstreamDown("The upstream sent no embeddings.")

    return whole_response(delivery, body)
