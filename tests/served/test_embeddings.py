"""POST /v1/embeddings: every form of input, both formats, and batches past what an upstream takes."""

import base64
import json
import math
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import APIStatusError, BadRequestError
from openai.types import CreateEmbeddingResponse

from tests.conftest import Served, served
from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults
from tests.emulators.openai.server import embedding
from tests.emulators.scripted import NO_SUCH_MODEL
from tests.support.frames import post
from tests.support.http import assert_error, openai_error

EMBEDDINGS = "/v1/embeddings"
TOKENS = [9906, 1917]
FORMS: dict[str, tuple[Any, list[Any]]] = {
    "a text": ("hello there", ["hello there"]),
    "a list of one": (["hello"], ["hello"]),
    "a list": (["hello", "there", "🙂 ü"], ["hello", "there", "🙂 ü"]),
    "the same twice": (["hello", "hello"], ["hello", "hello"]),
    "token ids": (TOKENS, [TOKENS]),
    "one token": ([1], [[1]]),
    "lists of token ids": ([TOKENS, [1]], [TOKENS, [1]]),
}
FAILURES: dict[str, tuple[ScriptedAnswer, int, str | None]] = {
    "their 400": (ScriptedAnswer(status=400), 400, "invalid_value"),
    "their 401": (ScriptedAnswer(status=401), 502, "upstream_authentication"),
    "their 429": (ScriptedAnswer(status=429), 429, "rate_limit_exceeded"),
    "their 500": (ScriptedAnswer(status=500), 502, "upstream_error"),
    "HTML": (ScriptedAnswer(fault=faults.html), 502, "upstream_error"),
    "cut": (ScriptedAnswer(fault=faults.cut), 502, "upstream_error"),
}
ODD: dict[str, Any] = {
    "no data": {"object": "list"},
    "no list": {"data": "x"},
    "too few": {"data": []},
    "too many": {"data": [{"index": 0, "embedding": [0.5]}, {"index": 1, "embedding": [0.5]}]},
    "no index, and too many": {"data": [{"embedding": [0.5]}, {"embedding": [0.5]}]},
    "no rows": {"data": ["x"]},
    "no vector": {"data": [{"index": 0}]},
    "a null": {"data": [{"index": 0, "embedding": None}]},
    "a number": {"data": [{"index": 0, "embedding": 1}]},
    "a list": [1, 2],
}


@pytest.fixture(scope="module")
def upstream_and_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenAIUpstream, Served]]:
    """An upstream as OpenAI and as Cohere, whose row takes 96 inputs at a time, and the demo beside it."""
    log = tmp_path_factory.mktemp("served") / "log"
    with OpenAIUpstream(base="/compatibility/v1") as upstream:
        settings = {f"{name}_API_KEY": upstream.key for name in ("OPENAI", "COHERE")}
        settings |= {f"{name}_BASE_URL": upstream.base_url for name in ("OPENAI", "COHERE")}
        with served(log, RETRIES=0, BREAKER_FAILURES=1000, **settings) as app:
            yield upstream, app


def ask(app: Served, **body: Any) -> dict[str, Any]:
    """A good answer, as OpenAI's own types have it."""
    status, headers, raw = post(app.port, {"model": "m", **body}, EMBEDDINGS)
    assert status == 200, raw
    assert headers["content-type"] == "application/json"
    if body.get("encoding_format") != "base64":
        CreateEmbeddingResponse.model_validate_json(raw, strict=True)
    data: dict[str, Any] = json.loads(raw)
    assert set(data) == {"object", "data", "model", "usage"}
    assert data["object"] == "list"
    assert [row["index"] for row in data["data"]] == list(range(len(data["data"])))
    assert all(set(row) == {"object", "index", "embedding"} for row in data["data"])
    assert data["usage"]["total_tokens"] == data["usage"]["prompt_tokens"]
    return data


def vectors(data: dict[str, Any]) -> list[Any]:
    return [row["embedding"] for row in data["data"]]


def unpacked(text: str) -> list[float]:
    raw = base64.b64decode(text, validate=True)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


