"""The turns of a WebSocket: each passes the checks of a request, and has one record."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from logging import getLogger
from typing import Any

from core.api_keys import ApiKey
from core.errors import Cancelled, GatewayError, HalfClosed, Unauthenticated
from core.events import Event
from core.requests import ChatRequest
from schemas.chat.request import load_chat
from server.flask_app import HEADERS, REQUEST_ID
from views.blueprint import ApiRequest
from views.chat import chat_delivery
from views.delivery import Delivery
from views.model_access import conceal_models

log = getLogger("thinkline.request")


class TurnAnswer:
    """A model's answer in a turn, while it is under way.

    call     its context; cancelling it ends the answer
    events   the answer's events
    filler   the filler, and when it is due by the monotonic clock; ("", inf) for none
    model    the public name of the model
    """

    def __init__(self, delivery: Delivery, request: ChatRequest, model: str) -> None:
        self._delivery = delivery
        self.call = delivery.call
        self.events: Iterable[Event] = delivery.events
        self.filler = delivery.answer.filler
        self.request = request
        self.model = model

    def note_filler(self) -> None:
        """Note that the filler was sent."""
        self._delivery.filler = self.filler[0]


class SocketCaller:
    """The caller of a WebSocket, as its handshake shows it. `key` is None until one was sent."""

    def __init__(self, incoming: ApiRequest) -> None:
        self._services = incoming.services
        self._endpoint = incoming.endpoint
        self._environ = {name: value for name, value in incoming.environ.items() if isinstance(value, str)}
        self._turns = count(1)
        self.key = None if incoming.lacks_key else incoming.key

    def find(self, key: str) -> ApiKey:
        """Find the key that was sent in a message. Raises Unauthenticated."""
        return self._services.guard.find(key)

    @contextmanager
    def turn(self, body: bytes, key: ApiKey | None = None) -> Iterator[ApiRequest]:
        """A context for one turn, with this key or the caller's. It passes the checks of a POST with this body, except
        for MAX_IN_FLIGHT, which `Socket.run_turn` counts. Raises GatewayError and Cancelled.
        """
        services = self._services
        identifier = f"{self._environ[REQUEST_ID]}.{next(self._turns)}"
        environ: dict[str, Any] = {**self._environ, REQUEST_ID: identifier, HEADERS: []}
        incoming = ApiRequest(services, environ, self._endpoint)
        services.set_request_id(identifier)
        try:
            incoming.key = self._renew(key or self.key)
            incoming.enter(counts=True)
            incoming.spend(body)
            yield incoming
        except Cancelled:
            incoming.record(status=HalfClosed.status, outcome="hung_up")
            raise
        except GatewayError as error:
            shown = (
                error if incoming.allowed else conceal_models(error, incoming.key, incoming.model, services.catalogue)
            )
            incoming.record_failure(shown)
            raise shown from None
        except Exception:  # a fault of our own: the peer gets an error, as from a POST
            log.exception("unexpected failure in a turn")
            fault = GatewayError("Something went wrong here.")
            incoming.record_failure(fault)
            raise fault from None
        finally:
            incoming.leave()
            services.set_request_id("")

    @contextmanager
    def chat(self, body: bytes, key: ApiKey | None = None, *, own_tools: bool = False) -> Iterator[TurnAnswer]:
        """A context for a turn that asks a model; `body` is a chat completion's with `stream`. Leaving the block ends
        the answer. `own_tools`: tool calls are carried out within this turn, so that a filler may precede them.
        """
        services = self._services
        with self.turn(body, key) as incoming:
            session_id = self._environ.get("HTTP_X_SESSION_ID", "")
            request = load_chat(
                body, show_reasoning=services.show_reasoning, session_id=session_id, limits=services.limits
            )
            request = replace(request, passthrough=None)  # a message holds one event, and bytes any number
            incoming.model, incoming.stream, incoming.conversation = request.model, True, request.conversation_id
            route = services.catalogue.chat_route(request)
            delivery = chat_delivery(incoming, request, route, fills_with_tools=own_tools)
            with delivery:
                yield TurnAnswer(delivery, request, route.targets[0].public_name)
            delivery.end("done")

    def _renew(self, key: ApiKey | None) -> ApiKey:
        if key is None:
            raise Unauthenticated(
                "No API key provided: send it in the handshake, or as `api_key`.", code="missing_api_key"
            )
        return self._services.guard.renew(key)
