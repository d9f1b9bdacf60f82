"""The whole thing as it is run: gunicorn and `python app.py`, addresses, prefixes, workers, and a start and an end."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from core.version import VERSION
from tests.conftest import EVER, ROOT, Served, _answers, environment, free_port, until
from tests.support.forked import Forked
from tests.support.frames import chat_body, completion, finish, post, streamed_text
from tests.support.http import GUNICORN, HI, fails_to_start, head

CHAT = "/v1/chat/completions"
KEY = {"Authorization": "Bearer my-own-key"}
SPOKEN = "Good morning."


@contextmanager
def running(
    log_path: Path, *command: str, port: int, host: str = "127.0.0.1", folder: Path = ROOT, **settings: object
) -> Iterator[Served]:
    """A server started by this very command, with nothing set but what is said."""
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=environment(**settings), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        until(lambda: _listens(host, port) or process.poll() is not None, f"an answer:\n{log_path.read_text()}")
        assert process.poll() is None, log_path.read_text()
        yield Served(port, process, log_path)
    finally:
        process.kill() if command == ("app.py",) else process.terminate()
        process.wait(EVER)


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), EVER).close()
    except OSError:
        return False
    return True


def chat_text(app: Served, path: str = CHAT, headers: dict[str, str] | None = None) -> str:
    """What is answered, streaming and not; they must say the same."""
    status, _, body = post(app.port, chat_body(f"say: {SPOKEN}"), path, headers)
    assert status == 200, body
    status, _, stream = post(app.port, chat_body(f"say: {SPOKEN}", stream=True), path, headers)
    assert status == 200, stream
    whole: str = completion(body)["choices"][0]["message"]["content"]
    assert streamed_text(stream) == whole
    assert finish(stream) == "stop"
    return whole


# a start


def test_gunicorn_with_nothing_but_a_port(tmp_path: Path) -> None:
    """A fresh clone answers."""
    port = free_port()
    with running(tmp_path / "log", *GUNICORN, port=port, PORT=port) as app:
        assert chat_text(app) == SPOKEN
        app.logged(rf"Thinkline answers at http://127\.0\.0\.1:{port}/v1 with the provider demo")
        assert len(app.workers) == 1


def test_a_port_that_the_system_chose_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    process = Forked(GUNICORN, environment(PORT=0), log, log)
    try:
        found = Served(0, process, log).logged(r"Thinkline answers at http://127\.0\.0\.1:(\d+)/v1 ")
        assert chat_text(Served(int(found[1]), process, log)) == SPOKEN
    finally:
        process.kill()


def test_python_app_py(tmp_path: Path) -> None:
    """`python app.py`, for development."""
    port = free_port()
    with running(tmp_path / "log", "app.py", port=port, PORT=port, DEMO_PACE_MS=0) as app:
        assert chat_text(app) == SPOKEN
        app.logged(rf"Thinkline answers at http://127\.0\.0\.1:{port}/v1 with the provider demo")
        assert post(port, "{")[0] == 400


@pytest.mark.parametrize("command", [GUNICORN, ("app.py",)], ids=["gunicorn", "app.py"])
def test_a_port_in_use_is_one_sentence(command: tuple[str, ...]) -> None:
    """At once: gunicorn by itself tries for five seconds, and names no setting."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = fails_to_start(*command, PORT=port)
    assert said.startswith(f"Thinkline cannot start. PORT is {port}, where another program listens already")


def test_an_address_that_is_not_here_is_one_sentence() -> None:
    said = fails_to_start(*GUNICORN, HOST="192.0.2.1", API_KEY="my-own-key")
    assert said.startswith("Thinkline cannot start. HOST is '192.0.2.1', where this program cannot listen")


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({}, ""),
        ({"API_KEY": "my-own-key"}, "a key is set"),
        ({"HOST": "0.0.0.0", "ALLOW_ANONYMOUS": "true"}, "others can reach that address"),
        ({"API_KEY": "my-own-key", "PROVIDER_NAME": "demo"}, ""),
        ({"API_KEY": "my-own-key", "OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}, ""),
    ],
    ids=["alone", "a key", "another address", "chosen", "a provider"],
)
def test_the_start_warns_where_strangers_would_hear_the_demo(
    serve: Callable[..., Served], settings: dict[str, str], warned: str
) -> None:
    log = serve(**settings).log()
    lines = [line for line in log.splitlines() if " WARNING " in line]
    assert len(lines) == bool(warned), lines
    assert warned in "".join(lines)


@pytest.mark.parametrize("arguments", [(), ("--bind", "0.0.0.0:0"), ("--bind", "127.0.0.1:0", "--bind", "0.0.0.0:0")])
def test_a_public_address_without_a_key_refuses_to_start(arguments: tuple[str, ...]) -> None:
    """A public address without a key refuses to start, also one that came by --bind."""
    said = fails_to_start(*GUNICORN[:2], *arguments, *GUNICORN[2:], HOST="127.0.0.1" if arguments else "0.0.0.0")
    assert "0.0.0.0" in said
    assert "API_KEY" in said
    assert "ALLOW_ANONYMOUS" in said


