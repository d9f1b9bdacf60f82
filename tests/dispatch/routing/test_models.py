"""GET /v1/models: the union of what upstreams list, asked for lazily, kept for a while, stale on failure."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic
from typing import Any

import pytest
from openai import NotFoundError
from openai.types import Model as OpenAIModel

from app import build_services
from config import Settings
from core.context import Timeouts
from core.errors import UnknownModel
from dispatch.routing.model_lists import RETRY_SECONDS, ModelLists
from tests.conftest import Served, environment, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults
from tests.emulators.openai.server import MODELS
from tests.support.clock import ManualClock
from tests.support.frames import completion
from tests.support.http import HI, openai_error

TTL = 300.0
SLASHES = ("accounts/fireworks/models/llama-v3p3-70b-instruct", "org/model:free", "plain")
BROKEN = {
    "500": ScriptedAnswer(status=500),
    "401": ScriptedAnswer(status=401),
    "429": ScriptedAnswer(status=429),
    "404": ScriptedAnswer(status=404),
    "refused": ScriptedAnswer(fault=faults.refused),
    "reset": ScriptedAnswer(fault=faults.reset),
    "HTML": ScriptedAnswer(fault=faults.html),
    "cut": ScriptedAnswer(fault=faults.cut),
}


def settings_for(**upstreams: OpenAIUpstream) -> dict[str, str]:
    """The environment that points these vendors at these upstreams."""
    named = [(name.upper(), upstream) for name, upstream in upstreams.items()]
    keys = {f"{name}_API_KEY": upstream.key for name, upstream in named}
    return keys | {f"{name}_BASE_URL": upstream.base_url for name, upstream in named}


def models_of(clock: ManualClock, ttl: float = TTL, **upstreams: OpenAIUpstream) -> ModelLists:
    settings = Settings.load(environment(**settings_for(**upstreams)))
    return ModelLists(build_services(settings).catalogue, ttl, clock.now)


def ids(models: ModelLists) -> list[str]:
    return [model.id for model in models.all()]


def model_rows(client: Any) -> list[dict[str, Any]]:
    data = client.get("/v1/models").get_json()
    assert data["object"] == "list"
    for row in data["data"]:
        assert set(row) == {"id", "object", "created", "owned_by"}
        OpenAIModel.model_validate(row, strict=True)
    rows: list[dict[str, Any]] = data["data"]
    return rows


def list_requests(upstream: OpenAIUpstream) -> int:
    return sum(received.path.endswith("/models") for received in upstream.received)


@pytest.fixture
def upstreams() -> Iterator[Callable[..., OpenAIUpstream]]:
    """upstreams(models=...): one more upstream, its key its own."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(OpenAIUpstream(**options))


# what is listed


def test_the_demo_is_listed_while_there_is_nothing_else(app_with: Callable[..., Any]) -> None:
    rows = model_rows(app_with())
    assert [row["id"] for row in rows] == ["demo", "demo-embedding"]


def test_an_upstreams_models_are_listed_as_they_are(app_with: Callable[..., Any], upstream: OpenAIUpstream) -> None:
    rows = model_rows(app_with(**settings_for(openai=upstream)))
    assert [row["id"] for row in rows] == list(MODELS)
    assert {row["owned_by"] for row in rows} == {"system"}
    assert all(row["created"] > 0 for row in rows)
    assert upstream.received[0].headers["Authorization"] == f"Bearer {upstream.key}"


def test_the_models_of_others_have_their_providers_name_before_them(
    app_with: Callable[..., Any], upstreams: Callable[..., OpenAIUpstream]
) -> None:
    """The union; each id is one to call by."""
    first, second = upstreams(models=("a", "b")), upstreams(models=("a", "c"))
    client = app_with(**settings_for(openai=first, groq=second))
    rows = [row["id"] for row in model_rows(client)]
    assert rows == ["a", "b", "groq/a", "groq/c"]
    for row in rows:
        body = completion(client.post("/v1/chat/completions", json={"model": row, "messages": HI}).data)
        assert body["model"].startswith(row.removeprefix("groq/"))
    assert [received.json["model"] for received in second.received if received.body] == ["a", "c"]


