"""Callers without manners, as raw sockets: for test_strangers.py, and among the callers of tools/bench/soak.py.

Each takes a port, does its worst and returns its socket, which is open until it is closed by whoever asked.
"""

import json
import socket
from collections.abc import Callable
from http.client import HTTPConnection
from time import monotonic, sleep

from tests.support.frames import chat_body
from tests.support.http import head

PATIENCE = 20.0
"""Seconds a stranger may wait for us."""
HERE = ("127.0.0.2", 0)
"""Where they call from: thousands of ports that are taken at the servers' address would be missed by other tests."""


def connect(port: int, sends: bytes = b"", window: int = 0) -> socket.socket:
    """A connection over which this was sent. `window`: how many bytes its end takes without being read."""
    sock = socket.socket()
    sock.settimeout(PATIENCE)
    if window:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    sock.bind(HERE)
    sock.connect(("127.0.0.1", port))
    sock.sendall(sends)
    return sock


def silent(port: int) -> socket.socket:
    """Says nothing."""
    return connect(port)


def half_head(port: int) -> socket.socket:
    """Begins a head, and does not go on."""
    return connect(port, b"POST /v1/chat/completions HTTP/1.1\r\nHost: local")


def half_body(port: int, key: str = "wrong") -> socket.socket:
    """Announces more of a body than comes, with a key that is not right."""
    return connect(port, head("Content-Length: 99999", f"Authorization: Bearer {key}") + b'{"messages": [')


def unclosed(port: int) -> socket.socket:
    """Has its answer, asks for the connection to be closed, and does not close it."""
    sock = connect(port, head("Connection: close", path="/health", method="GET"))
    assert sock.recv(12) == b"HTTP/1.1 200"
    return sock


def kept(port: int) -> socket.socket:
    """Has its answer, and keeps the connection."""
    sock = connect(port, head(path="/health", method="GET"))
    assert b'"ok"' in sock.recv(4096)
    return sock


def unread(port: int, times: int = 100) -> socket.socket:
    """Asks for the largest answer without a key, again and again, and reads none of them."""
    return connect(port, head(path="/openapi.json", method="GET") * times, window=4096)


def half_closed(port: int, *, stream: bool = True, text: str = "say 100 words") -> socket.socket:
    """Asks, and shuts the sending side while it still reads."""
    body = json.dumps(chat_body(text, stream=stream)).encode()
    sock = connect(port, head(f"Content-Length: {len(body)}") + body)
    sock.shutdown(socket.SHUT_WR)
    return sock


STRANGERS: tuple[Callable[[int], socket.socket], ...] = (
    silent,
    half_head,
    half_body,
    unclosed,
    kept,
    unread,
    half_closed,
)


def slowest(port: int, seconds: float, headers: dict[str, str] | None = None) -> float:
    """How long the slowest of the good calls takes that are made, one after the other, for so many seconds."""
    worst, by = 0.0, monotonic() + seconds
    while monotonic() < by:
        for stream in (False, True):
            began = monotonic()
            connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE, source_address=HERE)
            body = json.dumps(chat_body("say: hi", stream=stream))
            connection.request("POST", "/v1/chat/completions", body, headers or {})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            assert b"hi" in response.read()
            connection.close()
            worst = max(worst, monotonic() - began)
        sleep(0.01)
    return worst
