"""Retell's and the Speech Engine's adapters, and the tables of tools."""

import threading
from typing import Any

import pytest

from core.events import Finish, Text
from dispatch.routing.voice_config import VoiceConfig
from schemas.file_voice import PLATFORM_TOOLS
from tests.conftest import until
from tests.support.phone_calls import FakeCall
from voice.retell import Retell
from voice.speech_engine import SpeechEngine
from voice.tools import TOOLS

HELLO = [{"role": "user", "content": "Hello"}]
CONFIG = {
    "response_type": "config",
    "config": {"auto_reconnect": True, "call_details": True, "transcript_with_tool_calls": True},
}


def response(number: int, content: str, *, complete: bool = False, **more: Any) -> dict[str, Any]:
    head = {"response_type": "response", "response_id": number, "content": content, "content_complete": complete}
    return {**head, "end_call": False, **more}


def requires(
    call: FakeCall, number: Any, transcript: Any = HELLO, kind: str = "response_required", **more: Any
) -> None:
    call.takes(interaction_type=kind, response_id=number, transcript=transcript, **more)


def test_retell_hears_its_config_and_the_begin_message_first() -> None:
    assert FakeCall(Retell("c1")).frames == [CONFIG, response(0, "", complete=True)]
    greeted = FakeCall(Retell("c1"), VoiceConfig(greeting="Good morning."))
    assert greeted.frames == [CONFIG, response(0, "Good morning.", complete=True)]


