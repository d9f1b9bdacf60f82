"""POST /chat/completions."""

from dataclasses import replace
from functools import partial
from logging import getLogger

from flask import Response

from core.requests import ChatRequest
from dispatch.routing.catalogue import Route
from dispatch.transforms.speech import speech_safe
from schemas.chat.encode import ChunkEncoder
from schemas.chat.fold import fold
from schemas.chat.request import load_chat
from views.blueprint import ApiRequest, api
from views.delivery import Delivery, StreamResponse, whole_response

log = getLogger("thinkline.chat")


@api.post("/chat/completions")
def chat(incoming: ApiRequest) -> Response:
    """Answer a conversation, word by word or whole."""
    rooms = incoming.services
    session_id = incoming.environ.get("HTTP_X_SESSION_ID", "")
    asked = load_chat(incoming.body(), show_reasoning=rooms.show_reasoning, session_id=session_id, limits=rooms.limits)
    route = rooms.catalogue.chat_route(asked)
    log.log(5, "asked", extra={"payload": asked.body})
    fills = asked.stream and bool(route.filler) and (rooms.fills_with_tools or not _may_call(asked))
    aloud = _is_read_aloud(asked, route)
    if fills or aloud:
        asked = replace(asked, rebuild=True)
    line = Delivery(
        incoming,
        route,
        rooms.relay.chat(asked),
        {"path": "chat", "model": asked.model, "stream": asked.stream},
        streams=asked.stream,
        reasoning=asked.include_reasoning,
        fills=fills,
        through=speech_safe if aloud else None,
        forwards=asked.stream,
    )
    name = route.targets[0].public_name
    if asked.stream:
        return StreamResponse(
            line, ChunkEncoder(name, include_usage=asked.include_usage, include_reasoning=asked.include_reasoning)
        )

    return whole_response(line, partial(fold, model=name, include_reasoning=asked.include_reasoning))


def _may_call(asked: ChatRequest) -> bool:
    """Whether the answer may be a tool call, or follows one: a phrase before it would be one too many in this turn."""
    return (bool(asked.tools) and asked.tool_choice != "none") or asked.messages[-1]["role"] in ("tool", "function")


def _is_read_aloud(asked: ChatRequest, route: Route) -> bool:
    """Whether the text is made fit for a voice: the body says so, else the model. JSON for a program never is."""
    wanted = asked.extras.get("speech", route.row is not None and route.row.speech)
    return bool(wanted) and asked.body.get("response_format", {}).get("type", "text") == "text"
