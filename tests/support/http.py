"""Requests over a raw socket, and OpenAI's error object in a response."""

import http.client
import socket
import threading
from collections.abc import Mapping
from typing import Any

from tests.conftest import EVER, environment
from tests.support.forked import run
from tests.support.frames import error

HI = [{"role": "user", "content": "hi"}]
GUNICORN = ("-m", "gunicorn", "app:create_app()")


def openai_error(response: Any, status: int) -> dict[str, Any]:
    """OpenAI's error object, from a response of Flask's client that has this status."""
    return assert_error(response.status_code, response.headers, response.data, status)


def assert_error(found: int, headers: Mapping[str, str], body: bytes, status: int) -> dict[str, Any]:
    """OpenAI's error object: JSON, all four keys, a sentence for people, and nothing of our insides."""
    assert found == status, body[:500]
    kind = {name.lower(): value for name, value in headers.items()}["content-type"]
    assert kind.partition(";")[0] == "application/json", body[:500]
    details = error(body)
    assert details["message"].strip().endswith((".", "!", ")")), details
    assert isinstance(details["type"], str), details
    assert b"Traceback" not in body
    assert b'File "' not in body
    return details


def exchange(port: int, request: bytes, method: str = "POST") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body that come back for these very bytes, even if the server stops reading them."""
    with socket.create_connection(("127.0.0.1", port), EVER) as sock:
        sender = threading.Thread(target=_send, args=(sock, request), daemon=True)
        sender.start()
        response = http.client.HTTPResponse(sock, method=method)
        response.begin()
        body = response.read()
        _leave(sock)
        sender.join(EVER)
        return response.status, dict(response.getheaders()), body


def _send(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
    except OSError:
        pass  # the server has heard enough


def _leave(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the server has left already


def head(*lines: str, path: str = "/v1/chat/completions", method: str = "POST") -> bytes:
    """A request's head, up to and with its empty line."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode("latin-1")


def fails_to_start(*command: str, limit: tuple[int, int] | None = None, **settings: object) -> str:
    """What is said by a start that must not succeed: one sentence on stderr besides the log, and no traceback.

    `limit` is one of resource.setrlimit.
    """
    done = run(command, environment(**{"PORT": 0, **settings}), EVER, limit)
    assert done.returncode not in (0, -15), done
    assert "Traceback" not in done.stderr, done.stderr
    said = [line for line in done.stderr.splitlines() if " gunicorn.error: " not in line]
    assert len(said) == 1, done.stderr
    assert said[0].startswith("Thinkline cannot start. "), done.stderr
    assert not done.stdout
    return said[0]
