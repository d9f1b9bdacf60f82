"""The WebSocket handshake (RFC 6455, section 4.2), over the request that a WSGI server has read."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from core.errors import InvalidRequest

FIELDS = (
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
)
"""Without Sec-WebSocket-Extensions: a compressed message of a kilobyte may hold a gigabyte, so none is negotiated."""
UPGRADE_HEADERS = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
"""Headers of a 426 (RFC 9110, 15.5.22)."""
SILENT_LOGGER = logging.Logger("websockets", logging.CRITICAL + 1)  # noqa: LOG001 - no setting may enable it
"""The library would log each message, with the keys in it."""


class UpgradeRequired(InvalidRequest):
    """The path is a WebSocket's, and the request does not open one."""

    status = 426
    code = "upgrade_required"


def is_upgrade(environ: Mapping[str, Any]) -> bool:
    """Whether the request asks for a WebSocket, complete or not."""
    return "websocket" in environ.get("HTTP_UPGRADE", "").lower()


def check_handshake(environ: Mapping[str, Any]) -> None:
    """Check a handshake. Raises what `accept` raises."""
    accept(environ)


def accept(environ: Mapping[str, Any], subprotocol: str | None = None) -> list[tuple[str, str]]:
    """Check a handshake, and return the headers of the 101. They name `subprotocol` if the client offers it.

    Raises UpgradeRequired (426) for a request that asks for no WebSocket of version 13, and InvalidRequest for a
    handshake that is incomplete.
    """
    if environ["REQUEST_METHOD"] != "GET" or environ.get("SERVER_PROTOCOL") == "HTTP/1.0" or _has_body(environ):
        raise UpgradeRequired("A WebSocket is opened by a GET over HTTP/1.1 without a body.")
    headers = Headers()
    for field in FIELDS:
        if (value := environ.get(f"HTTP_{field.upper().replace('-', '_')}")) is not None:
            headers[field] = value
    protocols = [Subprotocol(subprotocol)] if subprotocol else None
    checker = ServerProtocol(subprotocols=protocols, select_subprotocol=_select_subprotocol, logger=SILENT_LOGGER)
    response = checker.accept(Request(environ["PATH_INFO"], headers))
    if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
        return [(name, value) for name, value in response.headers.raw_items() if name.lower() != "date"]
    reason = str(checker.handshake_exc or "the handshake is not complete")
    if response.status_code == HTTPStatus.UPGRADE_REQUIRED or "Sec-WebSocket-Version" in reason:
        raise UpgradeRequired(f"Here answers a WebSocket (version 13), and this request opens none: {reason}.")
    raise InvalidRequest(f"The WebSocket's handshake is not whole: {reason}.")


def _has_body(environ: Mapping[str, Any]) -> bool:
    return environ.get("CONTENT_LENGTH", "0") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in environ


def _select_subprotocol(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Our subprotocol if the client offers it, else None, which refuses nothing."""
    ours = protocol.available_subprotocols or ()
    return next((each for each in ours if each in offered), None)
