"""Clients without a key delay no caller, whatever they send and however many they are. Real gunicorn, raw sockets."""

import http.client
import json
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from server.file_limits import OWN_FILES, most_connections
from tests.conftest import EVER, Served, free_port, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer
from tests.served.test_server import running
from tests.support import strangers
from tests.support.frames import chat_body, completion, error, post, streamed_text
from tests.support.http import assert_error, exchange, fails_to_start, head

pytestmark = pytest.mark.slow

Serve = Callable[..., Served]
KEY = {"Authorization": "Bearer my-own-key"}
HELD_UP = 2.0
"""Seconds that no good call takes, on a loaded machine: 0.5 are promised, and it was 20."""

CROWDS = {
    "not closed": (strangers.unclosed, 12),
    "many not closed": (strangers.unclosed, 100),
    "half bodies with a wrong key": (strangers.half_body, 300),
    "half heads": (strangers.half_head, 1200),
    "silent": (strangers.silent, 3000),
    "kept": (strangers.kept, 1200),
    "unread": (strangers.unread, 260),
}


@pytest.fixture(scope="module", autouse=True)
def files() -> None:
    """So many sockets need as many files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("this machine allows fewer files than these strangers are")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def crowd(stranger: Callable[[int], socket.socket], count: int, port: int) -> Iterator[list[socket.socket]]:
    """So many of them at once, until the block ends."""
    with ExitStack() as stack:
        yield [stack.enter_context(stranger(port)) for _ in range(count)]


def cpu_seconds(app: Served) -> float:
    """What the worker has taken so far."""
    fields = Path(f"/proc/{app.workers[0]}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_all(sock: socket.socket) -> bytes:
    """Everything that comes, to the end."""
    heard = b""
    while data := sock.recv(65536):
        heard += data
    return heard


@pytest.mark.parametrize("kind", CROWDS)
def test_a_crowd_holds_up_nobody(serve: Serve, kind: str) -> None:
    """Neither a new call nor a stream that runs, while they come and when they are there."""
    app = serve(API_KEY="my-own-key", DEMO_PACE_MS=0)
    workers = app.workers
    running_stream: list[tuple[int, dict[str, str], bytes]] = []
    body = chat_body("say 60 words", stream=True)
    stream = threading.Thread(target=lambda: running_stream.append(post(app.port, body, headers=KEY)), daemon=True)
    worst: list[float] = []
    good = threading.Thread(target=lambda: worst.append(strangers.slowest(app.port, 3.0, KEY)), daemon=True)
    stream.start()
    good.start()
    stranger, count = CROWDS[kind]
    with crowd(stranger, count, app.port):
        worst.append(strangers.slowest(app.port, 1.0, KEY))
        good.join(EVER)
        stream.join(EVER)
    assert len(worst) == 2
    assert max(worst) < HELD_UP
    ((status, _, heard),) = running_stream
    assert status == 200
    assert len(streamed_text(heard).split()) == 60
    assert app.workers == workers
    assert "WORKER TIMEOUT" not in app.log()


def test_more_than_a_thousand_kept_connections_cost_nothing(serve: Serve) -> None:
    """Nor does a caller lose the connection that they use."""
    app = serve(THREADS=8, DEMO_PACE_MS=0)
    caller = http.client.HTTPConnection("127.0.0.1", app.port, timeout=EVER)
    caller.connect()
    ours = caller.sock
    with crowd(strangers.kept, 1200, app.port):
        for _ in range(20):
            caller.request("POST", "/v1/chat/completions", json.dumps(chat_body()))
            assert completion(caller.getresponse().read())
        assert caller.sock is ours
        before = cpu_seconds(app)
        time.sleep(1.0)
        assert cpu_seconds(app) - before < 0.3
    until(lambda: app.sockets() < 100, "the sockets of those who have left to be closed")


def test_what_a_caller_is_told_before_the_connection_closes_arrives(serve: Serve) -> None:
    """Although they still send what nobody reads."""
    app = serve(API_KEY="my-own-key")
    request = head("Content-Length: 20000000", "Authorization: Bearer wrong") + b" " * 20_000_000
    for _ in range(5):
        status, headers, body = exchange(app.port, request)
        assert error(body)["code"] == "invalid_api_key"
        assert (status, headers["Connection"]) in ((401, "close"), (401, "keep-alive"))
    with strangers.half_body(app.port) as sock:
        heard = read_all(sock)
        assert b"Connection: close\r\n" in heard, "no other request can follow"
        assert heard.startswith(b"HTTP/1.1 401 ")


def test_a_refused_request_that_came_as_a_whole_keeps_its_connection(serve: Serve) -> None:
    app = serve(API_KEY="my-own-key")
    caller = http.client.HTTPConnection("127.0.0.1", app.port, timeout=EVER)
    caller.connect()
    ours = caller.sock
    for _ in range(3):
        caller.request("POST", "/v1/chat/completions", json.dumps(chat_body()))
        response = caller.getresponse()
        assert (response.status, response.read()[:8]) == (401, b'{"error"')
        assert caller.sock is ours
    caller.close()


# heads, and answers that nobody reads


def test_a_head_may_come_in_pieces_and_several_at_once(serve: Serve) -> None:
    app = serve()
    one = head(path="/health", method="GET")
    with strangers.connect(app.port) as sock:
        for byte in one:
            sock.sendall(bytes([byte]))
        assert b'"ok"' in sock.recv(4096)
        sock.sendall(one * 2 + one[:20])
        time.sleep(0.2)
        sock.sendall(one[20:])
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).count(b'{"status":"ok",') == 3


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"GET /health HTTP/1.1\r\n" + b"X-A: y\r\n" * 10_000, 431), (b"GET /health HTTP/1.1\nHost: localhost\n\n", 400)],
    ids=["without an end", "with lines that end wrongly"],
)
def test_a_head_that_cannot_be_served_is_refused_at_once(serve: Serve, sent: bytes, status: int) -> None:
    app = serve()
    began = time.monotonic()
    assert_error(*exchange(app.port, sent, "GET"), status)
    assert time.monotonic() - began < HELD_UP


def test_who_reads_late_reads_all(serve: Serve) -> None:
    """What waits for a caller is kept for them, in order, and a closed connection ends after it."""
    app = serve(THREADS=2, MAX_IN_FLIGHT=1)
    with crowd(strangers.unread, 8, app.port) as socks:
        assert strangers.slowest(app.port, 0.5) < HELD_UP
        for sock in socks:
            sock.sendall(head("Connection: close", path="/openapi.json", method="GET"))
        answers = read_all(socks[-1]).split(b"HTTP/1.1 200 OK\r\n")
        assert len(answers) == 102
        bodies = {answer.partition(b"\r\n\r\n")[2] for answer in answers[1:]}
        assert len(bodies) == 1
        assert json.loads(bodies.pop())["openapi"]


# files


@pytest.mark.parametrize(
    ("files", "threads", "most"),
    [(OWN_FILES + 4000, 256, 3744), (OWN_FILES + 924, 256, 668), (OWN_FILES + 924, 1280, 462), (64, 256, 1)],
)
def test_connections_are_bounded_by_the_files_that_two_a_stream_leave(files: int, threads: int, most: int) -> None:
    assert most_connections(files, threads) == most


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "app:create_app()"])
"""


