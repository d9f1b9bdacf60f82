"""The turns of a WebSocket: each passes what a request passes, and ends as one record."""

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
from views.model_access import concealed

log = getLogger("thinkline.request")


class TurnAnswer:
    """A model's answer in a turn, while it is given.

    call     is cancelled to end it
    events   what the model says
    filler   what may be said while it says nothing, and at what time of the monotonic clock; ("", inf) for nothing
    model    the public name of the model that is asked
    """

    def __init__(self, delivery: Delivery, request: ChatRequest, model: str) -> None:
        self._delivery = delivery
        self.call = delivery.call
        self.events: Iterable[Event] = delivery.events
        self.filler = delivery.answer.filler
        self.request = request
        self.model = model

    def note_filler(self) -> None:
        """The filler was said."""
        self._delivery.filler = self.filler[0]


class SocketCaller:
    """Who has opened a WebSocket, by its handshake. `key` is None until one has come."""

    def __init__(self, incoming: ApiRequest) -> None:
        self._services = incoming.services
        self._endpoint = incoming.endpoint
        self._environ = {name: value for name, value in incoming.environ.items() if isinstance(value, str)}
        self._turns = count(1)
        self.key = None if incoming.lacks_key else incoming.key

    def find(self, key: str) -> ApiKey:
        """The key that came in a message. Raises Unauthenticated."""
        return self._services.guard.find(key)

    @contextmanager
    def turn(self, body: bytes, key: ApiKey | None = None) -> Iterator[ApiRequest]:
        """Within this block a turn is done, with this key or the caller's. It passes what a POST with this body passes,
        but for MAX_IN_FLIGHT, which is `Socket.run_turn`'s. Raises GatewayError and Cancelled.
        """
        services = self._services
        identifier = f"{self._environ[REQUEST_ID]}.{next(self._turns)}"
        environ: dict[str, Any] = {**self._environ, REQUEST_ID: identifier, HEADERS: []}
        incoming = ApiRequest(services, environ, self._endpoint)
        services.tell_id(identifier)
        try:
            incoming.key = self._renewed(key or self.key)
            incoming.enter(counts=True)
            incoming.spend(body)
            yield incoming
        except Cancelled:
            incoming.record(status=HalfClosed.status, outcome="hung_up")
            raise
        except GatewayError as error:
            told = error if incoming.allowed else concealed(error, incoming.key, incoming.model, services.catalogue)
            incoming.record_failure(told)
            raise told from None
        except Exception:  # a fault of our own: the turn ends as others do
            log.exception("unexpected failure in a turn")
            fault = GatewayError("Something went wrong here.")
            incoming.record_failure(fault)
            raise fault from None
        finally:
            incoming.leave()
            services.tell_id("")

    @contextmanager
    def chat(self, body: bytes, key: ApiKey | None = None, *, own_tools: bool = False) -> Iterator[TurnAnswer]:
        """A turn that asks a model: `body` is that of a chat completion with `stream`. Leaving the block ends the
        answer. `own_tools`: a tool that it calls is carried out in this turn, so that a filler is not one too many.
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

    def _renewed(self, key: ApiKey | None) -> ApiKey:
        if key is None:
            raise Unauthenticated(
                "No API key provided: send it in the handshake, or as `api_key`.", code="missing_api_key"
            )
        return self._services.guard.renew(key)
