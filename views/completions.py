"""POST /completions, OpenAI's older endpoint."""

from flask import Response

from schemas.chat.fold import fold
from schemas.text_completion import TextEncoder, load_text_completion, text_body
from views.blueprint import ApiRequest, api
from views.delivery import Delivery, stream_response, whole_response


@api.post("/completions")
def completions(incoming: ApiRequest) -> Response:
    """Answer a prompt as a chat of one message would be."""
    rooms = incoming.services
    asked = load_text_completion(incoming.body(), incoming.services.limits)
    incoming.model, incoming.stream, incoming.conversation = asked.model, asked.stream, asked.conversation_id
    route = rooms.catalogue.chat_route(asked)
    line = Delivery(incoming, route, rooms.relay.chat(asked), streams=asked.stream, reasoning=False)
    name = route.targets[0].public_name
    if request.stream:
        return stream_response(delivery, TextEncoder(name, include_usage=request.include_usage))
    return whole_response(delivery, lambda events: text_body(fold(events, model=name)))