def test_more_connections_than_files_end_no_worker(tmp_path: Path) -> None:
    port = free_port()
    code = LIMITED.format(soft=1024, hard=1024)
    with running(tmp_path / "log", "-c", code, port=port, PORT=port, DEMO_PACE_MS=0) as app:
        app.logged(r"WARN.* A worker takes 462 connections instead of 4280: only 1024 files .*ulimit -n")
        assert strangers.slowest(port, 0.1) < EVER
        workers = app.workers
        with crowd(strangers.silent, 1100, port):
            assert strangers.slowest(port, 1.0) < HELD_UP
        assert app.workers == workers


def test_the_soft_limit_of_files_is_raised(tmp_path: Path) -> None:
    port = free_port()
    code = LIMITED.format(soft=256, hard=4096)
    with running(tmp_path / "log", "-c", code, port=port, PORT=port, THREADS=16, DEMO_PACE_MS=0) as app:
        assert post(port, chat_body())[0] == 200
        assert resource.prlimit(app.workers[0], resource.RLIMIT_NOFILE) == (4096, 4096)
        assert "ulimit" not in app.log()


def test_no_file_for_a_connection_means_not_now(serve: Serve) -> None:
    """Whoever took them: the oldest who say nothing make room, and the worker neither ends nor spins."""
    app = serve(THREADS=8, DEMO_PACE_MS=0)
    (worker,) = app.workers
    post(app.port, chat_body())
    used = len(list(Path(f"/proc/{worker}/fd").iterdir()))
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (used + 20, used + 20))
    with crowd(strangers.silent, 60, app.port):
        app.logged("No connection can be accepted now")
        before = cpu_seconds(app)
        time.sleep(1.0)
        assert cpu_seconds(app) - before < 0.5
        assert post(app.port, chat_body())[0] == 200
    assert app.workers == [worker]
    assert app.log().count("No connection can be accepted now") < 200


