"""POST /rerank."""

from collections.abc import Iterable

from flask import Response

from core.errors import UpstreamDown
from core.events import Event, Ranks
from schemas.rerank import load_rerank, rerank_body
from views.answers import whole_response
from views.blueprint import ApiRequest, api
from views.delivery import Delivery


@api.post("/rerank")
def rerank(incoming: ApiRequest) -> Response:
    """Put documents in order of their relevance to a query."""
    request, return_documents = load_rerank(incoming.body(), incoming.services.limits)
    incoming.model = request.model
    route = incoming.services.catalogue.route(request.model, request.provider)
    delivery = Delivery(
        incoming,
        route,
        lambda target, call: target.provider.rerank(request, target, call),
        streams=False,
        details={"documents": len(request.documents)},
        estimates=False,
    )

    def body(events: Iterable[Event]) -> bytes:
        for event in events:
            if isinstance(event, Ranks):
                name = route.targets[0].public_name
                return rerank_body(event, request, name, return_documents=return_documents)
        raise UpstreamDown("The upstream ranked nothing.")

    return whole_response(delivery, body)
