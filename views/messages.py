"""POST /messages and /messages/count_tokens, Anthropic's dialect."""

from functools import partial

import orjson
from flask import Response

from core.errors import GatewayError
from core.requests import ChatRequest
from core.token_estimate import estimate_prompt_tokens
from schemas.messages.encode import MessageEncoder, fold
from schemas.messages.errors import ERRORS
from schemas.messages.events import MessageEvents
from schemas.messages.request import FORWARDED_HEADERS, load_messages
from server.flask_app import REQUEST_ID
from views.answers import StreamResponse, whole_response
from views.blueprint import ApiRequest, api
from views.chat import chat_delivery, prompt_count_delivery, prompt_tokens

OPTIONS = {name: "HTTP_" + name.upper().replace("-", "_") for name in FORWARDED_HEADERS}


@api.post("/messages", errors=ERRORS)
def messages(incoming: ApiRequest) -> Response:
    """Answer a conversation, word by word or whole."""
    chat_request = _load(incoming)

    def place(param: str | None) -> str | None:
        return chat_request.native.place(param) if chat_request.native else param

    try:
        route = incoming.services.catalogue.chat_route(chat_request)
        delivery = chat_delivery(incoming, chat_request, route, forwards=True)
        estimate = partial(estimate_prompt_tokens, chat_request.body)
        events = MessageEvents(
            route.targets[0].public_name, include_reasoning=chat_request.include_reasoning, estimate=estimate
        )
        if chat_request.stream:
            return _with_request_id(
                incoming,
                StreamResponse(
                    delivery, MessageEncoder(events), chat_request.native.place if chat_request.native else str
                ),
            )
        return _with_request_id(incoming, whole_response(delivery, partial(fold, events)))
    except GatewayError as error:
        error.param = place(error.param)
        raise


@api.post("/messages/count_tokens", errors=ERRORS)
def count_tokens(incoming: ApiRequest) -> Response:
    """Count a conversation's tokens: by the upstream, or by an estimate."""
    chat_request = _load(incoming, counts=True)
    return _with_request_id(
        incoming,
        whole_response(
            prompt_count_delivery(incoming, chat_request),
            lambda events: orjson.dumps({"input_tokens": prompt_tokens(events)}),
        ),
    )


def _load(incoming: ApiRequest, *, counts: bool = False) -> ChatRequest:
    services, environ = incoming.services, incoming.environ
    chat_request = load_messages(
        incoming.body(),
        headers={name: environ[key] for name, key in OPTIONS.items() if environ.get(key)},
        query="?beta=true" if "beta=true" in environ.get("QUERY_STRING", "").split("&") else "",
        counts=counts,
        show_reasoning=services.show_reasoning,
        session_id=environ.get("HTTP_X_SESSION_ID", ""),
        limits=services.limits,
    )
    incoming.model, incoming.stream, incoming.conversation = (
        chat_request.model,
        chat_request.stream,
        chat_request.conversation_id,
    )
    return chat_request


def _with_request_id(incoming: ApiRequest, response: Response) -> Response:
    """Add the request's id in the header that Anthropic's clients read."""
    response.headers[ERRORS.id_header] = incoming.environ[REQUEST_ID]
    return response