def test_lists_of_models_are_work(serve: Serve, upstream: OpenAIUpstream) -> None:
    """Those who wait for an upstream that says nothing leave threads for others."""
    app = serve(THREADS=8, **upstream.settings())
    upstream.always(ScriptedAnswer(delay=3), "/models")
    statuses: list[int] = []

    def ask(path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=EVER)
        connection.request("GET", path)
        statuses.append(connection.getresponse().status)

    paths = ["/v1/models", "/v1/models/gpt-4o-mini"] * 12
    callers = [threading.Thread(target=ask, args=(path,), daemon=True) for path in paths]
    for caller in callers:
        caller.start()
    until(lambda: statuses.count(503) >= 17, "those to be refused who are too many")
    with strangers.kept(app.port):
        assert 200 not in statuses, "health is answered while all that may wait do so"
    for caller in callers:
        caller.join(EVER)
    assert set(statuses) == {200, 503}


# half-closed


def looks_whole(heard: bytes) -> bool:
    """Whether a client would take it for an answer."""
    if not heard.startswith(b"HTTP/1.1 200 "):
        return False
    return heard.endswith(b"0\r\n\r\n") and b'"error":{' not in heard


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("opened", [False, True], ids=["before the head", "while nothing has come yet"])
def test_who_shuts_the_sending_side_is_told_and_has_no_answer(
    serve: Serve, upstream: OpenAIUpstream, stream: bool, opened: bool
) -> None:
    app = serve(
        OPENAI_API_KEY=upstream.key,
        OPENAI_BASE_URL=upstream.base_url,
        HEADERS_AFTER=0.1 if opened else 5,
        HEARTBEAT=0.1,
    )
    upstream.always(ScriptedAnswer(first_delay=20))
    body = json.dumps(chat_body(stream=stream)).encode()
    with strangers.connect(app.port, head(f"Content-Length: {len(body)}") + body) as sock:
        until(lambda: upstream.received, "the request to arrive upstream")
        if opened and stream:
            assert sock.recv(12) == b"HTTP/1.1 200"
        sock.shutdown(socket.SHUT_WR)
        heard = read_all(sock)
    app.logged("outcome=hung_up")
    assert upstream.received[0].wait_closed(EVER)
    if opened and stream:
        assert b'"error":{"message":"The sending side' in heard
    else:
        assert heard.startswith(b"HTTP/1.1 499 ")
        assert error(heard.partition(b"\r\n\r\n")[2])["code"] == "client_closed_request"


def test_a_stream_whose_caller_shuts_the_sending_side_ends_with_an_error(serve: Serve) -> None:
    app = serve(DEMO_PACE_MS=20)
    body = json.dumps(chat_body("say 500 words", stream=True)).encode()
    with strangers.connect(app.port, head(f"Content-Length: {len(body)}") + body) as sock:
        heard = b""
        while b'"content":"This ' not in heard:
            heard += sock.recv(4096)
        sock.shutdown(socket.SHUT_WR)
        heard += read_all(sock)
    assert not looks_whole(heard)
    frames = heard.partition(b"\r\n\r\n")[2]
    assert b'"error":{"message":"The sending side' in frames
    assert b'"finish_reason":"stop"' not in frames


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_whoever_shuts_the_sending_side_never_has_half_of_an_answer(serve: Serve, stream: bool) -> None:
    """At once, which is a race: either all of it was there already, or it is no answer."""
    app = serve(DEMO_PACE_MS=2)
    for _ in range(20):
        with strangers.half_closed(app.port, stream=stream, text="say 3 words") as sock:
            heard = read_all(sock)
        if looks_whole(heard) or (not stream and heard.startswith(b"HTTP/1.1 200 ")):
            assert b'"finish_reason":"stop"' in heard


def test_certificates_are_for_the_web_server_in_front() -> None:
    said = fails_to_start("-m", "gunicorn", "--certfile", sys.executable, "app:create_app()")
    assert "TLS" in said
