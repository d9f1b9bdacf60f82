"""/v1/ws: chats one after another on a WebSocket, in JSON messages (schemas/websocket.py).

    state       a chat arrives   cancel               ping   a wrong message   the peer leaves
    IDLE        ANSWERING        -                    pong   an error          CLOSED
    ANSWERING   waits its turn   each ends in error   pong   an error          CLOSED: its upstream is cancelled
    CLOSED      -                -                    -      -                 -

Each chat ends with one message, `done` or `error`, and they end in the order in which they came. A key must come within
KEY_SECONDS, in the handshake or with a chat; it holds for the chats that follow.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from math import inf
from time import monotonic
from typing import Protocol

from core.api_keys import ApiKey
from core.context import CallContext
from core.errors import Cancelled, GatewayError, Overloaded, RequestCancelled, Unauthenticated
from core.events import Event, FillerText
from core.requests import ChatRequest
from schemas.limits import Limits
from schemas.websocket import DONE, PONG, ClientMessage, MessageEncoder, error_message, load_message
from server.sockets.socket import Socket

KEY_SECONDS = 10.0
MOST_WAITING = 8
"""Chats that wait for the one under way."""
POLICY_VIOLATION = 1008


class Answer(Protocol):
    """A model's answer (views/turns.py)."""

    call: CallContext
    events: Iterable[Event]
    filler: tuple[str, float]
    request: ChatRequest
    model: str

    def note_filler(self) -> None:
        """Note that the filler was sent."""


class Caller(Protocol):
    """The caller of these chats (views/turns.py). `key` is None until one was sent."""

    key: ApiKey | None

    def find(self, key: str) -> ApiKey:
        """Find the key that was sent in a message. Raises Unauthenticated."""

    def chat(self, body: bytes, key: ApiKey | None = None) -> AbstractContextManager[Answer]:
        """Ask a model. Raises GatewayError and Cancelled."""


class Chat:
    """A chat that waits or is under way."""

    def __init__(self, body: bytes, key: ApiKey | None) -> None:
        self.body = body
        self.key = key
        self._has_begun = False
        self._call: CallContext | None = None
        self._reason: GatewayError | None = None
        self._is_cancelled = False
        self._lock = threading.Lock()

    def follow(self, call: CallContext) -> None:
        """Note the call that answers it."""
        with self._lock:
            self._call = call
            if self._is_cancelled:
                call.cancel(self._reason)

    def begin(self) -> None:
        """Note its first word or its end; from then on no filler is sent."""
        with self._lock:
            self._has_begun = True

    def unless_begun(self, say: Callable[[], None]) -> None:
        """Send a filler, unless its first word was sent."""
        with self._lock:
            if not self._has_begun:
                say()

    def cancel(self, reason: GatewayError | None) -> None:
        """Cancel the chat, also before it has begun."""
        with self._lock:
            self._is_cancelled, self._reason = True, reason
            if self._call is not None:
                self._call.cancel(reason)


class ChatHandler:
    """The SocketHandler of /ws."""

    def __init__(self, caller: Caller, limits: Limits) -> None:
        self._caller = caller
        self._limits = limits
        self._chats: deque[Chat] = deque()
        self._lock = threading.Lock()
        self._socket: Socket

    def opened(self, socket: Socket) -> None:
        """Keep the socket."""
        self._socket = socket
        if self._caller.key is None:
            socket.call_later(KEY_SECONDS, self._require_key)

    def receive(self, message: str | bytes) -> None:
        """Handle a message; an error is sent back."""
        try:
            self._obey(load_message(message, self._limits))
        except GatewayError as error:
            self._socket.send(error_message(error))

    def closed(self) -> None:
        """Cancel all chats: the connection is closed."""
        self._cancel(None)

    def _obey(self, message: ClientMessage) -> None:
        if message.type == "ping":
            self._socket.send(PONG)
        elif message.type == "cancel":
            self._cancel(RequestCancelled())
        else:
            self._add(message)

    def _require_key(self) -> None:
        if self._caller.key is None:
            reason = f"No valid API key came within {KEY_SECONDS:.0f} seconds."
            self._socket.send(error_message(Unauthenticated(reason, code="missing_api_key")))
            self._socket.close(POLICY_VIOLATION, reason)

    def _cancel(self, reason: GatewayError | None) -> None:
        with self._lock:
            chats = list(self._chats)
        for chat in chats:
            chat.cancel(reason)

    def _add(self, message: ClientMessage) -> None:
        key = self._caller.find(message.api_key) if message.api_key is not None else self._caller.key
        if key is None:
            raise Unauthenticated("No API key provided: send it as `api_key`.", code="missing_api_key")
        if self._caller.key is None:
            self._caller.key = self._socket.owner = key
        with self._lock:
            if len(self._chats) > MOST_WAITING:
                raise Overloaded(f"{MOST_WAITING} chats wait already on this connection.")
            self._chats.append(Chat(message.payload, key))
            is_first = len(self._chats) == 1
        if is_first:
            try:
                self._socket.run_turn(self._answer_all)
            except (GatewayError, Cancelled):
                self._chats.clear()
                raise

    def _answer_all(self) -> None:
        has_more = True
        while has_more and not self._socket.closing:
            with suppress(Cancelled):  # the peer has left
                self._answer(self._chats[0])
            with self._lock:  # so that a chat that arrives now starts a thread, or is found by this one
                self._chats.popleft()
                has_more = bool(self._chats)

    def _answer(self, chat: Chat) -> None:
        try:
            with self._caller.chat(chat.body, chat.key) as answer:
                chat.follow(answer.call)
                self._send_answer(chat, answer)
        except GatewayError as error:
            self._socket.send(error_message(error))
        else:
            self._socket.send(DONE)

    def _send_answer(self, chat: Chat, answer: Answer) -> None:
        request = answer.request
        encoder = MessageEncoder(
            answer.model, include_usage=request.include_usage, include_reasoning=request.include_reasoning
        )
        text, by = answer.filler
        if by < inf:
            self._fill_at(by, text, chat, answer, encoder)
        try:
            for event in answer.events:
                chat.begin()
                self._send(encoder, encoder.encode(event))
            self._send(encoder, encoder.end())
        finally:
            chat.begin()

    def _fill_at(self, by: float, text: str, chat: Chat, answer: Answer, encoder: MessageEncoder) -> None:
        def fill() -> None:
            answer.note_filler()
            self._send(encoder, encoder.encode(FillerText(text)))

        self._socket.call_later(max(0.0, by - monotonic()), lambda: chat.unless_begun(fill))

    def _send(self, encoder: MessageEncoder, data: bytes) -> None:
        for message in encoder.messages(data):
            self._socket.send(message)
