"""POST /messages and /messages/count_tokens, Anthropic's dialect."""

from collections.abc import Iterable
from functools import partial

import orjson
from flask import Response

from core.errors import GatewayError, UpstreamDown
from core.events import Event, Usage
from core.requests import ChatRequest
from core.token_estimate import estimate_prompt_tokens
from schemas.messages.encode import MessageEncoder, fold
from schemas.messages.errors import ERRORS
from schemas.messages.events import MessageEvents
from schemas.messages.request import FORWARDED_HEADERS, load_messages
from server.flask_app import REQUEST_ID
from views.blueprint import ApiRequest, api
from views.chat import chat_delivery
from views.delivery import Delivery, StreamResponse, whole_response

OPTIONS = {name: "HTTP_" + name.upper().replace("-", "_") for name in FORWARDED_HEADERS}


@api.post("/messages", errors=ERRORS)
def messages(incoming: ApiRequest) -> Response:
    """Answer a conversation, word by word or whole."""
    asked = _load(incoming)

    def place(param: str | None) -> str | None:
        return asked.native.place(param) if asked.native else param

    try:
        route = incoming.services.catalogue.chat_route(asked)
        line = chat_delivery(incoming, asked, route, forwards=True)
        estimate = partial(estimate_prompt_tokens, asked.body)
        events = MessageEvents(
            route.targets[0].public_name, include_reasoning=asked.include_reasoning, estimate=estimate
        )
        if asked.stream:
            return _signed(
                incoming, StreamResponse(line, MessageEncoder(events), asked.native.place if asked.native else str)
            )
        return _signed(incoming, whole_response(line, partial(fold, events)))
    except GatewayError as error:
        error.param = place(error.param)
        raise


@api.post("/messages/count_tokens", errors=ERRORS)
def count_tokens(incoming: ApiRequest) -> Response:
    """Tell how many tokens a conversation has: as the upstream counts them, or about how many."""
    asked = _load(incoming, counts=True)
    route = incoming.services.catalogue.chat_route(asked)
    line = Delivery(
        incoming,
        route,
        lambda target, call: target.provider.count_tokens(asked, target, call),
        streams=False,
        patience=1.0,
        charged=False,
    )
    return _signed(incoming, whole_response(line, _counted))


def _load(incoming: ApiRequest, *, counts: bool = False) -> ChatRequest:
    rooms, environ = incoming.services, incoming.environ
    asked = load_messages(
        incoming.body(),
        headers={name: environ[key] for name, key in OPTIONS.items() if environ.get(key)},
        query="?beta=true" if "beta=true" in environ.get("QUERY_STRING", "").split("&") else "",
        counts=counts,
        show_reasoning=rooms.show_reasoning,
        session_id=environ.get("HTTP_X_SESSION_ID", ""),
        limits=rooms.limits,
    )
    incoming.model, incoming.stream, incoming.conversation = asked.model, asked.stream, asked.conversation_id
    return asked


def _counted(events: Iterable[Event]) -> bytes:
    for event in events:
        if isinstance(event, Usage):
            return orjson.dumps({"input_tokens": event.prompt})
    raise UpstreamDown("The upstream counted nothing.")


def _signed(incoming: ApiRequest, response: Response) -> Response:
    """With the request's id under the name by which Anthropic's clients read it."""
    response.headers[ERRORS.id_header] = incoming.environ[REQUEST_ID]
    return response
