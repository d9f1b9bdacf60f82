"""POST /chat/completions."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from logging import getLogger

from flask import Response

from core.errors import UpstreamDown
from core.events import Event, Usage
from core.requests import ChatRequest
from dispatch.routing.route import Route
from dispatch.transforms.speech import read_aloud
from dispatch.transforms.traced_answer import trace_answers
from schemas.chat.encode import ChunkEncoder
from schemas.chat.fold import fold
from schemas.chat.request import load_chat
from views.answers import StreamResponse, whole_response
from views.blueprint import ApiRequest, api
from views.delivery import Delivery

log = getLogger("thinkline.chat")


@api.post("/chat/completions")
def chat(incoming: ApiRequest) -> Response:
    """Answer a conversation, word by word or whole."""
    services = incoming.services
    session_id = incoming.environ.get("HTTP_X_SESSION_ID", "")
    request = load_chat(
        incoming.body(), show_reasoning=services.show_reasoning, session_id=session_id, limits=services.limits
    )
    incoming.model, incoming.stream, incoming.conversation = request.model, request.stream, request.conversation_id
    route = services.catalogue.chat_route(request)
    delivery = chat_delivery(incoming, request, route, forwards=True)
    name = route.targets[0].public_name
    if request.stream:
        return StreamResponse(
            delivery,
            ChunkEncoder(name, include_usage=request.include_usage, include_reasoning=request.include_reasoning),
        )

    return whole_response(delivery, partial(fold, model=name, include_reasoning=request.include_reasoning))


def chat_delivery(
    incoming: ApiRequest, request: ChatRequest, route: Route, *, forwards: bool = False, fills_with_tools: bool = False
) -> Delivery:
    """Prepare the delivery of a chat's answer, in any dialect of callers, with a filler and with text fit to be read
    aloud where configured. No target is asked yet. With `forwards`, the keeper of lines may take the upstream's frames
    over.
    """
    services = incoming.services
    may_fill = fills_with_tools or services.fills_with_tools or not _may_call(request)
    log.log(5, "asked", extra={"payload": request.body})
    fills = request.stream and bool(route.filler) and may_fill
    aloud = _is_read_aloud(request, route)
    trace = incoming.trace
    words = trace.words if trace else None
    if words is not None:
        words.asked = request.messages
    if fills or aloud or words is not None:
        request = replace(request, passthrough=None)
    start = services.relay.chat(request, route.guard)
    if trace is not None and trace.sampled:
        start = trace_answers(start, trace)
    return Delivery(
        incoming,
        route,
        read_aloud(start) if aloud else start,
        streams=request.stream,
        reasoning=request.include_reasoning,
        fills=fills,
        forwards=forwards and request.stream and not (aloud or route.guard or words),
    )


def _may_call(request: ChatRequest) -> bool:
    """Whether the answer may be a tool call, or follows one: a filler before it would be the turn's second."""
    if request.tools and request.tool_choice != "none":
        return True
    return bool(request.messages) and request.messages[-1]["role"] in ("tool", "function")


def _is_read_aloud(request: ChatRequest, route: Route) -> bool:
    """Whether text is made fit for a voice: as the body says, else as the model's row says. JSON never is."""
    wanted = request.extras.get("speech", route.row is not None and route.row.speech)
    return bool(wanted) and request.body.get("response_format", {}).get("type", "text") == "text"


def prompt_count_delivery(incoming: ApiRequest, request: ChatRequest) -> Delivery:
    """Prepare the delivery of the Usage of a prompt, which is counted and not answered."""
    return Delivery(
        incoming,
        incoming.services.catalogue.chat_route(request),
        lambda target, call: target.provider.count_tokens(request, target, call),
        streams=False,
        first_event_factor=1.0,
        charged=False,
    )


def prompt_tokens(events: Iterable[Event]) -> int:
    """Return the prompt's tokens. Raises UpstreamDown."""
    for event in events:
        if isinstance(event, Usage):
            return event.prompt
    raise UpstreamDown("The upstream counted no tokens.")
