"""GET /metrics of one process: its series, its access control, and that no caller can add series without limit."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from core.events import Usage
from telemetry.metrics import METRICS, Metrics, Sampled
from telemetry.records import RequestRecord
from tests.emulators import faults
from tests.emulators.answers import ScriptedAnswer
from tests.emulators.openai.server import OpenAIUpstream
from tests.support.frames import chat_body
from tests.support.http import openai_error

CHAT = "/v1/chat/completions"
ADMIN, CALLER, SCRAPER = "the-long-secret-of-the-admin", "the-long-secret-of-a-caller", "the-secret-of-prometheus"
MODELS = """
providers:
  one: {kind: openai_compatible, base_url: "%s", api_key: test-upstream-key, model: gpt-4o}
models:
  - {name: two-targets, provider: one, model: gpt-4o, fallbacks: [spare], aliases: [smart]}
  - {name: spare, provider: demo, model: demo}
"""
KEYS = f"""
keys:
  - {{name: admin, key: {ADMIN}, admin: true}}
  - {{name: ann, key: {CALLER}, requests_per_minute: 2}}
"""
App = Callable[..., FlaskClient]


def samples(text: str) -> dict[str, float]:
    """Value by `name{label=value,...}`, with the labels in order."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def read(app: FlaskClient, key: str = "") -> dict[str, float]:
    response = app.get("/metrics", headers={"Authorization": f"Bearer {key}"} if key else {})
    assert response.status_code == 200, response.data
    return samples(response.text)


@pytest.fixture
def app(app_with: App, upstream: OpenAIUpstream, tmp_path: Path) -> Callable[..., FlaskClient]:
    def start(more: str = "", **settings: object) -> FlaskClient:
        (tmp_path / "models.yaml").write_text(MODELS % f"{upstream.url}/v1" + more)
        return app_with(**{"MODELS_FILE": tmp_path / "models.yaml", "RETRIES": 0, **settings})

    return start


def ask(app: FlaskClient, key: str = "", **body: Any) -> int:
    with app.post(CHAT, json=chat_body(**body), headers={"Authorization": f"Bearer {key}"} if key else {}) as response:
        assert response.data
        return response.status_code


def test_an_answer_is_counted_and_measured(app: App) -> None:
    client = app()
    assert ask(client, model="smart", stream=True) == 200
    found = read(client)
    of = "model=two-targets,provider=one"
    assert found[f"thinkline_requests_total{{endpoint=chat,{of.replace(',', ',outcome=done,')},status=200}}"] == 1
    assert found[f"thinkline_time_to_first_token_seconds_count{{{of}}}"] == 1
    assert found[f"thinkline_time_per_output_token_seconds_count{{{of}}}"] == 1
    assert found[f"thinkline_tokens_total{{kind=completion,{of}}}"] > 0
    assert 0 < found["thinkline_overhead_seconds_sum{endpoint=chat}"] < 5
    assert found["thinkline_requests_in_flight"] == 0


def test_a_failure_its_fallback_and_its_breaker_are_counted(app: App, upstream: OpenAIUpstream) -> None:
    client = app(BREAKER_FAILURES=1)
    upstream.always(ScriptedAnswer(fault=faults.refused))
    assert ask(client, model="two-targets") == 200
    found = read(client)
    assert found["thinkline_fallbacks_total{target=one/gpt-4o}"] == 1
    assert found["thinkline_breaker_changes_total{state=open,target=one/gpt-4o}"] == 1
    assert found["thinkline_breaker_state{target=one/gpt-4o}"] == 2


def test_retries_are_counted(app: App, upstream: OpenAIUpstream) -> None:
    client = app(RETRIES=2, RETRY_BUDGET=20)
    upstream.always(ScriptedAnswer(fault=faults.refused))
    assert ask(client, model="one/gpt-4o") == 502
    assert read(client)["thinkline_retries_total{target=one/gpt-4o}"] == 2


def test_what_is_refused_is_counted_by_its_limit(app: App) -> None:
    client = app(KEYS)
    assert [ask(client, CALLER, model="spare") for _ in range(3)] == [200, 200, 429]
    assert ask(client, "wrong-key") == 401
    found = read(client, ADMIN)
    assert found["thinkline_limits_hit_total{key=ann,limit=requests}"] == 1
    by_status = {
        found_status[1]: value
        for name, value in found.items()
        if "outcome=refused" in name and (found_status := re.search("status=([0-9]+)", name))
    }
    assert by_status == {"429": 1, "401": 1}


