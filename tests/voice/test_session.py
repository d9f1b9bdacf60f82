"""The session of a phone call, with a scripted socket and a scripted model: each cell of its table."""

import threading
import time
from typing import Any

import pytest

from core.errors import Cancelled, RateLimited, UpstreamDown
from core.events import Finish, Reasoning, Refusal, Text, ToolArguments, ToolCall
from dispatch.routing.voice_config import VoiceConfig
from tests.conftest import until
from tests.support.phone_calls import FakeCall
from voice import conversation
from voice.call import State
from voice.conversation_relay import ConversationRelay
from voice.retell import Retell
from voice.turns import ToolFailed

LAST = {"type": "text", "token": "", "last": True}


def token(text: str) -> dict[str, Any]:
    return {"type": "text", "token": text, "last": False}


@pytest.fixture
def call() -> FakeCall:
    return call_with(VoiceConfig())


def call_with(config: VoiceConfig, **options: Any) -> FakeCall:
    call = FakeCall(ConversationRelay(), config, **options)
    call.takes(type="setup", sessionId="VX1", callSid="CA1", customParameters={"name": "Ann"})
    return call


def caller_says(call: FakeCall, text: str) -> None:
    call.takes(type="prompt", voicePrompt=text, lang="en-US", last=True)


def test_a_turn_is_spoken_and_remembered(call: FakeCall) -> None:
    call.model.will_say("Good ", "morning.")
    caller_says(call, "Hello")
    call.has_sent(token("Good "), token("morning."), LAST)
    call.model.will_say("Yes.")
    caller_says(call, "Are you there?")
    call.has_sent(LAST, token("Yes."), LAST)
    messages, _, identifier = call.model.asked[1]
    assert messages == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Good morning."},
        {"role": "user", "content": "Are you there?"},
    ]
    assert identifier == "CA1"
    assert call.session.state is State.IDLE


def test_thinking_is_not_spoken_and_a_refusal_is(call: FakeCall) -> None:
    call.model.will(Reasoning("hm"), Refusal("I cannot."), Finish("stop"))
    caller_says(call, "Hello")
    call.has_sent(token("I cannot."), LAST)


def test_instructions_and_greeting_name_facts_of_the_call() -> None:
    call = call_with(VoiceConfig(instructions="You speak with {{name}}.{{unknown}}", greeting="Hello {{ name }}!"))
    call.has_sent({"type": "text", "token": "Hello Ann!", "last": True})
    call.model.will_say("Yes.")
    caller_says(call, "Hi")
    call.has_sent(token("Yes."), LAST)
    assert [each["content"] for each in call.model.asked[0][0]] == ["You speak with Ann.", "Hello Ann!", "Hi"]


@pytest.mark.parametrize("spoken", [[], [Text("I would like to say ")]], ids=["asking", "speaking"])
def test_a_newer_turn_cancels_the_one_under_way(call: FakeCall, spoken: list[Any]) -> None:
    first = call.model.will(*spoken, threading.Event(), Text("too much."), Finish("stop"))
    caller_says(call, "One")
    call.is_asked(1)
    until(lambda: len(call.frames) == len(spoken), "what was spoken")
    call.model.will_say("Two it is.")
    caller_says(call, "Two")
    call.has_sent(*[token(each.text) for each in spoken], token("Two it is."), LAST)
    assert first.call.gone
    until(lambda: first.ended, "the upstream to be let go of")


@pytest.mark.parametrize("spoken", [[], [Text("I would like")]], ids=["asking", "speaking"])
def test_an_interrupted_turn_gets_no_further_frame(call: FakeCall, spoken: list[Any]) -> None:
    go_on = threading.Event()
    answer = call.model.will(*spoken, go_on, Text(" to talk."), Finish("stop"))
    caller_says(call, "One")
    call.is_asked(1)
    until(lambda: len(call.frames) == len(spoken), "what was spoken")
    call.takes(type="interrupt", utteranceUntilInterrupt="", durationUntilInterruptMs=10)
    assert answer.call.gone
    assert call.session.state is State.IDLE
    until(lambda: answer.ended, "the upstream to be let go of")
    assert len(call.frames) == len(spoken)


