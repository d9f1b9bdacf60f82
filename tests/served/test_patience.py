"""Retries, heartbeats, time-outs and the breaker, as a caller on the phone notices them."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from core.context import CallContext, Timeouts
from providers.transport.client import send
from providers.transport.endpoint import Endpoint
from tests.conftest import Served, served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults
from tests.emulators.lines import Line, lines
from tests.support.frames import chat_body, completion, error, finish, payloads, post, streamed_text
from tests.support.messages import ask_body

Serve = Callable[..., Served]


def start(serve: Serve, upstream: OpenAIUpstream, **settings: object) -> Served:
    return serve(**upstream.settings(), **settings)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "failure",
    [
        ScriptedAnswer(status=500),
        ScriptedAnswer(status=429),
        ScriptedAnswer(status=503),
        ScriptedAnswer(fault=faults.reset_before_headers),
    ],
    ids=["500", "429", "503", "reset"],
)
def test_a_passing_failure_is_tried_again(
    serve: Serve, upstream: OpenAIUpstream, failure: ScriptedAnswer, stream: bool
) -> None:
    app = start(serve, upstream)
    upstream.enqueue(failure, failure)
    status, _, body = post(app.port, chat_body(stream=stream))
    assert status == 200
    assert (finish(body) if stream else completion(body)["choices"][0]["finish_reason"]) == "stop"
    app.logged("attempts=3")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_will_not_mend_is_not_tried_again(serve: Serve, upstream: OpenAIUpstream, status: int) -> None:
    app = start(serve, upstream)
    upstream.always(ScriptedAnswer(status=status))
    post(app.port, chat_body())
    assert len(upstream.received) == 1


def test_three_failures_are_one_honest_error(serve: Serve, upstream: OpenAIUpstream) -> None:
    """x-should-retry: false keeps the client from multiplying the attempts."""
    app = start(serve, upstream)
    upstream.always(ScriptedAnswer(status=500))
    status, headers, body = post(app.port, chat_body(stream=True))
    assert (status, error(body)["type"], headers["x-should-retry"]) == (502, "server_error", "false")
    assert len(upstream.received) == 3


def test_retry_after_is_honoured_where_it_fits(serve: Serve, upstream: OpenAIUpstream) -> None:
    """An attempt is repeated when Retry-After asks for it, not before and not many seconds later."""
    app = start(serve, upstream)
    upstream.enqueue(ScriptedAnswer(status=429, headers={"Retry-After": "1"}))
    assert post(app.port, chat_body(stream=True))[0] == 200
    first, second = upstream.received
    assert 1.0 <= second.arrived_at - first.arrived_at < 2.0
    upstream.enqueue(ScriptedAnswer(status=429, headers={"Retry-After": "3"}))
    status, headers, _ = post(app.port, chat_body(stream=True))
    assert (status, headers["retry-after"], len(upstream.received)) == (429, "3", 3)


def test_the_budget_bounds_the_attempts(serve: Serve, upstream: OpenAIUpstream) -> None:
    app = start(serve, upstream, RETRY_BUDGET=0, RETRIES=20)
    upstream.always(ScriptedAnswer(status=500))
    assert post(app.port, chat_body())[0] == 502
    assert len(upstream.received) == 1


def read_timed(port: int, body: object) -> tuple[int, list[tuple[float, bytes]]]:
    """Status, and what came when, in seconds since the request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    began = time.monotonic()
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    response = connection.getresponse()
    heard = [(time.monotonic() - began, b"")]
    while data := response.read1(65536):
        heard.append((time.monotonic() - began, data))
    return response.status, heard


def test_a_silent_upstream_is_not_a_silent_line(serve: Serve, upstream: OpenAIUpstream) -> None:
    """The stream opens with a heartbeat, whole comment lines keep it, and the answer still comes."""
    app = start(serve, upstream, HEADERS_AFTER=0.4, HEARTBEAT=0.3)
    upstream.enqueue(ScriptedAnswer(delay=2.0))
    status, heard = read_timed(app.port, chat_body(stream=True))
    stream = b"".join(data for _, data in heard)
    assert status == 200
    assert streamed_text(stream)
    assert stream.count(b": keep-alive\n\n") >= 4
    times = [at for at, _ in heard]
    assert times[0] < 1.5
    assert max(later - earlier for earlier, later in pairwise(times)) < 1.2