def test_models_that_callers_invent_make_no_series(app: App) -> None:
    client = app(PROVIDER_NAME="one")
    for number in range(40):
        ask(client, model=f"invented-{number}")
        ask(client, model=f"one/imagined-{number}", stream=True)
        ask(client, model=f"nowhere/{number}", provider=f"unheard-{number}")
    for number in range(40):
        client.get(f"/made-up/{number}")
    text = client.get("/metrics").text
    assert not re.search("invented|imagined|nowhere|unheard|made-up", text)
    assert 'model="one/other"' in text
    assert len(samples(text)) < 200


def test_a_model_that_its_provider_lists_has_its_series(app: App) -> None:
    client = app()
    names = [model["id"] for model in client.get("/v1/models").json["data"]]
    listed = next(name for name in names if name not in ("two-targets", "smart", "spare", "gpt-4o"))
    assert ask(client, model=listed) == 200
    assert f'model="one/{listed}"' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("keys", "settings", "key", "status"),
    [
        (KEYS, {}, "", 401),
        (KEYS, {}, CALLER, 403),
        (KEYS, {}, ADMIN, 200),
        (KEYS, {"METRICS_KEY": SCRAPER}, SCRAPER, 200),
        (KEYS, {"METRICS_KEY": SCRAPER}, ADMIN, 200),
        (KEYS, {"METRICS_KEY": SCRAPER}, CALLER, 403),
        (KEYS, {"METRICS_KEY": SCRAPER}, "wrong", 401),
        ("", {"METRICS_KEY": SCRAPER}, "", 401),
        ("", {"METRICS_KEY": SCRAPER}, SCRAPER, 200),
        ("", {"API_KEY": CALLER}, CALLER, 403),
        ("", {}, "", 200),
    ],
)
def test_who_may_read_them(app: App, keys: str, settings: dict[str, str], key: str, status: int) -> None:
    client = app(keys, **settings)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    for path in ("/metrics", "/v1/metrics"):
        response = client.get(path, headers=headers)
        if status == 200:
            assert response.status_code == 200
            assert b"thinkline_requests_in_flight" in response.data
        else:
            openai_error(response, status)


@pytest.mark.parametrize("anonymous", [False, True])
def test_without_a_key_strangers_read_nothing(app: App, anonymous: bool) -> None:
    """Also where everybody may ask the model."""
    client = app(ALLOW_ANONYMOUS=anonymous)
    openai_error(client.get("/metrics", environ_overrides={"REMOTE_ADDR": "203.0.113.7"}), 401)
    openai_error(client.get("/metrics", headers={"X-Forwarded-For": "203.0.113.7"}), 401)


def test_a_scrapers_key_opens_nothing_else(app: App) -> None:
    openai_error(app(KEYS, METRICS_KEY=SCRAPER).get("/v1/models", headers={"Authorization": f"Bearer {SCRAPER}"}), 401)


def test_prometheus_own_format_is_given_too(app: App) -> None:
    response = app().get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.content_type.startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


class AnyName:
    def model(self, name: str, target: str) -> str:
        return name

    def target(self, name: str) -> str:
        return name


def test_each_metric_can_be_reached_and_unknown_counts_do_no_harm() -> None:
    failures = iter([0, 3, 3])
    metrics = Metrics(
        AnyName(),
        Sampled(
            in_flight=lambda: 7,
            breakers=lambda: {"x/y": "half-open"},
            limit_failures=lambda: next(failures),
            ledger_queue=lambda: 5,
            ledger_lost=lambda: 2,
            sockets=lambda: 4,
        ),
    )
    metrics.record(
        RequestRecord(
            request_id="a", started=0.0, duration=3.0, caller="ann", endpoint="chat", model="m", stream=True,
            outcome="hung_up", provider="x", target="x/y", tried={"x/z": "late"}, hedged=True, filler="Hm.", ttft=1.0,
            overhead=0.001, usage=Usage(-1, -1), cost=0.5, limit="tokens",
        )
    )  # fmt: skip
    metrics.breaker_changed("x/y", "open")
    metrics.sample()
    found = samples(metrics.render("")[0].decode())
    assert found["thinkline_limit_store_failures_total"] == 3
    assert found["thinkline_ledger_queue_records"] == 5
    assert found["thinkline_ledger_records_lost_total"] == 2
    assert found["thinkline_sockets_open"] == 4
    assert found["thinkline_requests_in_flight"] == 7
    assert found["thinkline_breaker_state{target=x/y}"] == 1
    assert found["thinkline_hang_ups_total{model=m}"] == 1
    assert found["thinkline_cost_total{model=m,provider=x}"] == 0.5
    assert found["thinkline_tokens_total{kind=prompt,model=m,provider=x}"] == 0
    text = metrics.render("")[0].decode()
    assert all(f"# TYPE {each.name} {each.kind}" in text for each in METRICS)
