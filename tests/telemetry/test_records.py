"""Each request ends as one record, whatever became of it, and every sink is handed it."""

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import create_app
from config import Settings
from core.events import Usage
from telemetry.records import Recorder, RequestRecord, log_request
from tests.conftest import environment
from tests.emulators import faults
from tests.emulators.answers import ScriptedAnswer
from tests.emulators.openai.server import OpenAIUpstream

MODELS = """
providers:
  one: {kind: openai_compatible, base_url: "%s", api_key: test-upstream-key, model: gpt-4o}
models:
  - {name: two-targets, provider: one, model: gpt-4o, fallbacks: [spare]}
  - {name: spare, provider: demo}
"""
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


class House:
    """An app with one upstream, whose records are kept."""

    def __init__(self, upstream: OpenAIUpstream, folder: Path, **settings: object) -> None:
        (folder / "models.yaml").write_text(MODELS % f"{upstream.url}/v1")
        values = {"API_KEYS": "ann:secret-of-ann", "MODELS_FILE": folder / "models.yaml", "DEMO_PACE_MS": 0}
        app = create_app(Settings.load(environment(RETRIES=0, **{**values, **settings})))
        self.records: list[RequestRecord] = []
        services = app.extensions["thinkline"]
        app.extensions["thinkline"] = replace(services, record=Recorder([self.records.append, log_request]))
        self.client: FlaskClient = app.test_client()

    def ask(self, path: str = "/v1/chat/completions", key: str = "secret-of-ann", **body: Any) -> RequestRecord:
        """The one record that a POST leaves."""
        with self.client.post(path, json=body, headers={"Authorization": f"Bearer {key}"}) as response:
            assert response.data
        (record,) = self.records
        return record


@pytest.fixture
def house(upstream: OpenAIUpstream, tmp_path: Path) -> House:
    return House(upstream, tmp_path)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_leaves_a_record_of_all_that_is_known(house: House, stream: bool) -> None:
    record = house.ask(**HELLO, model="one/gpt-4o", stream=stream, session_id="call-7")
    assert (record.caller, record.endpoint, record.path) == ("ann", "chat", "/v1/chat/completions")
    assert (record.model, record.provider, record.target) == ("one/gpt-4o", "one", "one/gpt-4o")
    assert (record.stream, record.status, record.outcome, record.conversation) == (stream, 200, "done", "call-7")
    assert isinstance(record.usage, Usage)
    assert record.usage.prompt > 0
    assert record.ttft is not None
    assert 0 < record.ttft <= record.duration
    (attempt,) = record.attempts
    assert (attempt.target, attempt.outcome, attempt.error) == ("one/gpt-4o", "answered", "")
    assert attempt.first_event is not None
    assert attempt.ended is not None
    assert 0 <= attempt.started <= attempt.first_event <= attempt.ended <= record.duration
    assert (record.fallbacks, record.hedged, record.filler) == (0, False, "")


def test_a_fallback_tells_what_each_attempt_came_to(house: House, upstream: OpenAIUpstream) -> None:
    upstream.always(ScriptedAnswer(fault=faults.refused))
    record = house.ask(**HELLO, model="two-targets")
    failed, answered = record.attempts
    assert (failed.target, failed.outcome, failed.code) == ("one/gpt-4o", "failed", "upstream_error")
    assert failed.error
    assert failed.first_event is None
    assert (answered.target, answered.outcome) == ("demo/spare", "answered")
    assert (record.target, record.fallbacks, set(record.tried)) == ("demo/spare", 1, {"one/gpt-4o"})


@pytest.mark.parametrize(
    ("path", "body", "key", "expected"),
    [
        ("/v1/chat/completions", HELLO, "wrong", (401, "invalid_api_key", "", "chat")),
        ("/v1/chat/completions", {"messages": 5}, "secret-of-ann", (400, "invalid_value", "ann", "chat")),
        (
            "/v1/chat/completions",
            {**HELLO, "provider": "none"},
            "secret-of-ann",
            (400, "unknown_provider", "ann", "chat"),
        ),
        ("/v1/embeddings", {"input": "x" * 3000}, "secret-of-ann", (413, "request_too_large", "ann", "embeddings")),
        ("/v1/nothing", {}, "wrong", (404, None, "", "")),
    ],
)
def test_a_refused_request_leaves_a_record(
    upstream: OpenAIUpstream, tmp_path: Path, path: str, body: Any, key: str, expected: tuple[Any, ...]
) -> None:
    record = House(upstream, tmp_path, MAX_BODY_BYTES=2000).ask(path, key, **body)
    assert (record.status, record.code, record.caller, record.endpoint) == expected
    assert (record.outcome, record.target, record.attempts) == ("refused", "", ())
    assert record.error
    assert record.path == path


def test_the_model_of_a_refused_request_is_known(house: House) -> None:
    record = house.ask(**HELLO, model="no-such-model", stream=True)
    assert (record.model, record.stream) == ("no-such-model", True)


def test_a_get_leaves_a_record_and_no_line(house: House, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("thinkline").propagate = True
    with caplog.at_level(logging.INFO, "thinkline"):
        house.client.get("/v1/providers", headers={"Authorization": "Bearer secret-of-ann"})
    (record,) = house.records
    assert (record.method, record.endpoint, record.outcome, record.target) == ("GET", "providers", "done", "")
    assert not caplog.records


def test_a_sink_that_raises_costs_a_log_line_and_nothing_else(house: House, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: RequestRecord) -> None:
        raise OSError("the disk is full")

    app = house.client.application
    app.extensions["thinkline"] = replace(app.extensions["thinkline"], record=Recorder([broken, house.records.append]))
    logging.getLogger("thinkline").propagate = True
    assert house.ask(**HELLO, model="one/gpt-4o").outcome == "done"
    assert "a record was lost" in caplog.text


@pytest.mark.parametrize("stream", [True, False])
def test_server_timing_tells_our_share_and_the_upstreams(house: House, upstream: OpenAIUpstream, stream: bool) -> None:
    upstream.always(ScriptedAnswer(delay=0.3))
    house.ask(
        **HELLO, model="one/gpt-4o", stream=stream
    )  # what is made at the first request is not our share of others
    with house.client.post(
        "/v1/chat/completions", json={**HELLO, "model": "one/gpt-4o", "stream": stream},
        headers={"Authorization": "Bearer secret-of-ann"},
    ) as response:  # fmt: skip
        assert response.data
        timing = response.headers["Server-Timing"]
    found = re.fullmatch(r"thinkline;dur=([0-9.]+), upstream;dur=([0-9.]+)", timing)
    assert found, timing
    own, theirs = map(float, found.groups())
    assert theirs >= 300
    assert own < 250
    record = house.records[-1]
    assert record.overhead is not None
    assert record.ttft is not None
    assert record.overhead == pytest.approx(own / 1000, abs=0.001)
    assert record.ttft >= 0.3
