"""/v1/responses as a WebSocket: each response's events are held to the same rules as a stream's."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from openai import OpenAI
from openai.types.responses import ResponseErrorEvent
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from schemas.limits import DEFAULTS
from tests.conftest import Served, served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults
from tests.emulators.openai.responses import ResponsesUpstream
from tests.support.callers import AT_ONCE, LONG, WORDS
from tests.support.phone_calls import FakeSocket
from tests.support.responses import ENDS, events, text_of
from views.responses_socket import ResponsesHandler

KEYS = {"API_KEYS": "ann:key-of-ann,bob:key-of-bob"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("demo")
    with served(folder / "log", DATA_DIR=folder, DEMO_PACE_MS=5, **KEYS) as app:
        yield app


class Client:
    """A client of the socket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def create(self, text: Any = "say: Hi.", **more: Any) -> None:
        self.socket.send(json.dumps({"type": "response.create", "model": "demo", "input": text, **more}))

    def cancel(self, **more: Any) -> None:
        self.socket.send(json.dumps({"type": "response.cancel", **more}))

    def recv(self) -> dict[str, Any]:
        found = json.loads(self.socket.recv(20))
        assert isinstance(found, dict)
        return found

    def response(self) -> dict[str, Any]:
        """One response, whose events are those of a stream, and end with one that ends it."""
        found = []
        while not found or found[-1]["type"] not in ENDS:
            found.append(self.recv())
            assert found[-1]["type"] != "error", found[-1]
        frames = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in found)
        if found[-1]["type"] != "response.failed":
            events(f"{frames}data: [DONE]\n\n".encode())
        response: dict[str, Any] = found[-1]["response"]
        return response

    def ask(self, text: Any = "say: Hi.", **more: Any) -> dict[str, Any]:
        self.create(text, **more)
        return self.response()

    def error(self) -> dict[str, Any]:
        """An error that OpenAI's package, Open Responses and Pipecat read."""
        found = self.recv()
        assert found["type"] == "error", found
        ResponseErrorEvent.model_validate(found, strict=True)
        assert found.keys() == {"type", "sequence_number", "status", "error", "code", "message", "param"}
        assert {name: found[name] for name in ("code", "message", "param")}.items() <= found["error"].items()
        return found


@contextmanager
def client_of(app: Served, key: str = "key-of-ann", query: str = "") -> Iterator[Client]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    address = f"ws://127.0.0.1:{app.port}/v1/responses{query}"
    with connect(address, additional_headers=headers, proxy=None, max_size=None) as socket:
        yield Client(socket)


@pytest.fixture
def client(demo: Served) -> Iterator[Client]:
    with client_of(demo) as found:
        yield found


def test_one_turn_after_the_other(client: Client) -> None:
    assert text_of(client.ask("say: One.")) == "One."
    assert text_of(client.ask("say: Two.", store=False, stream=True, stream_options={})) == "Two."


@pytest.mark.parametrize("store", [True, False])
def test_a_conversation_goes_on_by_its_id(client: Client, store: bool) -> None:
    first = client.ask("My name is Ann.", store=store)
    second = client.ask("say: Hello.", store=store, previous_response_id=first["id"])
    assert (second["previous_response_id"], second["store"]) == (first["id"], store)
    again = client.ask("say: Yes.", store=store, previous_response_id=first["id"])
    assert text_of(again) == "Yes."


@pytest.mark.parametrize("store", [True, False])
def test_another_connection_knows_what_is_stored_alone(demo: Served, client: Client, store: bool) -> None:
    first = client.ask(store=store)
    for key in ("key-of-ann", "key-of-bob"):
        with client_of(demo, key) as other:
            other.create(previous_response_id=first["id"])
            if store and key == "key-of-ann":
                assert text_of(other.response()) == "Hi."
            else:
                error = other.error()
                assert (error["status"], error["code"]) == (400, "previous_response_not_found")
                assert error["param"] == "previous_response_id"
                assert text_of(other.ask()) == "Hi.", "the connection stays usable"


WEATHER = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}


def test_a_tool_and_its_result(client: Client) -> None:
    first = client.ask("How is the weather?", tools=[WEATHER], store=False)
    (call,) = first["output"]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "18 degrees"}
    second = client.ask([output], tools=[WEATHER], store=False, previous_response_id=first["id"])
    assert "18 degrees" in text_of(second)


def test_a_continuation_that_fails_evicts(client: Client) -> None:
    first = client.ask(store=False)
    output = {"type": "function_call_output", "call_id": "call_of_nobody", "output": "x"}
    client.create([output], store=False, previous_response_id=first["id"])
    assert client.error()["param"] == "input"
    client.create(store=False, previous_response_id=first["id"])
    assert client.error()["code"] == "previous_response_not_found"


