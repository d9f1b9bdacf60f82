"""An emulated company gateway, with a list of models: one host, one token, several vendors by their paths.

with Gateway({"/anthropic": Room(AnthropicUpstream(), "x-api-key"), ...}, models) as gateway:
    settings = {"MODEL_LIST_URL": gateway.url + "/models", "MODEL_LIST_AUTH_TOKEN": gateway.token}
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from tests.emulators.connection import Connection, Headers, Received
from tests.emulators.reply import Piece, Reply, play
from tests.emulators.scripted import Scripted
from tests.emulators.server import Server

TOKEN = "test-list-token"


class Room(NamedTuple):
    """A vendor behind the gateway, which need not be started, and the header that it takes its own key in."""

    vendor: Scripted
    header: str
    scheme: str = ""


class Gateway(Server):
    """Answers to `OAuth` and the token, and asks each vendor with that vendor's key, below its path."""

    def __init__(self, vendors: Mapping[str, Room], models: Sequence[Mapping[str, Any]], *, token: str = TOKEN) -> None:
        super().__init__(self._handle)
        self.token = token
        self._rooms = vendors
        self._models = models

    def _handle(self, connection: Connection, received: Received) -> None:
        if received.headers.get("Authorization") != f"OAuth {self.token}":
            play(connection, _json(401, {"error": "no token"}))
        elif received.path == "/models":
            play(connection, _json(200, {"models": self._models}))
        else:
            path = next(path for path in self._rooms if received.path.startswith(f"{path}/"))
            room = self._rooms[path]
            play(connection, room.vendor.answer_to(_passed_on(received, path, room))[1])


def _passed_on(received: Received, path: str, room: Room) -> Received:
    kept = [f"{name}: {value}" for name, value in received.headers.items() if name != "authorization"]
    headers = Headers([*kept, f"{room.header}: {room.scheme} {room.vendor.key}".replace(":  ", ": ")])
    return replace(received, path=received.path.removeprefix(path), headers=headers)


def _json(status: int, value: object) -> Reply:
    return Reply((Piece(json.dumps(value).encode()),), status, {"Content-Type": "application/json"})
