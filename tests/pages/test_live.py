"""The live view: who may watch, how many, and what is seen while a provider fails."""

import json
import re
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer
from tests.support.frames import chat_body, post
from tests.support.live import events, watching
from views.watchers import MOST_WATCHERS

KEYS = """
keys:
  - {name: alice, key: alices-own-secret-key, budget: {day: 5}, requests_per_minute: 30}
  - {name: operations, key: operations-secret-key, admin: true}
models:
  - {name: fast, provider: openai, model: gpt-4o-mini, fallbacks: [spare]}
  - {name: spare, provider: demo, model: demo}
"""


@pytest.fixture
def serve(serve: Callable[..., Served], tmp_path: Path) -> Callable[..., Served]:
    """With a database of its own."""
    return partial(serve, DATA_DIR=tmp_path / "data")


@pytest.fixture
def keys_file(tmp_path: Path) -> str:
    path = tmp_path / "models.yaml"
    path.write_text(KEYS)
    return str(path)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (bearer("wrong"), 401),
        (bearer("alices-own-secret-key"), 403),
        (bearer("operations-secret-key"), 200),
        ({"x-api-key": "operations-secret-key"}, 200),
    ],
)
def test_an_admins_key_alone_may_watch(app_with: Any, keys_file: str, headers: dict[str, str], status: int) -> None:
    response = app_with(MODELS_FILE=keys_file).get("/live/events", headers=headers, buffered=False)
    assert response.status_code == status
    assert (response.mimetype == "text/event-stream") == (status == 200)
    response.close()


def test_a_key_in_the_address_is_none(app_with: Any, keys_file: str) -> None:
    assert app_with(MODELS_FILE=keys_file).get("/live/events?key=operations-secret-key").status_code == 401


