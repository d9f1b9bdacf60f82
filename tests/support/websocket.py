"""A client of /v1/ws, and one on a raw socket that may do what no library does."""

import json
import socket
import struct
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from tests.support.frames import chat_body

PATIENCE = 20.0
"""Seconds."""


def dial(port: int, path: str = "/v1/ws", **options: Any) -> ClientConnection:
    """An open WebSocket, a context."""
    settings = {"open_timeout": PATIENCE, "close_timeout": PATIENCE, "proxy": None, "max_size": None, **options}
    return connect(f"ws://127.0.0.1:{port}{path}", **settings)


def chat(text: str = "hi", key: str | None = None, **more: Any) -> str:
    """A chat message."""
    api_key = {} if key is None else {"api_key": key}
    return json.dumps({"type": "chat", **api_key, "payload": chat_body(text, **more)})


def received(client: ClientConnection, seconds: float = PATIENCE) -> dict[str, Any]:
    """The next message."""
    message = client.recv(seconds)
    assert isinstance(message, str)
    found = json.loads(message)
    assert isinstance(found, dict)
    return found


def chat_messages(client: ClientConnection) -> list[dict[str, Any]]:
    """The messages of one chat, up to `done` or `error`."""
    found = [received(client)]
    while found[-1]["type"] == "chunk":
        found.append(received(client))
    return found


def text_of(messages: list[dict[str, Any]]) -> str:
    """What a chat's chunks say."""
    deltas = [choice["delta"] for each in messages if each["type"] == "chunk" for choice in each["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def wait_closed(client: ClientConnection, seconds: float = PATIENCE) -> tuple[int | None, str | None]:
    """Code and reason with which it is closed by the server; messages before that are skipped."""
    try:
        while True:
            client.recv(seconds)
    except ConnectionClosed:
        return client.close_code, client.close_reason


class RawClient:
    """A WebSocket on a raw socket, past its handshake. `window`: how many bytes its end takes without being read."""

    def __init__(self, port: int, path: str = "/v1/ws", *fields: str, window: int = 0) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if window:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(handshake(path, *fields))
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.socket.recv(1)
            assert data, head
            head += data
        assert head.startswith(b"HTTP/1.1 101"), head

    def send(self, opcode: Opcode, data: bytes, *, fin: bool = True) -> None:
        """A frame, masked as a client's is."""
        self.socket.sendall(Frame(opcode, data, fin).serialize(mask=True))

    def close_code(self) -> int | None:
        """The code of the close frame that comes; None where the connection ends without. Small frames only."""
        while (opcode := self._exactly(1)) != b"":
            size = self._exactly(1)[0]
            if size == 126:
                size = struct.unpack("!H", self._exactly(2))[0]
            data = self._exactly(size)
            if opcode == b"\x88":
                return int(struct.unpack("!H", data[:2])[0])
        return None

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                piece = self.socket.recv(size - len(data))
            except ConnectionResetError:
                return b""
            if not piece:
                return b""
            data += piece
        return data


def handshake(path: str = "/v1/ws", *fields: str) -> bytes:
    """A handshake's bytes. `fields` are more of its header, or replace the one of that name; `Name:` leaves it out."""
    usual = {
        "Host": "localhost",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for field in fields:
        name, _, value = field.partition(":")
        usual[name] = value.strip()
    lines = "".join(f"{name}: {value}\r\n" for name, value in usual.items() if value)
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()