def test_silence_in_the_middle_too(serve: Serve, upstream: OpenAIUpstream) -> None:
    app = start(serve, upstream, HEARTBEAT=0.1)
    upstream.enqueue(ScriptedAnswer(texts=["One", " two"], frame_delay=0.35))
    _, heard = read_timed(app.port, chat_body(stream=True))
    stream = b"".join(data for _, data in heard)
    assert streamed_text(stream) == "One two"
    assert b"\n\n: keep-alive\n\ndata: " in stream


def test_trickling_and_comments_are_silence_to_the_caller(serve: Serve, upstream: OpenAIUpstream) -> None:
    """An upstream that only says that it lives has said nothing yet."""
    app = start(serve, upstream, HEADERS_AFTER=0.3, HEARTBEAT=0.2, FIRST_EVENT_TIMEOUT=1, RETRIES=0)
    upstream.enqueue(ScriptedAnswer(fault=faults.comments_only))
    status, heard = read_timed(app.port, chat_body(stream=True))
    stream = b"".join(data for _, data in heard)
    assert status == 200
    assert stream.startswith(b": keep-alive\n\n")
    assert error(payloads(stream)[-1].encode())["code"] == "upstream_timeout"


SHORT = {"HEADERS_AFTER": 0.3, "HEARTBEAT": 0.2, "FIRST_EVENT_TIMEOUT": 1, "RETRIES": 0, "BREAKER_FAILURES": 10_000}


def assert_ends_in_time(port: int, body: dict[str, object], path: str = "/v1/chat/completions") -> None:
    """Nothing but heartbeats, then an error, at FIRST_EVENT_TIMEOUT: far from TOTAL_TIMEOUT and IDLE_TIMEOUT."""
    began = time.monotonic()
    status, _, stream = post(port, {**body, "stream": True}, path)
    assert 0.9 <= time.monotonic() - began < 5
    assert status == 200
    assert b"upstream_timeout" in stream
    assert b"thought" not in stream


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat_body()),
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/messages", ask_body()),
        ("/v1/responses", {"input": "hi"}),
    ],
    ids=["chat", "completions", "messages", "responses"],
)
def test_thinking_that_is_not_shown_is_silence_to_the_caller(
    every_thinker: tuple[Served, list[Line]], path: str, body: dict[str, object]
) -> None:
    """Also while its pieces come all the time: heartbeats alone never outlive the deadline."""
    app, thinkers = every_thinker
    for line in thinkers:
        if (path, line.provider) == ("/v1/messages", "anthropic"):
            continue  # it has the caller's own dialect, and what it thinks passes
        line.upstream.enqueue(line.answer(reasoning=["thought "] * 200, frame_delay=0.1))
        assert_ends_in_time(app.port, {**body, "provider": line.provider, "model": line.model}, path)


@pytest.fixture(scope="module")
def every_thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, list[Line]]]:
    """An app whose upstreams think although nobody asked them to."""
    log = tmp_path_factory.mktemp("served") / "log"
    with lines() as (found, settings), served(log, **settings, **SHORT) as app:
        yield app, [line for name, line in found.items() if name in THINKERS]


THINKERS = (
    "openai/gpt-4o-mini",
    "anthropic/claude-haiku-4-5",
    "cohere/command-a-reasoning-08-2025",
    "oci/meta.llama-4-maverick-17b-128e-instruct-fp8",
    "oci/cohere.command-a-vision",
)


def test_thinking_that_is_taken_out_is_silence_to_the_caller(serve: Serve, upstream: OpenAIUpstream) -> None:
    """Some models think in their text. What is not read aloud is no word."""
    app = start(serve, upstream, **SHORT)
    upstream.enqueue(ScriptedAnswer(texts=["<think>", *["thought "] * 200], frame_delay=0.1))
    assert_ends_in_time(app.port, chat_body(speech=True))


def test_a_failure_after_the_stream_has_opened_is_a_frame_and_a_retry_still_works(
    serve: Serve, upstream: OpenAIUpstream
) -> None:
    """From HEADERS_AFTER on a failure has no status any more, but another attempt may still be made."""
    app = start(serve, upstream, HEADERS_AFTER=0.2, HEARTBEAT=0.1, RETRY_BUDGET=5)
    upstream.enqueue(ScriptedAnswer(status=500, delay=0.5))
    status, heard = read_timed(app.port, chat_body(stream=True))
    assert status == 200
    assert streamed_text(b"".join(data for _, data in heard))
    upstream.always(ScriptedAnswer(status=500, delay=0.5))
    status, heard = read_timed(app.port, chat_body(stream=True))
    assert status == 200
    assert error(payloads(b"".join(data for _, data in heard))[-1].encode())["code"] == "upstream_error"


