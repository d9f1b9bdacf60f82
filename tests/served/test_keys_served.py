"""Keys and limits under real gunicorn: exact over workers and machines, and followed while calls go on."""

import http.client
import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from tests.conftest import EVER, Served, until
from tests.support.frames import chat_body, post
from tests.support.http import exchange

ALICE, BOB = "alice-has-a-long-secret", "bob-has-a-long-secret-too"
Serve = Callable[..., Served]


def write_models_file(tmp_path: Path, *keys: str) -> Path:
    file = tmp_path / "models.yaml"
    new = tmp_path / "new.yaml"
    lines = "\n".join(f"  - {{{key}}}" for key in keys)
    new.write_text(f"models: [{{name: fast, provider: demo, model: demo}}]\nkeys:\n{lines}\n")
    new.replace(file)
    return file


def post_chat(port: int, key: str = ALICE, **more: Any) -> tuple[int, dict[str, str], bytes]:
    return post(port, chat_body(model="fast", **more), headers={"Authorization": f"Bearer {key}"})


def at_once(ports: list[int], count: int) -> list[int]:
    """The statuses of so many requests by 50 parallel callers, who take turns at the ports."""
    with ThreadPoolExecutor(50) as pool:
        return list(pool.map(lambda at: post_chat(ports[at % len(ports)])[0], range(count)))


class Stream:
    """A stream that has begun."""

    def __init__(self, port: int, key: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=EVER)
        body = json.dumps(chat_body("word " * 30, model="fast", stream=True))
        self._connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {key}"})
        self.response = self._connection.getresponse()
        self.status = self.response.status
        self.response.readline()

    def rest(self) -> bytes:
        return self.response.read()

    def close(self) -> None:
        self._connection.close()
        self.response.close()


@pytest.mark.parametrize("workers", [["WORKERS"], []], ids=["by setting", "by gunicorn's option"])
def test_requests_are_exact_over_four_workers(serve: Serve, tmp_path: Path, workers: list[str]) -> None:
    file = write_models_file(tmp_path, f"name: alice, key: {ALICE}, requests_per_minute: 60")
    options = {} if not workers else {"WORKERS": 4}
    arguments = [] if workers else ["--workers", "4"]
    app = serve(*arguments, MODELS_FILE=file, DATA_DIR=tmp_path / "data", DEMO_PACE_MS=0, THREADS=128, **options)
    until(lambda: len(app.workers) == 4, "four workers")
    found = at_once([app.port], 150)
    assert "out of reach" not in app.log(), app.log()
    assert (found.count(200), found.count(429)) == (60, 90)


@pytest.mark.slow
def test_concurrent_requests_are_exact_over_four_workers(serve: Serve, tmp_path: Path) -> None:
    file = write_models_file(tmp_path, f"name: alice, key: {ALICE}, concurrent: 5")
    app = serve(MODELS_FILE=file, DATA_DIR=tmp_path / "data", DEMO_PACE_MS=400, WORKERS=4, THREADS=128)
    until(lambda: len(app.workers) == 4, "four workers")
    with ThreadPoolExecutor(50) as pool:
        streams = list(pool.map(lambda _: Stream(app.port, ALICE), range(50)))
    assert [each.status for each in streams].count(200) == 5
    assert {each.status for each in streams} == {200, 429}
    for stream in streams:
        stream.close()
    until(lambda: post_chat(app.port, stream=True)[0] == 200, "the places of those who left")


@pytest.mark.slow
def test_places_of_a_worker_that_died_are_free_again(serve: Serve, tmp_path: Path) -> None:
    file = write_models_file(tmp_path, f"name: alice, key: {ALICE}, concurrent: 1")
    app = serve(MODELS_FILE=file, DATA_DIR=tmp_path / "data", DEMO_PACE_MS=2000, WORKERS=2)
    until(lambda: len(app.workers) == 2, "two workers")
    stream = Stream(app.port, ALICE)
    assert post_chat(app.port)[0] == 429
    for worker in app.workers:
        os.kill(worker, signal.SIGKILL)
    until(lambda: _status(app.port) == 200, "a place", 2 * EVER)
    stream.close()


def _status(port: int) -> int:
    try:
        stream = Stream(port, ALICE)
    except (OSError, http.client.HTTPException):
        return 0  # its worker is just being replaced
    stream.close()
    return stream.status


