"""GET /v1/requests/{id}: what happened in one of the last requests, asked of any worker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient

from app import create_app
from config import Settings
from tests.conftest import Served, environment, until
from tests.emulators import faults
from tests.emulators.answers import ScriptedAnswer
from tests.emulators.openai.server import OpenAIUpstream

MODELS = """
providers:
  one: {kind: openai_compatible, base_url: "%s", api_key: test-upstream-key, model: gpt-4o}
models:
  - {name: two-targets, provider: one, model: gpt-4o, price: {prompt: 2, completion: 8}, fallbacks: [spare]}
  - {name: hedged, provider: one, model: gpt-4o, fallbacks: [spare], hedge_after_ms: 50, filler_after_ms: 20}
  - {name: spare, provider: demo, price: {prompt: 1, completion: 1}}
keys:
  - {name: ann, key: key-of-ann-of-twenty}
  - {name: bob, key: key-of-bob-of-twenty}
  - {name: operations, key: key-of-operations-20, admin: true}
"""
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
FIELDS = {
    "object", "id", "created", "key", "call", "endpoint", "model", "provider", "target", "stream", "status", "outcome",
    "error", "duration", "headers", "first_token", "usage", "cost", "filler", "hung_up_at", "tokens_saved", "attempts",
    "marks",
}  # fmt: skip
ATTEMPT_FIELDS = {
    "target", "provider", "model", "why", "started", "headers", "first_token", "ended", "outcome", "status", "error",
    "deadline", "tokens", "cost",
}  # fmt: skip


class Asker:
    """A client of an app with one upstream, with the key of ann unless told otherwise."""

    def __init__(self, upstream: OpenAIUpstream, folder: Path) -> None:
        (folder / "models.yaml").write_text(MODELS % f"{upstream.url}/v1")
        values = {"MODELS_FILE": folder / "models.yaml", "DATA_DIR": folder / "data", "DEMO_PACE_MS": 0, "RETRIES": 1}
        self.client: FlaskClient = create_app(Settings.load(environment(USAGE_DAYS=90, **values))).test_client()

    def ask(self, identifier: str, key: str = "ann", **body: Any) -> None:
        headers = {"Authorization": f"Bearer key-of-{key}-of-twenty", "x-request-id": identifier}
        with self.client.post("/v1/chat/completions", json={**HELLO, **body}, headers=headers) as response:
            assert response.data

    def show(self, identifier: str, key: str = "key-of-ann-of-twenty") -> Any:
        return self.client.get(f"/v1/requests/{identifier}", headers={"Authorization": f"Bearer {key}"})


@pytest.fixture
def asker(upstream: OpenAIUpstream, tmp_path: Path) -> Asker:
    return Asker(upstream, tmp_path)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer(asker: Asker, stream: bool) -> None:
    asker.ask("turn-1", model="two-targets", stream=stream, session_id="call-7")
    found = asker.show("turn-1").json
    assert set(found) == FIELDS
    assert (found["object"], found["id"], found["key"], found["call"]) == ("request", "turn-1", "ann", "call-7")
    assert (found["endpoint"], found["model"], found["target"]) == ("chat", "two-targets", "one/gpt-4o")
    assert (found["stream"], found["status"], found["outcome"], found["error"]) == (stream, 200, "done", None)
    usage = found["usage"]
    assert not usage["estimated"]
    assert found["cost"] == pytest.approx((usage["prompt_tokens"] * 2 + usage["completion_tokens"] * 8) / 1e6)
    assert (found["headers"] is not None) == stream
    (attempt,) = found["attempts"]
    assert set(attempt) == ATTEMPT_FIELDS
    assert (attempt["why"], attempt["outcome"], attempt["tokens"]) == ("first", "answered", usage["completion_tokens"])
    assert 0 <= attempt["started"] <= attempt["headers"] <= attempt["first_token"] <= attempt["ended"]
    assert attempt["ended"] <= found["duration"]
    assert found["marks"] == []


def test_a_retry_and_a_fallback(asker: Asker, upstream: OpenAIUpstream) -> None:
    upstream.always(ScriptedAnswer(status=503, error={"error": {"message": "busy", "type": "server_error"}}))
    asker.ask("turn-2", model="two-targets")
    found = asker.show("turn-2").json
    first, again, spare = found["attempts"]
    assert [each["why"] for each in found["attempts"]] == ["first", "retry", "fallback"]
    assert (first["outcome"], first["status"], first["cost"]) == ("failed", 503, None)
    assert (again["outcome"], spare["outcome"]) == ("failed", "answered")
    assert [mark["kind"] for mark in found["marks"]] == ["retry", "fallback"]
    assert found["cost"] == spare["cost"] > 0


def test_a_hedge_and_its_loser(asker: Asker, upstream: OpenAIUpstream) -> None:
    upstream.always(ScriptedAnswer(fault=faults.stalled_before_headers))
    asker.ask("turn-3", model="hedged", stream=True)
    found = asker.show("turn-3").json
    loser, winner = found["attempts"]
    assert (loser["why"], loser["outcome"], loser["tokens"]) == ("first", "lost", 0)
    assert (winner["why"], winner["outcome"], winner["target"]) == ("hedge", "answered", "demo/spare")
    assert "hedge" in [mark["kind"] for mark in found["marks"]]


def test_a_refusal(asker: Asker) -> None:
    asker.ask("turn-4", model="two-targets", messages=5)
    found = asker.show("turn-4").json
    assert (found["status"], found["outcome"], found["attempts"], found["usage"]) == (400, "refused", [], None)
    assert found["error"]["message"]


def test_only_its_own_key_and_an_admin_see_it(asker: Asker) -> None:
    asker.ask("turn-5", key="bob", model="spare")
    refused = asker.show("turn-5")
    assert (refused.status_code, refused.json["error"]["code"]) == (404, "request_not_found")
    assert asker.show("no-such-request").status_code == 404
    assert asker.show("turn-5", "key-of-bob-of-twenty").json["key"] == "bob"
    assert asker.show("turn-5", "key-of-operations-20").json["key"] == "bob"


def test_two_callers_may_choose_the_same_id(asker: Asker) -> None:
    asker.ask("turn-6", key="ann", model="spare")
    asker.ask("turn-6", key="bob", model="spare")
    assert asker.show("turn-6").json["key"] == "ann"


def test_the_last_two_hundred_are_kept(asker: Asker) -> None:
    for number in range(205):
        asker.ask(f"turn-{number}", model="spare")
    assert asker.show("turn-204").status_code == 200
    until(lambda: asker.show("turn-0").status_code == 404, "the oldest to be forgotten")


def test_a_worker_that_did_not_serve_it_knows_it(serve: Callable[..., Served]) -> None:
    app = serve(WORKERS=3, DEMO_PACE_MS=0, API_KEY="secret-of-all")
    headers = {"Authorization": "Bearer secret-of-all"}

    def found(identifier: str) -> bool:
        return httpx.get(f"{app.url}/requests/{identifier}", headers=headers).status_code == 200

    for number in range(5):
        identifier = f"shared-{number}"
        body = {**HELLO, "model": "demo"}
        httpx.post(f"{app.url}/chat/completions", json=body, headers={**headers, "x-request-id": identifier})
        until(lambda: all(found(identifier) for _ in range(12)), "all workers to know it")  # noqa: B023 - called at once
