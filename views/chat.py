"""POST /chat/completions."""

from logging import getLogger

from flask import Response, request

from dispatch.relay import Answer
from schemas.chat import load_chat
from schemas.completion import ChunkEncoder, fold
from views.api import api, read_body
from views.house import house
from views.sse import Line, stream, whole

log = getLogger("thinkline.chat")


@api.post("/chat/completions")
def chat() -> Response:
    """Answer a conversation, word by word or whole."""
    rooms = house()
    session_id = request.headers.get("X-Session-Id", "")
    asked = load_chat(read_body(), show_reasoning=rooms.show_reasoning, session_id=session_id)
    route = rooms.catalogue.chat_route(asked)
    log.log(5, "asked", extra={"payload": asked.body})
    facts = {"path": "chat", "model": asked.model, "stream": asked.stream}
    line = Line(
        route,
        lambda target, call: target.provider.chat(asked, target, call),
        facts,
        streams=asked.stream,
        reasoning=asked.include_reasoning,
    )
    name = route.targets[0].public_name
    if asked.stream:
        return stream(
            line,
            ChunkEncoder(name, include_usage=asked.include_usage, include_reasoning=asked.include_reasoning),
        )

    def folded(answer: Answer) -> bytes:
        return fold(answer, name, include_reasoning=asked.include_reasoning)

    return whole(line, folded)
