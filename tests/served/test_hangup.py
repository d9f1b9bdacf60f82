"""A caller who leaves frees the upstream at once, in every phase. Real sockets, real gunicorn."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Served, environment, free_port, served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, certificate, faults
from tests.support.callers import AT_ONCE, PHASES, Caller
from tests.support.forked import Forked
from tests.support.frames import chat_body, post

ALL_PHASES = {**PHASES, "not streaming, mid-body": ({"fault": faults.stalled}, False, b"")}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "TLS"])
def upstream_and_app(
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
        served(log, **upstream.settings(), **settings) as app,
    ):
        post(app.port, chat_body())
        yield upstream, app


@pytest.mark.parametrize("way", [Caller.leaves, Caller.is_cut_off], ids=["closes", "is cut off"])
@pytest.mark.parametrize("phase", ALL_PHASES)
def test_the_upstream_is_freed_in_every_phase(
    upstream_and_app: tuple[OpenAIUpstream, Served], phase: str, way: Callable[[Caller], float]
) -> None:
    upstream, app = upstream_and_app
    answer, stream, heard = ALL_PHASES[phase]
    sockets = app.sockets() + 1
    count = len(upstream.received)
    upstream.enqueue(ScriptedAnswer(**answer))
    caller = Caller(app.port, chat_body(stream=stream))
    until(lambda: len(upstream.received) > count, "the request to arrive upstream")
    received = upstream.received[count]
    caller.hears(heard)
    left = way(caller)
    assert received.wait_closed(10) - left < AT_ONCE
    until(lambda: app.sockets() <= sockets, "the sockets to be as many as before")
    app.logged("outcome=hung_up")
    assert post(app.port, chat_body())[0] == 200


def test_a_wait_between_attempts_ends_too(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    """A caller who leaves in a backoff is not asked for again."""
    upstream, app = upstream_and_app
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
    """`python app.py`: the development server shows the caller's socket as well; no heartbeat has to find out."""
    port, log = free_port(), tmp_path / "log"
    with OpenAIUpstream() as upstream:
        upstream.always(ScriptedAnswer(fault=faults.stalled))
        at = upstream.settings()
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


@pytest.mark.slow
def test_hang_ups_in_a_row_leave_nothing_behind(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    """A hundred callers leave mid-stream; threads, sockets and slots are as before."""
    upstream, app = upstream_and_app
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
