"""Streams that pass as bytes are forwarded by the thread that keeps the lines: nothing of what is promised changes."""

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import EVER, Served, served, until
from tests.emulators import Fault, OpenAIUpstream, ScriptedAnswer, certificate, faults
from tests.support.callers import AT_ONCE, Caller
from tests.support.frames import chat_body, error, finish, payloads, post, streamed_text

WORDS = [f"{number} " for number in range(3000)]
RUNNING = ScriptedAnswer(texts=WORDS, frame_delay=0.005)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "TLS"])
def line(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[OpenAIUpstream, Served]]:
    log = tmp_path_factory.mktemp("served") / "log"
    settings: dict[str, object] = {"IDLE_TIMEOUT": 1, "BREAKER_FAILURES": 10_000, "ALLOW_ANONYMOUS": "true"}
    if request.param:
        settings["SSL_CERT_FILE"] = certificate()[0]
    with (
        OpenAIUpstream(tls=request.param) as upstream,
        served(log, OPENAI_API_KEY=upstream.key, OPENAI_BASE_URL=upstream.base_url, **settings) as app,
    ):
        yield upstream, app


def raw_request(version: str = "1.1", more: str = "") -> bytes:
    body = json.dumps(chat_body(stream=True, stream_options={"include_usage": True})).encode()
    head = f"POST /v1/chat/completions HTTP/{version}\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def read_to_end(sock: socket.socket) -> bytes:
    sock.settimeout(EVER)
    pieces = []
    while data := sock.recv(1_000_000):
        pieces.append(data)
    return b"".join(pieces)


def test_a_long_stream_arrives_whole_and_is_counted(line: tuple[OpenAIUpstream, Served]) -> None:
    upstream, app = line
    upstream.enqueue(ScriptedAnswer(texts=WORDS))
    stream = post(app.port, chat_body(stream=True, stream_options={"include_usage": True}))[2]
    assert streamed_text(stream) == "".join(WORDS)
    assert finish(stream) == "stop"
    count = json.loads(payloads(stream)[-1])["usage"]["completion_tokens"]
    app.logged(f"outcome=done .*completion_tokens={count}")


def test_a_stream_without_chunks_is_closed_at_its_end(line: tuple[OpenAIUpstream, Served]) -> None:
    upstream, app = line
    upstream.enqueue(ScriptedAnswer(texts=WORDS))
    with socket.create_connection(("127.0.0.1", app.port)) as sock:
        sock.sendall(raw_request("1.0"))
        head, _, stream = read_to_end(sock).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert streamed_text(stream) == "".join(WORDS)


def test_a_pipelined_request_waits_behind_a_stream(line: tuple[OpenAIUpstream, Served]) -> None:
    upstream, app = line
    upstream.enqueue(ScriptedAnswer(texts=WORDS[:200], frame_delay=0.002), ScriptedAnswer(texts=["second"]))
    with socket.create_connection(("127.0.0.1", app.port)) as sock:
        sock.sendall(raw_request() + raw_request(more="Connection: close\r\n"))
        answers = read_to_end(sock)
    assert answers.count(b"HTTP/1.1 200 OK") == answers.count(b"0\r\n\r\n") == answers.count(b"[DONE]") == 2
    assert answers.index(b'"199 "') < answers.index(b'"second"')


def test_one_who_shuts_the_sending_side_has_left(line: tuple[OpenAIUpstream, Served]) -> None:
    upstream, app = line
    count = len(upstream.received)
    upstream.enqueue(RUNNING)
    caller = Caller(app.port, chat_body(stream=True))
    caller.hears(b'"50 "')
    left = time.monotonic()
    caller.socket.shutdown(socket.SHUT_WR)
    assert upstream.received[count].wait_closed(10) - left < AT_ONCE
    assert b'"error"' in read_to_end(caller.socket)


@pytest.mark.parametrize(
    ("fault", "code"), [(faults.cut, "upstream_error"), (faults.stalled, "upstream_timeout")], ids=["cut", "stalled"]
)
def test_what_fails_in_the_middle_is_an_error_frame(
    line: tuple[OpenAIUpstream, Served], fault: Fault, code: str
) -> None:
    upstream, app = line
    upstream.enqueue(ScriptedAnswer(texts=WORDS, fault=fault))
    stream = post(app.port, chat_body(stream=True))[2]
    assert error(payloads(stream)[-1].encode())["code"] == code
    assert stream.count(b'"content":"') > len(WORDS) / 3


def test_the_end_of_the_server_is_told_in_a_stream(serve: Callable[..., Served], upstream: OpenAIUpstream) -> None:
    app = serve(OPENAI_API_KEY=upstream.key, OPENAI_BASE_URL=upstream.base_url, GRACEFUL_TIMEOUT=2)
    upstream.enqueue(RUNNING)
    caller = Caller(app.port, chat_body(stream=True))
    caller.hears(b'"50 "')
    app.process.send_signal(signal.SIGTERM)
    assert b"shutting down" in read_to_end(caller.socket)


@pytest.mark.slow
def test_many_streams_at_the_default_leave_health_its_thread(tmp_path: Path, upstream: OpenAIUpstream) -> None:
    """More than there are threads at first."""
    upstream.always(ScriptedAnswer(texts=WORDS, frame_delay=0.5))
    patient = {"THREADS": "", "CONNECT_TIMEOUT": 20, "FIRST_EVENT_TIMEOUT": 60}
    at = {"OPENAI_API_KEY": upstream.key, "OPENAI_BASE_URL": upstream.base_url}
    with served(tmp_path / "log", **at, **patient) as app:
        callers = [Caller(app.port, chat_body(stream=True)) for _ in range(100)]
        for caller in callers:
            caller.hears(b"data: ")
        with socket.create_connection(("127.0.0.1", app.port), EVER) as sock:
            sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert sock.recv(15) == b"HTTP/1.1 200 OK"
        for caller in callers:
            caller.leaves()
        until(lambda: app.log().count("outcome=hung_up") == len(callers), "all lines to end")
        until(lambda: app.sockets() <= 2, "the sockets to be closed")