# every form, both formats


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_every_form_of_input_through_an_upstream(
    upstream_and_app: tuple[OpenAIUpstream, Served], form: str, encoding: str | None
) -> None:
    """Once only the first vector came, and base64 was ignored."""
    upstream, app = upstream_and_app
    given, inputs = FORMS[form]
    data = ask(app, input=given, encoding_format=encoding)
    found = [unpacked(each) for each in vectors(data)] if encoding == "base64" else vectors(data)
    assert found == [embedding(each) for each in inputs]
    sent = upstream.received[-1].json
    assert sent["input"] == inputs
    assert set(sent) <= {"model", "input", "encoding_format"}
    assert data["usage"]["prompt_tokens"] > 0


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_input_through_the_demo(upstream_and_app: tuple[OpenAIUpstream, Served], form: str) -> None:
    """All vectors come, also those of a batch, and not the first one alone."""
    _, app = upstream_and_app
    given, inputs = FORMS[form]
    floats = ask(app, input=given, provider="demo")
    packed = ask(app, input=given, provider="demo", encoding_format="base64")
    assert len(floats["data"]) == len(packed["data"]) == len(inputs)
    for numbers, text in zip(vectors(floats), vectors(packed), strict=True):
        assert math.isclose(math.hypot(*numbers), 1, rel_tol=1e-6)
        assert unpacked(text) == pytest.approx(numbers, abs=1e-6)
    assert floats["usage"]["prompt_tokens"] >= len(inputs)
    assert floats["model"]


@pytest.mark.parametrize("provider", ["openai", "cohere", "demo"])
def test_as_the_openai_package_asks_and_reads(upstream_and_app: tuple[OpenAIUpstream, Served], provider: str) -> None:
    """By default it asks for base64, and decodes it."""
    _, app = upstream_and_app
    with app.client() as client:
        answer = client.embeddings.create(model="m", input=["a", "b"], extra_body={"provider": provider})
    assert [row.index for row in answer.data] == [0, 1]
    assert all(isinstance(number, float) for row in answer.data for number in row.embedding)
    if provider != "demo":
        assert [row.embedding for row in answer.data] == [embedding("a"), embedding("b")]


@pytest.mark.parametrize("provider", ["openai", "demo"])
@pytest.mark.parametrize("dimensions", [1, 3, 64])
def test_dimensions(upstream_and_app: tuple[OpenAIUpstream, Served], provider: str, dimensions: int) -> None:
    _, app = upstream_and_app
    data = ask(app, input=["a", "b"], dimensions=dimensions, provider=provider)
    assert [len(each) for each in vectors(data)] == [dimensions] * 2
    packed = ask(app, input="a", dimensions=dimensions, provider=provider, encoding_format="base64")
    assert [len(unpacked(each)) for each in vectors(packed)] == [dimensions]


def test_what_is_sent_on(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    """Optional parameters as they came; what was left out stays out, and `provider` is ours."""
    upstream, app = upstream_and_app
    ask(app, input="a", user="u", dimensions=4, encoding_format="float", provider="openai")
    assert upstream.received[-1].json == {
        "model": "m",
        "input": ["a"],
        "user": "u",
        "dimensions": 4,
        "encoding_format": "float",
    }
    ask(app, input="a", model="openai/text-embedding-3-small", user=None)
    assert upstream.received[-1].json["model"] == "text-embedding-3-small"
    assert "user" not in upstream.received[-1].json


# batches


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (96, [96]), (97, [96, 1]), (200, [96, 96, 8])])
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_more_inputs_than_the_upstream_takes_are_sent_in_batches(
    upstream_and_app: tuple[OpenAIUpstream, Served], encoding: str, count: int, sizes: list[int]
) -> None:
    """Every vector, in order, with its index; usage is the sum."""
    upstream, app = upstream_and_app
    before = len(upstream.received)
    inputs = [f"text number {number}" for number in range(count)]
    data = ask(app, input=inputs, provider="cohere", encoding_format=encoding)
    assert [len(received.json["input"]) for received in upstream.received[before:]] == sizes
    found = [unpacked(each) for each in vectors(data)] if encoding == "base64" else vectors(data)
    assert found == [embedding(each) for each in inputs]
    assert data["usage"] == {"prompt_tokens": 3 * count, "total_tokens": 3 * count}