def test_retells_turn() -> None:
    call = FakeCall(Retell("c1"))
    call.model.will_say("Good ", "morning.")
    transcript = [
        {"role": "agent", "content": "Hi"},
        {"role": "user", "content": "Hello", "words": []},
        {"role": "user", "content": "there"},
        {"role": "agent", "content": ""},
    ]
    requires(call, 1, transcript)
    call.has_sent(response(1, "Good "), response(1, "morning."), response(1, "", complete=True))
    messages, _, conversation = call.model.asked[0]
    assert messages == [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Hello there"}]
    assert conversation == "c1"


def test_retell_reminds() -> None:
    call = FakeCall(Retell("c1"))
    call.model.will_say("Are you there?")
    requires(call, 2, [{"role": "agent", "content": "Hi"}], "reminder_required")
    call.has_sent(response(2, "Are you there?"), response(2, "", complete=True))
    assert call.model.asked[0][0][-1]["role"] == "user"


def test_retells_newest_turn_supersedes_and_updates_do_not() -> None:
    call = FakeCall(Retell("c1"))
    first = call.model.will(Text("One"), threading.Event(), Finish("stop"))
    requires(call, 1)
    call.has_sent(response(1, "One"))
    call.takes(interaction_type="update_only", transcript=HELLO, turntaking="user_turn")
    assert not first.call.gone
    call.model.will_say("Two")
    requires(call, 2)
    call.has_sent(response(1, "One"), response(2, "Two"), response(2, "", complete=True))
    assert first.call.gone


@pytest.mark.parametrize(
    ("name", "arguments", "fields"),
    [
        ("end_call", {}, {"end_call": True}),
        ("transfer_call", {"number": "+14155550100"}, {"transfer_number": "+14155550100"}),
        ("press_digit", {"digits": "1"}, {"digit_to_press": "1"}),
    ],
)
def test_retells_tools(name: str, arguments: Any, fields: Any) -> None:
    call = FakeCall(Retell("c1"))
    call.model.will_call(name, arguments, "Bye.")
    requires(call, 1)
    call.has_sent(response(1, "Bye."), response(1, "", complete=True, **fields))


class Weather:
    def call(self, body: Any, context: Any) -> str:
        return "18 degrees"


def test_retell_sees_the_webhooks_tools_and_tells_of_them_again() -> None:
    tool = {"name": "weather", "parameters": {"type": "object"}}
    call = FakeCall(Retell("c1"), VoiceConfig(tools=(tool,)), webhook=Weather())
    call.model.will_call("weather", {})
    call.model.will_say("18.")
    requires(call, 1)
    invocation = {
        "response_type": "tool_call_invocation",
        "tool_call_id": "call_weather",
        "name": "weather",
        "arguments": "{}",
    }
    result = {"response_type": "tool_call_result", "tool_call_id": "call_weather", "content": "18 degrees"}
    call.has_sent(invocation, {**result, "successful": True}, response(1, "18."), response(1, "", complete=True))
    call.model.will_say("Yes.")
    frames = [
        *HELLO,
        {"role": "tool_call_invocation", "tool_call_id": "call_weather", "name": "weather", "arguments": "{}"},
        {"role": "tool_call_result", "tool_call_id": "call_weather", "content": "18 degrees"},
        {"role": "agent", "content": "18."},
        {"role": "tool_call_invocation", "tool_call_id": "unanswered", "name": "weather", "arguments": "{}"},
        {"role": "user", "content": "Sure?"},
    ]
    requires(call, 2, HELLO, transcript_with_tool_calls=frames)
    call.has_sent(response(2, "", complete=True))
    assert [each["role"] for each in call.model.asked[2][0]] == ["user", "assistant", "tool", "assistant", "user"]


def test_retells_pings_and_facts() -> None:
    call = FakeCall(Retell("c1"), VoiceConfig(instructions="You call {{name}} at {{to}}."))
    call.takes(interaction_type="ping_pong", timestamp=1703302428855)
    call.has_sent({"response_type": "ping_pong", "timestamp": 1703302428855})
    facts = {
        "to_number": "+14155550100",
        "retell_llm_dynamic_variables": {"name": "Ann", "age": 7},
        "from_number": None,
    }
    call.takes(interaction_type="call_details", call=facts)
    call.model.will_say("Hi")
    requires(call, 1)
    call.has_sent(response(1, "", complete=True))
    assert call.model.asked[0][0][0] == {"role": "system", "content": "You call Ann at +14155550100."}


@pytest.mark.parametrize(
    ("number", "transcript"),
    [(None, HELLO), ("1", HELLO), (True, HELLO), (1.5, HELLO), (1, None), (1, "x"), (1, [7]), (1, [{"role": "user"}])],
)
def test_retells_wrong_turns_are_ignored(number: Any, transcript: Any) -> None:
    call = FakeCall(Retell("c1"))
    requires(call, number, transcript)
    call.takes(interaction_type="call_details", call=[])
    call.takes(interaction_type="unheard_of")
    call.model.will_say("Hi")
    requires(call, 3)
    call.has_sent(response(3, "Hi"), response(3, "", complete=True))
    assert len(call.model.asked) == 1


# ElevenLabs


def agent(number: int | None, content: str, *, final: bool = False) -> dict[str, Any]:
    return {"type": "agent_response", "content": content, "event_id": number, "is_final": final}


@pytest.fixture
def engine() -> FakeCall:
    call = FakeCall(SpeechEngine(), VoiceConfig(greeting="Hi"))
    call.takes(type="init", conversation_id="conv1")
    return call


def test_the_speech_engines_turn(engine: FakeCall) -> None:
    engine.model.will_say("Good ", "morning.")
    transcript = [{"role": "agent", "content": "Hi"}, *HELLO]
    engine.takes(type="user_transcript", user_transcript=transcript, event_id=7)
    engine.has_sent(agent(7, "Good "), agent(7, "morning."), agent(7, "", final=True))
    assert len(engine.frames) == 3, "a first message is the engine's own"
    messages, tools, conversation = engine.model.asked[0]
    assert messages == [{"role": "assistant", "content": "Hi"}, *HELLO]
    assert (tools, conversation) == ([], "conv1")


def test_the_speech_engines_events_supersede(engine: FakeCall) -> None:
    first = engine.model.will(Text("One"), threading.Event(), Finish("stop"))
    for number in (5, 5, 4):  # the same again, and a stale one
        engine.takes(type="user_transcript", user_transcript=HELLO, event_id=number)
    engine.has_sent(agent(5, "One"))
    engine.model.will_say("Two")
    engine.takes(type="user_transcript", user_transcript=HELLO, event_id=6)
    engine.has_sent(agent(5, "One"), agent(6, "Two"), agent(6, "", final=True))
    assert first.call.gone
    assert len(engine.model.asked) == 2


def test_the_speech_engine_pings_and_closes(engine: FakeCall) -> None:
    engine.takes(type="ping")
    engine.has_sent({"type": "pong"})
    answer = engine.model.will(threading.Event(), Finish("stop"))
    engine.takes(type="user_transcript", user_transcript=HELLO, event_id=1)
    engine.is_asked(1)
    engine.takes(type="close")
    assert engine.socket.closed_with == 1000
    until(lambda: answer.ended, "the upstream to be let go of")


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "user_transcript", "user_transcript": [{"role": "robot", "content": "x"}], "event_id": 1},
        {"type": "user_transcript", "user_transcript": [{"role": "user"}], "event_id": 1},
        {"type": "user_transcript", "user_transcript": HELLO, "event_id": "1"},
        {"type": "error", "message": "x"},
        {"type": "init"},
        {"type": "later"},
        {},
    ],
)
def test_the_speech_engines_wrong_frames_are_ignored(engine: FakeCall, frame: Any) -> None:
    engine.takes(**frame)
    engine.model.will_say("Hi")
    engine.takes(type="user_transcript", user_transcript=HELLO, event_id=1)
    engine.has_sent(agent(1, "Hi"), agent(1, "", final=True))
    assert len(engine.model.asked) == 1


def test_models_yaml_knows_the_same_tools() -> None:
    assert set(PLATFORM_TOOLS) == set(TOOLS)
