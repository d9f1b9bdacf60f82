"""The anthropic package against real gunicorn: the demo, and an emulated vendor of another dialect."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import pytest

from tests.conftest import EVER, Served, served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults
from tests.emulators.answers import TEXTS
from tests.emulators.openai.server import PIXEL

HI = [{"role": "user", "content": "Say: Good morning."}]
WEATHER = {
    "name": "get_weather",
    "description": "Weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
MODEL = "claude-sonnet-5"


@contextmanager
def client(app: Served, **options: Any) -> Iterator[anthropic.Anthropic]:
    address = app.url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=address, max_retries=0, timeout=EVER, **options) as made:
        yield made


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("served") / "log", API_KEY="own", DEMO_PACE_MS=1) as app:
        yield app


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenAIUpstream, Served]]:
    log = tmp_path_factory.mktemp("served") / "log"
    with OpenAIUpstream() as upstream:
        settings = {"OPENAI_API_KEY": upstream.key, "OPENAI_BASE_URL": upstream.base_url, "HEADERS_AFTER": 0.2}
        settings |= {"MODEL_ALIASES": "claude-*=gpt-4o-mini", "RETRIES": 0, "HEARTBEAT": 1, "BREAKER_FAILURES": 10_000}
        with served(log, **settings) as app:
            yield upstream, app


@pytest.mark.parametrize("beta", [False, True])
@pytest.mark.parametrize("sent_as", ["api_key", "auth_token"])
def test_a_text_streamed_and_whole(demo: Served, sent_as: str, beta: bool) -> None:
    with client(demo, **{sent_as: "own"}) as asked:
        api: Any = asked.beta.messages if beta else asked.messages
        whole = api.create(model=MODEL, max_tokens=100, messages=HI)
        with api.stream(model=MODEL, max_tokens=100, messages=HI) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
    assert text == "Good morning." == whole.content[0].text == final.content[0].text
    assert final.stop_reason == whole.stop_reason == "end_turn"
    assert final.usage.input_tokens > 0
    assert final.usage.output_tokens > 0


def test_tools_there_and_back(demo: Served) -> None:
    asked: list[Any] = [{"role": "user", "content": "What is the weather in Bern?"}]
    with client(demo, api_key="own") as caller:
        with caller.messages.stream(model=MODEL, max_tokens=500, messages=asked, tools=[WEATHER]) as stream:
            first = stream.get_final_message()
        (use,) = [block for block in first.content if block.type == "tool_use"]
        assert (first.stop_reason, use.name, list(use.input)) == ("tool_use", "get_weather", ["city"])
        result = {"type": "tool_result", "tool_use_id": use.id, "content": "18 degrees and fair"}
        asked += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        second = caller.messages.create(model=MODEL, max_tokens=500, messages=asked, tools=[WEATHER])
    assert "18 degrees and fair" in second.content[0].text


def test_thinking_and_counting(demo: Served) -> None:
    with client(demo, api_key="own") as caller:
        thinking: Any = {"type": "enabled", "budget_tokens": 1024}
        found = caller.messages.create(model=MODEL, max_tokens=2000, messages=HI, thinking=thinking)
        assert [block.type for block in found.content] == ["thinking", "text"]
        assert caller.messages.count_tokens(model=MODEL, messages=HI, tools=[WEATHER]).input_tokens > 10


def test_a_picture_reaches_the_vendor(line: tuple[OpenAIUpstream, Served]) -> None:
    upstream, app = line
    upstream.always(ScriptedAnswer())
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    content: Any = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
    with client(app, api_key="any") as caller:
        found = caller.messages.create(model=MODEL, max_tokens=9, messages=[{"role": "user", "content": content}])
    assert found.content[0].text == "".join(TEXTS)
    assert PIXEL.encode() in upstream.received[-1].body


def test_errors_are_the_packages_own(demo: Served, line: tuple[OpenAIUpstream, Served]) -> None:
    upstream, app = line
    wrong: Any = {"model": MODEL, "max_tokens": 0, "messages": HI}
    with client(demo, api_key="wrong") as caller, pytest.raises(anthropic.AuthenticationError) as refused:
        caller.messages.create(model=MODEL, max_tokens=9, messages=HI)
    assert refused.value.body["error"]["details"]["error_code"] == "invalid_api_key"
    assert refused.value.request_id == refused.value.response.headers["x-request-id"]
    with client(demo, api_key="own") as caller, pytest.raises(anthropic.BadRequestError):
        caller.messages.create(**wrong)
    with client(app, api_key="any") as caller:
        upstream.enqueue(ScriptedAnswer(status=429), ScriptedAnswer(status=503), ScriptedAnswer(fault=faults.cut))
        with pytest.raises(anthropic.RateLimitError):
            caller.messages.create(model=MODEL, max_tokens=9, messages=HI)
        with pytest.raises(anthropic.InternalServerError) as overloaded:
            caller.messages.create(model=MODEL, max_tokens=9, messages=HI)
        assert overloaded.value.status_code == 529
        with (
            pytest.raises(anthropic.APIStatusError),
            caller.messages.stream(model=MODEL, max_tokens=9, messages=HI) as stream,
        ):
            stream.until_done()


def test_a_late_first_word_finds_the_stream_open(line: tuple[OpenAIUpstream, Served]) -> None:
    """The message begins, and its line is kept by pings, before the vendor has said anything."""
    upstream, app = line
    upstream.enqueue(ScriptedAnswer(first_delay=1.5))
    with client(app, api_key="any") as caller, caller.messages.stream(model=MODEL, max_tokens=9, messages=HI) as stream:
        kinds = [event.type for event in stream]
        assert (kinds.count("message_start"), kinds[-1]) == (1, "message_stop")
        assert stream.get_final_message().content[0].text == "".join(TEXTS)


def test_leaving_a_stream_frees_the_vendor(line: tuple[OpenAIUpstream, Served]) -> None:
    upstream, app = line
    upstream.enqueue(ScriptedAnswer(texts=["word "] * 3000, frame_delay=0.01))
    with client(app, api_key="any") as caller, caller.messages.stream(model=MODEL, max_tokens=9, messages=HI) as stream:
        next(iter(stream.text_stream))
    assert upstream.received[-1].wait_closed(10)
    until(lambda: "outcome=hung_up" in app.log(), "the line to end")