def test_a_public_address_with_a_key_serves(serve: Callable[..., Served]) -> None:
    app = serve(HOST="0.0.0.0", API_KEY="my-own-key", DEMO_PACE_MS=0)
    assert post(app.port, chat_body())[0] == 401
    assert chat_text(app, headers=KEY) == SPOKEN
    assert chat_text(app, headers={**KEY, "X-Forwarded-For": "203.0.113.9", "Host": "abc.ngrok-free.app"}) == SPOKEN
    assert "my-own-key" not in app.log()


def test_a_public_address_for_everybody_serves(serve: Callable[..., Served]) -> None:
    app = serve(HOST="0.0.0.0", ALLOW_ANONYMOUS="yes", DEMO_PACE_MS=0)
    assert chat_text(app, headers={"X-Forwarded-For": "203.0.113.9", "Host": "abc.ngrok-free.app"}) == SPOKEN


def test_an_address_of_the_newer_kind(tmp_path: Path) -> None:
    port = free_port()
    try:
        socket.create_server(("::1", port), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with running(tmp_path / "log", *GUNICORN, port=port, host="::1", HOST="::1", PORT=port) as app:
        with socket.create_connection(("::1", port), EVER) as sock:
            sock.sendall(f"GET /v1/models HTTP/1.1\r\nHost: [::1]:{port}\r\nConnection: close\r\n\r\n".encode())
            assert sock.recv(15) == b"HTTP/1.1 200 OK"
        found = app.logged(r"Thinkline answers at (\S+) ")
        assert found[1] == f"http://[::1]:{port}/v1", "as a URL has it, to be copied"


# an end


def test_a_running_stream_ends_well_on_sigterm(serve: Callable[..., Served]) -> None:
    """gunicorn itself cuts streams on SIGTERM. Here the caller hears all of it, and then the process is gone."""
    app = serve(DEMO_PACE_MS=30)
    body = json.dumps(chat_body("say 40 words", stream=True)).encode()
    with socket.create_connection(("127.0.0.1", app.port), EVER) as sock:
        sock.sendall(head(f"Content-Length: {len(body)}") + body)
        heard = b""
        while b'"content":"This ' not in heard:
            heard += sock.recv(4096)
        assert b"[DONE]" not in heard, "the signal must come in the middle"
        app.process.send_signal(signal.SIGTERM)
        while not heard.endswith(b"\r\n0\r\n\r\n"):
            data = sock.recv(4096)
            assert data, heard
            heard += data
    assert heard.count(b"data: [DONE]") == 1
    assert b'"finish_reason":"stop"' in heard
    assert b'"error"' not in heard
    assert app.process.wait(EVER) == 0
    app.logged("outcome=done")


def test_the_end_does_not_wait_for_ever(serve: Callable[..., Served]) -> None:
    """GRACEFUL_TIMEOUT is a bound: a stream that would go on for minutes is let go."""
    app = serve(DEMO_PACE_MS=100, GRACEFUL_TIMEOUT=1)
    body = json.dumps(chat_body("say 3000 words", stream=True)).encode()
    with socket.create_connection(("127.0.0.1", app.port), EVER) as sock:
        sock.sendall(head(f"Content-Length: {len(body)}") + body)
        assert sock.recv(4096)
        app.process.send_signal(signal.SIGTERM)
        app.process.wait(EVER)


def test_who_is_answered_when_a_worker_is_replaced_is_told(serve: Callable[..., Served]) -> None:
    """gunicorn ends a worker by itself too: --max-requests, --reload. What its streams say is no cut."""
    app = serve("--max-requests", "2", DEMO_PACE_MS=100, GRACEFUL_TIMEOUT=1)
    body = json.dumps(chat_body("say 3000 words", stream=True)).encode()
    with socket.create_connection(("127.0.0.1", app.port), EVER) as sock:
        sock.sendall(head(f"Content-Length: {len(body)}") + body)
        assert sock.recv(4096)
        post(app.port, chat_body())
        heard = b""
        while data := sock.recv(65536):
            heard += data
    assert heard.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), heard[-300:]
    assert b'"code":"server_overloaded"' in heard
    app.logged("outcome=failed")


@pytest.mark.parametrize("reload", [True, False])
def test_a_change_of_the_source_is_served_with_reload(tmp_path: Path, reload: bool) -> None:
    copy = shutil.copytree(ROOT, tmp_path / "copy", ignore=shutil.ignore_patterns(".*", "tests", "bench"))
    port = free_port()
    settings = {"PORT": port, "RELOAD": reload, "THREADS": 4}
    with running(tmp_path / "log", "-m", "gunicorn", "app:create_app()", port=port, folder=copy, **settings) as app:
        assert "There is nothing at this path." in _nothing_there(app)
        source = copy / "views" / "error_handlers.py"
        changed = source.read_text().replace("There is nothing at this path.", "Nobody lives here.")
        source.write_text(changed)
        if reload:
            saved = time.monotonic()

            def served_now() -> bool:
                nonlocal saved
                if time.monotonic() > saved + 3:  # what is saved before gunicorn's first look, it takes for the old
                    saved = time.monotonic()
                    source.write_text(changed)
                return "Nobody lives here." in _nothing_there(app)

            until(served_now, "the change to be served")
        else:
            post(app.port, chat_body())
            assert "There is nothing at this path." in _nothing_there(app)


