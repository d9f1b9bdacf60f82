"""POST /rerank."""

from collections.abc import Iterable

from flask import Response

from core.errors import UpstreamDown
from core.events import Event, Ranks
from schemas.rerank import load_rerank, rerank_body
from views.blueprint import ApiRequest, api
from views.delivery import Delivery, whole_response


@api.post("/rerank")
def rerank(incoming: ApiRequest) -> Response:
    """Put documents in order of their relevance to a query."""
    asked, return_documents = load_rerank(incoming.body(), incoming.services.limits)
    incoming.model = asked.model
    route = incoming.services.catalogue.route(asked.model, asked.provider)
    line = Delivery(
        incoming,
        route,
        lambda target, call: target.provider.rerank(asked, target, call),
        streams=False,
        details={"documents": len(asked.documents)},
    )

    def body(events: Iterable[Event]) -> bytes:
        for event in events:
            if isinstance(event, Ranks):
                name = route.targets[0].public_name
                return rerank_body(event, request, name, return_documents=return_documents)
        raise UpstreamDown("The upstream ranked nothing.")

    return whole_response(delivery, body)
