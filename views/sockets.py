"""The response that upgrades a connection to a WebSocket, and /ws."""

from collections.abc import Callable, Iterable
from typing import Any

from flask import Response

from core.api_keys import ApiKey
from core.errors import Unauthenticated
from server.response import RESPONSE
from server.sockets.handshake import accept
from server.sockets.interfaces import SocketHandler
from server.sockets.socket import Socket
from views.blueprint import ApiRequest, api
from views.turns import SocketCaller
from voice.ws import ChatHandler


class UpgradeResponse(Response):
    """A 101, after which the connection belongs to the WebSocket."""

    def __init__(self, headers: Iterable[tuple[str, str]], connection: Socket) -> None:
        super().__init__(status=101)
        self.headers.clear()
        self.headers.extend(headers)
        self._connection = connection

    def __call__(self, environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Send the response."""
        environ[RESPONSE].upgrade_to(self._connection)
        start_response("101 Switching Protocols", self.headers.to_wsgi_list())
        return ()


def upgrade(incoming: ApiRequest, handler: SocketHandler, subprotocol: str | None = None) -> Response:
    """Upgrade the request's connection to a WebSocket that `handler` serves. `subprotocol` is used if the client offers
    it.

    Raises Overloaded (MAX_SOCKETS); NotServedHere under Flask's own server.
    """
    headers = accept(incoming.environ, subprotocol)
    connection = incoming.services.sockets.open(handler, None if incoming.lacks_key else incoming.key)
    incoming.recorded = True  # each turn has a record, the handshake has none
    return UpgradeResponse(headers, connection)


def by_key_or_later(incoming: ApiRequest) -> ApiKey | None:
    """Admit a handshake with its key; without one too, since the first message may bring it."""
    try:
        return incoming.services.guard.authenticate(incoming.environ)
    except Unauthenticated as error:
        if incoming.services.guard.has_keys and error.code == "missing_api_key":
            return None
        raise


@api.socket("/ws", by_key_or_later)
def ws(incoming: ApiRequest) -> Response:
    """Chats one after another, in JSON messages (voice/ws.py)."""
    caller = SocketCaller(incoming)
    return upgrade(incoming, ChatHandler(caller, incoming.services.limits))