@pytest.mark.parametrize(
    ("heard", "kept"),
    [
        ("Life is a complex set", "Life is a complex set"),
        ("life is, a complex!", "Life is a complex"),
        ("set of", "Life is a complex set of"),
        ("Life is a comp", "Life is a"),
        ("Life is a complex set of 3 things.", "Life is a complex set of three things."),
        ("something else entirely", "Life is a"),
        ("", None),
    ],
)
def test_what_was_not_heard_is_trimmed(call: FakeCall, heard: str, kept: str | None) -> None:
    """Platforms speak later than the model: mostly the whole answer was sent when the caller interrupts it."""
    call.model.will_say("Life is a complex ", "set of three things. And more.")
    caller_says(call, "What is life?")
    call.has_sent(LAST)
    call.takes(type="interrupt", utteranceUntilInterrupt=heard, durationUntilInterruptMs=460)
    call.model.will_say("Yes.")
    caller_says(call, "Stop")
    call.has_sent(token("Yes."), LAST)
    said = [each["content"] for each in call.model.asked[1][0] if each["role"] == "assistant"]
    assert said == ([] if kept is None else [kept])


def test_a_late_interruption_does_not_touch_what_came_before(call: FakeCall) -> None:
    for answer in ("One.", "Two."):
        call.model.will_say(answer)
        caller_says(call, "Count")
        call.has_sent(token(answer), LAST)
    for _ in range(2):
        call.takes(type="interrupt", utteranceUntilInterrupt="")
    call.model.will_say("Three.")
    caller_says(call, "Count")
    call.has_sent(token("Three."), LAST)
    assert [each["content"] for each in call.model.asked[2][0]] == ["Count", "One.", "Count", "Count"]


@pytest.mark.parametrize("error", [UpstreamDown("down"), RateLimited("slowly")])
def test_a_failure_ends_the_turn_and_is_not_spoken(call: FakeCall, error: Any) -> None:
    call.model.will(Text("Well"), error)
    caller_says(call, "Hello")
    call.has_sent(token("Well"), LAST)
    call.model.will_refuse(error)
    caller_says(call, "Hello?")
    call.has_sent(LAST, LAST)
    call.model.will_say("Here I am.")
    caller_says(call, "Hello??")
    call.has_sent(token("Here I am."), LAST)


def test_an_answer_without_an_end_is_a_failure(call: FakeCall) -> None:
    call.model.will(Text("Well"))
    caller_says(call, "Hello")
    call.has_sent(token("Well"), LAST)


def test_a_full_server_ends_the_turn(call: FakeCall) -> None:
    call.socket.is_full = True
    caller_says(call, "Hello")
    call.has_sent(LAST)


def test_a_filler_is_said_once_and_is_not_what_the_model_said(call: FakeCall) -> None:
    wait = threading.Event()
    answer = call.model.will(
        wait, Text("Noon it is. Or not."), Finish("stop"), filler=("One moment... ", time.monotonic())
    )
    caller_says(call, "When?")
    until(lambda: call.socket.later, "the filler to be planned")
    call.socket.later[0]()
    call.has_sent(token("One moment... "))
    wait.set()
    call.has_sent(token("One moment... "), token("Noon it is. Or not."), LAST)
    assert answer.filled
    call.takes(type="interrupt", utteranceUntilInterrupt="One moment... Noon it is.")
    call.model.will_say("Yes.")
    caller_says(call, "Fine")
    call.has_sent(token("Yes."), LAST)
    assert call.model.asked[1][0][1] == {"role": "assistant", "content": "Noon it is."}


def test_no_filler_behind_the_first_word(call: FakeCall) -> None:
    wait = threading.Event()
    call.model.will(Text("Noon"), wait, Finish("stop"), filler=("One moment... ", time.monotonic() + 10))
    caller_says(call, "When?")
    call.has_sent(token("Noon"))
    with pytest.raises(Cancelled):
        call.socket.later[0]()
    wait.set()
    call.has_sent(token("Noon"), LAST)
    assert not call.socket.later


