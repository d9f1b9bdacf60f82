"""Translated streams of each kind of upstream, under gunicorn: whole, in order, counted, and mended or ended as those
that pass unread are. The thread that keeps the lines decodes and encodes most of their frames.
"""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from tests.conftest import Served, served
from tests.emulators import faults
from tests.emulators.answers import Call
from tests.emulators.dialects import DIALECTS
from tests.emulators.lines import NAMES, Line, lines
from tests.support import messages
from tests.support.callers import AT_ONCE
from tests.support.frames import chat_body, chunks, finish, payloads, post, streamed_text

WORDS = [f"{number} é🦜\n" for number in range(300)]
CHATS = tuple(dict.fromkeys(f"{each.name}/{each.model}" for each in DIALECTS))
TOOL = {"type": "function", "function": {"name": "book_table", "parameters": {"type": "object", "properties": {}}}}
ARGUMENTS = '{"people": 4, "name": "Zoë"}'

Setup = tuple[Served, Mapping[str, Line]]


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    folder = tmp_path_factory.mktemp("served")
    with lines() as (found, settings):
        more = {"DATA_DIR": folder / "data", "BREAKER_FAILURES": 10_000, "IDLE_TIMEOUT": 2, "ALLOW_ANONYMOUS": "true"}
        with served(folder / "log", **{**settings, **more}) as app:
            yield app, found


def body(line: Line, **more: Any) -> dict[str, Any]:
    return chat_body(provider=line.provider, model=line.model, stream=True, **more)


@pytest.mark.parametrize("pause", [0.0, 0.003], ids=["at once", "word by word"])
@pytest.mark.parametrize("name", NAMES)
def test_a_long_stream_arrives_whole(setup: Setup, name: str, pause: float) -> None:
    app, found = setup
    line = found[name]
    line.upstream.enqueue(line.answer(texts=WORDS, frame_delay=pause))
    _, _, stream = post(app.port, body(line, stream_options={"include_usage": True}))
    assert streamed_text(stream) == "".join(WORDS)
    assert finish(stream) == "stop"
    assert len({chunk["id"] for chunk in chunks(stream)}) == 1


@pytest.mark.parametrize("name", CHATS)
def test_the_usage_is_the_upstreams(setup: Setup, name: str) -> None:
    app, found = setup
    line = found[name]
    line.upstream.enqueue(line.answer(texts=WORDS, frame_delay=0.002))
    _, headers, stream = post(app.port, body(line, stream_options={"include_usage": True}))
    usage = json.loads(payloads(stream)[-1])["usage"]
    assert usage["completion_tokens"] > 0
    app.logged(f"{headers['x-request-id']} .*outcome=done .*completion_tokens={usage['completion_tokens']}")


@pytest.mark.parametrize("name", CHATS)
def test_a_call_between_words_arrives_whole(setup: Setup, name: str) -> None:
    app, found = setup
    line = found[name]
    call = Call("call_1", "book_table", [ARGUMENTS[:9], ARGUMENTS[9:]])
    line.upstream.enqueue(line.answer(texts=["Let ", "me ", "see. "], calls=[call], frame_delay=0.01))
    _, _, stream = post(app.port, body(line, tools=[TOOL]))
    assert json.loads("".join(call["function"]["arguments"] for call in calls_of(stream))) == json.loads(ARGUMENTS)
    assert finish(stream) == "tool_calls"


@pytest.mark.parametrize("name", CHATS)
def test_one_who_leaves_is_charged_for_what_was_generated(setup: Setup, name: str) -> None:
    app, found = setup
    line = found[name]
    line.upstream.enqueue(line.answer(texts=["word "] * 1000, frame_delay=0.01))
    identifier = f"left-{name.replace('/', '-')}"
    with httpx.stream(
        "POST", f"{app.url}/chat/completions", json=body(line), headers={"x-request-id": identifier}
    ) as stream:
        pieces = stream.iter_text()
        heard = ""
        while heard.count("word") < 20:
            heard += next(pieces)
    app.logged(f"{identifier} .*outcome=hung_up")
    record = httpx.get(f"{app.url}/requests/{identifier}").json()
    assert record["usage"]["estimated"]
    assert record["usage"]["completion_tokens"] >= 20


