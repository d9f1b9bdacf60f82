"""/responses as a WebSocket, as OpenAI has it: https://platform.openai.com/docs/guides/websocket-mode

    state       response.create  response.cancel   ends    connection is old   the peer leaves
    IDLE        ANSWERING        -                 -       CLOSED              CLOSED
    ANSWERING   waits its turn   ends incomplete   IDLE    CLOSED at its end   CLOSED: its upstream is cancelled
    CLOSED      -                -                 -       -                   -

A response ends with one event: completed, incomplete or failed; or, if it has not begun, error. The events of the next
response follow it.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import inf
from time import monotonic
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import orjson
from flask import Response

from core.errors import Cancelled, GatewayError, InvalidRequest, Overloaded, RequestCancelled
from core.events import Event, FillerText
from schemas.limits import Limits
from schemas.responses.encode import ResponsesEncoder
from schemas.responses.frames import error_message, messages_of, warm_up_messages
from schemas.responses.items import whole_item
from schemas.responses.socket import ClientEvent, load_event
from server.sockets.socket import Socket
from views.answers import stream_frames
from views.blueprint import ApiRequest, api
from views.chat import chat_delivery
from views.delivery import Delivery
from views.model_access import require_allowed
from views.response_store import MOST_BYTES, StoredResponse
from views.responses import Conversation, load_conversation, response_encoder
from views.sockets import upgrade
from views.turns import SocketCaller
from voice.ws import Chat

OLDEST_SECONDS = 3600.0
"""How long a connection may last: an hour, as at OpenAI; then clients open another one."""
MOST_WAITING = 8
MOST_KEPT = 16
"""Responses that can be followed on their connection, stored or not."""
POLICY_VIOLATION = 1008


class ConnectionTooOld(InvalidRequest):
    """The connection has reached its longest duration."""

    code = "websocket_connection_limit_reached"


class RecentResponses:
    """The newest responses of one connection, of up to MOST_BYTES in all. Only its turns use it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[StoredResponse, int]] = OrderedDict()

    def put(self, stored: StoredResponse) -> None:
        """Keep a response; the oldest ones are dropped for it."""
        size = len(orjson.dumps(stored.items))
        self._kept[stored.response["id"]] = stored, size
        while len(self._kept) > MOST_KEPT or sum(size for _, size in self._kept.values()) > MOST_BYTES:
            self._kept.popitem(last=False)

    def get(self, identifier: str) -> StoredResponse | None:
        """The response of that id; None if it is not kept."""
        stored, _ = self._kept.get(identifier, (None, 0))
        return stored

    def evict(self, identifier: str) -> None:
        """Drop a response, if it is kept."""
        self._kept.pop(identifier, None)


