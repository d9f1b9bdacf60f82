"""GET /v1/usage and budgets, on an app with an upstream that counts."""

import csv
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import create_app
from config import Settings
from tests.conftest import environment, until
from tests.emulators import faults
from tests.emulators.answers import ScriptedAnswer
from tests.emulators.openai.server import OpenAIUpstream

MODELS = """
providers:
  one: {kind: openai_compatible, base_url: "%s", api_key: test-upstream-key, model: gpt-4o}
models:
  - {name: priced, provider: one, model: gpt-4o, price: {prompt: 2, completion: 8}, fallbacks: [free]}
  - {name: unknown, provider: one, model: gpt-4o}
  - {name: dear, provider: one, model: gpt-4o, price: {prompt: 1000000, completion: 1000000}}
  - {name: free, provider: demo}
keys:
  - {name: ann, key: key-of-ann-of-twenty}
  - {name: bob, key: key-of-bob-of-twenty, budget: {day: 1.0, month: 20}}
  - {name: operations, key: key-of-operations-20, admin: true}
"""
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
ADMIN = "key-of-operations-20"
COUNTS = {
    "requests", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "estimated_requests", "cost",
    "unpriced_requests", "attempts", "hedges", "fallbacks", "done", "failed", "hung_up", "tokens_saved", "first_token",
}  # fmt: skip


class UsageApp:
    """An app whose usage is read."""

    def __init__(self, upstream: OpenAIUpstream, folder: Path, **settings: object) -> None:
        (folder / "models.yaml").write_text(MODELS % f"{upstream.url}/v1")
        values: dict[str, object] = {
            "MODELS_FILE": folder / "models.yaml",
            "DATA_DIR": folder / "data",
            "USAGE_DAYS": 90,
        }
        values |= {"DEMO_PACE_MS": 0, "RETRIES": 0}
        self.client: FlaskClient = create_app(Settings.load(environment(**{**values, **settings}))).test_client()
        self.asked = 0

    def ask(self, model: str, key: str = "ann", **body: Any) -> Any:
        headers = {"Authorization": f"Bearer key-of-{key}-of-twenty"}
        response = self.client.post("/v1/chat/completions", json={**HELLO, "model": model, **body}, headers=headers)
        assert response.data
        response.close()
        return response

    def usage(self, query: str = "", key: str = "key-of-ann-of-twenty") -> Any:
        return self.client.get(f"/v1/usage{query}", headers={"Authorization": f"Bearer {key}"})

    def rows(self, query: str = "", key: str = "key-of-ann-of-twenty", *, requests: int) -> list[dict[str, Any]]:
        """The report, once it has so many requests."""

        def count() -> int:
            return sum(row["requests"] for row in self.usage(query, key).json["data"])

        until(lambda: count() == requests, f"{requests} requests in the table")
        data: list[dict[str, Any]] = self.usage(query, key).json["data"]
        return data


@pytest.fixture
def usage_app(upstream: OpenAIUpstream, tmp_path: Path) -> UsageApp:
    return UsageApp(upstream, tmp_path)


def test_what_the_upstream_counted_is_reported(usage_app: UsageApp) -> None:
    whole = usage_app.ask("priced").json["usage"]
    usage_app.ask("priced", stream=True)
    (row,) = usage_app.rows(requests=2)
    assert set(row) == COUNTS
    assert (row["prompt_tokens"], row["completion_tokens"]) == (
        2 * whole["prompt_tokens"],
        2 * whole["completion_tokens"],
    )
    assert row["cost"] == pytest.approx((row["prompt_tokens"] * 2 + row["completion_tokens"] * 8) / 1e6)
    assert (row["unpriced_requests"], row["estimated_requests"], row["attempts"], row["done"]) == (0, 0, 2, 2)
    assert 0 < row["first_token"]["p50"] <= row["first_token"]["p95"] <= row["first_token"]["p99"]


def test_an_unknown_price_is_no_price_of_nothing(usage_app: UsageApp) -> None:
    usage_app.ask("unknown")
    usage_app.ask("free")
    rows = usage_app.rows("?group_by=model", requests=2)
    assert [(row["model"], row["cost"], row["unpriced_requests"]) for row in rows] == [
        ("free", 0, 0),
        ("unknown", None, 1),
    ]


def test_a_key_sees_its_own_and_an_admin_all(usage_app: UsageApp) -> None:
    usage_app.ask("free", key="ann")
    usage_app.ask("free", key="bob")
    assert usage_app.rows("?group_by=key", ADMIN, requests=2) == usage_app.usage("?group_by=key", ADMIN).json["data"]
    assert [row["key"] for row in usage_app.usage("?group_by=key", ADMIN).json["data"]] == ["ann", "bob"]
    assert [row["key"] for row in usage_app.usage("?group_by=key").json["data"]] == ["ann"]
    assert [row["key"] for row in usage_app.usage("?group_by=key&key=bob", ADMIN).json["data"]] == ["bob"]
    assert usage_app.usage("?key=bob").status_code == 403


def test_fallbacks_and_failures_are_told_apart(usage_app: UsageApp, upstream: OpenAIUpstream) -> None:
    upstream.always(ScriptedAnswer(fault=faults.refused))
    assert usage_app.ask("priced").status_code == 200
    assert usage_app.ask("unknown").status_code == 502
    done, failed = usage_app.rows("?group_by=outcome", requests=2)
    assert (done["outcome"], done["fallbacks"], done["attempts"]) == ("done", 1, 2)
    assert (failed["outcome"], failed["failed"], failed["cost"]) == ("failed", 1, 0)


def test_what_asks_no_upstream_is_not_in_the_table(usage_app: UsageApp) -> None:
    usage_app.ask("free")
    usage_app.usage()
    usage_app.ask("no-such-model-anywhere", messages=5)
    usage_app.ask("free")
    usage_app.rows(requests=2)