def test_a_filler_while_a_tool_is_carried_out() -> None:
    wait = threading.Event()
    call = call_with(VoiceConfig(tools=(BOOK,)), webhook=FakeWebhook("Booked.", wait))
    call.model.will_call("book", {}, filler=("One moment... ", time.monotonic() + 10))
    call.model.will_say("Done.")
    caller_says(call, "A table")
    until(lambda: call.session.state is State.CALLING, "the webhook to be called")
    call.socket.later[0]()
    wait.set()
    call.has_sent(token("One moment... "), token("Done."), LAST)
    until(lambda: not call.socket.later, "the filler to be taken back")


def test_keys_of_the_phone_are_one_message(call: FakeCall) -> None:
    call.model.will(threading.Event(), Finish("stop"))
    call.takes(type="dtmf", digit="1")
    call.is_asked(1)
    call.model.will_say("Twelve.")
    call.takes(type="dtmf", digit="2")
    call.has_sent(token("Twelve."), LAST)
    assert call.model.asked[1][0] == [{"role": "user", "content": "(The caller has pressed the keys: 1 2)"}]


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "no JSON",
        "[]",
        "null",
        "1",
        '"prompt"',
        "{}",
        '{"type": 7}',
        '{"type": "unheard-of"}',
        '{"type": "prompt"}',
        '{"type": "prompt", "voicePrompt": {"a": 1}}',
        '{"type": "prompt", "voicePrompt": "half", "last": false}',
        '{"type": "prompt", "voicePrompt": "  ", "last": true}',
        '{"type": "interrupt", "utteranceUntilInterrupt": 7}',
        '{"type": "dtmf", "digit": 1}',
        '{"type": "setup"}',
        '{"type": "setup", "sessionId": [], "customParameters": 4}',
        '{"type": "error", "description": "64107"}',
        '{"type": "info", "name": "roundTripDelayMs", "value": "200"}',
        b"\xff\xfe",
        "[" * 100_000,
    ],
)
def test_frames_that_mean_nothing_are_ignored(call: FakeCall, frame: str | bytes) -> None:
    call.session.receive(frame)
    call.model.will_say("Still here.")
    caller_says(call, "Hello")
    call.has_sent(token("Still here."), LAST)
    assert len(call.model.asked) == 1


def test_half_a_character_is_no_reason_for_silence(call: FakeCall) -> None:
    """JavaScript writes the half of a pair that it has cut as an escape."""
    call.model.will_say("Yes.")
    call.session.receive('{"type": "prompt", "voicePrompt": "Hello \\ud83d", "last": true}')
    call.has_sent(token("Yes."), LAST)
    assert call.model.asked[0][0][-1]["content"] == "Hello \ufffd"


def test_the_end_of_the_socket_ends_the_turn(call: FakeCall) -> None:
    answer = call.model.will(threading.Event(), Finish("stop"))
    caller_says(call, "Hello")
    call.is_asked(1)
    call.socket.closed_with = 1006
    call.session.closed()
    assert answer.call.gone
    assert call.session.state is State.CLOSED
    caller_says(call, "Hello")
    assert len(call.model.asked) == 1


# Tools


def test_the_platforms_tools_are_offered(call: FakeCall) -> None:
    call.model.will_say("Hi.")
    caller_says(call, "Hello")
    call.has_sent(token("Hi."), LAST)
    names = [tool["function"]["name"] for tool in call.model.asked[0][1]]
    assert names == ["end_call", "transfer_call", "press_digit"]