def test_a_batch_out_of_order_is_put_in_order(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    upstream, app = upstream_and_app
    rows = [{"index": index, "embedding": [index / 4]} for index in (2, 0, 1)]
    upstream.enqueue(ScriptedAnswer(error={"data": rows, "model": "m"}), path="/embeddings")
    assert vectors(ask(app, input=["a", "b", "c"])) == [[0.0], [0.25], [0.5]]


def test_a_batch_that_fails_fails_the_request(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    """No half of an answer."""
    upstream, app = upstream_and_app
    upstream.enqueue(ScriptedAnswer(), ScriptedAnswer(status=500), path="/embeddings")
    status, headers, body = post(app.port, {"input": ["a"] * 200, "provider": "cohere"}, EMBEDDINGS)
    assert_error(status, headers, body, 502)


def test_as_many_inputs_as_openai_takes(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    _, app = upstream_and_app
    assert len(ask(app, input=["a"] * 2048)["data"]) == 2048
    status, headers, body = post(app.port, {"input": ["a"] * 2049}, EMBEDDINGS)
    assert assert_error(status, headers, body, 400)["param"] == "input"


# failures


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_has_its_true_status(upstream_and_app: tuple[OpenAIUpstream, Served], kind: str) -> None:
    """An upstream's failure is neither a 200 nor a bare 500."""
    upstream, app = upstream_and_app
    answer, expected, code = FAILURES[kind]
    upstream.enqueue(answer, path="/embeddings")
    status, headers, body = post(app.port, {"model": "m", "input": "a"}, EMBEDDINGS)
    details = assert_error(status, headers, body, expected)
    assert details["code"] == code
    assert upstream.key not in details["message"]


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.parametrize("kind", ODD)
def test_an_odd_answer_is_the_upstreams_fault(
    upstream_and_app: tuple[OpenAIUpstream, Served], kind: str, encoding: str
) -> None:
    """Never a 500, nor vectors that are none."""
    upstream, app = upstream_and_app
    upstream.enqueue(ScriptedAnswer(error=ODD[kind]), path="/embeddings")
    status, headers, body = post(app.port, {"model": "m", "input": "a", "encoding_format": encoding}, EMBEDDINGS)
    assert_error(status, headers, body, 502)


@pytest.mark.parametrize("text", ["~~~", "AAA=", "AAAAAAA", "ü"])
def test_base64_that_is_none_is_the_upstreams_fault(upstream_and_app: tuple[OpenAIUpstream, Served], text: str) -> None:
    upstream, app = upstream_and_app
    upstream.enqueue(ScriptedAnswer(error={"data": [{"index": 0, "embedding": text}]}), path="/embeddings")
    status, headers, body = post(app.port, {"model": "m", "input": "a"}, EMBEDDINGS)
    assert_error(status, headers, body, 502)


def test_an_unknown_model_is_the_upstreams_404(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    """An OpenAI-shaped row passes any name on, and gives back the upstream's 404."""
    _, app = upstream_and_app
    status, headers, body = post(app.port, {"model": NO_SUCH_MODEL, "input": "a"}, EMBEDDINGS)
    assert assert_error(status, headers, body, 404)["code"] == "model_not_found"


@pytest.mark.parametrize("empty", ["", [], [[]], None])
def test_empty_input_is_a_400_before_anybody_is_asked(
    upstream_and_app: tuple[OpenAIUpstream, Served], empty: Any
) -> None:
    upstream, app = upstream_and_app
    before = len(upstream.received)
    status, headers, body = post(app.port, {"model": "m", "input": empty}, EMBEDDINGS)
    assert assert_error(status, headers, body, 400)["param"] == "input"
    assert len(upstream.received) == before


def test_the_openai_package_raises_its_own_errors(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    upstream, app = upstream_and_app
    upstream.enqueue(ScriptedAnswer(status=500), path="/embeddings")
    with app.client() as client:
        with pytest.raises(BadRequestError):
            client.embeddings.create(model="m", input="")
        with pytest.raises(APIStatusError) as caught:
            client.embeddings.create(model="m", input="a")
    assert caught.value.status_code == 502


def test_dimensions_that_the_demo_lacks(app_with: Callable[..., Any]) -> None:
    wrong = openai_error(app_with().post(EMBEDDINGS, json={"input": "a", "dimensions": 5000}), 400)
    assert (wrong["param"], wrong["code"]) == ("dimensions", "invalid_value")
