"""POST /responses, and the endpoints for a stored response: get, list its input, delete, cancel, compact."""

from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import Any
from uuid import uuid4

import orjson
from flask import Response, request

from core.errors import GatewayError, InvalidRequest, Unsupported
from core.json_values import Json
from core.requests import NativeBody
from schemas.responses.encode import ResponsesEncoder, whole
from schemas.responses.frames import usage_body
from schemas.responses.items import unanswered_output, whole_item
from schemas.responses.request import Chat, ResponsesRequest, load_compact, load_responses, to_chat
from views.answers import StreamResponse, whole_response
from views.blueprint import ApiRequest, api
from views.chat import chat_delivery, prompt_count_delivery, prompt_tokens
from views.delivery import Delivery
from views.response_store import StoredResponse

NOTHING = StoredResponse({}, [])
MOST_LISTED = 100
"""Items of a page."""


class PreviousNotFound(InvalidRequest):
    """The previous response is not stored."""

    code = "previous_response_not_found"


class ResponseNotFound(InvalidRequest):
    """This caller has no such response."""

    status = 404
    code = "response_not_found"


@dataclass(frozen=True, slots=True)
class Conversation:
    """A request, the response that it follows, and the chat that results from both."""

    request: ResponsesRequest
    previous: StoredResponse
    chat: Chat


@api.post("/responses")
def responses(incoming: ApiRequest) -> Response:
    """Answer a conversation in the Responses dialect, event by event or whole."""
    conversation = _load(incoming)
    try:
        route = incoming.services.catalogue.chat_route(conversation.chat.request)
        delivery = chat_delivery(incoming, conversation.chat.request, route)
        return _answer(incoming, conversation, delivery, route.targets[0].public_name)
    except GatewayError as error:
        error.param = conversation.chat.field(error.param)
        raise


@api.post("/responses/input_tokens")
def input_tokens(incoming: ApiRequest) -> Response:
    """Count a conversation's tokens: by the upstream, or by an estimate."""
    chat = _load(incoming).chat
    try:
        delivery = prompt_count_delivery(incoming, chat.request)
        return whole_response(
            delivery,
            lambda events: orjson.dumps({"object": "response.input_tokens", "input_tokens": prompt_tokens(events)}),
        )
    except GatewayError as error:
        error.param = chat.field(error.param)
        raise


def _load(incoming: ApiRequest) -> Conversation:
    return load_conversation(incoming, incoming.body(), incoming.services.responses.get)


Find = Callable[[str, str], StoredResponse | None]
"""A caller's response, by its id."""


def load_conversation(incoming: ApiRequest, raw: bytes, find: Find) -> Conversation:
    """Load a request's conversation; `find` returns a response that it follows. Raises InvalidRequest."""
    services = incoming.services
    request = load_responses(
        raw,
        show_reasoning=services.show_reasoning,
        session_id=incoming.environ.get("HTTP_X_SESSION_ID", ""),
        limits=services.limits,
    )
    incoming.model, incoming.stream = str(request.body.get("model", "")), request.streams
    previous = _previous(incoming, request.previous, find)
    services.limits.check([*previous.items, *request.items], "messages", "input")
    if previous is not NOTHING and (call_id := unanswered_output(previous.items, request.items)):
        raise InvalidRequest(f"There is no call {call_id!r} that this output could answer.", param="input")
    chat = to_chat(request, native_body(request, previous), previous.items, drops_tools=services.drops_tools)
    incoming.conversation = chat.request.conversation_id
    return Conversation(request, previous, chat)


def _previous(incoming: ApiRequest, identifier: str, find: Find) -> StoredResponse:
    """The previous response with its items. Raises PreviousNotFound."""
    if not identifier:
        return NOTHING
    found = find(incoming.caller, identifier)
    if found is None:
        raise PreviousNotFound(
            f"Previous response with id {identifier[:100]!r} not found: it is unknown, or has expired. Send all items "
            "of the conversation.",
            param="previous_response_id",
        )
    return found


def native_body(request: ResponsesRequest, previous: StoredResponse) -> NativeBody:
    """The body for an upstream that speaks the Responses dialect: as it was sent, with the items of the conversation in
    place of `previous_response_id`, except for the provider that has stored them.
    """
    if previous is NOTHING:
        return NativeBody(request.body)
    kept = [
        _without_id(item) for item in previous.items if item.get("type") != "reasoning" or item.get("encrypted_content")
    ]
    body = {key: value for key, value in request.body.items() if key != "previous_response_id"}
    return NativeBody({**body, "input": [*kept, *request.items]}, previous.provider, request.body)


def _without_id(item: Json) -> Json:
    """The item without the id and status that its upstream gave it."""
    return {key: value for key, value in item.items() if key not in ("id", "status")}


