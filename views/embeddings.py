"""POST /embeddings."""

from collections.abc import Iterable

from flask import Response

from errors import UpstreamDown
from events import Event, Vectors
from schemas.embeddings import embeddings_body, load_embeddings
from views.api import Incoming, api
from views.sse import Line, whole


@api.post("/embeddings")
def embeddings(incoming: Incoming) -> Response:
    """Turn texts into vectors."""
    asked = load_embeddings(incoming.body(), incoming.house.limits)
    route = incoming.house.catalogue.route(asked.model, asked.provider)
    facts = {"path": "embeddings", "model": asked.model, "inputs": len(asked.inputs)}
    line = Line(incoming, route, lambda target, call: target.provider.embed(asked, target, call), facts, streams=False)

    def body(events: Iterable[Event]) -> bytes:
        for event in events:
            if isinstance(event, Vectors):
                return embeddings_body(event, asked, route.targets[0].public_name)
        raise UpstreamDown("The upstream sent no embeddings.")

    return whole(line, body)