@pytest.mark.parametrize("fault", [faults.stalled, faults.reset], ids=["silence", "a reset"])
@pytest.mark.parametrize("name", CHATS)
def test_what_fails_in_the_middle_is_an_error_frame(setup: Setup, name: str, fault: Any) -> None:
    app, found = setup
    line = found[name]
    line.upstream.enqueue(line.answer(texts=WORDS, frame_delay=0.001, fault=fault))
    _, _, stream = post(app.port, body(line))
    assert json.loads(payloads(stream)[-1])["error"]["type"] == "server_error"


@pytest.mark.parametrize("name", CHATS)
def test_messages_are_encoded_there_too(setup: Setup, name: str) -> None:
    app, found = setup
    line = found[name]
    line.upstream.enqueue(line.answer(texts=WORDS, frame_delay=0.002))
    asked = {**messages.ask_body(), "model": f"{line.provider}/{line.model}", "stream": True}
    _, _, stream = post(app.port, asked, "/v1/messages")
    assert messages.text(messages.streamed(stream)) == "".join(WORDS)


FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "table",
        "schema": {
            "type": "object",
            "properties": {"people": {"type": "integer"}, "name": {"type": "string"}},
            "required": ["people", "name"],
            "additionalProperties": False,
        },
    },
}
LONG_NAME = "book.a-table/now:please"


@pytest.mark.parametrize("name", CHATS)
def test_names_of_tools_are_restored(setup: Setup, name: str) -> None:
    app, found = setup
    line = found[name]
    tool = {"type": "function", "function": {**TOOL["function"], "name": LONG_NAME}}
    line.upstream.always(line.answer(frame_delay=0.01))  # calls the tool that the request demands
    demanded = {"type": "function", "function": {"name": LONG_NAME}}
    _, _, stream = post(app.port, body(line, tools=[tool], tool_choice=demanded))
    called = [call["function"].get("name") for call in calls_of(stream)]
    assert [each for each in called if each] == [LONG_NAME]


@pytest.mark.parametrize("name", CHATS)
def test_a_format_is_answered_with_text_whatever_the_upstream_made_of_it(setup: Setup, name: str) -> None:
    app, found = setup
    line = found[name]
    line.upstream.always(line.answer(frame_delay=0.01))
    model = "claude-3-haiku-20240307" if line.provider == "anthropic" else line.model  # has no formats of its own
    asked = body(line, response_format=FORMAT) | {"model": model}
    _, _, stream = post(app.port, asked)
    assert not calls_of(stream)
    assert finish(stream) == "stop"
    if line.provider == "anthropic":
        assert json.loads(streamed_text(stream)).keys() == {"people", "name"}


def calls_of(stream: bytes) -> list[dict[str, Any]]:
    deltas = [choice["delta"] for chunk in chunks(stream) for choice in chunk["choices"]]
    return [call for delta in deltas for call in delta.get("tool_calls") or ()]


ENDS: Mapping[str, tuple[str, Any]] = {
    "cohere": ("an end mark without a finish", faults.done_without_finish),
    "gemini": ("an end without a finish", faults.no_finish),
    "openai": ("an end without a finish", faults.no_finish),
    "anthropic": ("an end without a finish", faults.no_finish),
}


@pytest.mark.parametrize("provider", ENDS)
def test_an_answer_without_a_finish_is_told_of_at_once(setup: Setup, provider: str) -> None:
    app, found = setup
    line = next(line for line in found.values() if line.provider == provider)
    line.upstream.enqueue(line.answer(texts=WORDS[:20], fault=ENDS[provider][1]))
    began = time.monotonic()
    _, _, stream = post(app.port, body(line))
    assert time.monotonic() - began < AT_ONCE  # and not after IDLE_TIMEOUT
    assert json.loads(payloads(stream)[-1])["error"]["type"] == "server_error"