def test_a_warm_up_says_nothing_and_can_be_followed(client: Client) -> None:
    first = client.ask("My name is Ann.", store=False, generate=False)
    assert (first["status"], first["output"]) == ("completed", [])
    assert text_of(client.ask("say: Hi.", store=False, previous_response_id=first["id"])) == "Hi."


def test_the_model_may_stand_in_the_address(demo: Served) -> None:
    with client_of(demo, query="?model=demo") as client:
        client.socket.send(json.dumps({"type": "response.create", "input": "say: Hi."}))
        assert client.response()["model"] == "demo"


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ("rubbish", None, "invalid_json"),
        ("[]", None, "invalid_json"),
        (b"{}", None, "invalid_json"),
        ("{}", "type", "invalid_value"),
        ('{"type": "session.update"}', "type", "invalid_value"),
        ('{"type": "response.create"}', "input", "missing_required_parameter"),
        ('{"type": "response.create", "input": []}', "input", "invalid_value"),
        ('{"type": "response.create", "input": "x", "generate": 1}', "generate", "invalid_value"),
        ('{"type": "response.create", "input": "x", "stream_id": "a"}', "stream_id", "unsupported_value"),
        ('{"type": "response.create", "input": "x", "background": true}', "background", "unsupported_value"),
        ('{"type": "response.create", "input": "x", "provider": "nobody"}', "provider", "unknown_provider"),
    ],
)
def test_a_wrong_message_is_an_error_and_the_next_is_answered(
    client: Client, message: str | bytes, param: str | None, code: str
) -> None:
    client.socket.send(message)
    error = client.error()
    assert (error["status"], error["param"], error["code"]) == (400, param, code)
    assert text_of(client.ask()) == "Hi."


def test_several_at_once_come_one_after_the_other(client: Client) -> None:
    for number in range(5):
        client.create(f"say: Number {number}.")
    assert [text_of(client.response()) for _ in range(5)] == [f"Number {number}." for number in range(5)]
    for _ in range(30):
        client.create("say 100 words")
    error = next(found for found in iter(client.recv, None) if found["type"] == "error")
    assert error["status"] == 503
    client.cancel()


def test_a_cancelled_response_ends_once_and_keeps_what_was_said(client: Client) -> None:
    client.create("say 500 words", store=False)
    identifier = client.recv()["response"]["id"]
    while client.recv()["type"] != "response.output_text.delta":
        pass
    client.cancel(response_id="resp_of_nobody")
    client.cancel(response_id=identifier)
    client.cancel(response_id=identifier)
    ends = []
    while not ends:
        found = client.recv()
        ends += [found] * (found["type"] in ENDS)
    assert (ends[0]["type"], ends[0]["response"]["status"]) == ("response.incomplete", "cancelled")
    client.create("say: And?", store=False, previous_response_id=identifier)
    assert text_of(client.response()) == "And?"


@pytest.mark.parametrize("busy", [False, True])
def test_an_hour_is_the_end(busy: bool) -> None:
    socket = FakeSocket()
    handler: Any = ResponsesHandler(None, DEFAULTS, "")  # type: ignore[arg-type]
    handler.opened(socket)
    handler._answer = lambda turn: socket.later[0]() if busy else None
    if busy:
        handler.receive('{"type": "response.create", "input": "x"}')
    else:
        socket.later[0]()
    until(lambda: socket.closed_with, "the end")
    (error,) = socket.frames
    assert (error["code"], socket.closed_with) == ("websocket_connection_limit_reached", 1008)


def test_openais_package(demo: Served) -> None:
    client = OpenAI(base_url=demo.url, api_key="key-of-ann", max_retries=0)
    with client.responses.connect() as connection:
        connection.response.create(model="demo", input="say: Good morning.", store=False)
        said, event = "", connection.recv()
        while event.type != "response.completed":
            said += event.delta if event.type == "response.output_text.delta" else ""
            event = connection.recv()
        assert (said, event.response.output_text) == ("Good morning.", "Good morning.")
        connection.response.create(model="demo", input="x", previous_response_id="resp_of_nobody")
        error = connection.recv()
        assert (error.type, error.code) == ("error", "previous_response_not_found")


# An emulated model


