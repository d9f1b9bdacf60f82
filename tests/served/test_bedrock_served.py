"""Bedrock agents through gunicorn and OpenAI's own client: workers, restarts, and callers who leave."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Served, served, until
from tests.emulators.bedrock.answers import Turn
from tests.emulators.bedrock.server import AGENT, BedrockUpstream
from tests.support.callers import AT_ONCE, Caller
from tests.support.frames import chat_body, post

WEATHER = {
    "functionInvocationInput": {
        "actionGroup": "weather",
        "function": "get_weather",
        "parameters": [{"name": "city", "type": "string", "value": "Paris"}],
    }
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[BedrockUpstream]:
    with BedrockUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def start(upstream: BedrockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Any]:
    folder = tmp_path_factory.mktemp("served")
    ids = {"AGENT_ID": AGENT[0], "AGENT_ALIAS_ID": AGENT[1]}

    def again() -> Any:
        return served(Path(folder, "log"), **upstream.settings, **ids, WORKERS=2, THREADS=8, DATA_DIR=folder / "data")

    return again


def both(app: Served) -> list[int]:
    until(lambda: app.log().count("Booting worker") >= 2 and len(app.workers) == 2, "two workers")
    return app.workers


class Only:
    """Only one of two workers takes calls, until the block ends."""

    def __init__(self, app: Served, which: int) -> None:
        self.paused = both(app)[1 - which]

    def __enter__(self) -> None:
        os.kill(self.paused, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        os.kill(self.paused, signal.SIGCONT)


def test_three_turns_a_tool_two_workers_and_a_restart(
    upstream: BedrockUpstream, start: Callable[[], Any], request: pytest.FixtureRequest
) -> None:
    """Each turn is answered by another process, and the agent remembers."""
    messages: list[Any] = []

    def say(app: Served, text: str) -> Any:
        messages.append({"role": "user", "content": text})
        return answer(app)

    def answer(app: Served) -> Any:
        choice = app.client().chat.completions.create(model="gpt-4o-mini", messages=messages).choices[0]
        messages.append(choice.message.model_dump(exclude_none=True))
        return choice

    with start() as app:
        with Only(app, 0):
            say(app, "My name is Ada.")
        with Only(app, 1):
            upstream.enqueue(Turn(controls=[WEATHER]))
            choice = say(app, "And the weather?")
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "Sunny."})
    app = request.getfixturevalue("served_app")
    with Only(app, 0):
        assert "Sunny." in answer(app).message.content
    with Only(app, 1):
        assert "My name is Ada." in say(app, "Who am I?").message.content
    session = upstream.asked[0].params["sessionId"]
    asked = [each.params for each in upstream.asked if each.params["sessionId"] == session]
    assert [params.get("inputText") for params in asked] == [
        "My name is Ada.",
        "And the weather?",
        None,
        "Who am I?",
    ]


PHASES: dict[str, tuple[Turn, bool, bytes]] = {
    "before headers": (Turn(delay=30), True, b""),
    "before the first word": (Turn(first_delay=30), True, b""),
    "between words": (Turn(texts=["One ", "two."], frame_delay=30, usages=()), True, b"One"),
    "not streaming": (Turn(texts=["One ", "two."], frame_delay=30), False, b""),
}


@pytest.fixture(scope="module")
def served_app(start: Callable[[], Any]) -> Iterator[Served]:
    with start() as app:
        both(app)
        for _ in range(8):  # each worker has its client at Amazon
            post(app.port, chat_body())
        yield app


@pytest.mark.parametrize("phase", PHASES)
def test_a_caller_who_leaves_frees_the_agent(upstream: BedrockUpstream, served_app: Served, phase: str) -> None:
    """An agent that talks on to nobody goes on acting, and costs."""
    turn, stream, heard = PHASES[phase]
    count = len(upstream.received)
    upstream.enqueue(turn)
    caller = Caller(served_app.port, chat_body(stream=stream))
    until(lambda: len(upstream.received) > count, "the request to arrive at Amazon")
    caller.hears(heard)
    left = caller.leaves()
    assert upstream.received[count].wait_closed(10) - left < AT_ONCE


def test_words_come_at_once(upstream: BedrockUpstream, served_app: Served) -> None:
    """The second word is a second away: the first is heard before it."""
    upstream.enqueue(Turn(texts=["One ", "two."], frame_delay=1.0, usages=()))
    began = time.monotonic()
    messages: Any = [{"role": "user", "content": "Count."}]
    stream = served_app.client().chat.completions.create(model="x", messages=messages, stream=True)
    heard = {}
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            heard[chunk.choices[0].delta.content] = time.monotonic() - began
    assert list(heard) == ["One ", "two."]
    assert heard["One "] < 0.9 < heard["two."]
