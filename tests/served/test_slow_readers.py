"""Callers who do not read, or slowly: that is no fault of the upstream's. Real sockets, real gunicorn."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import EVER, Served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults
from tests.support.frames import chat_body, error, finish, payloads, post, said

WORD = "x" * 80_000 + " "
WORDS = 250
"""20 MB of them, which fit into no socket's buffers."""
IDLE = 1.5
PAUSE = 4.0


class Reader:
    """A caller with little room for what comes, who reads when told to."""

    def __init__(self, port: int, model: str = "gpt-4o-mini") -> None:
        raw = json.dumps(chat_body(model=model, stream=True)).encode()
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        self.socket.settimeout(EVER)
        self.socket.connect(("127.0.0.1", port))
        head = f"POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(raw)}\r\n\r\n"
        self.socket.sendall(head.encode() + raw)
        self.heard = b""

    def reads(self, most: int) -> None:
        while len(self.heard) < most and (data := self.socket.recv(1_000_000)):
            self.heard += data

    def reads_to_the_end(self) -> bytes:
        """The stream, without its head."""
        pieces = [self.heard]
        while data := self.socket.recv(1_000_000):
            pieces.append(data)
        return b"".join(pieces).partition(b"\r\n\r\n")[2]


@pytest.fixture
def start(serve: Callable[..., Served], upstream: OpenAIUpstream, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """The app with a provider that two models are at: gpt-4o-mini, and `raced`, which has a deadline and a fallback."""
    file = tmp_path / "models.yaml"
    rows = [
        {
            "name": "raced",
            "provider": "openai",
            "model": "gpt-4o-mini",
            "ttft_timeout_ms": 15_000,
            "fallbacks": ["plain"],
        },
        {"name": "plain", "provider": "openai", "model": "gpt-4o"},
    ]
    file.write_text(yaml.safe_dump({"models": rows}))

    def begin(**settings: Any) -> Served:
        at = {"OPENAI_API_KEY": upstream.key, "OPENAI_BASE_URL": upstream.base_url, "MODELS_FILE": file}
        at["ALLOW_ANONYMOUS"] = "true"  # the reader speaks HTTP/1.0, as a proxy may
        return serve(**{**at, "IDLE_TIMEOUT": IDLE, "BREAKER_FAILURES": 10, "RETRIES": 0, **settings})

    return begin


@pytest.mark.parametrize("model", ["gpt-4o-mini", "raced"])
def test_who_pauses_and_reads_on_gets_the_whole_stream(
    start: Callable[..., Served], upstream: OpenAIUpstream, model: str
) -> None:
    """The pause is longer than IDLE_TIMEOUT, which is the upstream's to keep, not theirs."""
    app = start()
    upstream.enqueue(ScriptedAnswer(texts=[WORD] * WORDS))
    caller = Reader(app.port, model)
    caller.reads(1000)
    time.sleep(PAUSE)
    stream = caller.reads_to_the_end()
    assert len(said(stream)) == len(WORD) * WORDS
    assert finish(stream) == "stop"
    app.logged("outcome=done")


@pytest.mark.parametrize("model", ["gpt-4o-mini", "raced"])
def test_callers_who_do_not_read_close_no_provider(
    start: Callable[..., Served], upstream: OpenAIUpstream, model: str
) -> None:
    app = start()
    upstream.enqueue(*[ScriptedAnswer(texts=[WORD] * WORDS) for _ in range(10)])
    callers = [Reader(app.port, model) for _ in range(10)]
    for caller in callers:
        caller.reads(1000)
    time.sleep(PAUSE)
    for caller in callers:
        caller.reads(3_000_000)  # so that our sending goes on, for a while
    assert post(app.port, chat_body())[0] == 200
    for caller in callers:
        caller.socket.close()
    until(lambda: app.log().count("outcome=hung_up") == 10, "ten lines to end")
    assert "outcome=failed" not in app.log()
    assert post(app.port, chat_body())[0] == 200


def test_an_answer_that_is_not_read_in_time_is_no_time_out_of_the_upstreams(
    start: Callable[..., Served], upstream: OpenAIUpstream
) -> None:
    app = start(TOTAL_TIMEOUT=3, BREAKER_FAILURES=1)
    upstream.enqueue(ScriptedAnswer(texts=[WORD] * WORDS))
    caller = Reader(app.port)
    caller.reads(1000)
    time.sleep(PAUSE)
    stream = caller.reads_to_the_end()
    assert error(payloads(stream)[-1].encode())["code"] == "request_timeout"
    app.logged("outcome=hung_up")
    assert post(app.port, chat_body())[0] == 200


@pytest.mark.parametrize("pause", [PAUSE, 0.0], ids=["who does not read", "who reads"])
def test_an_upstream_that_breaks_off_is_at_fault_only_when_it_was_read(
    start: Callable[..., Served], upstream: OpenAIUpstream, pause: float
) -> None:
    """Many close a connection on which nothing is taken from them."""
    app = start(BREAKER_FAILURES=1)
    upstream.enqueue(ScriptedAnswer(texts=[WORD] * WORDS, fault=faults.cut))
    caller = Reader(app.port)
    caller.reads(1000)
    time.sleep(pause)
    stream = caller.reads_to_the_end()
    assert error(payloads(stream)[-1].encode())["code"] == "upstream_error"
    assert post(app.port, chat_body())[0] == (200 if pause else 503)


def test_an_upstream_that_falls_silent_is_at_fault_however_it_was_read(
    start: Callable[..., Served], upstream: OpenAIUpstream
) -> None:
    app = start(BREAKER_FAILURES=1)
    upstream.enqueue(ScriptedAnswer(texts=[WORD] * WORDS, fault=faults.stalled))
    caller = Reader(app.port)
    caller.reads(1000)
    time.sleep(PAUSE)
    stream = caller.reads_to_the_end()
    assert error(payloads(stream)[-1].encode())["code"] == "upstream_timeout"
    assert post(app.port, chat_body())[0] == 503
