"""Limits of a key, as its callers meet them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from access import limits
from access.admission import estimated_tokens
from access.limits import RateLimiter
from core.api_keys import ApiKey
from core.errors import Overloaded, RateLimited
from core.rate_limits import WINDOW, Quota
from storage.rate_limits import MemoryLimits
from tests.conftest import until
from tests.emulators.answers import ScriptedAnswer
from tests.emulators.openai.server import OpenAIUpstream
from tests.support.clock import ManualClock
from tests.support.frames import chat_body
from tests.support.http import openai_error

KEY = "a-secret-of-some-length"
HEADERS = {"Authorization": f"Bearer {KEY}"}
ALL = {f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in ("requests", "tokens")}
Client = Callable[..., Any]
DURATION = re.compile(r"(\d+m)?\d+(\.\d+)?s|\d+ms")


@pytest.fixture
def client(app_with: Callable[..., Any], tmp_path: Path, upstream: OpenAIUpstream) -> Client:
    """client(limits of the key, SETTING=value, ...)."""

    def start(given: str, **settings: object) -> Any:
        (tmp_path / "models.yaml").write_text(f"keys: [{{name: alice, key: {KEY}, {given}}}]")
        upstream.always(ScriptedAnswer(usage={"prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 50}))
        return app_with(
            MODELS_FILE=tmp_path / "models.yaml",
            OPENAI_API_KEY=upstream.key,
            OPENAI_BASE_URL=f"{upstream.url}/v1",
            **settings,
        )

    return start


def ask(client: Any, text: str = "hi", **more: Any) -> Any:
    return client.post("/v1/chat/completions", json=chat_body(text, **more), headers=HEADERS)


def tokens_left(client: Any) -> int:
    return int(client.get("/v1/models", headers=HEADERS).headers["x-ratelimit-remaining-tokens"])


@pytest.mark.parametrize("stream", [False, True])
def test_one_request_too_many_is_refused_at_once(client: Client, upstream: OpenAIUpstream, stream: bool) -> None:
    app = client("requests_per_minute: 2")
    answers = [ask(app, stream=stream) for _ in range(4)]
    assert [each.status_code for each in answers] == [200, 200, 429, 429]
    refusal = openai_error(answers[2], 429)
    assert (refusal["type"], refusal["code"]) == ("requests", "rate_limit_exceeded")
    assert "'alice' may make 2 requests a minute" in refusal["message"]
    assert 50 <= int(answers[2].headers["Retry-After"]) <= 61
    assert answers[2].headers["x-should-retry"] == "true"
    assert [each.headers["x-ratelimit-remaining-requests"] for each in answers] == ["1", "0", "0", "0"]
    assert len(upstream.received) == 2


def test_every_answer_of_a_limited_key_has_the_headers(client: Client) -> None:
    app = client("requests_per_minute: 4, tokens_per_minute: 1000")
    answers = [
        ask(app),
        ask(app, stream=True),
        ask(app, messages=5),
        app.get("/v1/models", headers=HEADERS),
        app.get("/v1/models/none", headers=HEADERS),
        app.get("/v1/providers", headers=HEADERS),
        ask(app),
        ask(app),
    ]
    assert [each.status_code for each in answers] == [200, 200, 400, 200, 404, 200, 200, 429]
    for answer in answers:
        found = {name.lower(): value for name, value in answer.headers if name.lower().startswith("x-ratelimit")}
        assert set(found) == ALL
        assert all(DURATION.fullmatch(value) for name, value in found.items() if "reset" in name), found
        assert (found["x-ratelimit-limit-requests"], found["x-ratelimit-limit-tokens"]) == ("4", "1000")
    left = [each.headers["x-ratelimit-remaining-requests"] for each in answers]
    assert left == ["3", "2", "1", "1", "1", "1", "0", "0"]


def test_a_key_without_limits_has_no_such_headers(client: Client) -> None:
    assert not [name for name, _ in ask(client("admin: true")).headers if name.lower().startswith("x-ratelimit")]


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_are_what_the_upstream_counted(client: Client, stream: bool) -> None:
    app = client("tokens_per_minute: 149")
    assert tokens_left(app) == 149
    for left in (99, 49, -1):
        answer = ask(app, stream=stream)
        assert answer.status_code == 200
        answer.get_data()
        answer.close()
        assert tokens_left(app) == max(0, left)
    refusal = openai_error(ask(app, stream=stream), 429)
    assert refusal["type"] == "tokens"
    assert "'alice' may use 149 tokens a minute" in refusal["message"]


def test_a_prompt_is_estimated_before_it_is_asked(client: Client, upstream: OpenAIUpstream) -> None:
    app = client("tokens_per_minute: 200")
    too_long = ask(app, "word " * 300)
    assert openai_error(too_long, 429)["type"] == "tokens"
    assert too_long.headers["x-should-retry"] == "false"
    assert ask(app, "word " * 80).status_code == 200
    assert tokens_left(app) == 150
    assert openai_error(ask(app, "word " * 120), 429)["type"] == "tokens"
    assert tokens_left(app) == 150
    assert [each.method for each in upstream.received].count("POST") == 1


def test_what_is_refused_before_anybody_was_asked_takes_no_tokens(client: Client) -> None:
    app = client("tokens_per_minute: 200")
    assert ask(app, "word " * 80, temperature="hot").status_code == 400
    assert tokens_left(app) == 200


def test_what_nobody_counted_stays_estimated(client: Client, upstream: OpenAIUpstream) -> None:
    app = client("tokens_per_minute: 2000", RETRIES=0)
    upstream.always(ScriptedAnswer(status=500))
    assert ask(app, "word " * 800).status_code == 502
    assert 900 < tokens_left(app) < 1100


def test_pictures_are_not_counted_by_their_bytes() -> None:
    picture = b'{"url": "data:image/png;base64,' + b"A" * 1_000_000 + b'"}'
    assert 1000 <= estimated_tokens(picture * 2) - 1000 < 1100
    assert estimated_tokens(b"x" * 400) == 100


@pytest.mark.parametrize("stream", [False, True])
def test_places_are_free_again_after_each_end(client: Client, upstream: OpenAIUpstream, stream: bool) -> None:
    app = client("concurrent: 1", RETRIES=0)
    for status in (200, 500, 200):
        upstream.enqueue(ScriptedAnswer(status=status))
        answer = ask(app, stream=stream)
        answer.get_data()
        answer.close()
        assert answer.status_code == (200 if status == 200 else 502)
    assert ask(app, messages=5).status_code == 400
    assert ask(app, stream=stream).status_code == 200


def test_a_stream_keeps_its_place_to_the_last_byte(client: Client) -> None:
    app = client("concurrent: 1")
    streaming = ask(app, stream=True)
    answer = ask(app)
    assert "1 requests at the same time" in openai_error(answer, 429)["message"]
    assert answer.headers["Retry-After"] == "1"
    streaming.close()
    assert ask(app).status_code == 200


class Unreachable(MemoryLimits):
    """A store that can be out of reach."""

    failures = (OSError,)
    away = True

    def _change(self, key: str, change: Callable[..., Any]) -> Any:
        if self.away:
            raise OSError("no such place")
        return super()._change(key, change)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAUSE_SECONDS", 0.0)


@pytest.mark.usefixtures("impatient")
def test_without_its_store_a_key_is_not_limited_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits.log, "propagate", False)
    store = Unreachable()
    limiter, key = RateLimiter(store), ApiKey(name="alice", quota=Quota(requests=1, tokens=10, concurrent=1))
    limits.log.addHandler(caplog.handler)
    for _ in range(5):
        permit = limiter.permit(key)
        assert permit
        permit.enter(counts=True)
        permit.spend(5)
        assert dict(permit.headers()) == {"x-ratelimit-limit-requests": "1", "x-ratelimit-limit-tokens": "10"}
        permit.release(5)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "out of reach; keys are not limited" in caplog.text
    assert limiter.failures == 5
    store.away = False
    permit = limiter.permit(key)
    assert permit
    permit.enter(counts=True)
    with pytest.raises(RateLimited):
        limiter.permit(key).enter(counts=True)
    assert "is back" in caplog.text
    limits.log.removeHandler(caplog.handler)


def test_a_store_that_failed_is_left_alone_for_a_moment() -> None:
    store = Unreachable()
    limiter, key = RateLimiter(store), ApiKey(name="alice", quota=Quota(requests=1))
    for _ in range(2):
        limiter.permit(key).enter(counts=True)
    store.away = False
    limiter.permit(key).enter(counts=True)
    assert limiter.failures == 3


def test_limits_may_fail_closed() -> None:
    limiter = RateLimiter(Unreachable(), fails_open=False)
    with pytest.raises(Overloaded):
        limiter.permit(ApiKey(name="a", quota=Quota(requests=1))).enter(counts=True)
    assert limiter.permit(ApiKey(name="b")) is None


@pytest.mark.thorough
def test_a_long_request_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lease is renewed before it ends."""
    for module in (limits, __import__("storage.rate_limits", fromlist=["x"])):
        monkeypatch.setattr(module, "LEASE_SECONDS", 0.6)
    store = MemoryLimits()
    limiter, key = RateLimiter(store), ApiKey(name="a", quota=Quota(concurrent=1))
    permit = limiter.permit(key)
    permit.enter(counts=True)
    renewed = []
    monkeypatch.setattr(store, "renew", lambda leases, renew=store.renew: (renewed.append(leases), renew(leases)))
    until(lambda: len(renewed) > 6, "the lease to be renewed for twice its time")
    with pytest.raises(RateLimited):
        limiter.permit(key).enter(counts=True)
    permit.release(None)
    limiter.permit(key).enter(counts=True)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0s"), (0.0004, "1ms"), (0.85, "850ms"), (12.5, "12.5s"), (60, "1m0s"), (90.25, "1m30.25s"), (-1, "0s")],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, said: str) -> None:
    assert limits._duration(seconds) == said


def test_who_comes_again_when_told_is_served() -> None:
    """Retry-After of spent tokens is long enough, and not much longer than need be."""
    clock = ManualClock(1000 * WINDOW + 50.0)
    limiter = RateLimiter(MemoryLimits(clock.now))
    key = ApiKey(name="a", quota=Quota(tokens=100))
    for spent, wanted in ((100, 60), (0, 100), (40, 30)):
        for tokens, used in ((0, spent), (wanted, wanted)):
            for _ in range(3):
                permit, wait = limiter.permit(key), None
                try:
                    permit.enter(counts=True)
                    permit.spend(tokens)
                except RateLimited as error:
                    wait = error.retry_after
                if wait is None:
                    break
                assert 0 < wait <= 2 * WINDOW
                clock.advance(wait + 0.001)
            assert wait is None, "the third time too, it was refused"
            permit.release(used)
        clock.advance(2 * WINDOW)
