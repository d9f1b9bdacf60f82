"""Usage over workers, ends and kills: what the upstream has counted, less the last second of a killed worker."""

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest

from tests.conftest import Served, free_port, until
from tests.emulators.openai.server import OpenAIUpstream
from tests.support.postgresql import Server

KEY = {"Authorization": "Bearer secret-of-all"}
HELLO = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
PROMISED, SCHEDULING = 1.0, 0.25
"""Seconds of answers that a killed worker may lose, and what a busy machine may add to them."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def address(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("database_url") if request.param == "postgresql" else ""


class Crowd:
    """Callers, each of whom asks again and again. `answered` has when each answer came, and its tokens."""

    def __init__(self, app: Served) -> None:
        self.url = f"{app.url}/chat/completions"
        self.answered: list[tuple[float, int]] = []
        self._lock = threading.Lock()
        self._enough = threading.Event()

    def ask(self, requests: int, callers: int) -> None:
        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(self._caller, [requests // callers] * callers))

    @contextmanager
    def asking(self, callers: int) -> Iterator[None]:
        """Ask until the end of the block."""
        asking = threading.Thread(target=self.ask, args=(EVER_MORE, callers))
        asking.start()
        try:
            yield
        finally:
            self._enough.set()
            asking.join()

    def _caller(self, requests: int) -> None:
        with httpx.Client(headers=KEY, timeout=30) as client:
            left = requests
            while left and not self._enough.is_set():
                try:
                    answer = client.post(self.url, json=HELLO)
                except httpx.TransportError:  # its worker was killed
                    time.sleep(0.01)
                    continue
                assert answer.status_code == 200, answer.text
                with self._lock:
                    self.answered.append((time.monotonic(), answer.json()["usage"]["prompt_tokens"]))
                left -= 1

    def certain(self, killed_at: float) -> int:
        """Answers that no kill can have cost."""
        return sum(not killed_at - PROMISED - SCHEDULING < at < killed_at + 0.5 for at, _ in self.answered)


def total(app: Served) -> Any:
    return httpx.get(f"{app.url}/usage", headers=KEY, timeout=30).json()["data"][0]


SILENT = 2.0
"""Seconds that a database says nothing before the workers are killed: less than the writer gives it."""
EVER_MORE = 1_000_000
"""Requests: more than a test has time for."""


def settings(upstream: OpenAIUpstream, folder: Path, address: str) -> dict[str, object]:
    database = {"DATABASE_URL": address} if address else {}
    keys = {"OPENAI_API_KEY": "test-upstream-key", "OPENAI_BASE_URL": f"{upstream.url}/v1", "API_KEY": "secret-of-all"}
    return {**keys, **database, "DATA_DIR": folder, "WORKERS": 2, "LOG_LEVEL": "WARNING"}


def count_after_a_kill(
    serve: Callable[..., Served], upstream: OpenAIUpstream, folder: Path, address: str, requests: int
) -> None:
    app = serve(**settings(upstream, folder, address))
    crowd = Crowd(app)
    asking = threading.Thread(target=crowd.ask, args=(requests, 4))
    asking.start()
    until(lambda: len(crowd.answered) > requests // 2, "half of the answers", 200)
    killed_at = time.monotonic()
    kill_workers(app)
    asking.join()
    check_counts(serve, app, crowd, killed_at, settings(upstream, folder, address), upstream)


def kill_workers(app: Served) -> None:
    for pid in app.workers:
        os.kill(pid, signal.SIGKILL)


def check_counts(
    serve: Callable[..., Served],
    app: Served,
    crowd: Crowd,
    killed_at: float,
    values: dict[str, object],
    upstream: OpenAIUpstream,
) -> None:
    """Restart: what was answered is counted, but for what the kill may have cost."""
    app.process.send_signal(signal.SIGTERM)
    assert app.process.wait(60) == 0
    again = serve(**values)
    certain = crowd.certain(killed_at)
    until(lambda: total(again)["requests"] >= certain, "what was noted")
    counted = total(again)
    assert certain <= counted["requests"] <= len(upstream.received)
    tokens = crowd.answered[0][1]
    assert counted["prompt_tokens"] == counted["requests"] * tokens
    assert counted["cost"] == pytest.approx(
        (counted["prompt_tokens"] * 0.15 + counted["completion_tokens"] * 0.6) / 1e6
    )


def test_a_kill_costs_the_last_second_at_most(
    serve: Callable[..., Served], upstream: OpenAIUpstream, tmp_path: Path, address: str
) -> None:
    count_after_a_kill(serve, upstream, tmp_path / "data", address, 400)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Another program keeps SQLite's file for itself."""
    other = sqlite3.connect(folder / "usage.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.close()


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """PostgreSQL says nothing any more."""
    server.signal_all(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal_all(signal.SIGCONT)


def test_a_kill_while_the_file_is_locked_costs_the_last_second_at_most(
    serve: Callable[..., Served], upstream: OpenAIUpstream, tmp_path: Path
) -> None:
    count_after_a_kill_in_silence(serve, upstream, tmp_path / "data", "", locked(tmp_path / "data"))


@pytest.mark.services
def test_a_kill_while_postgresql_is_silent_costs_the_last_second_at_most(
    serve: Callable[..., Served], upstream: OpenAIUpstream, tmp_path: Path
) -> None:
    with TemporaryDirectory(prefix="thinkline-postgresql-") as folder:
        server = Server(Path(folder), free_port())
        server.start()
        try:
            url = f"{server.url}/postgres"
            count_after_a_kill_in_silence(serve, upstream, tmp_path / "data", url, stopped(server))
        finally:
            server.stop()


def count_after_a_kill_in_silence(
    serve: Callable[..., Served],
    upstream: OpenAIUpstream,
    folder: Path,
    address: str,
    silence: AbstractContextManager[None],
) -> None:
    values = settings(upstream, folder, address)
    app = serve(**values)
    crowd = Crowd(app)
    with crowd.asking(4):
        until(lambda: total(app)["requests"], "the first rows")
        with silence:
            time.sleep(SILENT)
            killed_at = time.monotonic()
            kill_workers(app)
            time.sleep(PROMISED)  # the next workers answer, too
    check_counts(serve, app, crowd, killed_at, values, upstream)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_kill_among_ten_thousand_requests(
    serve: Callable[..., Served], upstream: OpenAIUpstream, tmp_path: Path, address: str
) -> None:
    count_after_a_kill(serve, upstream, tmp_path / "data", address, 10_000)


def test_an_end_in_good_order_loses_nothing(
    serve: Callable[..., Served], upstream: OpenAIUpstream, tmp_path: Path, address: str
) -> None:
    app = serve(**settings(upstream, tmp_path / "data", address))
    crowd = Crowd(app)
    crowd.ask(40, 4)
    app.process.send_signal(signal.SIGTERM)  # at once: no batch has been waited for
    assert app.process.wait(60) == 0
    again = serve(**settings(upstream, tmp_path / "data", address))
    until(lambda: total(again)["requests"] == 40, "all of them")


def test_a_budget_holds_over_all_workers_within_a_second(
    serve: Callable[..., Served], upstream: OpenAIUpstream, tmp_path: Path
) -> None:
    (tmp_path / "models.yaml").write_text(
        f"""
providers:
  one: {{kind: openai_compatible, base_url: "{upstream.url}/v1", api_key: test-upstream-key}}
models:
  - {{name: dear, provider: one, model: gpt-4o-mini, price: {{prompt: 1000000, completion: 0}}}}
  - {{name: free, provider: demo}}
keys:
  - {{name: ann, key: secret-of-ann-twenty, budget: {{day: 5}}}}
"""
    )
    app = serve(WORKERS=3, MODELS_FILE=tmp_path / "models.yaml", DATA_DIR=tmp_path / "data", DEMO_PACE_MS=0)
    headers = {"Authorization": "Bearer secret-of-ann-twenty"}

    def ask(model: str) -> int:
        body = {**HELLO, "model": model}
        return httpx.post(f"{app.url}/chat/completions", json=body, headers=headers).status_code

    assert {ask("free") for _ in range(12)} == {200}
    assert ask("dear") == 200
    time.sleep(1.5)  # the promise is a second
    assert {ask("free") for _ in range(20)} == {429}


def test_budgets_that_nothing_checks_are_warned_of_and_the_service_runs(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    file = tmp_path / "models.yaml"
    text = "models: [{{name: talk, provider: demo}}]\nkeys:\n  - {{name: {}, key: secret-of-all-twenty, {}}}\n"
    file.write_text(text.format("ann", "budget: {day: 5}"))
    app = serve(MODELS_FILE=file, USAGE_DAYS=0, DEMO_PACE_MS=0)

    def ask() -> int:
        headers = {"Authorization": "Bearer secret-of-all-twenty"}
        return httpx.post(f"{app.url}/chat/completions", json={**HELLO, "model": "talk"}, headers=headers).status_code

    app.logged(r"WARNING .*USAGE_DAYS is 0, .* budgets are not checked: ann\n")
    assert app.log().count("USAGE_DAYS") == 1
    assert ask() == 200
    file.write_text(text.format("bob", "budget: {month: 5}"))
    app.logged(r"WARNING .*USAGE_DAYS is 0, .* budgets are not checked: bob\n")
    assert ask() == 200
    file.write_text(text.format("eve", "concurrent: 5"))
    until(lambda: app.log().count("the models file is in use") >= 2, "the file without a budget")
    assert app.log().count("USAGE_DAYS") == 2
    file.write_text(text.format("kim", "budget: {day: 5}"))
    app.process.send_signal(signal.SIGHUP)
    app.logged(r"WARNING .*USAGE_DAYS is 0, .* budgets are not checked: kim\n")


def test_what_a_caller_hung_up_on_costs_what_was_generated(serve: Callable[..., Served], tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(
        "models: [{name: talk, provider: demo, price: {prompt: 1, completion: 1}}]\n"
        "keys: [{name: ann, key: secret-of-ann-twenty}]\n"
    )
    app = serve(MODELS_FILE=tmp_path / "models.yaml", DATA_DIR=tmp_path / "data", DEMO_PACE_MS=50)
    headers = {"Authorization": "Bearer secret-of-ann-twenty", "x-request-id": "cut"}
    body = {"model": "talk", "stream": True, "messages": [{"role": "user", "content": "Tell me a long story"}]}
    with httpx.stream("POST", f"{app.url}/chat/completions", json=body, headers=headers) as answer:
        lines = answer.iter_lines()
        for _ in range(12):
            next(lines)

    def found() -> Any:
        return httpx.get(f"{app.url}/requests/cut", headers=headers).json()

    until(lambda: "outcome" in found(), "the request to end")
    record = found()
    assert (record["outcome"], record["usage"]["estimated"]) == ("hung_up", True)
    assert record["usage"]["completion_tokens"] > 0
    assert record["cost"] > 0
    assert 0 < record["hung_up_at"] <= record["duration"]
    assert record["marks"][-1]["kind"] == "hang_up"
    usage = f"{app.url}/usage?group_by=outcome"
    until(lambda: httpx.get(usage, headers=headers).json()["data"], "the row")
    (row,) = httpx.get(usage, headers=headers).json()["data"]
    assert (row["outcome"], row["estimated_requests"], row["hung_up"]) == ("hung_up", 1, 1)


def test_a_database_that_is_away_stops_no_call(serve: Callable[..., Served], tmp_path: Path) -> None:
    app = serve(DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/x", DATA_DIR=tmp_path, DEMO_PACE_MS=0)
    for _ in range(5):
        assert httpx.post(f"{app.url}/chat/completions", json={**HELLO, "model": "demo"}).status_code == 200
    app.logged("the database of usage is out of reach")
    unread = httpx.get(f"{app.url}/usage")
    assert (unread.status_code, unread.json()["error"]["code"]) == (503, "usage_unavailable")
    assert "hunter2" not in app.log()
    until(lambda: any(path.stat().st_size for path in (tmp_path / "usage-spool").glob("*")), "the spool to have them")


def test_an_address_that_makes_no_sense_stops_the_start(serve: Callable[..., Served]) -> None:
    with pytest.raises(AssertionError, match=r"Thinkline cannot start\. DATABASE_URL is none that is known here"):
        serve(DATABASE_URL="mysql://root:hunter2@db/x")
