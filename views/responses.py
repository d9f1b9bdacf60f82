"""POST /responses, and what can be done with a response afterwards."""

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
from views.blueprint import ApiRequest, api
from views.chat import chat_delivery, prompt_count_delivery, prompt_tokens
from views.delivery import Delivery, StreamResponse, whole_response
from views.response_store import StoredResponse

NOTHING = StoredResponse({}, [])
MOST_LISTED = 100
"""Items of a page."""


class PreviousNotFound(InvalidRequest):
    """The response that is to be followed is not there."""

    code = "previous_response_not_found"


class ResponseNotFound(InvalidRequest):
    """No such response of this caller's."""

    status = 404
    code = "response_not_found"


@dataclass(frozen=True, slots=True)
class Conversation:
    """A request, the response that it follows, and the chat that both mean."""

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
    """Tell how many tokens a conversation has: as the upstream counts them, or about how many."""
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
    """A request's conversation; `find` has those that it may follow. Raises InvalidRequest."""
    services = incoming.services
    asked = load_responses(
        raw,
        show_reasoning=services.show_reasoning,
        session_id=incoming.environ.get("HTTP_X_SESSION_ID", ""),
        limits=services.limits,
    )
    incoming.model, incoming.stream = str(asked.body.get("model", "")), asked.streams
    previous = _previous(incoming, asked.previous, find)
    services.limits.check([*previous.items, *asked.items], "messages", "input")
    if previous is not NOTHING and (call_id := unanswered_output(previous.items, asked.items)):
        raise InvalidRequest(f"There is no call {call_id!r} that this output could answer.", param="input")
    chat = to_chat(asked, native_body(asked, previous), previous.items, drops_tools=services.drops_tools)
    incoming.conversation = chat.request.conversation_id
    return Conversation(asked, previous, chat)


def _previous(incoming: ApiRequest, identifier: str, find: Find) -> StoredResponse:
    """What the response has kept that is to be followed. Raises PreviousNotFound."""
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


def native_body(asked: ResponsesRequest, previous: StoredResponse) -> NativeBody:
    """The request for an upstream that speaks its dialect: as it came, but with the conversation so far, except where
    that is known.
    """
    if previous is NOTHING:
        return NativeBody(asked.body)
    kept = [_plain(item) for item in previous.items if item.get("type") != "reasoning" or item.get("encrypted_content")]
    body = {key: value for key, value in asked.body.items() if key != "previous_response_id"}
    return NativeBody({**body, "input": [*kept, *asked.items]}, previous.provider, asked.body)


def _plain(item: Json) -> Json:
    """An item without the id by which its own upstream knows it."""
    return {key: value for key, value in item.items() if key not in ("id", "status")}


def _answer(incoming: ApiRequest, conversation: Conversation, delivery: Delivery, model: str) -> Response:
    asked, put = conversation.request, incoming.services.responses.put

    def keep(stored: StoredResponse) -> None:
        if asked.is_stored:
            put(incoming.caller, stored)

    encoder, end = response_encoder(incoming, conversation, delivery, model, keep)
    if not asked.streams:
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
    """What spells the answer, which can be cancelled by its id until the second value is called. `keep` is called with
    a response that can be followed.
    """
    services, caller = incoming.services, incoming.caller
    asked, previous = conversation.request, conversation.previous
    begun: list[str] = []

    def begins(identifier: str) -> None:
        if asked.streams:  # of another nobody knows the id
            begun.append(identifier)
            services.running.add(caller, identifier, delivery.call, lambda: encoder.response)

    def keep_items(response: Json, said: list[Json], passed: bool) -> None:
        provider = delivery.answer.target.provider.name if passed else ""
        items = [*previous.items, *map(whole_item, asked.items), *said]
        keep(StoredResponse(response, items, provider, len(said)))

    encoder = ResponsesEncoder(
        asked.resource(f"resp_{uuid4().hex}", model),
        include_reasoning=conversation.chat.request.include_reasoning,
        named_tools=asked.named_tools,
        streams=asked.streams,
        one_end=one_end,
        begins=begins,
        keep=keep_items,
    )
    return encoder, lambda: services.running.remove(caller, *begun)


@api.get("/responses/<identifier>")
def get_response(incoming: ApiRequest, identifier: str) -> Response:
    """Give a response that is kept."""
    if "stream=true" in incoming.environ.get("QUERY_STRING", "").lower():
        raise Unsupported("A response that has ended is given whole: leave it out.", param="stream")
    return _json(_require_stored(incoming, identifier).response)


@api.get("/responses/<identifier>/input_items")
def input_items(incoming: ApiRequest, identifier: str) -> Response:
    """Give what a response that is kept has answered, page by page."""
    asked = request.args
    limit, order, after = asked.get("limit", "20"), asked.get("order", "desc"), asked.get("after", "")
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
    """Forget a response."""
    _require_stored(incoming, identifier)
    incoming.services.responses.delete(incoming.caller, identifier)
    return _json({"id": identifier, "object": "response", "deleted": True})


@api.post("/responses/<identifier>/cancel", asks=False)
def cancel_response(incoming: ApiRequest, identifier: str) -> Response:
    """End an answer that is under way, and free its upstream."""
    response = incoming.services.running.cancel(incoming.caller, identifier)
    if response is None:
        _require_stored(incoming, identifier)
        raise InvalidRequest("It has ended already.", param="response_id")
    return _json(response)


@api.post("/responses/compact")
def compact_response(incoming: ApiRequest) -> Response:
    """Give the items of a conversation as the beginning of another: all of them, as none is to be lost."""
    asked = load_compact(incoming.body(), incoming.services.limits)
    incoming.model = str(asked.body["model"])
    previous = _previous(incoming, asked.previous, incoming.services.responses.get)
    return _json({
        "id": f"resp_{uuid4().hex}",
        "object": "response.compaction",
        "created_at": int(time()),
        "output": [whole_item(item) for item in (*previous.items, *asked.items)],
        "usage": usage_body(None),
    })  # fmt: skip


def _require_stored(incoming: ApiRequest, identifier: str) -> StoredResponse:
    found = incoming.services.responses.get(incoming.caller, identifier)
    if found is None:
        raise ResponseNotFound(f"Response with id {identifier[:100]!r} not found.", param="response_id")
    return found


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), content_type="application/json")