def test_groups_by_day_and_hour(usage_app: UsageApp) -> None:
    before = datetime.now(UTC)
    usage_app.ask("free")
    (row,) = usage_app.rows("?group_by=day,hour,provider", requests=1)
    assert row["day"] in {f"{moment:%Y-%m-%d}" for moment in (before, datetime.now(UTC))}
    assert row["hour"] in {f"{moment:%Y-%m-%dT%H:00:00Z}" for moment in (before, datetime.now(UTC))}
    assert row["provider"] == "demo"


def test_from_and_to_bound_it(usage_app: UsageApp) -> None:
    usage_app.ask("free")
    usage_app.rows(requests=1)
    today = datetime.now(UTC).date()
    for query, requests in (
        (f"?from={today - timedelta(1)}&to={today}", 1),
        (f"?from={today + timedelta(1)}&to={today + timedelta(2)}", 0),
        (f"?to={today - timedelta(1)}", 0),
        (f"?from={today}&to=9999-12-31", 1),
        (f"?from={datetime.now(UTC).timestamp() - 3600}", 1),
        (f"?from={(datetime.now(UTC) - timedelta(hours=1)):%Y-%m-%dT%H:%M:%SZ}", 1),
    ):
        (row,) = usage_app.usage(query).json["data"]
        assert row["requests"] == requests, query


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?from=yesterday", "from"),
        ("?to=2026-13-01", "to"),
        ("?from=2026-11-30&to=2026-11-01", "to"),
        ("?group_by=colour", "group_by"),
        ("?format=xml", "format"),
        ("?groupby=key", "groupby"),
        ("?from=" + "9" * 400, "to"),
        ("?from=2026-11-30T25:00:00Z", "from"),
        ("?from=-1", "from"),
    ],
)
def test_a_wrong_parameter_is_named(usage_app: UsageApp, query: str, param: str) -> None:
    answer = usage_app.usage(query)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)


def test_as_a_table(usage_app: UsageApp) -> None:
    usage_app.ask("free")
    usage_app.ask('=HYPERLINK("x")', provider="demo")
    usage_app.rows("?group_by=model", requests=2)
    answer = usage_app.usage("?group_by=model&format=csv")
    assert answer.content_type == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert sorted(row["model"] for row in rows) == ['\'=HYPERLINK("x")', "free"]
    assert set(rows[0]) == (COUNTS - {"first_token"}) | {
        "model",
        "first_token_p50",
        "first_token_p95",
        "first_token_p99",
    }


@pytest.mark.parametrize("groups", ["", "model", "day,key"])
def test_csv_of_nothing_has_the_same_head(usage_app: UsageApp, groups: str) -> None:
    usage_app.ask("free")
    usage_app.rows(requests=1)
    some = usage_app.usage(f"?format=csv&group_by={groups}").text.splitlines()[0]
    none = usage_app.usage(f"?format=csv&group_by={groups}&from=1&to=2").text.splitlines()[0]
    assert none == some
    assert some.split(",")[: 1 + groups.count(",")] == (groups or "requests").split(",")


def test_a_wrong_parameter_is_told_the_ones_that_can_be_sent(usage_app: UsageApp) -> None:
    said = usage_app.usage("?colour=1").json["error"]["message"]
    assert said == "colour: Unknown field; known are from, to, group_by, format, key."


def test_a_spent_budget_refuses_and_says_when_it_renews(usage_app: UsageApp) -> None:
    assert usage_app.ask("dear", key="bob").status_code == 200
    refused = usage_app.ask("free", key="bob")
    assert (refused.status_code, refused.json["error"]["code"]) == (429, "budget_exceeded")
    assert (
        f"{datetime.now(UTC).date() + timedelta(1)}T00:00:00Z" in refused.json["error"]["message"]
        or "month" in (refused.json["error"]["message"])
    )
    assert 0 < int(refused.headers["Retry-After"]) <= 32 * 86_400
    assert refused.headers["x-should-retry"] == "false"
    assert usage_app.ask("dear", key="ann").status_code == 200
    assert usage_app.usage(key="key-of-bob-of-twenty").status_code == 200


def test_another_process_knows_what_was_spent(upstream: OpenAIUpstream, tmp_path: Path) -> None:
    one, other = UsageApp(upstream, tmp_path), UsageApp(upstream, tmp_path)
    assert other.ask("free", key="bob").status_code == 200
    assert one.ask("dear", key="bob").status_code == 200
    until(lambda: other.ask("free", key="bob").status_code == 429, "the other to know")
    assert UsageApp(upstream, tmp_path).ask("free", key="bob").status_code == 429


def test_a_budget_that_nobody_can_look_up_refuses_nobody_and_holds_nobody_up(
    upstream: OpenAIUpstream, tmp_path: Path
) -> None:
    usage_app = UsageApp(upstream, tmp_path, DATABASE_URL="postgresql://u:p@127.0.0.1:1/x")
    began = monotonic()
    assert {usage_app.ask("free", key="bob").status_code for _ in range(30)} == {200}
    assert monotonic() - began < 5  # with a look for each it would be 7 and more
    assert usage_app.ask("dear", key="bob").status_code == 200
    assert usage_app.ask("free", key="bob").status_code == 429  # what this worker has spent it knows by itself


def test_without_a_table(upstream: OpenAIUpstream, tmp_path: Path) -> None:
    usage_app = UsageApp(upstream, tmp_path, USAGE_DAYS=0)
    assert usage_app.ask("free").status_code == 200
    answer = usage_app.usage()
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "usage_not_kept")
    assert not (tmp_path / "data" / "usage.sqlite3").exists()
