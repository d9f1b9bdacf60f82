"""POST /completions, OpenAI's older endpoint."""

from flask import Response

from schemas.chat.fold import fold
from schemas.text_completion import TextEncoder, load_text_completion, text_body
from views.blueprint import ApiRequest, api
from views.delivery import Delivery, StreamResponse, whole_response


@api.post("/completions")
def completions(incoming: ApiRequest) -> Response:
    """Answer a prompt as a chat of one message would be."""
    rooms = incoming.services
    asked = load_text_completion(incoming.body(), incoming.services.limits)
    route = rooms.catalogue.chat_route(asked)
    facts = {"path": "completions", "model": asked.model, "stream": asked.stream}
    line = Delivery(incoming, route, rooms.relay.chat(asked), facts, streams=asked.stream, reasoning=False)
    name = route.targets[0].public_name
    if asked.stream:
        return StreamResponse(line, TextEncoder(name, include_usage=asked.include_usage))
    return whole_response(line, lambda events: text_body(fold(events, model=name)))