def _nothing_there(app: Served) -> str:
    try:
        return post(app.port, {}, "/v1/nothing")[2].decode()
    except (OSError, http.client.HTTPException):
        return ""  # between two workers


# workers


def test_each_of_two_workers_answers(serve: Callable[..., Served]) -> None:
    app = serve(WORKERS=2, DEMO_PACE_MS=0)
    until(lambda: len(app.workers) == 2, "two workers")
    until(lambda: app.log().count("Booting worker") == 2, "two workers")
    first, second = app.workers
    for paused in (first, second):
        os.kill(paused, signal.SIGSTOP)
        try:
            assert chat_text(app) == SPOKEN
        finally:
            os.kill(paused, signal.SIGCONT)


def test_a_worker_that_dies_is_replaced(serve: Callable[..., Served]) -> None:
    app = serve(DEMO_PACE_MS=0)
    (worker,) = app.workers
    os.kill(worker, signal.SIGKILL)
    until(lambda: app.workers and worker not in app.workers and _answers(app.port), "another worker")
    assert chat_text(app) == SPOKEN


# what goes over the wire


@pytest.mark.parametrize("stream", [False, True])
def test_the_first_words_come_with_the_head(serve: Callable[..., Served], stream: bool) -> None:
    """In one packet, for each request of a connection."""
    request = json.dumps(chat_body(f"say: {SPOKEN}", stream=stream)).encode()
    with socket.create_connection(("127.0.0.1", serve(DEMO_PACE_MS=0).port), EVER) as sock:
        for _ in range(20):
            sock.sendall(head(f"Content-Length: {len(request)}") + request)
            lines, _, words = sock.recv(65536).partition(b"\r\n\r\n")
            assert lines.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"\r\nConnection: keep-alive\r\n" in lines
            date = re.search(rb"\r\nDate: ([^\r]+ GMT)\r\n", lines)
            assert date
            assert abs(parsedate_to_datetime(date[1].decode()).timestamp() - time.time()) < EVER
            assert words
            while not words.endswith(b"0\r\n\r\n" if stream else b"}"):
                words += sock.recv(65536)
            assert b"Good" in words


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("body", [b"", b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", b" " * 5000])
def test_a_body_that_no_view_reads_is_no_request(serve: Callable[..., Served], body: bytes, chunked: bool) -> None:
    """What is left of it is thrown away."""
    connection = http.client.HTTPConnection("127.0.0.1", serve().port, timeout=EVER)
    for _ in range(3):
        connection.request("GET", "/health", iter([body]) if chunked else body, encode_chunked=chunked)
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, f'{{"status":"ok","version":"{VERSION}"}}\n'.encode())
    connection.close()


# paths


@pytest.mark.parametrize("prefix", ["/api", "/api/", "/openai/v1", "/v1", "/v1.0"])
def test_a_prefix_is_one_more(app_with: Callable[..., object], prefix: str) -> None:
    """`/v1` and bare paths always answer; some clients add the /v1 that was typed already."""
    client = app_with(API_ROUTE_PREFIX=prefix)
    for start in {prefix.rstrip("/"), "/v1", "", "/v1/v1"}:
        found = client.post(f"{start}/chat/completions", json={"messages": HI})
        assert found.status_code == 200, start
        completion(found.data)
        assert client.post(f"{start}/embeddings", json={"input": "hi"}).status_code == 200, start
        assert client.get(f"{start}/models").get_json()["object"] == "list", start
        assert client.get(f"{start}/models/demo").get_json()["id"] == "demo", start
        assert client.get(f"{start}/providers").get_json()["default"] == "demo", start
        assert client.get(f"{start}/health").get_json()["status"] == "ok", start
        assert client.get(f"{start}/ready").get_json() == {"status": "ready", "provider": "demo"}, start


def test_a_prefix_over_the_wire(serve: Callable[..., Served]) -> None:
    app = serve(API_ROUTE_PREFIX="/api", DEMO_PACE_MS=0)
    for path in ("/api/chat/completions", CHAT, "/chat/completions", "/v1/v1/chat/completions"):
        assert chat_text(app, path) == SPOKEN
    assert post(app.port, chat_body(), "/other/chat/completions")[0] == 404


def test_where_somebody_lands_who_types_the_address(app_with: Callable[..., object]) -> None:
    """`/` is a page, for those who type the address into a browser."""
    client = app_with()
    for path in ("/", "/v1", "/v1/"):
        assert client.get(path).mimetype == "text/html", path


def test_every_answer_says_what_it_is(app_with: Callable[..., object]) -> None:
    client = app_with()
    for path in ("/health", "/v1/models", "/docs", "/openapi.json", "/nothing"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Type"]