class Turn(Chat):
    """A response that waits or is under way. `response_id` is "" until it is sent; `has_kept`: the response can be
    followed.
    """

    def __init__(self, event: ClientEvent) -> None:
        super().__init__(event.body, None)
        self.event = event
        self.response_id = ""
        self.has_kept = False

    def follow_events(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yield the events; from the first one on no filler is sent."""
        try:
            for event in events:
                self.begin()
                yield event
        finally:
            self.begin()


class ResponsesHandler:
    """The SocketHandler of /responses."""

    def __init__(self, caller: SocketCaller, limits: Limits, model: str) -> None:
        self._caller = caller
        self._limits = limits
        self._model = model
        self._recent = RecentResponses()
        self._turns: deque[Turn] = deque()
        self._lock = threading.Lock()
        self._is_old = False
        self._socket: Socket

    def opened(self, socket: Socket) -> None:
        """Keep the socket, and limit its time."""
        self._socket = socket
        socket.call_later(OLDEST_SECONDS, self._grow_old)

    def receive(self, message: str | bytes) -> None:
        """Handle a client event; an error is sent as an event."""
        try:
            event = load_event(message, self._limits, self._model)
            if event.type == "response.cancel":
                self._cancel_response(event.response_id)
            else:
                self._add(Turn(event))
        except GatewayError as error:
            self._socket.send(error_message(error))

    def closed(self) -> None:
        """Cancel all turns: the connection is closed."""
        with self._lock:
            turns = list(self._turns)
        for turn in turns:
            turn.cancel(None)

    def _cancel_response(self, identifier: str) -> None:
        """Cancel the response under way. Another id is ignored: that response has ended."""
        with self._lock:
            turn = self._turns[0] if self._turns else None
        if turn is not None and identifier in ("", turn.response_id):
            turn.cancel(RequestCancelled())

    def _grow_old(self) -> None:
        self._is_old = True
        if not self._turns:
            self._close_old()

    def _close_old(self) -> None:
        error = ConnectionTooOld(f"A connection lasts {OLDEST_SECONDS / 60:.0f} minutes: open another.")
        self._socket.send(error_message(error))
        self._socket.close(POLICY_VIOLATION, error.message)

    def _add(self, turn: Turn) -> None:
        with self._lock:
            if len(self._turns) > MOST_WAITING:
                raise Overloaded(f"{MOST_WAITING} responses wait already on this connection.")
            self._turns.append(turn)
            is_first = len(self._turns) == 1
        if is_first:
            try:
                self._socket.run_turn(self._answer_all)
            except (GatewayError, Cancelled) as error:
                self._turns.clear()
                if not self._socket.closing:  # else it is closed at once, and the client opens another
                    raise
                if isinstance(error, Cancelled):
                    raise

    def _answer_all(self) -> None:
        has_more = True
        while has_more and not (self._socket.closing or self._is_old):
            with suppress(Cancelled):  # the peer has left
                self._answer(self._turns[0])
            with self._lock:
                self._turns.popleft()
                has_more = bool(self._turns)
        if self._is_old:
            self._close_old()

    def _answer(self, turn: Turn) -> None:
        try:
            with self._caller.turn(turn.body) as incoming:
                conversation = load_conversation(incoming, turn.body, self._find(incoming))
                try:
                    self._respond(turn, incoming, conversation)
                except GatewayError as error:
                    error.param = conversation.chat.field(error.param)
                    raise
        except GatewayError as error:
            self._socket.send(error_message(error))
        finally:
            if not turn.has_kept:  # as OpenAI does: a response whose follow-up failed cannot be followed again
                self._recent.evict(turn.event.previous)

    def _find(self, incoming: ApiRequest) -> Any:
        stored = incoming.services.responses
        return lambda caller, identifier: self._recent.get(identifier) or stored.get(caller, identifier)

    def _respond(self, turn: Turn, incoming: ApiRequest, conversation: Conversation) -> None:
        route = incoming.services.catalogue.chat_route(conversation.chat.request)
        model = route.targets[0].public_name
        if not turn.event.generates:
            require_allowed(incoming.key, incoming.model, route, incoming.services.catalogue)
            incoming.allowed = True
            self._prepare(turn, incoming, conversation, model)
            return
        request = conversation.chat.request
        delivery = chat_delivery(incoming, request, route)
        begins_now = not any(target.provider.passes(request, target) for target in route.targets)
        try:
            turn.follow(delivery.call)
            encoder, end = response_encoder(
                incoming, conversation, delivery, model, partial(self._keep, turn, incoming, conversation), one_end=True
            )
            try:
                self._stream(turn, delivery, encoder, begins_now=begins_now)
            finally:
                end()
        finally:
            delivery.end("hung_up")  # unless it has ended otherwise

    def _keep(self, turn: Turn, incoming: ApiRequest, conversation: Conversation, stored: StoredResponse) -> None:
        """Keep a response that can be followed: on this connection, and in the store if the client wants that."""
        if stored.response["status"] != "failed":
            turn.has_kept = True
            if conversation.request.is_stored:
                incoming.services.responses.put(incoming.caller, stored)
            else:
                stored = replace(stored, provider="")  # whose request said not to store it either
            self._recent.put(stored)

    def _prepare(self, turn: Turn, incoming: ApiRequest, conversation: Conversation, model: str) -> None:
        """`generate: false`: a response without output, which can be followed."""
        request = conversation.request
        response = request.resource(f"resp_{uuid4().hex}", model)
        messages, ended = warm_up_messages(response)
        items = [*conversation.previous.items, *map(whole_item, request.items)]
        self._keep(turn, incoming, conversation, StoredResponse(ended, items, "", 0))
        incoming.record(status=200)
        for message in messages:
            self._socket.send(message)

    def _stream(self, turn: Turn, delivery: Delivery, encoder: ResponsesEncoder, *, begins_now: bool) -> None:
        """Send the events of a response. If it can, it begins before its first word, to be cancellable."""
        delivery.events = turn.follow_events(delivery.events)
        text, by = delivery.answer.filler
        if by < inf:
            fill = partial(self._fill, text, delivery, encoder)
            self._socket.call_later(max(0.0, by - monotonic()), lambda: turn.unless_begun(fill))
        if begins_now:
            self._send(encoder.begin())
        turn.response_id = encoder.response["id"]
        for data in stream_frames(delivery, encoder, []):
            self._send(data)
            turn.response_id = encoder.response["id"]

    def _fill(self, text: str, delivery: Delivery, encoder: ResponsesEncoder) -> None:
        delivery.filler = text
        self._send(encoder.encode(FillerText(text)))

    def _send(self, data: bytes) -> None:
        for message in messages_of(data):
            self._socket.send(message)


@api.socket("/responses")
def responses_socket(incoming: ApiRequest) -> Response:
    """Responses one after another. `?model=` names the model of those that name none."""
    model = parse_qs(incoming.environ.get("QUERY_STRING", "")).get("model", [""])[0]
    return upgrade(incoming, ResponsesHandler(SocketCaller(incoming), incoming.services.limits, model))