@pytest.mark.parametrize(
    ("name", "arguments", "ending"),
    [
        (
            "end_call",
            {},
            {"type": "end", "handoffData": '{"reasonCode":"end-call","reason":"The conversation is over."}'},
        ),
        (
            "transfer_call",
            {"number": "+1 (415) 555-0100"},
            {
                "type": "end",
                "handoffData": '{"reasonCode":"live-agent-handoff","reason":"The caller is to be transferred.",'
                '"transferNumber":"+14155550100"}',
            },
        ),
        ("press_digit", {"digits": "12#"}, {"type": "sendDigits", "digits": "12#"}),
    ],
)
def test_a_platforms_tool_ends_the_turn(call: FakeCall, name: str, arguments: Any, ending: Any) -> None:
    call.model.will_call(name, arguments, "Very well.")
    caller_says(call, "Please do")
    call.has_sent(token("Very well."), LAST, ending)
    call.model.will_say("Yes.")
    caller_says(call, "And?")
    call.has_sent(token("Yes."), LAST)
    _, said, result, _ = call.model.asked[1][0]
    assert (said["content"], said["tool_calls"][0]["function"]["name"]) == ("Very well.", name)
    assert (result["role"], result["content"]) == ("tool", "Done.")


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("transfer_call", {"number": "the police"}, "form"),
        ("transfer_call", {"number": 911}, "form"),
        ("transfer_call", {}, "form"),
        ("press_digit", {"digits": "one"}, "0-9"),
        ("press_digit", {"digits": True}, "0-9"),
        ("unheard_of", {}, "no tool"),
    ],
)
def test_a_wrong_call_is_told_to_the_model(call: FakeCall, name: str, arguments: Any, why: str) -> None:
    call.model.will_call(name, arguments)
    call.model.will_say("Sorry.")
    caller_says(call, "Please do")
    call.has_sent(token("Sorry."), LAST)
    assert why in call.model.asked[1][0][-1]["content"]


def test_a_call_is_transferred_to_known_numbers_alone() -> None:
    call = call_with(VoiceConfig(transfer_to=("+14155550100",)))
    call.model.will_call("transfer_call", {"number": "+19005550199"})
    call.model.will_call("transfer_call", {"number": "+14155550100"})
    caller_says(call, "Give me the other one")
    until(lambda: call.frames and call.frames[-1]["type"] == "end", "the transfer")
    assert "+14155550100" in call.frames[-1]["handoffData"]
    parameters = call.model.asked[0][1][1]["function"]["parameters"]
    assert parameters["properties"]["number"]["enum"] == ["+14155550100"]


def test_a_language_and_a_sound_and_the_answer_goes_on() -> None:
    config = VoiceConfig(platform_tools=("switch_language",), sounds={"hold": "https://a.example/hold.mp3"})
    call = call_with(config)
    call.model.will_call("switch_language", {"language": "es-MX"})
    call.model.will_call("play_sound", {"name": "hold"})
    call.model.will_call("play_sound", {"name": "https://evil.example"})
    call.model.will_say("Hola.")
    caller_says(call, "Español")
    call.has_sent(
        {"type": "language", "ttsLanguage": "es-MX", "transcriptionLanguage": "es-MX"},
        {"type": "play", "source": "https://a.example/hold.mp3"},
        token("Hola."),
        LAST,
    )
    assert [tool["function"]["name"] for tool in call.model.asked[0][1]] == ["switch_language", "play_sound"]


class FakeWebhook:
    """Answers, or fails; first it waits, for its release or the end of the turn."""

    def __init__(self, answer: str | ToolFailed, wait: threading.Event | None = None) -> None:
        self.answer = answer
        self.bodies: list[Any] = []
        self._wait = wait

    def call(self, body: Any, context: Any) -> str:
        self.bodies.append(body)
        if self._wait is not None:
            with context.on_cancel(self._wait.set):
                self._wait.wait(20)
            if context.gone:
                raise Cancelled
        if isinstance(self.answer, ToolFailed):
            raise self.answer
        return self.answer


