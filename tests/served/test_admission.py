"""Too many callers, slow ones, and the end of a server. Real gunicorn."""

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from app import create_app
from config import SettingError, Settings
from providers.transport.tls import tls_context
from server import lines
from tests.conftest import EVER, Served, environment, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, certificate
from tests.emulators.bedrock.server import AGENT, BedrockUpstream
from tests.emulators.dialects import DIALECTS
from tests.support.frames import chat_body, error, payloads, post, streamed_text
from tests.support.http import fails_to_start

Serve = Callable[..., Served]


def start(serve: Serve, upstream: OpenAIUpstream, **settings: object) -> Served:
    return serve(**upstream.settings(), **settings)


class Caller(threading.Thread):
    """A caller who listens to a whole stream."""

    def __init__(self, port: int, **more: object) -> None:
        super().__init__(daemon=True)
        self.status, self.headers, self.heard = 0, {}, b""
        self._port, self._more = port, {"stream": True, **more}
        self.start()

    def run(self) -> None:
        with suppress(http.client.IncompleteRead):
            self.status, self.headers, self.heard = post(self._port, chat_body(**self._more))

    def ended(self) -> bytes:
        self.join(EVER)
        assert not self.is_alive()
        return self.heard


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=EVER)
    connection.request("GET", path, headers={"Connection": "close"})
    response = connection.getresponse()
    return response.status, response.read()


def test_past_the_bound_there_is_a_503_at_once_and_health_still_answers(serve: Serve, upstream: OpenAIUpstream) -> None:
    """The bound holds, and the place of a caller who hangs up is free again."""
    app = start(serve, upstream, THREADS=8, MAX_IN_FLIGHT=2)
    upstream.always(ScriptedAnswer(first_delay=20))
    callers = []
    for _ in range(2):
        sock = socket.create_connection(("127.0.0.1", app.port))
        raw = json.dumps(chat_body(stream=True)).encode()
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(raw))
        sock.sendall(raw)
        callers.append(sock)
    until(lambda: len(upstream.received) == 2, "two to be under way")
    began = time.monotonic()
    status, headers, body = post(app.port, chat_body(stream=True))
    assert time.monotonic() - began < 1.0
    assert (status, error(body)["code"], headers["x-should-retry"]) == (503, "server_overloaded", "true")
    assert int(headers["retry-after"]) >= 1
    assert get(app.port, "/health")[0] == 200
    assert get(app.port, "/v1/models")[0] == 503, "it would ask an upstream, which is work"
    callers[0].close()
    upstream.always(ScriptedAnswer())
    until(lambda: post(app.port, chat_body())[0] == 200, "a place to be free")
    callers[1].close()


def test_every_way_to_end_gives_the_place_back(serve: Serve, upstream: OpenAIUpstream) -> None:
    """A place that is not given back is lost for ever."""
    app = start(serve, upstream, THREADS=8, MAX_IN_FLIGHT=1, RETRIES=0)
    for answer in (ScriptedAnswer(), ScriptedAnswer(status=500), ScriptedAnswer(status=400)):
        upstream.always(answer)
        for stream in (True, False):
            until(lambda s=stream: post(app.port, chat_body(stream=s))[0] != 503, "a place")
    for body in (b"{", b"[]", chat_body(n="x"), chat_body(provider="nobody")):
        until(lambda b=body: post(app.port, b)[0] == 400, "a place")
    upstream.always(ScriptedAnswer())
    until(lambda: post(app.port, chat_body())[0] == 200, "a place")


def test_the_bound_is_below_the_threads() -> None:
    assert Settings(threads=256).in_flight == 224
    assert Settings(threads=4).in_flight == 3
    assert Settings(threads=1).in_flight == 1
    with pytest.raises(SettingError, match="MAX_IN_FLIGHT is 8; allowed: less than THREADS, 8"):
        Settings(threads=8, max_in_flight=8)
    assert "MAX_IN_FLIGHT" in fails_to_start("-m", "gunicorn", "app:create_app()", MAX_IN_FLIGHT=9, THREADS=8)


def test_running_streams_end_well_on_sigterm(serve: Serve, upstream: OpenAIUpstream) -> None:
    """On SIGTERM new requests are refused, /ready says no, and /health says yes."""
    app = start(serve, upstream, GRACEFUL_TIMEOUT=20)
    upstream.always(ScriptedAnswer(texts=["word "] * 10, frame_delay=0.15))
    caller = Caller(app.port)
    until(lambda: upstream.received, "the call to be under way")
    app.process.send_signal(signal.SIGTERM)
    until(lambda: get(app.port, "/ready")[0] == 503, "readiness to be denied")
    assert get(app.port, "/health")[0] == 200
    status, headers, _ = post(app.port, chat_body())
    assert (status, headers["x-should-retry"]) == (503, "true")
    assert streamed_text(caller.ended()) == "word " * 10
    until(lambda: app.process.poll() is not None, "the server to stop")


