"""Usage over workers, ends and kills: what the upstream has counted, less the last second of a killed worker."""

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Served, until
from tests.emulators.openai.server import OpenAIUpstream

KEY = {"Authorization": "Bearer secret-of-all"}
HELLO = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
LAST_SECONDS = 2.5
"""Of what a killed worker may lose: a second is promised, and a busy machine is late."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def address(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("database_url") if request.param == "postgresql" else ""


class Crowd:
    """Callers, each of whom asks again and again. `answered` has when each answer came, and its tokens."""

    def __init__(self, app: Served) -> None:
        self.url = f"{app.url}/chat/completions"
        self.answered: list[tuple[float, int]] = []
        self._lock = threading.Lock()

    def ask(self, requests: int, callers: int) -> None:
        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(self._caller, [requests // callers] * callers))

    def _caller(self, requests: int) -> None:
        with httpx.Client(headers=KEY, timeout=30) as client:
            left = requests
            while left:
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
        return sum(not killed_at - LAST_SECONDS < at < killed_at + 0.5 for at, _ in self.answered)


def total(app: Served) -> Any:
    return httpx.get(f"{app.url}/usage", headers=KEY, timeout=30).json()["data"][0]


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
    for pid in app.workers:
        os.kill(pid, signal.SIGKILL)
    asking.join()
    app.process.send_signal(signal.SIGTERM)
    assert app.process.wait(60) == 0
    again = serve(**settings(upstream, folder, address))
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
