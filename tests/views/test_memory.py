"""A request frees its memory when it ends. What only the garbage collector can free stays for seconds, buffers and all,
and a collection makes all calls wait.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.context import CallContext
from dispatch.relay import AnswerStream
from tests.conftest import free_port, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults
from tests.support.frames import chat_body
from views.answers import StreamResponse
from views.blueprint import ApiRequest
from views.delivery import Delivery

MODELS = """
providers:
  first: {base_url: "%s", api_key: %s}
  second: {base_url: "%s", api_key: %s}
models:
  - {name: raced, provider: first, model: a, fallbacks: [second], hedge_after_ms: 1}
  - {name: hurried, provider: first, model: a, fallbacks: [second], ttft_timeout_ms: 50}
  - {name: tried, provider: first, model: a, fallbacks: [second]}
  - {name: second, provider: second, model: b}
"""
Left = Callable[[], Counter[str]]
HEAVY = (ApiRequest, Delivery, CallContext, AnswerStream, StreamResponse)
BODIES = {
    "/v1/chat/completions": chat_body(),
    "/v1/completions": {"prompt": "Hello"},
    "/v1/messages": {"max_tokens": 10, "messages": [{"role": "user", "content": "Hello"}]},
    "/v1/responses": {"input": "Hello"},
}
ANSWERS = {
    "answered": ({}, 200),
    "late": ({"first_delay": 0.2}, 200),
    "failed": ({"status": 500}, None),
    "refused": ({"status": 400}, 400),
    "cut": ({"fault": faults.cut}, None),
    "reset": ({"fault": faults.reset_before_headers}, None),
    "malformed": ({"fault": faults.malformed}, None),
}
"""By its name, an upstream's answer, and the status for the caller if there is only one."""


def alive() -> Counter[str]:
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, HEAVY))


@pytest.fixture
def left(collector_off: None) -> Left:
    """Counts what has come since and is still there."""
    before = alive()  # of other tests
    return lambda: alive() - before


@pytest.fixture
def app(
    app_with: Callable[..., Any], tmp_path: Path, upstream: OpenAIUpstream
) -> Iterator[tuple[Any, Callable[[ScriptedAnswer], None]]]:
    """A client of an app, and a function that sets the answer of both its upstreams."""

    def always(answer: ScriptedAnswer) -> None:
        upstream.always(answer)
        second.always(answer)

    with OpenAIUpstream() as second:
        addresses = (upstream.base_url, upstream.key, second.base_url, second.key)
        (tmp_path / "models.yaml").write_text(MODELS % addresses)
        yield app_with(MODELS_FILE=tmp_path / "models.yaml", RETRIES=1, ALLOW_ANONYMOUS=True), always


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["raced", "hurried", "tried"])
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("answer", ANSWERS)
def test_nothing_of_a_request_waits_for_the_collector(
    app: Any, left: Left, answer: str, path: str, name: str, stream: bool
) -> None:
    (client, always), (script, status) = app, ANSWERS[answer]
    always(ScriptedAnswer(**script))
    with client.post(path, json={**BODIES[path], "model": name, "stream": stream}) as response:
        assert response.data
        assert status in (None, response.status_code), response.data
    del response  # it refers to the stream
    until(lambda: not left(), "all to be freed")


@pytest.mark.parametrize(
    "body", [{}, {"model": "none"}, {"messages": 1}, chat_body(provider="none"), chat_body(n="many")]
)
def test_nothing_of_a_request_that_is_refused_here_waits_either(app: Any, left: Left, body: Any) -> None:
    client, _ = app
    assert client.post("/v1/chat/completions", json=body).status_code in (400, 404)
    until(lambda: not left(), "all to be freed")


def test_nothing_waits_where_no_upstream_listens(app_with: Callable[..., Any], left: Left) -> None:
    client = app_with(OPENAI_API_KEY="k", OPENAI_BASE_URL=f"http://127.0.0.1:{free_port()}/v1", RETRIES=1)
    assert client.post("/v1/chat/completions", json=chat_body()).status_code == 502
    until(lambda: not left(), "all to be freed")
