"""POST /completions, OpenAI's older endpoint."""

from flask import Response

from schemas.folded import fold
from schemas.text_completion import TextEncoder, load_text_completion, text_body
from views.api import Incoming, api
from views.sse import Line, stream, whole


@api.post("/completions")
def completions(incoming: Incoming) -> Response:
    """Answer a prompt as a chat of one message would be."""
    rooms = incoming.house
    asked = load_text_completion(incoming.body(), incoming.house.limits)
    route = rooms.catalogue.chat_route(asked)
    facts = {"path": "completions", "model": asked.model, "stream": asked.stream}
    line = Line(incoming, route, rooms.relay.chat(asked), facts, streams=asked.stream, reasoning=False)
    name = route.targets[0].public_name
    if asked.stream:
        return stream(line, TextEncoder(name, include_usage=asked.include_usage))
    return whole(line, lambda events: text_body(fold(events, model=name)))