def test_who_has_not_ended_in_time_is_told(serve: Serve, upstream: OpenAIUpstream) -> None:
    app = start(serve, upstream, GRACEFUL_TIMEOUT=2)
    upstream.enqueue(ScriptedAnswer(texts=["word "] * 1000, frame_delay=0.05), ScriptedAnswer(delay=20))
    streaming = Caller(app.port)
    until(lambda: len(upstream.received) == 1, "the stream to be under way")
    whole = Caller(app.port, stream=False)
    until(lambda: len(upstream.received) == 2, "both to be under way")
    app.process.send_signal(signal.SIGTERM)
    *_, last = payloads(streaming.ended())
    assert error(last.encode())["code"] == "server_overloaded"
    whole.ended()
    assert (whole.status, whole.headers.get("x-should-retry")) == (503, "true"), whole.heard
    until(lambda: app.process.poll() is not None, "the server to stop")


def test_an_idle_server_stops_at_once_and_a_second_signal_ends_a_busy_one(
    serve: Serve, upstream: OpenAIUpstream
) -> None:
    app = start(serve, upstream, GRACEFUL_TIMEOUT=60)
    upstream.always(ScriptedAnswer(texts=["word "] * 1000, frame_delay=0.05))
    Caller(app.port)
    until(lambda: upstream.received, "the call to be under way")
    app.process.send_signal(signal.SIGTERM)
    until(lambda: get(app.port, "/ready")[0] == 503, "the server to drain")
    app.process.send_signal(signal.SIGTERM)
    until(lambda: app.process.poll() is not None, "the server to stop", 10)
    idle = start(serve, upstream, GRACEFUL_TIMEOUT=60)
    kept = http.client.HTTPConnection("127.0.0.1", idle.port)
    kept.request("GET", "/health")
    kept.getresponse().read()
    silent = socket.create_connection(("127.0.0.1", idle.port))
    time.sleep(0.1)
    idle.process.send_signal(signal.SIGTERM)
    until(lambda: idle.process.poll() is not None, "the server to stop", 10)
    kept.close()
    silent.close()


@pytest.mark.parametrize(
    "sent", [b"POST /v1/chat", b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"]
)
def test_who_sends_a_byte_at_a_time_is_cut_off(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    """A thread is not theirs for as long as they like."""
    monkeypatch.setattr(lines, "LOOK_SECONDS", 0.05)
    keeper = lines.LineKeeper(5.0, 8.0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent)
        with keeper.request_within({"gunicorn.socket": ours}, 0.2) as due:
            received = b""
            while data := ours.recv(4096):
                received += data
        assert due.late
        assert received == sent


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /v1/chat", b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"],
    ids=["nothing", "half a head", "half a body"],
)
def test_who_sends_slowly_holds_up_nobody(serve: Serve, sent: bytes) -> None:
    """More than there are threads: one is left for health."""
    app = serve(THREADS=8)
    slow = [socket.create_connection(("127.0.0.1", app.port)) for _ in range(12)]
    for sock in slow:
        sock.sendall(sent)
    time.sleep(0.2)  # for those to be taken in who were here first
    began = time.monotonic()
    assert get(app.port, "/health")[0] == 200
    assert time.monotonic() - began < 2.0
    for sock in slow:
        sock.close()


FIRST = {dialect.name: dialect for dialect in reversed(DIALECTS)}


@pytest.mark.parametrize("name", [*FIRST, "bedrock", "bedrock-models"])
def test_a_connection_is_warm_before_the_first_caller(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The first word of the day is as fast as the rest: TLS is there already, and it is kept."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate()[0]))
    tls_context.cache_clear()
    try:
        with FIRST[name].upstream(tls=True) if name in FIRST else BedrockUpstream(tls=True) as upstream:  # type: ignore[call-arg]
            if name in FIRST:
                settings, model = dict(FIRST[name].settings(upstream)), FIRST[name].model
            else:
                settings, model = dict(upstream.settings), "amazon.nova-lite-v1:0"
                if name == "bedrock":
                    settings |= {"AGENT_ID": AGENT[0], "AGENT_ALIAS_ID": AGENT[1]}
            app = create_app(Settings.load(environment(WARM="true", PROVIDER_NAME=name, **settings)))
            until(lambda: upstream.open_connections() > 0, "a connection to be opened")
            until(lambda: len(warm_threads()) == 0, "all to be warm")
            opened = upstream.accepted
            answer = app.test_client().post("/v1/chat/completions", json=chat_body(model=model))
            assert answer.status_code == 200, answer.data
            assert upstream.accepted == opened
    finally:
        tls_context.cache_clear()


def warm_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("warm_")]