def test_provider_name_decides_whose_ids_are_plain(
    app_with: Callable[..., Any], upstreams: Callable[..., OpenAIUpstream]
) -> None:
    first, second = upstreams(models=("a",)), upstreams(models=("b",))
    settings = settings_for(openai=first, groq=second)
    assert [row["id"] for row in model_rows(app_with(PROVIDER_NAME="groq", **settings))] == ["openai/a", "b"]
    rows = [row["id"] for row in model_rows(app_with(PROVIDER_NAME="demo", **settings))]
    assert rows == ["openai/a", "groq/b", "demo", "demo-embedding"]


# one model


@pytest.mark.parametrize("identifier", SLASHES)
def test_one_model_also_with_slashes(
    app_with: Callable[..., Any], upstreams: Callable[..., OpenAIUpstream], identifier: str
) -> None:
    client = app_with(**settings_for(openai=upstreams(models=SLASHES), groq=upstreams(models=SLASHES)))
    for name in (identifier, f"groq/{identifier}", f"openai/{identifier}"):
        for path in (f"/v1/models/{name}", f"/models/{name}", f"/v1/models/{name.replace('/', '%2F')}"):
            row = client.get(path).get_json()
            assert (row["id"], row["object"]) == (name, "model")


@pytest.mark.parametrize("identifier", ["nothing", "a/b/c", "groq/nothing", "demo/demo", "x" * 2000, "%F0%9F%99%82"])
def test_an_unknown_model_is_a_404(app_with: Callable[..., Any], upstream: OpenAIUpstream, identifier: str) -> None:
    details = openai_error(app_with(**settings_for(openai=upstream)).get(f"/v1/models/{identifier}"), 404)
    assert (details["code"], details["param"]) == ("model_not_found", "model")
    assert len(details["message"]) < 300


def test_as_the_openai_package_sees_them(serve: Callable[..., Served], upstream: OpenAIUpstream) -> None:
    with serve(**settings_for(openai=upstream)).client() as client:
        assert [model.id for model in client.models.list()] == list(MODELS)
        assert client.models.retrieve("gpt-4o").id == "gpt-4o"
        with pytest.raises(NotFoundError) as caught:
            client.models.retrieve("no/such/model")
        assert caught.value.code == "model_not_found"


# when upstreams are asked


def test_nobody_is_asked_at_the_start(serve: Callable[..., Served], upstream: OpenAIUpstream) -> None:
    """A list that is down stops neither the import, nor the start, nor a chat."""
    with serve(**settings_for(openai=upstream)).client() as client:
        assert client.chat.completions.create(model="m", messages=HI).choices
        assert list_requests(upstream) == 0
        assert len(list(client.models.list())) == len(MODELS)
        assert list_requests(upstream) == 1


def test_a_list_that_is_down_stops_nothing(serve: Callable[..., Served], upstream: OpenAIUpstream) -> None:
    """A list that cannot be fetched costs its own models, and nothing else."""
    upstream.always(ScriptedAnswer(fault=faults.refused))
    with serve(**settings_for(openai=upstream)).client() as client:
        assert [model.id for model in client.models.list()] == ["gpt-4o-mini"]


def test_a_list_is_kept_for_its_time(upstream: OpenAIUpstream) -> None:
    clock = ManualClock()
    models = models_of(clock, openai=upstream)
    assert list_requests(upstream) == 0
    for _ in range(3):
        assert ids(models) == list(MODELS)
        models.one("gpt-4o")
    assert list_requests(upstream) == 1
    clock.advance(TTL - 1)
    ids(models)
    assert list_requests(upstream) == 1
    clock.advance(1)
    ids(models)
    assert list_requests(upstream) == 2


def test_callers_at_once_ask_once(upstream: OpenAIUpstream) -> None:
    upstream.always(ScriptedAnswer(delay=0.2), path="/models")
    models = models_of(ManualClock(), openai=upstream)
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(ids(models))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(MODELS)] * 8
    assert list_requests(upstream) == 1


def test_an_unknown_model_is_not_asked_for_each_time(upstream: OpenAIUpstream) -> None:
    models = models_of(ManualClock(), openai=upstream)
    for _ in range(5):
        with pytest.raises(UnknownModel):
            models.one("nothing")
    assert list_requests(upstream) == 1


def test_no_lifetime_asks_each_time(upstream: OpenAIUpstream) -> None:
    models = models_of(ManualClock(), ttl=0, openai=upstream)
    ids(models)
    ids(models)
    assert list_requests(upstream) == 2