BOOK = {"name": "book", "description": "Book a table.", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(("answer", "result"), [("Booked.", "Booked."), (ToolFailed("It failed."), "It failed.")])
def test_other_tools_are_the_webhooks(answer: Any, result: str) -> None:
    webhook = FakeWebhook(answer)
    call = call_with(VoiceConfig(tools=(BOOK,)), webhook=webhook)
    call.model.will_call("book", {"time": "8"}, "Let me see.")
    call.model.will_say(" Done.")
    caller_says(call, "A table at 8")
    call.has_sent(token("Let me see."), token(" Done."), LAST)
    assert webhook.bodies[0]["data"]["tool_call"] == {"id": "call_book", "name": "book", "arguments": {"time": "8"}}
    assert webhook.bodies[0]["data"]["conversation"] == "CA1"
    asked = call.model.asked[1][0]
    assert [each["role"] for each in asked] == ["user", "assistant", "tool"]
    assert asked[-1] == {"role": "tool", "tool_call_id": "call_book", "content": result}


def test_several_calls_of_one_answer() -> None:
    call = call_with(VoiceConfig(tools=(BOOK,)), webhook=FakeWebhook("Booked."))
    call.model.will(
        ToolCall(0, "book", "a"),
        ToolCall(1, "book", "b"),
        ToolArguments(1, '{"n":2}'),
        ToolArguments(0, "{}"),
        Finish("stop"),
    )
    call.model.will_say("Both.")
    caller_says(call, "Two tables")
    call.has_sent(token("Both."), LAST)
    _, assistant, first, second = call.model.asked[1][0]
    assert [each["id"] for each in assistant["tool_calls"]] == ["a", "b"]
    assert [first["tool_call_id"], second["tool_call_id"]] == ["a", "b"]


def test_an_interruption_frees_a_webhook_too() -> None:
    call = call_with(VoiceConfig(tools=(BOOK,)), webhook=FakeWebhook("", threading.Event()))
    call.model.will_call("book", {}, "Let me see.")
    caller_says(call, "A table")
    until(lambda: call.session.state is State.CALLING, "the webhook to be called")
    call.takes(type="interrupt", utteranceUntilInterrupt="Let me")
    call.model.will_say("Yes.")
    caller_says(call, "Wait")
    call.has_sent(token("Let me see."), token("Yes."), LAST)
    assert [each["content"] for each in call.model.asked[1][0]] == ["A table", "Let me", "Wait"]


def test_a_model_that_only_calls_tools_is_stopped() -> None:
    call = call_with(VoiceConfig(tools=(BOOK,)), webhook=FakeWebhook("again"))
    for _ in range(10):
        call.model.will_call("book", {})
    caller_says(call, "A table")
    call.has_sent(LAST)
    assert len(call.model.asked) < 10


# A reload


class FakeState(dict[str, str]):
    def put(self, key: str, value: str, seconds: float) -> None:
        self[key] = value


def test_a_conversation_outlives_a_reload() -> None:
    """ConversationRelay dials again; the words that no one has answered are answered then."""
    state: Any = FakeState()
    state.pop = lambda key: dict.pop(state, key, None)
    config = VoiceConfig(greeting="Hello!", instructions="For {{name}}.")
    old = call_with(config, state=state)
    old.model.will_say("Nice to meet you.")
    caller_says(old, "I am Ann")
    old.has_sent(token("Nice to meet you."), LAST)
    old.socket.closing = True
    caller_says(old, "Who am I?")
    assert old.frames[-1] == LAST
    old.session.closed()
    new = FakeCall(ConversationRelay(), config, state=state)
    new.model.will_say("You are Ann.")
    new.takes(type="setup", sessionId="VX2", callSid="CA1")
    new.has_sent(token("You are Ann."), LAST)
    assert len(new.frames) == 2, "no second greeting"
    assert [each["content"] for each in new.model.asked[0][0]] == [
        "For Ann.", "Hello!", "I am Ann", "Nice to meet you.", "Who am I?",
    ]  # fmt: skip
    assert not state


@pytest.mark.parametrize(
    ("ends", "goes_on"),
    [("lost", True), ("finished", False), ("hung up here", False), ("transferred", False)],
)
def test_a_lost_connection_is_dialled_again(ends: str, goes_on: bool) -> None:
    state: Any = FakeState()
    state.pop = lambda key: dict.pop(state, key, None)
    old = call_with(VoiceConfig(), state=state)
    tool = {"hung up here": "end_call", "transferred": "transfer_call"}.get(ends)
    if tool:
        old.model.will_call(tool, {"number": "+14155550100"}, "Bye.")
    else:
        old.model.will_say("Yes.")
    caller_says(old, "Hello")
    until(lambda: old.session.state is State.IDLE and old.frames, "the answer")
    old.socket.framing.is_finished = ends == "finished"
    old.session.closed()
    assert bool(state) is goes_on


def test_retells_greeting_is_not_said_again() -> None:
    state: Any = FakeState()
    state.pop = lambda key: dict.pop(state, key, None)
    config = VoiceConfig(greeting="Hello!")
    old = FakeCall(Retell("c1"), config, state=state)
    assert old.frames[-1]["content"] == "Hello!"
    old.socket.framing.is_finished = False
    old.session.closed()
    new = FakeCall(Retell("c1"), config, state=state)
    assert (new.frames[-1]["content"], new.frames[-1]["content_complete"]) == ("", True)
    assert not new.model.asked


def test_a_turn_of_the_same_number_is_answered_once() -> None:
    call = FakeCall(Retell("c1"))
    wait = threading.Event()
    call.model.will(wait, Text("Hi"), Finish("stop"))
    turn = {"interaction_type": "response_required", "transcript": [{"role": "user", "content": "Hello"}]}
    call.takes(**turn, response_id=3)
    call.is_asked(1)
    call.takes(**turn, response_id=3)
    call.takes(**turn, response_id=2)
    wait.set()
    until(lambda: call.frames[-1].get("content_complete") and call.frames[-1]["response_id"] == 3, "the end")
    assert len(call.model.asked) == 1


# Bounds


def test_turns_that_end_slowly_take_two_threads(call: FakeCall) -> None:
    """A platform that reads nothing keeps a turn from ending; the newest one waits for a thread of its own call."""
    go_on = threading.Event()
    send = call.socket.send

    def blocked(text: str) -> None:
        go_on.wait(20)
        send(text)

    call.socket.send = blocked  # type: ignore[method-assign]
    before = threading.active_count()
    for number in range(20):
        call.model.will_say(f"Answer {number}.")
    for number in range(20):
        caller_says(call, f"Question {number}")
    until(lambda: call.model.given, "the first answer")
    assert threading.active_count() - before <= 2
    go_on.set()
    until(lambda: call.frames and call.frames[-1] == LAST, "the newest answer")
    assert call.model.asked[-1][0][-1]["content"] == "Question 19"
    assert len(call.model.asked) <= 3


def test_a_conversation_has_an_end(call: FakeCall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "MOST_MESSAGES", 20)
    for number in range(30):
        call.model.will_say("Yes.")
        caller_says(call, f"{number}" + "x" * 100_000)
        call.has_sent(token("Yes."), LAST)
    messages = call.model.asked[-1][0]
    assert len(messages) <= 20
    assert messages[0]["role"] == "user"
    assert messages[-1]["content"].startswith("29x")
    assert len(messages[-1]["content"]) == conversation.LONGEST


def test_a_call_begins_once() -> None:
    call = call_with(VoiceConfig(greeting="Hello {{name}}!"))
    call.takes(type="setup", sessionId="VX2", callSid="CA2", customParameters={"name": "Bob"})
    call.model.will_say("Yes.")
    caller_says(call, "Hi")
    call.has_sent(token("Yes."), LAST)
    assert call.model.asked[0][2] == "CA1"
    assert len(call.frames) == 3


def test_sip_addresses_are_numbers_too() -> None:
    call = call_with(VoiceConfig(transfer_to=("sip:front.desk@example.com", "+1 (415) 555-0100")))
    call.model.will_call("transfer_call", {"number": "sip:front.desk@example.com"})
    caller_says(call, "The desk")
    until(lambda: call.frames and call.frames[-1]["type"] == "end", "the transfer")
    assert "sip:front.desk@example.com" in call.frames[-1]["handoffData"]
    call.model.will_call("transfer_call", {"number": "+14155550100"})
    caller_says(call, "The other one")
    until(lambda: "+14155550100" in call.frames[-1].get("handoffData", ""), "the transfer")


def test_an_error_of_the_platforms_is_logged(call: FakeCall, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "thinkline.voice"):
        call.takes(type="error", description="Invalid message received" + "x" * 10_000)
    (record,) = caplog.records
    facts = vars(record)["facts"]
    assert facts["call"] == "CA1"
    assert facts["said"].startswith("Invalid message received")
    assert len(facts["said"]) <= 500
