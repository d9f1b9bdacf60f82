"""A caller who leaves frees the upstream at once, in every phase (D7; N6, N23). Real sockets, real gunicorn."""

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Served, environment, free_port, served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, certificate, faults
from tests.support.forked import Forked
from tests.support.frames import chat_body, post

AT_ONCE = 1.0
"""Seconds: generous, where the promise is 0.1 (tools/bench/hangup.py has the figures)."""

PHASES: dict[str, tuple[ScriptedAnswer, bool, bytes]] = {
    "before headers": (ScriptedAnswer(delay=30), True, b""),
    "before the first token": (ScriptedAnswer(first_delay=30), True, b""),
    "mid-stream, running": (ScriptedAnswer(texts=["word "] * 3000, frame_delay=0.01), True, b"word"),
    "mid-stream, silent": (ScriptedAnswer(fault=faults.stalled), True, b"data: "),
    "not streaming, before headers": (ScriptedAnswer(delay=30), False, b""),
    "not streaming, mid-body": (ScriptedAnswer(fault=faults.stalled), False, b""),
}


class Caller:
    """A caller on a raw socket, who may leave in any way."""

    def __init__(self, port: int, body: object) -> None:
        raw = json.dumps(body).encode()
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(raw)}\r\n\r\n"
        self.socket.sendall(head.encode() + raw)

    def hears(self, what: bytes) -> None:
        heard = b""
        while what not in heard:
            data = self.socket.recv(4096)
            assert data, heard
            heard += data

    def leaves(self) -> float:
        """Close, politely. Returns when."""
        left = time.monotonic()
        self.socket.close()
        return left

    def is_cut_off(self) -> float:
        """A reset, as when a phone's network goes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return self.leaves()


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "TLS"])
def line(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[OpenAIUpstream, Served]]:
    log = tmp_path_factory.mktemp("served") / "log"
    settings: dict[str, object] = {
        "THREADS": 8,
        "RETRY_BUDGET": 60,
        "BREAKER_FAILURES": 10_000,
        "FIRST_EVENT_TIMEOUT": 60,
    }
    if request.param:
        settings["SSL_CERT_FILE"] = certificate()[0]
    with (
        OpenAIUpstream(tls=request.param) as upstream,
        served(log, OPENAI_API_KEY=upstream.key, OPENAI_BASE_URL=upstream.base_url, **settings) as app,
    ):
        post(app.port, chat_body())
        yield upstream, app


@pytest.mark.parametrize("way", [Caller.leaves, Caller.is_cut_off], ids=["closes", "is cut off"])
@pytest.mark.parametrize("phase", PHASES)
def test_the_upstream_is_freed_in_every_phase(
    line: tuple[OpenAIUpstream, Served], phase: str, way: Callable[[Caller], float]
) -> None:
    upstream, app = line
    answer, stream, heard = PHASES[phase]
    sockets = app.sockets() + 1
    count = len(upstream.received)
    upstream.enqueue(answer)
    caller = Caller(app.port, chat_body(stream=stream))
    until(lambda: len(upstream.received) > count, "the request to arrive upstream")
    received = upstream.received[count]
    caller.hears(heard)
    left = way(caller)
    assert received.wait_closed(10) - left < AT_ONCE
    until(lambda: app.sockets() <= sockets, "the sockets to be as many as before")
    app.logged("outcome=hung_up")
    assert post(app.port, chat_body())[0] == 200


def test_a_wait_between_attempts_ends_too(line: tuple[OpenAIUpstream, Served]) -> None:
    """A caller who leaves in a backoff is not asked for again."""
    upstream, app = line
    count, hung_up = len(upstream.received), app.log().count("outcome=hung_up")
    upstream.enqueue(ScriptedAnswer(status=429, headers={"Retry-After": "20"}))
    caller = Caller(app.port, chat_body(stream=True))
    until(lambda: "said" in app.log() and len(upstream.received) > count, "the first attempt to fail")
    app.logged("retry .*wait=2[0-9]")
    left = caller.leaves()
    until(lambda: app.log().count("outcome=hung_up") > hung_up, "the line to end")
    assert time.monotonic() - left < AT_ONCE
    assert len(upstream.received) == count + 1


def test_the_demo_stops_talking(serve: Callable[..., Served]) -> None:
    app = serve(DEMO_PACE_MS=50)
    caller = Caller(app.port, chat_body("say 2000 words", stream=True))
    caller.hears(b"data: ")
    left = caller.leaves()
    app.logged("outcome=hung_up")
    assert time.monotonic() - left < AT_ONCE


def test_without_gunicorn_it_is_noticed_too(tmp_path: Path) -> None:
    """The development server shows the socket of the caller as well; no heartbeat has to find out."""
    port, log = free_port(), tmp_path / "log"
    with OpenAIUpstream() as upstream:
        upstream.always(ScriptedAnswer(fault=faults.stalled))
        at = {"OPENAI_API_KEY": upstream.key, "OPENAI_BASE_URL": upstream.base_url}
        process = Forked(["app.py"], environment(PORT=port, HEARTBEAT=60, **at), log, log)
        try:
            until(lambda: log.exists() and "Running on" in log.read_text(), "the server to listen")
            caller = Caller(port, chat_body(stream=True))
            caller.hears(b"data: ")
            caller.leaves()
            assert upstream.received[0].wait_closed(5)
            Served(port, process, log).logged("outcome=hung_up")
        finally:
            process.kill()


def test_hang_ups_in_a_row_leave_nothing_behind(line: tuple[OpenAIUpstream, Served]) -> None:
    """A hundred callers leave mid-stream; threads, sockets and slots are as before."""
    upstream, app = line
    until(lambda: upstream.open_connections() <= 1, "earlier callers to be gone")
    threads, sockets = app.threads(), app.sockets()
    upstream.always(ScriptedAnswer(texts=["word "] * 500, frame_delay=0.01))
    hung_up = app.log().count("outcome=hung_up")
    for _ in range(100):
        caller = Caller(app.port, chat_body(stream=True))
        caller.hears(b"word")
        caller.leaves()
    upstream.always(ScriptedAnswer())
    until(lambda: app.log().count("outcome=hung_up") == hung_up + 100, "a hundred lines to end")
    until(lambda: app.threads() <= threads, "the threads")
    until(lambda: app.sockets() <= sockets + 1, "the sockets")
    until(lambda: upstream.open_connections() <= 1, "the upstream's connections")
