"""Replicas as one: each with a DATA_DIR of its own, behind one nginx, with one Redis and one PostgreSQL."""

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
import redis as redis_package

from tests.conftest import EVER, Served, _listens, free_port, until
from tests.emulators.bedrock.server import AGENT, BedrockUpstream
from tests.support import postgresql
from tests.support.frames import chat_body, post, streamed_text
from tests.support.live import events, watching
from tests.support.nginx import nginx

pytestmark = [pytest.mark.services, pytest.mark.timeout(150)]

ADMIN, ALICE = {"Authorization": "Bearer the-admins-secret-key"}, {"Authorization": "Bearer alice-has-a-secret-key"}
LIMIT = 30
WORDS = 200
KEYS = f"""
models: [{{name: fast, provider: demo, model: demo}}]
keys:
  - {{name: admin, key: the-admins-secret-key, admin: true}}
  - {{name: alice, key: alice-has-a-secret-key, requests_per_minute: {LIMIT}}}
"""


class Redis:
    """redis-server that keeps what it was told over a restart."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = ["redis-server", "--port", str(self.port), "--dir", str(folder), "--appendonly", "yes"]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen([*self._command, "--save", ""], stdout=subprocess.DEVNULL)
        until(lambda: _listens(self.port) and self._answers(), "redis-server")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(EVER)

    def _answers(self) -> bool:
        with suppress(redis_package.RedisError), redis_package.Redis(port=self.port) as client:
            return bool(client.ping())
        return False


class Database(postgresql.Server):
    """PostgreSQL, with one database."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, free_port())
        self.start()
        with psycopg.connect(f"{self.url}/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE thinkline")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    (tmp_path / "redis").mkdir()
    server = Redis(tmp_path / "redis")
    yield server
    server.stop()


@pytest.fixture
def database() -> Iterator[Database]:
    with TemporaryDirectory(prefix="thinkline-replicas-") as folder:
        server = Database(Path(folder))
        yield server
        server.stop()


@pytest.fixture
def replicas(
    serve: Callable[..., Served], tmp_path: Path, redis: Redis, database: Database
) -> Callable[..., list[Served]]:
    def start(count: int, **settings: Any) -> list[Served]:
        file = tmp_path / "models.yaml"
        file.write_text(KEYS)
        shared = {"MODELS_FILE": file, "STATE_URL": redis.url, "DATABASE_URL": f"{database.url}/thinkline"}
        options = {"DEMO_PACE_MS": 0, "THREADS": 128, **shared, **settings}
        return [serve(DATA_DIR=tmp_path / f"data{number}", **options) for number in range(count)]

    return start


def ask(port: int, headers: dict[str, str] = ADMIN) -> int:
    return post(port, chat_body(model="fast"), headers=headers)[0]


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=EVER)
    connection.request("GET", path, headers=ADMIN)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def respond(port: int, **more: Any) -> dict[str, Any]:
    status, _, body = post(port, {"model": "fast", "input": "Hello", **more}, "/v1/responses", ADMIN)
    assert status == 200, body
    return dict(json.loads(body))


def used(port: int) -> int:
    """The requests that the table of usage has, of all keys; -1 while the database cannot be asked."""
    status, body = get(port, "/v1/usage?group_by=key")
    return sum(row["requests"] for row in json.loads(body)["data"]) if status == 200 else -1


@pytest.mark.parametrize("count", [2, 4])
def test_limits_responses_and_usage_are_one(replicas: Callable[..., list[Served]], tmp_path: Path, count: int) -> None:
    apps = replicas(count)
    with nginx(tmp_path / "nginx", [app.port for app in apps]) as front:
        with ThreadPoolExecutor(20) as pool:
            statuses = list(pool.map(lambda _: ask(front.port, ALICE), range(3 * LIMIT)))
        assert (statuses.count(200), statuses.count(429)) == (LIMIT, 2 * LIMIT)
        first = respond(front.port)
        for app in apps:
            assert respond(app.port, previous_response_id=first["id"])["previous_response_id"] == first["id"]
        answered = LIMIT + 1 + count  # a refusal uses nothing
    for app in apps:
        assert "chat" in app.log(), "a replica that nobody asked"
        until(lambda port=app.port: used(port) == answered, f"{answered} requests in the table of usage")  # type: ignore[misc]