def test_without_keys_this_machine_alone_may_watch(app_with: Any) -> None:
    for settings in ({}, {"ALLOW_ANONYMOUS": True}):
        client = app_with(**settings)
        with client.get("/live/events", buffered=False) as response:
            assert response.status_code == 200
        assert client.get("/live/events", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 401


def test_pages_false_hides_the_events_too(app_with: Any) -> None:
    assert app_with(PAGES=False).get("/live/events").status_code == 404


@pytest.mark.slow
def test_what_is_told(serve: Callable[..., Served], upstream: OpenAIUpstream, keys_file: str) -> None:
    app = serve("--workers", "2", MODELS_FILE=keys_file, **upstream.settings(), DEMO_PACE_MS=0)
    for _ in range(4):
        post(app.port, chat_body(), headers=bearer("alices-own-secret-key"))
    upstream.enqueue(*[ScriptedAnswer(status=400)] * 2)
    post(app.port, {**chat_body(), "model": "fast"}, headers=bearer("alices-own-secret-key"))
    with watching(app, bearer("operations-secret-key")) as response:
        turns = []
        for more in events(response, "turns"):
            turns += more
            if len(turns) == 5:
                break
    with watching(app, bearer("operations-secret-key")) as response:
        assert {turn["key"] for turn in turns} == {"alice"}
        assert sorted(len(turn["attempts"]) for turn in turns) == [1, 1, 1, 1, 2]
        overview = next(each for each in events(response, "overview") if len(each["targets"]) == 2)
    target = overview["targets"]["openai/gpt-4o-mini"]
    assert target["outcomes"] == {"done": 4}
    assert target["minutes"][0][1] <= target["minutes"][0][2]
    assert overview["targets"]["demo/demo"]["fallbacks"] == 1
    alice, operations = overview["keys"]
    assert alice["limits"]["requests"] == 30
    assert alice["budget"] == {"day": 5}
    assert alice["used"]["hour"] == 5
    assert operations["admin"]
    assert "secret" not in json.dumps(overview) + json.dumps(turns)


def test_new_turns_come_as_they_end(serve: Callable[..., Served]) -> None:
    app = serve(DEMO_PACE_MS=0)
    with watching(app) as response:
        turns = events(response, "turns")
        for _ in range(3):
            post(app.port, chat_body())
            (turn,) = next(turns)
            assert turn["outcome"] == "done"


def test_watchers_are_few_and_give_their_places_back(serve: Callable[..., Served]) -> None:
    """Those who leave without a word, and those who never read, too."""
    app = serve(DEMO_PACE_MS=0, THREADS=64)
    socks = []
    for _ in range(MOST_WATCHERS):
        sock = socket.create_connection(("127.0.0.1", app.port), 5)
        sock.sendall(b"GET /live/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sock.recv(15) == b"HTTP/1.1 200 OK"
        socks.append(sock)
    with watching(app) as refused:
        assert refused.status_code == 503
        assert "Retry-After" in refused.headers
    assert post(app.port, chat_body())[0] == 200
    for sock in socks:
        sock.close()
    until(lambda: _may_watch(app), "the places to be free")


def _may_watch(app: Served) -> bool:
    with watching(app) as response:
        return bool(response.status_code == 200)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_who_watches_holds_up_neither_a_stop_nor_a_reload(serve: Callable[..., Served], number: int) -> None:
    app = serve(DEMO_PACE_MS=0, GRACEFUL_TIMEOUT=60)
    (worker,) = app.workers
    with watching(app) as response:
        next(events(response, "overview"))
        app.process.send_signal(number)
        assert list(events(response, "turns")) == []  # to its end, which is no error
    until(lambda: not Path(f"/proc/{worker}").exists(), "the worker to end")


def test_no_usage_is_kept(serve: Callable[..., Served]) -> None:
    app = serve(DEMO_PACE_MS=0, USAGE_DAYS=0)
    with watching(app) as response:
        assert "USAGE_DAYS" in next(events(response, "overview"))["problem"]


def test_a_database_that_is_broken_is_said(serve: Callable[..., Served], tmp_path: Path) -> None:
    app = serve(DEMO_PACE_MS=0, DATABASE_URL=f"sqlite:///{tmp_path}")
    with watching(app) as response:
        assert "cannot be read" in next(events(response, "overview"))["problem"]
    assert post(app.port, chat_body())[0] == 200


@pytest.mark.services
def test_the_page_during_a_failing_provider(
    serve: Callable[..., Served], tab: Callable[..., Page], upstream: OpenAIUpstream, keys_file: str
) -> None:
    app = serve(MODELS_FILE=keys_file, **upstream.settings(), DEMO_PACE_MS=0, BREAKER_FAILURES=2, RETRIES=0)
    page = tab(f"http://127.0.0.1:{app.port}/live")
    expect(page.locator("#notices")).to_contain_text("wants a key")
    page.fill("#key", "alices-own-secret-key")
    page.press("#key", "Tab")
    expect(page.locator("#notices")).to_contain_text("admin")
    page.fill("#key", "operations-secret-key")
    page.press("#key", "Tab")
    expect(page.locator("#state")).to_contain_text("Connected")
    upstream.always(ScriptedAnswer(status=500))
    for number in range(3):
        body = {**chat_body(), "model": "fast", "call": {"id": f"<b>call-{number}</b>"}}
        assert post(app.port, body, headers=bearer("alices-own-secret-key"))[0] == 200
    expect(page.locator("#turns tr")).to_have_count(3)
    broken = page.locator("[data-target='openai/gpt-4o-mini']")
    expect(broken).to_contain_text("breaker open")
    expect(page.locator("[data-target='demo/demo']")).to_contain_text("3 after a fallback")
    expect(page.locator("#keys")).to_contain_text("3 of 30")
    page.fill("#search", "call-1")
    expect(page.locator("#turns tr")).to_have_count(1)
    page.locator("#turns button").click()
    expect(page.locator("#detail-title")).to_contain_text("<b>call-1</b>")
    expect(page.locator("#detail .span.failed")).to_have_count(1)
    expect(page.locator("#detail-table")).to_contain_text(re.compile("asked instead|asked, because"))
