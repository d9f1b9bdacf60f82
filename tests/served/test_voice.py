"""Phone platforms against gunicorn: emulated ones that are as strict as their documents, and an emulated model."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from dispatch.routing.voice_config import Webhook
from dispatch.sources.models_file import read
from tests.conftest import ROOT, Served, served, until
from tests.emulators import Call, OpenAIUpstream, ScriptedAnswer, faults
from tests.emulators.platforms.relay import SETUP, TELNYX, RelayCall, signed
from tests.emulators.platforms.retell import RetellCall
from tests.emulators.platforms.speech_engine import EngineCall, token
from tests.support.callers import AT_ONCE, LONG, WORDS

TOKEN, ELEVENLABS = "twilio-auth-token", "sk_elevenlabs"
KEY = "key-of-ann-1234567"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("demo")
    settings = {"API_KEYS": f"ann:{KEY}", "TWILIO_AUTH_TOKEN": TOKEN, "ELEVENLABS_API_KEY": ELEVENLABS}
    with served(folder / "log", DATA_DIR=folder, DEMO_PACE_MS=5, **settings) as app:
        yield app


def url(app: Served, path: str, key: str = "") -> str:
    return f"ws://127.0.0.1:{app.port}{f'/k/{key}' if key else ''}/v1/{path}"


# Who may


def test_twilio_dials_with_its_signature(demo: Served) -> None:
    address = url(demo, "conversation-relay?model=demo&x=a%20b+c")
    with RelayCall(address, signed(address, TOKEN)) as call:
        assert call.asks("say: Good morning.") == "Good morning."


def test_twilios_signature_names_the_scheme_that_was_dialled(demo: Served) -> None:
    address = url(demo, "conversation-relay")
    with RelayCall(address, signed(address.replace("ws://", "wss://"), TOKEN)) as call:
        assert call.asks("say: Hi.") == "Hi."


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({"PUBLIC_URL": "https://voice.example.com"}, {}),
        ({"TRUSTED_PROXIES": "127.0.0.1"}, {"X-Forwarded-Host": "voice.example.com", "X-Forwarded-Proto": "https"}),
    ],
)
def test_behind_a_proxy_twilio_signs_the_public_address(
    serve: Callable[..., Served], settings: Any, headers: Any
) -> None:
    app = serve(TWILIO_AUTH_TOKEN=TOKEN, **settings)
    proof = signed("wss://voice.example.com/v1/conversation-relay?model=demo", TOKEN)
    with RelayCall(url(app, "conversation-relay?model=demo"), {**proof, **headers}) as call:
        assert call.asks("say: Hi.") == "Hi."
    with pytest.raises(InvalidStatus):
        connect(url(app, "conversation-relay"), additional_headers={**proof, **headers}, proxy=None)


def test_elevenlabs_dials_with_its_token(demo: Served) -> None:
    with EngineCall(url(demo, "speech-engine"), token(ELEVENLABS)) as call:
        assert call.asks("say: Good morning.") == "Good morning."


@pytest.mark.parametrize("path", ["conversation-relay", "speech-engine", "retell/call_1"])
@pytest.mark.parametrize("how", ["path", "bearer", "x-api-key"])
def test_a_key_of_ours_opens_all(demo: Served, path: str, how: str) -> None:
    headers = {"bearer": {"Authorization": f"Bearer {KEY}"}, "x-api-key": {"x-api-key": KEY}}.get(how, {})
    with connect(url(demo, path, KEY if how == "path" else ""), additional_headers=headers, proxy=None) as socket:
        socket.send("{}")


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("conversation-relay", {}),
        ("conversation-relay", {"X-Twilio-Signature": "x"}),
        ("conversation-relay", signed("ws://127.0.0.1:1/v1/conversation-relay", TOKEN)),
        ("conversation-relay", token(ELEVENLABS)),
        ("speech-engine", {}),
        ("speech-engine", token("sk_another")),
        ("speech-engine", {"Authorization": "Bearer wrong"}),
        ("retell/call_1", {}),
        ("retell/call_1", {"x-api-key": "wrong"}),
        ("responses", {}),
    ],
)
def test_without_a_proof_the_handshake_has_a_status(demo: Served, path: str, headers: Any) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(url(demo, path), additional_headers=headers, proxy=None)
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["error"]["message"]


@pytest.mark.parametrize(
    "settings", [{"TWILIO_AUTH_TOKEN": TOKEN}, {"TWILIO_AUTH_TOKEN": TOKEN, "ALLOW_ANONYMOUS": "true"}]
)
def test_where_signatures_are_checked_this_machine_needs_one_too(serve: Callable[..., Served], settings: Any) -> None:
    app = serve(**settings)
    with pytest.raises(InvalidStatus):
        connect(url(app, "conversation-relay"), proxy=None)
    with connect(url(app, "speech-engine"), proxy=None) as socket:  # of whose token nothing is set
        socket.send("{}")


def test_networks_that_may_dial(serve: Callable[..., Served]) -> None:
    app = serve(API_KEY=KEY, VOICE_SOURCES="192.0.2.0/24, 127.0.0.1")
    with RetellCall(url(app, "retell")) as call:
        call.begins()
        assert call.asks("say: Hi.") == "Hi."


def test_a_platforms_key_in_models_yaml_says_what_it_may(serve: Callable[..., Served], tmp_path: Path) -> None:
    key = {"name": "twilio", "key": "a-key-for-twilio-1", "requests_per_minute": 2}
    models = tmp_path / "models.yaml"
    models.write_text(yaml.safe_dump({"keys": [key]}))
    app = serve(MODELS_FILE=models, TWILIO_AUTH_TOKEN=TOKEN, DEMO_PACE_MS=0)
    address = url(app, "conversation-relay")
    with RelayCall(address, signed(address, TOKEN)) as call:
        assert [call.asks("say: Hi.") for _ in range(3)] == ["Hi.", "Hi.", ""]
    app.logged("may make 2 requests a minute")


def test_an_unknown_model_is_refused_in_the_handshake(serve: Callable[..., Served], tmp_path: Path) -> None:
    models = tmp_path / "models.yaml"
    models.write_text(yaml.safe_dump({"models": [{"name": "fast", "provider": "demo"}]}))
    app = serve(MODELS_FILE=models)
    with pytest.raises(InvalidStatus) as refused:
        connect(url(app, "retell/c?model=slow"), proxy=None)
    assert refused.value.response.status_code == 404


# Turns


def test_a_call_of_retells(demo: Served) -> None:
    with RetellCall(url(demo, "retell", KEY), query="?model=demo") as call:
        assert call.begins() == ""
        assert call.asks("say: Good **morning**, all.") == "Good morning, all."
        call.send(interaction_type="ping_pong", timestamp=5)
        assert call.recv() == {"response_type": "ping_pong", "timestamp": 5}
        call.send(interaction_type="update_only", transcript=call.transcript)
        assert call.asks("say: Yes.") == "Yes."
        number = call.says("", "reminder_required")
        assert call.hears(number)[0]
        _, frame = call.hears(call.says("Please end the call."))
        assert frame["end_call"]


@pytest.mark.parametrize("setup", [SETUP, TELNYX], ids=["twilio", "telnyx"])
def test_a_call_of_conversation_relay(demo: Served, setup: Any) -> None:
    with RelayCall(url(demo, "conversation-relay", KEY), setup=setup) as call:
        assert call.asks("say: Good 😀 morning.") == "Good morning."
        call.send(type="prompt", voicePrompt="say: no", lang="en-US", last=False)
        call.send(type="dtmf", digit="5")
        assert "5" in call.hears()
        call.says("Now end the call, please.")
        call.hears()
        assert call.ends()["reasonCode"] == "end-call"


def test_one_record_a_turn(demo: Served) -> None:
    def lines() -> list[str]:
        return [line for line in demo.log().splitlines() if " request " in line or "thinkline.request" in line]

    before = len(lines())
    with EngineCall(url(demo, "speech-engine"), token(ELEVENLABS)) as call:
        call.asks("say: One.")
        call.asks("say: Two.")
    until(lambda: len(lines()) >= before + 2, "two records")
    assert len(lines()) == before + 2
    assert "speech_engine" in lines()[-1]


# The pages


def page(name: str) -> str:
    return (ROOT / "docs" / "clients" / name).read_text()


def block(text: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found
    return found[1]


def test_the_twiml_of_the_page_works(demo: Served) -> None:
    relay = ET.fromstring(block(page("twilio.md"), "xml"))[0][0]
    address = relay.attrib["url"].replace("wss://YOUR-NAME.ngrok-free.app", f"ws://127.0.0.1:{demo.port}")
    parameters = {each.attrib["name"]: each.attrib["value"] for each in relay}
    with RelayCall(address, signed(address, TOKEN), {**SETUP, "customParameters": parameters}) as call:
        assert call.asks("say: Hi.") == "Hi."


def test_the_addresses_of_the_pages_work(demo: Served) -> None:
    addresses = re.findall(r"wss://YOUR-NAME.ngrok-free.app(/\S+?)[`\s]", page("retell.md") + page("voice.md"))
    assert len(addresses) >= 5
    for path in addresses:
        target = path.replace("YOUR-KEY", KEY) + ("/call_1" if path.endswith("retell") else "")
        headers = {} if KEY in target else {"Authorization": f"Bearer {KEY}"}
        with connect(f"ws://127.0.0.1:{demo.port}{target}", additional_headers=headers, proxy=None) as socket:
            socket.send("{}")


def test_the_models_of_the_page_load(tmp_path: Path) -> None:
    found = yaml.safe_load(block(page("voice.md"), "yaml"))
    found["models"][0]["provider"] = "demo"
    (tmp_path / "models.yaml").write_text(yaml.safe_dump(found))
    (row,) = read(tmp_path / "models.yaml", {"SECRET": "a secret of your own"}, known=["demo"]).rows
    voice = row.voice
    assert (voice.transfer_to, voice.tools[0]["name"]) == (("+14155550100",), "book_table")
    assert voice.webhook == Webhook("https://example.com/tools", "a secret of your own", 5)


# An emulated model


@pytest.fixture(scope="module")
def app(shared_upstream: OpenAIUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("voice")
    voice = {"instructions": "You speak with {{name}}.", "greeting": "Hello {{name}}!"}
    rows = [
        {"name": "plain", "provider": "openai", "model": "gpt-4o-mini"},
        {"name": "receptionist", "provider": "openai", "model": "gpt-4o-mini", "voice": voice},
        {"name": "mute", "provider": "openai", "model": "gpt-4o-mini", "tool_call": False},
        {"name": "filled", "provider": "openai", "model": "gpt-4o-mini", "filler_after_ms": 50, "filler_text": "Hm."},
        {"name": "late", "provider": "openai", "model": "gpt-4o", "ttft_timeout_ms": 300, "fallbacks": ["plain"]},
    ]
    models = folder / "models.yaml"
    models.write_text(yaml.safe_dump({"models": rows}))
    settings = shared_upstream.settings(MODELS_FILE=models, DATA_DIR=folder, RETRIES=0, BREAKER_FAILURES=1000)
    with served(folder / "log", **settings) as running:
        yield running


class Asked:
    """What the emulated model is asked from here on."""

    def __init__(self, shared_upstream: OpenAIUpstream) -> None:
        self._upstream = shared_upstream
        self._before = len(shared_upstream.received)

    def next(self, number: int = 1) -> Any:
        return self._upstream.wait_received(self._before + number)


@pytest.fixture
def asked(shared_upstream: OpenAIUpstream) -> Asked:
    shared_upstream.forget()
    return Asked(shared_upstream)


def test_instructions_greeting_and_tools_reach_the_model(
    app: Served, shared_upstream: OpenAIUpstream, asked: Asked
) -> None:
    shared_upstream.enqueue(ScriptedAnswer(texts=["Nice to meet you."]))
    with RelayCall(url(app, "conversation-relay?model=receptionist")) as call:
        assert call.hears() == "Hello Ann!"
        assert call.asks("I am Ann.") == "Nice to meet you."
    body = asked.next().json
    assert [each["content"] for each in body["messages"]] == ["You speak with Ann.", "Hello Ann!", "I am Ann."]
    assert [each["function"]["name"] for each in body["tools"]] == ["end_call", "transfer_call", "press_digit"]


def test_a_model_without_tools_is_offered_none(app: Served, shared_upstream: OpenAIUpstream, asked: Asked) -> None:
    shared_upstream.enqueue(ScriptedAnswer(texts=["Hi."]))
    with RetellCall(url(app, "retell"), query="?model=mute") as call:
        call.begins()
        assert call.asks("Hello") == "Hi."
    assert "tools" not in asked.next().json


def test_a_filler_while_the_model_is_silent(app: Served, shared_upstream: OpenAIUpstream, asked: Asked) -> None:
    shared_upstream.enqueue(ScriptedAnswer(texts=["Noon."], first_delay=0.5))
    with RetellCall(url(app, "retell"), query="?model=filled") as call:
        call.begins()
        assert call.asks("When?") == "Hm. Noon."


def test_deadlines_and_fallbacks_hold(app: Served, shared_upstream: OpenAIUpstream, asked: Asked) -> None:
    shared_upstream.enqueue(ScriptedAnswer(texts=["Late."], first_delay=LONG), ScriptedAnswer(texts=["In time."]))
    with RetellCall(url(app, "retell"), query="?model=late") as call:
        call.begins()
        assert call.asks("When?") == "In time."


@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_failure_is_an_end_without_words(
    app: Served, shared_upstream: OpenAIUpstream, asked: Asked, status: int
) -> None:
    with RetellCall(url(app, "retell"), query="?model=plain") as call:
        call.begins()
        shared_upstream.enqueue(ScriptedAnswer(status=status))
        assert call.asks("Hello") == ""
        shared_upstream.enqueue(ScriptedAnswer(texts=["Well"], fault=faults.cut))
        assert call.asks("Hello") in ("", "Well")
        shared_upstream.enqueue(ScriptedAnswer(texts=["Here."]))
        assert call.asks("Hello") == "Here."


PHASES = {
    "before headers": ({"delay": LONG}, ""),
    "before the first token": ({"texts": WORDS, "first_delay": LONG}, ""),
    "while it speaks": ({"texts": WORDS, "frame_delay": 0.01}, "word"),
    "in a silence": ({"fault": faults.stalled}, " "),
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("platform", ["retell", "relay", "engine"])
def test_a_newer_turn_frees_the_upstream_in_every_phase(
    app: Served, shared_upstream: OpenAIUpstream, asked: Asked, phase: str, platform: str
) -> None:
    answer, heard = PHASES[phase]
    shared_upstream.enqueue(ScriptedAnswer(**answer), ScriptedAnswer(texts=["Yes."]))
    dial: dict[str, Callable[[], Any]] = {
        "retell": lambda: RetellCall(url(app, "retell"), query="?model=plain"),
        "relay": lambda: RelayCall(url(app, "conversation-relay?model=plain")),
        "engine": lambda: EngineCall(url(app, "speech-engine?model=plain")),
    }
    with dial[platform]() as call:
        if platform == "retell":
            call.begins()
        call.says("Go on")
        first = asked.next()
        if heard:
            call.recv()
        began = time.monotonic()
        if platform == "relay":
            call.interrupts("word")
            first.wait_closed(AT_ONCE)
        heard_next = call.asks("Stop")
        first.wait_closed(AT_ONCE)
        assert heard_next.endswith("Yes.")
        assert time.monotonic() - began < 5


def test_a_caller_who_hangs_up_frees_the_upstream(app: Served, shared_upstream: OpenAIUpstream, asked: Asked) -> None:
    shared_upstream.enqueue(ScriptedAnswer(texts=WORDS, first_delay=LONG))
    with RetellCall(url(app, "retell"), query="?model=plain") as call:
        call.begins()
        call.says("Hello")
        received = asked.next()
    received.wait_closed(AT_ONCE)


def test_what_the_caller_did_not_hear_is_not_in_the_conversation(
    app: Served, shared_upstream: OpenAIUpstream, asked: Asked
) -> None:
    shared_upstream.enqueue(ScriptedAnswer(texts=["One two", " three four."]), ScriptedAnswer(texts=["Yes."]))
    with RelayCall(url(app, "conversation-relay?model=plain")) as call:
        assert call.asks("Count") == "One two three four."
        call.interrupts("One two")
        assert call.asks("Stop") == "Yes."
    messages = asked.next(2).json["messages"]
    assert [each["content"] for each in messages] == ["Count", "One two", "Stop"]


def test_a_transfer(app: Served, shared_upstream: OpenAIUpstream, asked: Asked) -> None:
    calls = [Call("call_1", "transfer_call", ['{"number": "+1 415 555 0100"}'])]
    shared_upstream.enqueue(
        ScriptedAnswer(texts=["One moment."], calls=calls), ScriptedAnswer(texts=["One moment."], calls=calls)
    )
    with RetellCall(url(app, "retell"), query="?model=plain") as call:
        call.begins()
        text, frame = call.hears(call.says("The manager, please"))
        assert (text, frame["transfer_number"]) == ("One moment.", "+14155550100")
    with RelayCall(url(app, "conversation-relay?model=plain")) as relay:
        assert relay.asks("The manager, please") == "One moment."
        assert relay.ends()["transferNumber"] == "+14155550100"


# Bad input


RUBBISH = ["", "x", "[]", "7", "null", "{}", '{"type": 5}', '{"interaction_type": 1}', "[" * 50_000, b"\xff", b"{}"]


@pytest.mark.parametrize("path", ["retell/c1", "conversation-relay", "speech-engine"])
def test_rubbish_is_ignored_and_the_call_goes_on(
    app: Served, shared_upstream: OpenAIUpstream, asked: Asked, path: str
) -> None:
    shared_upstream.always(ScriptedAnswer(texts=["Yes."]))
    with connect(url(app, f"{path}?model=plain"), proxy=None) as socket:
        for frame in RUBBISH:
            socket.send(frame)
        for _ in range(300):
            socket.send("rubbish")
        turn = {
            "retell/c1": {"interaction_type": "response_required", "response_id": 1, "transcript": []},
            "conversation-relay": {"type": "prompt", "voicePrompt": "Hello", "last": True},
            "speech-engine": {"type": "user_transcript", "user_transcript": [], "event_id": 1},
        }[path]
        socket.send(json.dumps(turn))
        while '"Yes."' not in str(socket.recv(20)):
            pass


def test_a_message_of_megabytes_ends_its_own_call_alone(
    app: Served, shared_upstream: OpenAIUpstream, asked: Asked
) -> None:
    shared_upstream.always(ScriptedAnswer(texts=["Yes."]))
    with RelayCall(url(app, "conversation-relay?model=plain")) as other, RetellCall(url(app, "retell")) as call:
        with suppress(ConnectionClosed):
            call.socket.send("x" * 40_000_000)
        assert call.close_code() in (1009, None)
        assert other.asks("Hello") == "Yes."


def test_a_caller_who_never_reads_holds_up_nobody(app: Served, shared_upstream: OpenAIUpstream, asked: Asked) -> None:
    shared_upstream.always(ScriptedAnswer(texts=["word " * 2000] * 300))
    addresses = [url(app, f"retell/deaf{number}?model=plain") for number in range(8)]
    deaf = [connect(address, proxy=None, legacy=True, max_queue=1) for address in addresses]
    for socket in deaf:
        for number in range(1, 20):
            socket.send(json.dumps({"interaction_type": "response_required", "response_id": number, "transcript": []}))
    shared_upstream.always(ScriptedAnswer(texts=["Yes."]))
    with RelayCall(url(app, "conversation-relay?model=plain")) as other:
        began = time.monotonic()
        assert "Yes." in other.asks("Hello")
        assert time.monotonic() - began < 10
    for socket in deaf:
        threading.Thread(target=socket.close, daemon=True).start()


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_conversation_goes_on_after_a_lost_connection(
    app: Served, shared_upstream: OpenAIUpstream, asked: Asked, is_lost: bool
) -> None:
    shared_upstream.always(ScriptedAnswer(texts=["Yes."]))
    address = url(app, "conversation-relay?model=plain")
    setup, before = {**SETUP, "callSid": f"CA-{is_lost}"}, app.sockets()
    first = RelayCall(address, setup=setup)
    assert first.asks("Hello") == "Yes."
    if is_lost:
        first.socket.socket.shutdown(SHUT_RDWR)
    first.socket.close()
    until(lambda: app.sockets() <= before + 1, "the connection to be noticed as lost")  # and one to the model is kept
    with RelayCall(address, setup=setup) as again:
        assert again.asks("Are you there?") == "Yes."
    assert len(asked.next(2).json["messages"]) == (3 if is_lost else 1)


@pytest.mark.slow
def test_a_conversation_goes_on_after_a_reload(
    shared_upstream: OpenAIUpstream, serve: Callable[..., Served], tmp_path: Path
) -> None:
    """Ten calls, five of them in the middle of a turn: no turn loses a word, and no conversation what was said."""
    shared_upstream.always(ScriptedAnswer(texts=["One ", "two ", "three."], frame_delay=0.5))
    app = serve(**shared_upstream.settings(DATA_DIR=tmp_path))
    calls = [RelayCall(url(app, "conversation-relay"), setup={**SETUP, "callSid": f"CA{at}"}) for at in range(10)]
    for call in calls[:5]:
        assert call.asks("Count") == "One two three."
    for call in calls[5:]:
        call.says("Count")
    for call in calls[5:]:
        call.recv()
    os.kill(app.process.pid, signal.SIGHUP)
    assert [call.hears() for call in calls[5:]] == ["two three."] * 5
    assert [call.close_code() for call in calls] == [1012] * 10
    asked = Asked(shared_upstream)
    shared_upstream.always(ScriptedAnswer(texts=["Four."]))
    again = [RelayCall(url(app, "conversation-relay"), setup={**SETUP, "callSid": f"CA{at}"}) for at in range(10)]
    assert [call.asks("And then?") for call in again] == ["Four."] * 10
    for number in range(1, 11):
        messages = asked.next(number).json["messages"]
        assert [each["content"] for each in messages] == ["Count", "One two three.", "And then?"]
    for call in again:
        call.socket.close()
