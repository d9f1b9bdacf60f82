"""/responses as a WebSocket, as OpenAI has it: https://platform.openai.com/docs/guides/websocket-mode

    state       response.create  response.cancel   ends    connection is old   the peer leaves
    IDLE        ANSWERING        -                 -       CLOSED              CLOSED
    ANSWERING   waits its turn   ends incomplete   IDLE    CLOSED at its end   CLOSED: its upstream is let go of
    CLOSED      -                -                 -       -                   -

A response ends with one event: completed, incomplete or failed; or, if it has not begun, error. Clients read the next
response's events behind that one.
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
from views.blueprint import ApiRequest, api
from views.chat import chat_delivery
from views.delivery import Delivery, stream_frames
from views.model_access import require_allowed
from views.response_store import MOST_BYTES, StoredResponse
from views.responses import Conversation, load_conversation, response_encoder
from views.sockets import upgrade
from views.turns import SocketCaller
from voice.ws import Chat

OLDEST_SECONDS = 3600.0
"""How long a connection may last: OpenAI's hour, by which clients open another."""
MOST_WAITING = 8
MOST_KEPT = 16
"""Responses that can be followed on their connection without being stored."""
POLICY_VIOLATION = 1008


class ConnectionTooOld(InvalidRequest):
    """The connection has lasted as long as one may."""

    code = "websocket_connection_limit_reached"


class RecentResponses:
    """Those of one connection: the newest ones, of no more than MOST_BYTES in all. Only its turns use it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[StoredResponse, int]] = OrderedDict()

    def put(self, stored: StoredResponse) -> None:
        """Keep one, in the place of the oldest."""
        size = len(orjson.dumps(stored.items))
        self._kept[stored.response["id"]] = stored, size
        while len(self._kept) > MOST_KEPT or sum(size for _, size in self._kept.values()) > MOST_BYTES:
            self._kept.popitem(last=False)

    def get(self, identifier: str) -> StoredResponse | None:
        """One of them."""
        stored, _ = self._kept.get(identifier, (None, 0))
        return stored

    def evict(self, identifier: str) -> None:
        """Forget one, if it is there."""
        self._kept.pop(identifier, None)


class Turn(Chat):
    """A response that waits or is made. `response_id` is "" until the client knows it; `has_kept` tells whether it can
    be followed.
    """

    def __init__(self, event: ClientEvent) -> None:
        super().__init__(event.body, None)
        self.event = event
        self.response_id = ""
        self.has_kept = False

    def follow_events(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events, after whose first no filler is said."""
        try:
            for event in events:
                self.begin()
                yield event
        finally:
            self.begin()


class ResponsesHandler:
    """A SocketHandler."""

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
        """The handshake is done."""
        self._socket = socket
        socket.call_later(OLDEST_SECONDS, self._grow_old)

    def receive(self, message: str | bytes) -> None:
        """Obey a message, or say why not."""
        try:
            event = load_event(message, self._limits, self._model)
            if event.type == "response.cancel":
                self._cancel_response(event.response_id)
            else:
                self._add(Turn(event))
        except GatewayError as error:
            self._socket.send(error_message(error))

    def closed(self) -> None:
        """Nobody is left to be answered."""
        with self._lock:
            turns = list(self._turns)
        for turn in turns:
            turn.cancel(None)

    def _cancel_response(self, identifier: str) -> None:
        """End the response under way. Of another nobody is told: it has ended, and its last event is on its way."""
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
            if not turn.has_kept:  # what was not followed well is not to be followed again
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
        """Keep what can be followed: here, and where other connections find it if the client wants that."""
        if stored.response["status"] != "failed":
            turn.has_kept = True
            if conversation.request.is_stored:
                incoming.services.responses.put(incoming.caller, stored)
            else:
                stored = replace(stored, provider="")  # which was told not to keep it either
            self._recent.put(stored)

    def _prepare(self, turn: Turn, incoming: ApiRequest, conversation: Conversation, model: str) -> None:
        """`generate: false`: a response without output, which can be followed."""
        asked = conversation.request
        response = asked.resource(f"resp_{uuid4().hex}", model)
        messages, ended = warm_up_messages(response)
        items = [*conversation.previous.items, *map(whole_item, asked.items)]
        self._keep(turn, incoming, conversation, StoredResponse(ended, items, "", 0))
        incoming.record(status=200)
        for message in messages:
            self._socket.send(message)

    def _stream(self, turn: Turn, delivery: Delivery, encoder: ResponsesEncoder, *, begins_now: bool) -> None:
        """Send the events of a response. It begins before its first word where it can, so that it can be cancelled."""
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