@pytest.fixture(scope="module")
def app(shared_upstream: OpenAIUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("app")
    settings = shared_upstream.settings(DATA_DIR=folder, RETRIES=0, BREAKER_FAILURES=1000, **KEYS)
    with served(folder / "log", **settings) as running:
        yield running


GPT = {"model": "gpt-4o-mini", "store": False}
PHASES = {
    "before headers": {"delay": LONG},
    "before the first token": {"texts": WORDS, "first_delay": LONG},
    "while it speaks": {"texts": WORDS, "frame_delay": 0.01},
    "in a silence": {"fault": faults.stalled},
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("leaves", [False, True])
def test_a_cancellation_frees_the_upstream_in_every_phase(
    app: Served, shared_upstream: OpenAIUpstream, phase: str, leaves: bool
) -> None:
    shared_upstream.forget()
    count = len(shared_upstream.received)
    shared_upstream.enqueue(ScriptedAnswer(**PHASES[phase]))
    with client_of(app) as client:
        client.create("Go on", **GPT)
        received = shared_upstream.wait_received(count + 1)
        identifier = client.recv()["response"]["id"]
        if leaves:
            client.socket.close()
        else:
            client.cancel(response_id=identifier)
        began = time.monotonic()
        assert received.wait_closed(10) - began < AT_ONCE
        if not leaves:
            while (found := client.recv())["type"] not in ENDS:
                pass
            assert found["response"]["status"] == "cancelled"
            shared_upstream.enqueue(ScriptedAnswer(texts=["Yes."]))
            assert text_of(client.ask("Stop", **GPT)) == "Yes."


@pytest.mark.parametrize("answer", [{"status": 500}, {"status": 401}, {"status": 429}, {"fault": faults.cut}])
def test_a_failure_is_one_event(app: Served, shared_upstream: OpenAIUpstream, answer: Any) -> None:
    shared_upstream.forget()
    with client_of(app) as client:
        shared_upstream.enqueue(ScriptedAnswer(texts=["Good."]))
        first = client.ask("Hi", **GPT)
        shared_upstream.enqueue(ScriptedAnswer(**answer))
        client.create("Hi", previous_response_id=first["id"], **GPT)
        failed = client.response()
        assert (failed["status"], bool(failed["error"]["message"])) == ("failed", True)
        shared_upstream.enqueue(ScriptedAnswer(texts=["Yes."]))
        assert text_of(client.ask("Hi", **GPT)) == "Yes."
        client.create("Hi", previous_response_id=first["id"], **GPT)
        assert client.error()["code"] == "previous_response_not_found"


def test_limits_are_those_of_the_key(serve: Callable[..., Served], tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("keys: [{name: ann, key: a-key-of-sixteen-1, requests_per_minute: 2}]")
    app = serve(MODELS_FILE=tmp_path / "models.yaml", DEMO_PACE_MS=0)
    with client_of(app, "a-key-of-sixteen-1") as client:
        assert [text_of(client.ask()) for _ in range(2)] == ["Hi.", "Hi."]
        client.create()
        assert (client.error()["status"]) == 429


@pytest.mark.parametrize("store", [True, False])
def test_an_upstream_that_speaks_it_too(serve: Callable[..., Served], tmp_path: Path, store: bool) -> None:
    """Its events pass. What it was told not to keep is sent to it again, and not followed there."""
    with ResponsesUpstream() as own:
        provider = {"base_url": own.base_url, "api_key": own.key, "responses": True}
        (tmp_path / "models.yaml").write_text(yaml.safe_dump({"providers": {"own": provider}}))
        app = serve(MODELS_FILE=tmp_path / "models.yaml", DATA_DIR=tmp_path)
        with client_of(app, "") as client:
            first = client.ask("Hi", model="own/gpt-5", store=store)
            assert (text_of(first), first["id"]) == ("Here I am.", "resp_upstream_1")
            second = client.ask("And?", model="own/gpt-5", store=store, previous_response_id=first["id"])
            assert text_of(second) == "Here I am."
        sent = own.wait_received(2).json
        assert sent.get("previous_response_id") == (first["id"] if store else None)
        assert isinstance(sent["input"], str) is store
        own.fails("response.failed", after=5)
        with client_of(app, "") as client:
            client.create("Hi", model="own/gpt-5")
            assert client.response()["status"] == "failed"
            own.fails("", after=100)
            assert text_of(client.ask("Hi", model="own/gpt-5")) == "Here I am."


def test_a_reload_ends_a_turn_with_its_words(serve: Callable[..., Served]) -> None:
    app = serve(DEMO_PACE_MS=50)
    with client_of(app, "") as client, client_of(app, "") as idle:
        client.create("say 30 words")
        client.recv()
        os.kill(app.process.pid, signal.SIGHUP)
        while (found := client.recv())["type"] not in ENDS:
            pass
        assert found["type"] == "response.completed"
        for each in (client, idle):
            with pytest.raises(ConnectionClosed) as closed:
                each.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
