"""The webhook of a model's own tools, over the network: signed, bounded, let go of."""

import json
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from openai import InvalidWebhookSignatureError, OpenAI

from core.context import CallContext
from core.errors import Cancelled
from dispatch.routing.voice_config import Webhook
from voice.turns import ToolFailed
from voice.webhook import MOST_BYTES, SignedWebhook

SECRET = "whsec_" + b64encode(b"a secret of thirty-two bytes....").decode()


class Receiver(ThreadingHTTPServer):
    """Answers as told, and keeps what it got."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.status, self.location = b"18 degrees", 200, ""
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.holds = threading.Event()
        self.holds.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/tools?x=1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        self.server.holds.wait(20)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.answer)))
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()
        with suppress(OSError):  # a cancelled one has left
            self.wfile.write(self.server.answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.holds.set()
        server.shutdown()


def webhook(receiver: Receiver, secret: str = SECRET, timeout: float = 5.0) -> SignedWebhook:
    return SignedWebhook(Webhook(receiver.url, secret, timeout))


def test_it_is_signed_as_standard_webhooks_are(receiver: Receiver) -> None:
    """OpenAI's package checks its own webhooks by the same standard."""
    assert webhook(receiver).call({"type": "tool.call", "data": {"é": 1}}, CallContext()) == "18 degrees"
    path, headers, body = receiver.got[0]
    assert (path, json.loads(body)) == ("/tools?x=1", {"type": "tool.call", "data": {"é": 1}})
    webhooks = OpenAI(api_key="unused").webhooks
    webhooks.verify_signature(body, headers, secret=SECRET)
    with pytest.raises(InvalidWebhookSignatureError):
        webhooks.verify_signature(body + b" ", headers, secret=SECRET)
    with pytest.raises(InvalidWebhookSignatureError):
        webhooks.verify_signature(body, {**headers, "webhook-timestamp": str(int(time.time()) + 1)}, secret=SECRET)


def test_a_secret_may_be_any_text(receiver: Receiver) -> None:
    webhook(receiver, "any text of your own").call({}, CallContext())
    _, headers, body = receiver.got[0]
    OpenAI(api_key="unused").webhooks.verify_signature(body, headers, secret="any text of your own")


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 500, 503])
def test_another_status_is_a_failure(receiver: Receiver, status: int) -> None:
    """A redirect too: the address of the models file is the only one."""
    receiver.status, receiver.location = status, receiver.url
    with pytest.raises(ToolFailed):
        webhook(receiver).call({}, CallContext())
    assert len(receiver.got) == 1


def test_a_vast_answer_is_a_failure(receiver: Receiver) -> None:
    receiver.answer = b"x" * (MOST_BYTES + 1)
    with pytest.raises(ToolFailed):
        webhook(receiver).call({}, CallContext())


def test_a_slow_one_is_a_failure(receiver: Receiver) -> None:
    receiver.holds.clear()
    began = time.monotonic()
    with pytest.raises(ToolFailed):
        webhook(receiver, timeout=0.2).call({}, CallContext())
    assert time.monotonic() - began < 3


def test_nobody_there_is_a_failure(receiver: Receiver) -> None:
    with pytest.raises(ToolFailed):
        SignedWebhook(Webhook("http://127.0.0.1:9/tools", SECRET, 1.0)).call({}, CallContext())


def test_a_cancelled_one_is_let_go_of(receiver: Receiver) -> None:
    receiver.holds.clear()
    call = CallContext()
    threading.Timer(0.2, call.cancel).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        webhook(receiver, timeout=15).call({}, call)
    assert time.monotonic() - began < 3


def test_text_that_is_no_utf8_is_read_all_the_same(receiver: Receiver) -> None:
    receiver.answer = b"caf\xe9"
    assert webhook(receiver).call({}, CallContext()) == "caf\ufffd"