def test_the_live_view_is_one(replicas: Callable[..., list[Served]]) -> None:
    one, other = replicas(2)
    assert ask(one.port) == 200
    with watching(other, ADMIN) as response:
        (turn,) = next(turns for turns in events(response, "turns") if turns)
    assert (turn["key"], turn["model"], turn["outcome"]) == ("admin", "fast", "done")


def test_an_agents_session_is_one(replicas: Callable[..., list[Served]], redis: Redis) -> None:
    """Each turn is answered by another replica, and after a restart of Redis too; the agent remembers."""
    with BedrockUpstream() as upstream:
        ids = {"AGENT_ID": AGENT[0], "AGENT_ALIAS_ID": AGENT[1]}
        apps = replicas(2, **upstream.settings, **ids)
        messages: list[dict[str, Any]] = []
        for turn in range(4):
            if turn == 2:
                redis.stop()
                redis.start()
            messages.append({"role": "user", "content": f"This is turn {turn}."})
            body = {"model": "bedrock-agent", "messages": messages}
            status, _, answer = post(apps[turn % 2].port, body, headers=ADMIN)
            assert status == 200, answer
            messages.append(json.loads(answer)["choices"][0]["message"])
        assert len({each.params["sessionId"] for each in upstream.asked if "sessionId" in each.params}) == 1


def test_a_replica_that_is_killed_costs_its_own_streams_alone(
    replicas: Callable[..., list[Served]], tmp_path: Path
) -> None:
    apps = replicas(2, DEMO_PACE_MS=40)
    whole: list[bool] = []

    def listen(port: int) -> None:
        heard = 0
        with suppress(OSError, HTTPException, AssertionError):
            _, _, stream = post(port, chat_body(f"say {WORDS} words", model="fast", stream=True), headers=ADMIN)
            heard = len(streamed_text(stream).split())
        whole.append(heard == WORDS)

    with nginx(tmp_path / "nginx", [app.port for app in apps]) as front:
        threads = [threading.Thread(target=listen, args=(front.port,)) for _ in range(6)]  # in turns: three each
        for thread in threads:
            thread.start()
        until(lambda: sum(map(_under_way, apps)) == len(threads), "the streams")
        mine = _under_way(apps[0])
        os.killpg(apps[0].process.pid, signal.SIGKILL)
        until(lambda: not _listens(apps[0].port), "its end")
        assert [ask(front.port) for _ in range(20)] == [200] * 20
        for thread in threads:
            thread.join(EVER)
    assert 0 < mine < len(threads)
    assert whole.count(False) == mine
    assert whole.count(True) == len(threads) - mine


def _under_way(app: Served) -> int:
    """The requests that a replica answers at the moment, besides this one."""
    found = re.search(rb"^thinkline_requests_in_flight\S* ([0-9.]+)$", get(app.port, "/metrics")[1], re.MULTILINE)
    return int(float(found[1])) if found else 0


def test_a_restart_of_redis_loses_nothing(replicas: Callable[..., list[Served]], redis: Redis) -> None:
    apps = replicas(2)
    first = respond(apps[0].port)
    assert [ask(apps[number % 2].port, ALICE) for number in range(LIMIT)] == [200] * LIMIT
    assert ask(apps[1].port, ALICE) == 429
    redis.stop()
    assert [ask(app.port) for app in apps for _ in range(5)] == [200] * 10, "no call needs Redis"
    redis.start()
    for app in apps:
        until(lambda port=app.port: ask(port, ALICE) == 429, "the limit to count again")  # type: ignore[misc]
        until(lambda port=app.port: _follows(port, first["id"]), "the response before")  # type: ignore[misc]


def _follows(port: int, identifier: str) -> bool:
    body = {"model": "fast", "input": "And then?", "previous_response_id": identifier}
    return post(port, body, "/v1/responses", ADMIN)[0] == 200


def test_a_restart_of_postgresql_loses_nothing(replicas: Callable[..., list[Served]], database: Database) -> None:
    apps = replicas(2)
    assert [ask(app.port) for app in apps for _ in range(5)] == [200] * 10
    until(lambda: used(apps[0].port) == 10, "what was used before")
    database.stop()
    assert [ask(app.port) for app in apps for _ in range(5)] == [200] * 10, "no call needs PostgreSQL"
    database.start()
    for app in apps:
        until(lambda port=app.port: used(port) == 20, "what was used meanwhile", 60)  # type: ignore[misc]