def _answer(incoming: ApiRequest, conversation: Conversation, delivery: Delivery, model: str) -> Response:
    request, put = conversation.request, incoming.services.responses.put

    def keep(stored: StoredResponse) -> None:
        if request.is_stored:
            put(incoming.caller, stored)

    encoder, end = response_encoder(incoming, conversation, delivery, model, keep)
    if not request.streams:
        return whole_response(delivery, lambda events: whole(encoder, events))
    response = StreamResponse(delivery, encoder, conversation.chat.field)
    response.call_on_close(end)
    return response


def response_encoder(
    incoming: ApiRequest,
    conversation: Conversation,
    delivery: Delivery,
    model: str,
    keep: Callable[[StoredResponse], None],
    *,
    one_end: bool = False,
) -> tuple[ResponsesEncoder, Callable[[], None]]:
    """Return the answer's encoder, and a function that ends the time in which the answer can be cancelled by its id.
    `keep` is called with the response when it can be followed.
    """
    services, caller = incoming.services, incoming.caller
    request, previous = conversation.request, conversation.previous
    begun: list[str] = []

    def begins(encoder: ResponsesEncoder) -> None:
        if request.streams:  # else the caller does not know the id yet
            identifier = encoder.response["id"]
            begun.append(identifier)
            services.running.add(caller, identifier, delivery.call, lambda: encoder.response)

    def keep_items(response: Json, output: list[Json], passed: bool) -> None:
        provider = delivery.answer.target.provider.name if passed else ""
        items = [*previous.items, *map(whole_item, request.items), *output]
        keep(StoredResponse(response, items, provider, len(output)))

    encoder = ResponsesEncoder(
        request.resource(f"resp_{uuid4().hex}", model),
        include_reasoning=conversation.chat.request.include_reasoning,
        named_tools=request.named_tools,
        streams=request.streams,
        one_end=one_end,
        begins=begins,
        keep=keep_items,
    )
    return encoder, lambda: services.running.remove(caller, *begun)


@api.get("/responses/<identifier>")
def get_response(incoming: ApiRequest, identifier: str) -> Response:
    """Return a stored response."""
    if "stream=true" in incoming.environ.get("QUERY_STRING", "").lower():
        raise Unsupported("A response that has ended is given whole: leave it out.", param="stream")
    return _json(_require_stored(incoming, identifier).response)


@api.get("/responses/<identifier>/input_items")
def input_items(incoming: ApiRequest, identifier: str) -> Response:
    """Return the input items of a stored response, page by page."""
    query = request.args
    limit, order, after = query.get("limit", "20"), query.get("order", "desc"), query.get("after", "")
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= MOST_LISTED:
        raise InvalidRequest(f"It must be a number from 1 to {MOST_LISTED}.", param="limit")
    if order not in ("asc", "desc"):
        raise InvalidRequest("It must be asc or desc.", param="order")
    items = _require_stored(incoming, identifier).input_items
    if order == "desc":
        items = items[::-1]
    if after:
        ids = [item.get("id") for item in items]
        if after not in ids:
            raise InvalidRequest("It is the id of no item of this input.", param="after")
        items = items[ids.index(after) + 1 :]
    page = items[: int(limit)]
    return _json({
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(items) > len(page),
    })  # fmt: skip


@api.delete("/responses/<identifier>")
def delete_response(incoming: ApiRequest, identifier: str) -> Response:
    """Delete a stored response."""
    _require_stored(incoming, identifier)
    incoming.services.responses.delete(incoming.caller, identifier)
    return _json({"id": identifier, "object": "response", "deleted": True})


@api.post("/responses/<identifier>/cancel", asks=False)
def cancel_response(incoming: ApiRequest, identifier: str) -> Response:
    """Cancel an answer under way, and its upstream's work."""
    response = incoming.services.running.cancel(incoming.caller, identifier)
    if response is None:
        _require_stored(incoming, identifier)
        raise InvalidRequest("It has ended already.", param="response_id")
    return _json(response)


@api.post("/responses/compact")
def compact_response(incoming: ApiRequest) -> Response:
    """Return all items of a conversation, to begin another with: nothing is left out."""
    compaction = load_compact(incoming.body(), incoming.services.limits)
    incoming.model = str(compaction.body["model"])
    previous = _previous(incoming, compaction.previous, incoming.services.responses.get)
    return _json({
        "id": f"resp_{uuid4().hex}",
        "object": "response.compaction",
        "created_at": int(time()),
        "output": [whole_item(item) for item in (*previous.items, *compaction.items)],
        "usage": usage_body(None),
    })  # fmt: skip


def _require_stored(incoming: ApiRequest, identifier: str) -> StoredResponse:
    found = incoming.services.responses.get(incoming.caller, identifier)
    if found is None:
        raise ResponseNotFound(f"Response with id {identifier[:100]!r} not found.", param="response_id")
    return found


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), content_type="application/json")