def test_a_total_time_out_ends_a_stream_that_never_ends(serve: Serve, upstream: OpenAIUpstream) -> None:
    app = start(serve, upstream, TOTAL_TIMEOUT=2)
    upstream.enqueue(ScriptedAnswer(texts=["word "] * 1000, frame_delay=0.05))
    _, heard = read_timed(app.port, chat_body(stream=True))
    assert error(payloads(b"".join(data for _, data in heard))[-1].encode())["code"] == "upstream_timeout"
    assert upstream.received[0].wait_closed(5)


def test_a_dead_target_opens_its_breaker_and_closes_it_again(serve: Serve, upstream: OpenAIUpstream) -> None:
    """While it is open nobody waits, the upstream is left alone, and /v1/providers shows it."""
    app = start(serve, upstream, BREAKER_FAILURES=3, BREAKER_SECONDS=1, RETRIES=0)
    upstream.always(ScriptedAnswer(status=500))
    assert [post(app.port, chat_body())[0] for _ in range(3)] == [502] * 3
    status, headers, body = post(app.port, chat_body(stream=True))
    assert (status, error(body)["code"], len(upstream.received)) == (503, "upstream_unavailable", 3)
    assert int(headers["retry-after"]) >= 1
    row = _providers(app)["openai"]
    assert row["breakers"] == {"gpt-4o-mini": "open"}
    upstream.always(ScriptedAnswer())
    until(lambda: post(app.port, chat_body())[0] == 200, "the probe to close the breaker")
    assert "breakers" not in _providers(app)["openai"]


def test_a_breaker_that_opens_on_the_way_does_not_hide_why(serve: Serve, upstream: OpenAIUpstream) -> None:
    app = start(serve, upstream, BREAKER_FAILURES=2)
    upstream.always(ScriptedAnswer(status=500))
    status, _, body = post(app.port, chat_body())
    assert (status, error(body)["code"], len(upstream.received)) == (502, "upstream_error", 2)


EMBEDDINGS = {"model": "text-embedding-3-small", "input": "hi"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat_body()),
        ("/v1/chat/completions", chat_body(stream=True)),
        ("/v1/embeddings", EMBEDDINGS),
    ],
    ids=["whole", "stream", "embeddings"],
)
def test_failures_with_answers_between_them_open_no_breaker(
    serve: Serve, upstream: OpenAIUpstream, path: str, body: dict[str, object]
) -> None:
    app = start(serve, upstream, BREAKER_FAILURES=2, RETRIES=0)
    upstream.enqueue(*[ScriptedAnswer(status=status) for status in (500, 200) * 3], path=path.removeprefix("/v1"))
    assert [post(app.port, body, path=path)[0] for _ in range(6)] == [502, 200] * 3


def test_a_breaker_is_one_models(serve: Serve, upstream: OpenAIUpstream) -> None:
    app = start(serve, upstream, BREAKER_FAILURES=1, BREAKER_SECONDS=60, RETRIES=0)
    upstream.enqueue(ScriptedAnswer(status=500))
    post(app.port, chat_body())
    assert post(app.port, chat_body())[0] == 503
    assert post(app.port, chat_body() | {"model": "gpt-4o"})[0] == 200


def test_the_callers_own_faults_open_no_breaker(serve: Serve, upstream: OpenAIUpstream) -> None:
    app = start(serve, upstream, BREAKER_FAILURES=2, RETRIES=0)
    upstream.enqueue(*[ScriptedAnswer(status=status) for status in (400, 404, 422, 429, 401)])
    for _ in range(5):
        post(app.port, chat_body())
    assert post(app.port, chat_body())[0] == 200


def _providers(app: Served) -> dict[str, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=20)
    connection.request("GET", "/v1/providers")
    rows = json.loads(connection.getresponse().read())["providers"]
    return {row["name"]: row for row in rows}


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="Linux has it")
def test_no_piece_waits_for_our_acknowledgement() -> None:
    """Many servers send a small piece only when the one before is acknowledged, for which kernels take 40 ms."""
    rounds = 20

    def answer(server: socket.socket) -> None:
        sock, _ = server.accept()
        with sock:
            for _ in range(rounds):
                sock.recv(65_536)
                for piece in (b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n\r\n", b"O", b"K"):
                    sock.send(piece)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        account, call = Endpoint("nagle", f"http://127.0.0.1:{server.getsockname()[1]}", {}), CallContext()
        began = time.monotonic()
        for _ in range(rounds):
            reply = send(account, "GET", "/", {}, b"", call, Timeouts())
            reply.read_head()
            assert b"".join(reply) == b"OK"
            reply.close()
        assert time.monotonic() - began < rounds * 0.02
