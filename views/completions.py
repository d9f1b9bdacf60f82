"""POST /completions, OpenAI's older endpoint."""

from flask import Response

from schemas.chat.fold import fold
from schemas.text_completion import TextEncoder, load_text_completion, text_body
from views.answers import StreamResponse, whole_response
from views.blueprint import ApiRequest, api
from views.chat import chat_delivery


@api.post("/completions")
def completions(incoming: ApiRequest) -> Response:
    """Answer a prompt as a chat of one message would be."""
    services = incoming.services
    request = load_text_completion(incoming.body(), incoming.services.limits)
    incoming.model, incoming.stream, incoming.conversation = request.model, request.stream, request.conversation_id
    route = services.catalogue.chat_route(request)
    delivery = chat_delivery(incoming, request, route)
    name = route.targets[0].public_name
    if request.stream:
        return StreamResponse(delivery, TextEncoder(name, include_usage=request.include_usage))
    return whole_response(delivery, lambda events: text_body(fold(events, model=name)))