@pytest.mark.services
def test_two_machines_share_limits_exactly(serve: Serve, tmp_path: Path, redis_url: str) -> None:
    """Each with four workers, and its own folder."""
    file = write_models_file(tmp_path, f"name: alice, key: {ALICE}, requests_per_minute: 60")
    options = {"MODELS_FILE": file, "STATE_URL": redis_url, "DEMO_PACE_MS": 0, "WORKERS": 4, "THREADS": 128}
    apps = [serve(DATA_DIR=tmp_path / f"data{number}", **options) for number in range(2)]
    until(lambda: all(len(app.workers) == 4 for app in apps), "eight workers")
    found = at_once([app.port for app in apps], 150)
    assert "out of reach" not in apps[0].log() + apps[1].log()
    assert (found.count(200), found.count(429)) == (60, 90)


@pytest.mark.services
def test_a_redis_with_another_password_limits_nobody(serve: Serve, tmp_path: Path, redis_url: str) -> None:
    file = write_models_file(tmp_path, f"name: alice, key: {ALICE}, requests_per_minute: 1")
    redis.Redis.from_url(redis_url).config_set("requirepass", "its-password")
    url = redis_url.replace("redis://", "redis://:not-its-password@")
    app = serve(MODELS_FILE=file, DATA_DIR=tmp_path / "data", DEMO_PACE_MS=0, STATE_URL=url)
    assert [post_chat(app.port)[0] for _ in range(3)] == [200] * 3
    app.logged("the store for limits is out of reach.*assword")
    assert "not-its-password" not in app.log()
    assert app.log().count("limits is out of reach") == 1


def test_a_folder_that_cannot_be_written_limits_nobody(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")
    file = write_models_file(tmp_path, f"name: alice, key: {ALICE}, requests_per_minute: 1")
    app = serve(MODELS_FILE=file, DATA_DIR=tmp_path / "data", DEMO_PACE_MS=0, WORKERS=2)
    assert [post_chat(app.port)[0] for _ in range(3)] == [200] * 3
    app.logged("the store for limits is out of reach")


@pytest.mark.slow
@pytest.mark.parametrize("ends", [False, True])
def test_a_revoked_keys_running_stream_ends_only_if_wanted(serve: Serve, tmp_path: Path, ends: bool) -> None:
    file = write_models_file(tmp_path, f"name: alice, key: {ALICE}", f"name: bob, key: {BOB}")
    app = serve(MODELS_FILE=file, DEMO_PACE_MS=150, END_REVOKED_STREAMS=ends)
    alices, bobs = Stream(app.port, ALICE), Stream(app.port, BOB)
    write_models_file(tmp_path, f"name: bob, key: {BOB}", "name: alice, key: another-long-secret-of-hers")
    until(lambda: post_chat(app.port, ALICE, messages=[])[0] == 401, "the key to be revoked")
    said = alices.rest()
    assert (b"The API key was revoked." in said) == ends
    assert (b'"finish_reason":"stop"' in said) != ends
    assert said.endswith(b"data: [DONE]\n\n")
    assert b'"finish_reason":"stop"' in bobs.rest()


def test_a_public_address_may_have_its_keys_in_the_file_alone(serve: Serve, tmp_path: Path) -> None:
    app = serve(HOST="0.0.0.0", MODELS_FILE=write_models_file(tmp_path, f"name: alice, key: {ALICE}"), DEMO_PACE_MS=0)
    assert post_chat(app.port)[0] == 200
    assert post_chat(app.port, BOB)[0] == 401


def test_a_key_in_the_path_is_never_logged(serve: Serve, tmp_path: Path) -> None:
    """Neither by us nor by gunicorn, also of what is no request."""
    key = "a/key/that+needs=escapes"
    file = write_models_file(tmp_path, f"name: alice, key: '{key}'")
    arguments = ("--access-logfile", "-", "--log-level", "debug")
    app = serve(*arguments, MODELS_FILE=file, KEY_IN_PATH=True, LOG_LEVEL="TRACE", DEMO_PACE_MS=0)
    escaped = quote(key, safe="")
    assert post(app.port, chat_body(model="fast"), f"/k/{escaped}/v1/chat/completions")[0] == 200
    assert post(app.port, chat_body(model="fast"), f"/k/{escaped}1/v1/chat/completions")[0] == 401
    for line in (f"GET /k/{escaped}/v1/models HTTP/9.9", f"GET /k/{escaped}/v1/models", f"G@T /k/{escaped} HTTP/1.1"):
        exchange(app.port, f"{line}\r\nHost: localhost\r\n\r\n".encode())
    app.logged("refused .*status=401")
    log = app.log()
    assert "/k/***" in log
    assert not [form for form in (key, escaped, quote(key)) if form in log]
