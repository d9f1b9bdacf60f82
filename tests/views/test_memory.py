"""A request frees its memory when it ends. What only the garbage collector can free stays for seconds, buffers and all,
and a collection makes all calls wait.
"""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.context import CallContext
from dispatch.relay import AnswerStream
from tests.conftest import until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults
from tests.support.frames import chat_body
from views.answers import StreamResponse
from views.blueprint import ApiRequest
from views.delivery import Delivery

MODELS = """
providers:
  first: {base_url: "%s", api_key: k}
  second: {base_url: "%s", api_key: k}
models:
  - {name: raced, provider: first, model: a, fallbacks: [second], ttft_timeout_ms: 5000, hedge_after_ms: 1}
  - {name: tried, provider: first, model: a, fallbacks: [second]}
  - {name: second, provider: second, model: b}
"""
HEAVY = (ApiRequest, Delivery, CallContext, AnswerStream, StreamResponse)


@pytest.fixture
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def left() -> list[str]:
    return [type(each).__name__ for each in gc.get_objects() if isinstance(each, HEAVY)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["raced", "tried"])
@pytest.mark.parametrize(
    "answer",
    [
        ScriptedAnswer(),
        ScriptedAnswer(status=500),
        ScriptedAnswer(status=400),
        ScriptedAnswer(fault=faults.cut),
        ScriptedAnswer(fault=faults.reset_before_headers),
        ScriptedAnswer(fault=faults.malformed),
    ],
    ids=["answered", "failed", "refused", "cut", "reset", "malformed"],
)
def test_nothing_of_a_request_waits_for_the_collector(
    app_with: Callable[..., Any],
    tmp_path: Path,
    upstream: OpenAIUpstream,
    collector_off: None,
    answer: ScriptedAnswer,
    name: str,
    stream: bool,
) -> None:
    with OpenAIUpstream() as second:
        upstream.always(answer)
        second.always(answer)
        (tmp_path / "models.yaml").write_text(MODELS % (upstream.base_url, second.base_url))
        app = app_with(MODELS_FILE=tmp_path / "models.yaml", RETRIES=1)
        with app.post("/v1/chat/completions", json=chat_body(model=name, stream=stream)) as response:
            assert response.data
        until(lambda: not left(), f"all to be freed: {left()}")