# when they fail


@pytest.mark.parametrize("kind", BROKEN)
def test_a_default_model_stands_in_for_a_list(upstream: OpenAIUpstream, kind: str) -> None:
    """A list that cannot be fetched costs its own models, and nothing else."""
    upstream.always(BROKEN[kind], path="/models")
    assert ids(models_of(ManualClock(), openai=upstream)) == ["gpt-4o-mini"]


@pytest.mark.parametrize("kind", BROKEN)
def test_the_last_list_is_kept_when_the_next_fails(upstream: OpenAIUpstream, kind: str) -> None:
    clock = ManualClock()
    models = models_of(clock, openai=upstream)
    assert ids(models) == list(MODELS)
    upstream.always(BROKEN[kind], path="/models")
    clock.advance(TTL)
    assert ids(models) == list(MODELS)
    count = list_requests(upstream)
    ids(models)
    assert list_requests(upstream) == count, "a failed upstream is left alone for a moment"
    upstream.always(ScriptedAnswer(), path="/models")
    clock.advance(RETRY_SECONDS)
    assert ids(models) == list(MODELS)
    assert list_requests(upstream) == count + 1


@pytest.mark.parametrize(
    "body",
    [
        {"data": "x"},
        {"data": None},
        {},
        [],
        {"data": [1, None, "x", {}, {"id": 1}]},
        {
            "data": [
                {"id": "a", "created": "soon", "owned_by": None},
                {"id": "b", "created": 1e300, "owned_by": {"x": 1}},
            ]
        },
        {"data": [{"id": "a", "created": True}, {"id": "b", "created": -1.5}]},
    ],
)
def test_an_odd_list_breaks_nothing(
    app_with: Callable[..., Any], upstreams: Callable[..., OpenAIUpstream], body: Any
) -> None:
    odd, good = upstreams(), upstreams(models=("fine",))
    odd.always(ScriptedAnswer(error=body), path="/models")
    rows = [row["id"] for row in model_rows(app_with(**settings_for(openai=odd, groq=good)))]
    assert "groq/fine" in rows
    assert set(rows) <= {"groq/fine", "gpt-4o-mini", "a", "b"}


def test_one_that_fails_does_not_hide_the_others(
    app_with: Callable[..., Any], upstreams: Callable[..., OpenAIUpstream]
) -> None:
    first, second = upstreams(), upstreams(models=("fine",))
    first.always(ScriptedAnswer(fault=faults.refused))
    assert [row["id"] for row in model_rows(app_with(**settings_for(openai=first, groq=second)))] == [
        "gpt-4o-mini",
        "groq/fine",
    ]


def test_one_without_a_list_or_a_default_shows_nothing(upstream: OpenAIUpstream) -> None:
    upstream.always(ScriptedAnswer(status=500), path="/models")
    assert ids(models_of(ManualClock(), vllm=upstream)) == []


@pytest.mark.thorough
def test_upstreams_that_hang_hold_up_nobody_for_long(
    app_with: Callable[..., Any], upstreams: Callable[..., OpenAIUpstream], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No longer than PATIENCE, for all of them together; and a chat meanwhile not at all."""
    monkeypatch.setattr("dispatch.routing.model_lists.LIST_TIMEOUTS", Timeouts(1, 1, 1, 1))
    servers = {name: upstreams(models=("m",)) for name in ("openai", "groq", "deepseek")}
    for server in servers.values():
        server.always(ScriptedAnswer(delay=60), path="/models")
    client = app_with(**settings_for(**servers))
    app = client.application
    found: list[Any] = []
    began = monotonic()
    listing = threading.Thread(target=lambda: found.append(model_rows(client)))
    listing.start()
    until(lambda: all(list_requests(server) for server in servers.values()), "all upstreams to be asked")
    completion(app.test_client().post("/v1/chat/completions", json={"messages": HI}).data)
    assert listing.is_alive(), "the chat must not have waited for the list"
    listing.join()
    assert monotonic() - began < 2.9
    assert [row["id"] for row in found[0]] == [
        "gpt-4o-mini",
        "deepseek/deepseek-v4-flash",
        "groq/llama-3.3-70b-versatile",
    ]
