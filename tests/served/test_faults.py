"""Every fault of an upstream, streaming and not: what the caller gets, and that nothing is left behind (D11)."""

from collections.abc import Iterator

import pytest

from tests.conftest import Served, served, until
from tests.emulators import FAULTS, Fault, OpenAIUpstream, Phase, ScriptedAnswer
from tests.emulators.answers import TEXTS
from tests.support.frames import chat_body, completion, error, finish, payloads, post, said

WHOLE_TEXT = "".join(TEXTS)
TIMED_OUT = {"stalled_before_headers", "slow_headers", "stalled_after_headers", "comments_only", "stalled"}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenAIUpstream, Served]]:
    """Short time-outs, and no second attempts: what is looked at is one failure."""
    settings = {"FIRST_EVENT_TIMEOUT": 0.3, "IDLE_TIMEOUT": 0.3, "RETRIES": 0, "BREAKER_FAILURES": 10_000, "THREADS": 8}
    log = tmp_path_factory.mktemp("served") / "log"
    with (
        OpenAIUpstream() as upstream,
        served(log, **upstream.settings(), **settings) as app,
    ):
        post(app.port, chat_body())
        yield upstream, app


def nothing_is_left(upstream: OpenAIUpstream, app: Served, threads: int, sockets: int) -> None:
    """N27: no slot, thread or connection is lost; what the pool keeps is one whole connection at most."""
    until(lambda: app.threads() <= threads, "the threads to be as many as before")
    until(lambda: app.sockets() <= sockets, "the sockets to be as many as before")
    until(lambda: upstream.open_connections() <= 1, "the upstream's connections to be closed or kept")


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.streaming], ids=str)
def test_streamed(line: tuple[OpenAIUpstream, Served], fault: Fault) -> None:
    """N2, N3, N26: before the first event a status, after it an error frame and a clean end; never a made-up finish."""
    upstream, app = line
    threads, sockets = app.threads(), app.sockets() + 1
    upstream.always(ScriptedAnswer(fault=fault))
    status, headers, stream = post(app.port, chat_body(stream=True))
    upstream.always(ScriptedAnswer())
    if fault.harmless:
        assert (status, said(stream), finish(stream)) == (200, WHOLE_TEXT, "stop")
    elif status == 200:
        assert fault.phase in (Phase.MIDDLE, Phase.END)
        *frames, last = payloads(stream)
        assert '"finish_reason":"' not in "".join(frames)
        told = error(last.encode())
        assert told["code"] == ("upstream_timeout" if fault.name in TIMED_OUT else "upstream_error")
    else:
        assert status == (504 if fault.name in TIMED_OUT else 502)
        assert headers["content-type"] == "application/json"
        assert error(stream)["message"]
    nothing_is_left(upstream, app, threads, sockets)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.whole], ids=str)
def test_whole(line: tuple[OpenAIUpstream, Served], fault: Fault) -> None:
    """The same for an answer in one piece: whole, or an honest status."""
    upstream, app = line
    threads, sockets = app.threads(), app.sockets() + 1
    upstream.always(ScriptedAnswer(fault=fault))
    status, _, body = post(app.port, chat_body())
    upstream.always(ScriptedAnswer())
    if fault.harmless:
        assert status == 200
        assert completion(body)["choices"][0]["message"]["content"] == WHOLE_TEXT
    else:
        assert status == (504 if fault.name in TIMED_OUT else 502)
        assert error(body)["message"]
    nothing_is_left(upstream, app, threads, sockets)


def test_an_error_names_no_secret(line: tuple[OpenAIUpstream, Served]) -> None:
    """N17: what a vendor writes goes to the log, without its key."""
    upstream, app = line
    upstream.enqueue(
        ScriptedAnswer(status=500, error={"message": f"boom {upstream.key} at /srv/app.py line 3", "type": "x"})
    )
    body = post(app.port, chat_body())[2].decode()
    assert upstream.key not in body
    assert "boom" not in body
    app.logged("boom")
    assert upstream.key not in app.log()
