"""For tests of the emulated vendors and by them: a client that takes an answer as it stands on the wire."""

import json
import re
import socket
from collections.abc import Iterable, Mapping
from http.client import HTTPResponse
from io import BufferedReader
from typing import Any, Literal, NamedTuple, cast

import pytest

from tests.emulators.answers import ScriptedAnswer
from tests.emulators.fault import Fault
from tests.emulators.openai.server import OpenAIUpstream
from tests.emulators.server import HOST, Server

PATIENCE = 10.0
CHAT: Mapping[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
CHAT_PATH = "/v1/chat/completions"


class Heard(NamedTuple):
    """The bytes that came, and what came after them."""

    data: bytes
    then: Literal["closed", "reset", "silence"]


def dial(server: Server) -> socket.socket:
    """A connection of one's own."""
    return socket.create_connection((HOST, server.port), timeout=PATIENCE)


def request(upstream: OpenAIUpstream, body: object = CHAT, path: str = CHAT_PATH, key: str = "") -> bytes:
    """A POST with this JSON body, as bytes."""
    data = json.dumps(body).encode()
    fields = f"Host: x\r\nAuthorization: Bearer {key or upstream.key}\r\nContent-Length: {len(data)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{fields}\r\n".encode() + data


def ask(
    upstream: OpenAIUpstream, body: object = CHAT, path: str = CHAT_PATH, key: str = ""
) -> tuple[HTTPResponse, bytes]:
    """The response and its body, over a new connection."""
    with dial(upstream) as sock:
        sock.sendall(request(upstream, body, path, key))
        return answer(sock)


def answer(sock: socket.socket) -> tuple[HTTPResponse, bytes]:
    """The next response on this connection, and its body."""
    with sock.makefile("rb") as file:
        responses: list[HTTPResponse] = []  # kept, because one that goes closes the file
        while not responses or responses[-1].status < 200:
            responses.append(HTTPResponse(cast("socket.socket", _Sound(file))))
            responses[-1].begin()
        return responses[-1], responses[-1].read()


def receive(sock: socket.socket, quiet: float = 0.1, most: int = 1 << 30) -> Heard:
    """Read until the end, until it is quiet for so many seconds after the first bytes, or until there are `most`."""
    data = bytearray()
    try:
        while len(data) < most:
            sock.settimeout(quiet if data else PATIENCE)
            piece = sock.recv(1 << 20)
            if not piece:
                return Heard(bytes(data), "closed")
            data += piece
    except TimeoutError:
        pass
    except ConnectionResetError:
        return Heard(bytes(data), "reset")
    return Heard(bytes(data), "silence")


def frames(data: bytes) -> list[Any]:
    """The JSON of an event stream's events."""
    return [json.loads(line[6:]) for line in data.decode().splitlines() if line.startswith("data: {")]


def content_of(data: bytes) -> str:
    """The text of the first choices in an event stream."""
    return "".join(frame["choices"][0]["delta"].get("content") or "" for frame in frames(data) if frame["choices"])


def chat_request(stream: bool) -> dict[str, Any]:
    """A chat request."""
    return {**CHAT, "stream": stream}


def raw_answer(upstream: OpenAIUpstream, fault: Fault, stream: bool, **limits: Any) -> Heard:
    """What stands on the wire when a chat answer has this fault; `limits` as for `listen`."""
    upstream.enqueue(ScriptedAnswer(fault=fault))
    with dial(upstream) as sock:
        sock.sendall(request(upstream, chat_request(stream)))
        return receive(sock, **limits)


def read(upstream: OpenAIUpstream, fault: Fault | None, stream: bool) -> tuple[HTTPResponse, bytes]:
    """The same as a client of HTTP/1.1 has it: the response and its body, whose ids are emptied."""
    upstream.enqueue(ScriptedAnswer(fault=fault))
    response, data = ask(upstream, chat_request(stream))
    return response, re.sub(rb'"id":"chatcmpl-\w+"', b'"id":""', data)


def cases(faults: Iterable[Fault]) -> pytest.MarkDecorator:
    """Parametrizes a test by `fault` and `stream`: each fault with the kinds of answers that it applies to."""
    pairs = [(fault, stream) for fault in faults for stream in (True, False) if fault.applies(stream)]
    names = [f"{fault}-{'stream' if stream else 'whole'}" for fault, stream in pairs]
    return pytest.mark.parametrize(("fault", "stream"), pairs, ids=names)


class _Sound:
    """What HTTPResponse wants of a socket."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file

    def makefile(self, _: str) -> BufferedReader:
        return self._file
