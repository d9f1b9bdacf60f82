"""/v1/ws, and what holds for every WebSocket: real gunicorn, and a client of the field's own (websockets)."""

import json
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection

from tests.conftest import EVER, Served, served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults
from tests.emulators.dialects import DIALECTS, Dialect
from tests.support.callers import AT_ONCE, PHASES
from tests.support.frames import chat_body, post
from tests.support.websocket import RawClient, chat, chat_messages, dial, handshake, received, text_of, wait_closed

Serve = Callable[..., Served]
KEY, OTHER = "alice-has-a-long-secret", "bob-has-a-long-secret-too"
TOOL = {"type": "function", "function": {"name": "end_call", "description": "Hang up.",
    "parameters": {"type": "object", "properties": {"why": {"type": "string"}}}}}  # fmt: skip
SLOW = ScriptedAnswer(texts=["word "] * 500, frame_delay=0.01)


@pytest.fixture(scope="module")
def app(shared_upstream: OpenAIUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One without keys, for requests of this machine."""
    log = tmp_path_factory.mktemp("served") / "log"
    with served(log, **shared_upstream.settings(), MAX_BODY_BYTES=100_000, BREAKER_FAILURES=10_000, RETRIES=0) as app:
        yield app


def answer_of(client) -> str:
    *_, last = found = chat_messages(client)
    assert last == {"type": "done"}
    return text_of(found)


# What /v1/ws says


def test_chats_one_after_another(app: Served, shared_upstream: OpenAIUpstream) -> None:
    with dial(app.port) as client:
        for texts in (["One", " two."], ["Three."], ["Grüße 🙂"]):
            shared_upstream.enqueue(ScriptedAnswer(texts=texts))
            client.send(chat("hi"))
            found = chat_messages(client)
            assert found.pop() == {"type": "done"}
            assert {each["object"] for each in found} == {"chat.completion.chunk"}
            assert len({each["id"] for each in found}) == 1
            assert found[-1]["choices"][0]["finish_reason"] == "stop"
            assert text_of(found) == "".join(texts)


def test_chats_sent_at_once_are_answered_in_order(app: Served, shared_upstream: OpenAIUpstream) -> None:
    with dial(app.port) as client:
        shared_upstream.enqueue(*(ScriptedAnswer(texts=[f"Number {number}."]) for number in range(5)))
        for _ in range(5):
            client.send(chat())
        assert [answer_of(client) for _ in range(5)] == [f"Number {number}." for number in range(5)]


def test_usage_comes_when_it_is_asked_for(app: Served, shared_upstream: OpenAIUpstream) -> None:
    with dial(app.port) as client:
        client.send(chat(stream_options={"include_usage": True}))
        *_, usage, done = chat_messages(client)
        assert (usage["choices"], done) == ([], {"type": "done"})
        assert usage["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ("rubbish", None, "invalid_json"),
        ("[]", None, "invalid_json"),
        ('"chat"', None, "invalid_json"),
        ("", None, "invalid_json"),
        ("[" * 5000, None, "invalid_json"),
        (b"\x00\xff", None, "invalid_json"),
        ("{}", "type", "invalid_value"),
        ('{"type": "dance"}', "type", "invalid_value"),
        ('{"type": ["chat"]}', "type", "invalid_value"),
        ('{"type": "chat"}', "payload", "invalid_value"),
        ('{"type": "chat", "payload": "hi"}', "payload", "invalid_value"),
        ('{"type": "chat", "api_key": 5, "payload": {}}', "api_key", "invalid_value"),
        ('{"type": "chat", "payload": {}}', "messages", "missing_required_parameter"),
        ('{"type": "chat", "payload": {"messages": [{"role": "bird"}]}}', "messages[0].role", "invalid_value"),
    ],
)
def test_a_wrong_message_gets_an_error_and_the_connection_goes_on(app: Served, message, param, code) -> None:
    with dial(app.port) as client:
        client.send(message)
        error = received(client)
        assert (error["type"], error["status"]) == ("error", 400)
        assert (error["error"]["param"], error["error"]["code"]) == (param, code)
        assert error["error"]["message"]
        client.send('{"type": "ping"}')
        assert received(client) == {"type": "pong"}
        client.send(chat())
        assert answer_of(client)


@pytest.mark.parametrize(
    ("scripted", "status", "said"),
    [
        (ScriptedAnswer(status=400), 400, ""),
        (ScriptedAnswer(status=500), 502, ""),
        (ScriptedAnswer(texts=["Well", " then"], fault=faults.cut), 502, "Well"),
    ],
    ids=["refused", "down", "broken off"],
)
def test_an_error_ends_the_turn_and_no_done_follows(app, shared_upstream, scripted, status, said) -> None:
    with dial(app.port) as client:
        shared_upstream.enqueue(scripted)
        client.send(chat())
        *_, last = found = chat_messages(client)
        assert (last["type"], last["status"]) == ("error", status)
        assert text_of(found).startswith(said)
        client.send('{"type": "ping"}')
        assert received(client) == {"type": "pong"}  # and no done before it
        client.send(chat())
        assert answer_of(client)


def test_cancel_ends_the_answer_and_frees_the_upstream(app: Served, shared_upstream: OpenAIUpstream) -> None:
    count = len(shared_upstream.received)
    with dial(app.port) as client:
        shared_upstream.enqueue(SLOW)
        client.send(chat())
        received(client)
        client.send('{"type": "cancel"}')
        cancelled = time.monotonic()
        assert shared_upstream.received[count].wait_closed(10) - cancelled < AT_ONCE
        assert chat_messages(client)[-1]["error"]["code"] == "response_cancelled"
        client.send('{"type": "cancel"}')  # of nothing: nothing happens
        client.send(chat())
        assert answer_of(client)


@pytest.mark.parametrize("phase", [name for name, (_, streams, _) in PHASES.items() if streams])
def test_a_peer_who_leaves_frees_the_upstream(app: Served, shared_upstream: OpenAIUpstream, phase: str) -> None:
    answer, _, heard = PHASES[phase]
    count = len(shared_upstream.received)
    shared_upstream.enqueue(ScriptedAnswer(**answer))
    with dial(app.port) as client:
        client.send(chat())
        until(lambda: len(shared_upstream.received) > count, "the request to arrive upstream")
        if heard:
            received(client)
        client.socket.shutdown(socket.SHUT_RDWR)
        left = time.monotonic()
    assert shared_upstream.received[count].wait_closed(10) - left < AT_ONCE
    app.logged("path=ws .*outcome=hung_up")


def test_one_record_a_turn_and_no_key_in_the_log(app: Served) -> None:
    before = app.log()
    with dial(app.port, additional_headers={"x-request-id": "my-call"}) as client:
        for _ in range(3):
            client.send(chat(key="sk-not-needed-but-secret"))
            answer_of(client)
    app.logged(r"request_id=my-call\.3 ")
    lines = [line for line in app.log()[len(before) :].splitlines() if "my-call" in line]
    assert len(lines) == 3
    assert all("path=ws" in line and "outcome=done" in line for line in lines)
    assert "sk-not-needed-but-secret" not in app.log()


def test_the_filler_is_said_while_the_model_is_silent(serve: Serve, shared_upstream: OpenAIUpstream) -> None:
    app = serve(**shared_upstream.settings(), FILLER_AFTER_MS=50, FILLER_TEXT="One moment...")
    shared_upstream.enqueue(
        ScriptedAnswer(texts=["Here", " I am."], first_delay=1.0), ScriptedAnswer(texts=["At once."])
    )
    with dial(app.port) as client:
        client.send(chat())
        assert answer_of(client).replace("... ", "...") == "One moment...Here I am."
        client.send(chat())
        assert answer_of(client) == "At once."


@pytest.mark.parametrize("dialect", DIALECTS[:5], ids=str)
def test_the_model_may_be_any_providers(serve: Serve, dialect: Dialect) -> None:
    with dialect.upstream() as other:
        app = serve(**dialect.settings(other))
        other.enqueue(
            ScriptedAnswer(texts=["Well,", " hello."]),
            ScriptedAnswer(calls=[("call_1", "end_call", ['{"why": ', '"bye"}'])]),
        )
        with dial(app.port) as client:
            client.send(chat(model=f"{dialect.name}/{dialect.model}"))
            assert answer_of(client) == "Well, hello."
            client.send(chat(model=f"{dialect.name}/{dialect.model}", tools=[TOOL]))
            *found, done = chat_messages(client)
    assert done == {"type": "done"}
    assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"
    deltas = [call for each in found for choice in each["choices"] for call in choice["delta"].get("tool_calls", [])]
    assert json.loads("".join(call["function"]["arguments"] for call in deltas)) == {"why": "bye"}


# The handshake


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (("Upgrade:", "Connection:"), 426),
        (("Upgrade: h2c",), 426),
        (("Connection: close",), 426),
        (("Sec-WebSocket-Version: 12",), 426),
        (("Sec-WebSocket-Version:",), 426),
        (("Content-Length: 3",), 426),
        (("Sec-WebSocket-Key:",), 400),
        (("Sec-WebSocket-Key: short",), 400),
    ],
)
def test_half_a_handshake_is_refused_with_a_sentence(app: Served, fields: tuple[str, ...], status: int) -> None:
    with socket.create_connection(("127.0.0.1", app.port), EVER) as sock:
        sock.sendall(handshake("/v1/ws", "Connection: Upgrade, close", *fields))
        answer = b""
        while data := sock.recv(4096):
            answer += data
            if b'"error"' in answer:
                break
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert b'"message"' in answer
    assert (b"\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" in answer) == (status == 426)


def test_no_extension_is_agreed_on(app: Served) -> None:
    with dial(app.port, compression="deflate") as client:
        assert "Sec-WebSocket-Extensions" not in client.response.headers


@pytest.mark.parametrize(("origin", "is_taken"), [
    ("http://127.0.0.1:{port}", True), ("https://app.example.com", True), ("https://evil.example.com", False),
])  # fmt: skip
def test_web_pages_of_other_sites_are_refused(serve: Serve, origin: str, is_taken: bool) -> None:
    app = serve(API_KEY=KEY, ALLOWED_ORIGINS="https://app.example.com")
    bearer = {"Authorization": f"Bearer {KEY}"}
    refusal = nullcontext() if is_taken else pytest.raises(InvalidStatus, match="403")
    with refusal, dial(app.port, origin=origin.format(port=app.port), additional_headers=bearer):
        pass


@pytest.mark.parametrize("path", ["/v1/ws", "/ws", "/api/v1/ws"])
def test_the_key_comes_in_the_handshake_the_path_or_a_message(serve: Serve, path: str) -> None:
    app = serve(API_KEY=KEY, DEMO_PACE_MS=0)
    for options, key in (
        ({"additional_headers": {"Authorization": f"Bearer {KEY}"}}, None),
        ({"additional_headers": {"x-api-key": KEY}}, None),
        ({"path": f"/k/{KEY}{path}"}, None),
        ({}, KEY),
        ({}, f"Bearer {KEY}"),
    ):
        with dial(app.port, **{"path": path, **options}) as client:
            client.send(chat(key=key))
            assert answer_of(client)
            client.send(chat())  # it holds for the next one too
            assert answer_of(client)
    assert KEY not in app.log()


def test_a_wrong_key_is_refused_in_the_handshake_and_in_a_message(serve: Serve) -> None:
    app = serve(API_KEY=KEY, DEMO_PACE_MS=0)
    with pytest.raises(InvalidStatus) as refused, dial(app.port, f"/k/{OTHER}/v1/ws"):
        pass
    assert refused.value.response.status_code == 401
    with dial(app.port) as client:
        for message, code in ((chat(key=OTHER), "invalid_api_key"), (chat(), "missing_api_key")):
            client.send(message)
            error = received(client)
            assert (error["status"], error["error"]["code"]) == (401, code)
        client.send(chat(key=KEY))
        assert answer_of(client)


@pytest.mark.slow
def test_without_a_key_it_is_closed_after_ten_seconds(serve: Serve) -> None:
    app = serve(API_KEY=KEY)
    began = time.monotonic()
    with dial(app.port) as client:
        client.send('{"type": "ping"}')
        assert received(client) == {"type": "pong"}
        assert received(client)["error"]["code"] == "missing_api_key"
        code, reason = wait_closed(client)
    assert code == 1008
    assert "API key" in reason
    assert 9 < time.monotonic() - began < 19


def test_a_key_that_is_taken_away_closes_with_a_sentence(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    rows = [f"  - {{name: alice, key: {KEY}}}", f"  - {{name: bob, key: {OTHER}}}"]

    def write(rows: list[str]) -> None:
        new = tmp_path / "new"
        new.write_text("keys:\n" + "\n".join(rows) + "\n")
        new.replace(file)

    write(rows)
    app = serve(MODELS_FILE=file)
    with dial(app.port, f"/k/{KEY}/v1/ws") as alice, dial(app.port) as bob:
        bob.send(chat("word " * 30, key=OTHER))
        received(bob)
        write(["  - {name: carol, key: carol-has-a-long-secret}"])
        code, reason = wait_closed(alice)
        assert (code, reason) == (1008, "The API key was revoked.")
        assert chat_messages(bob)[-1] == {"type": "done"}  # what has begun may end
        assert wait_closed(bob)[0] == 1008


def test_limits_and_models_of_a_key_hold_for_each_turn(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(
        "models: [{name: fast, provider: demo, model: demo}]\n"
        f"keys: [{{name: alice, key: {KEY}, models: [fast], requests_per_minute: 2}}]\n"
    )
    app = serve(MODELS_FILE=tmp_path / "models.yaml", DEMO_PACE_MS=0)
    with dial(app.port, f"/k/{KEY}/v1/ws") as client:
        client.send(chat(model="demo/demo"))
        assert received(client)["error"]["code"] == "permission_denied"
        client.send(chat(model="fast"))
        assert answer_of(client)
        client.send(chat(model="fast"))
        error = received(client)
        assert (error["status"], error["error"]["code"]) == (429, "rate_limit_exceeded")
        assert error["retry_after"] > 0


# What peers do


@pytest.mark.parametrize(
    ("opcode", "data", "code"),
    [
        (Opcode.TEXT, b"\xff\xfe", 1007),
        (Opcode.TEXT, b"x" * 100_001, 1009),
        (Opcode.CONT, b"x", 1002),
    ],
    ids=["no UTF-8", "too large", "nothing to go on with"],
)
def test_what_is_wrong_in_the_protocol_closes_with_its_code(app: Served, opcode, data, code) -> None:
    client = RawClient(app.port)
    client.send(opcode, data)
    assert client.close_code() == code


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x02hi",
        b"\xc1\x80\0\0\0\0",
        b"\x83\x80\0\0\0\0",
        b"\x89\xfe\x00\x7e\0\0\0\0" + bytes(126),
        b"\x09\x80\0\0\0\0",
    ],
    ids=["no mask", "a reserved bit", "an unknown kind", "a long ping", "a ping in pieces"],
)
def test_what_is_no_frame_closes(app: Served, data: bytes) -> None:
    client = RawClient(app.port)
    client.socket.sendall(data)
    assert client.close_code() == 1002


def test_a_message_may_come_in_pieces(app: Served) -> None:
    with dial(app.port) as client:
        client.send(iter(chat()))
        assert answer_of(client)
    client = RawClient(app.port)
    for at in range(6):  # together they are too large, though none of them is
        client.send(Opcode.CONT if at else Opcode.TEXT, b"x" * 20_000, fin=False)
    assert client.close_code() == 1009


@pytest.mark.slow
def test_a_flood_holds_up_nobody(app: Served) -> None:
    with dial(app.port) as client:
        for _ in range(2000):
            client.send('{"type": "ping"}')
        began = time.monotonic()
        assert post(app.port, chat_body())[0] == 200
        assert time.monotonic() - began < 5
        assert received(client) == {"type": "pong"}


@pytest.mark.slow
def test_a_peer_that_reads_nothing_costs_a_bounded_buffer_and_no_message_thread(app: Served) -> None:
    clients = [RawClient(app.port, window=4096) for _ in range(10)]
    for client in clients:
        client.socket.settimeout(0.2)
        try:
            for _ in range(100_000):
                client.send(Opcode.TEXT, b'{"type": "dance"}')
        except TimeoutError:
            pass  # it is not read any further
    with dial(app.port) as other:
        other.send(chat())
        assert answer_of(other)


def test_idle_sockets_cost_no_thread_and_health_answers(serve: Serve) -> None:
    app = serve(DEMO_PACE_MS=5, THREADS=128)
    with ExitStack() as stack:
        talking = [stack.enter_context(dial(app.port)) for _ in range(50)]
        threads = app.threads()
        idle = [stack.enter_context(dial(app.port)) for _ in range(200)]
        assert app.threads() <= threads + 4
        for client in talking:
            client.send(chat("word " * 50))
        for _ in range(20):
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", app.port), EVER) as probe:
                probe.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert probe.recv(15) == b"HTTP/1.1 200 OK"
            assert time.monotonic() - began < 2
        assert all(answer_of(client) for client in talking)
        idle[-1].send(chat())
        assert answer_of(idle[-1])


def test_more_sockets_than_may_be_are_refused(serve: Serve) -> None:
    app = serve(MAX_SOCKETS=3, DEMO_PACE_MS=0)
    with ExitStack() as stack:
        first, *_ = [stack.enter_context(dial(app.port)) for _ in range(3)]
        with pytest.raises(InvalidStatus) as refused, dial(app.port):
            pass
        assert refused.value.response.status_code == 503
        assert b"MAX_SOCKETS" in refused.value.response.body
        assert post(app.port, chat_body())[0] == 200
        first.close()
        opened: list[ClientConnection] = []

        def opens() -> bool:
            with suppress(InvalidStatus):
                opened.append(stack.enter_context(dial(app.port)))
            return bool(opened)

        until(opens, "its place to be free")
        (answered_again,) = opened
        answered_again.send(chat())
        assert answer_of(answered_again)


def test_turns_count_as_requests_under_way(serve: Serve, shared_upstream: OpenAIUpstream) -> None:
    app = serve(**shared_upstream.settings(), MAX_IN_FLIGHT=1)
    shared_upstream.enqueue(SLOW)
    with dial(app.port) as one, dial(app.port) as other:
        one.send(chat())
        received(one)
        other.send(chat())
        assert received(other)["error"]["code"] == "server_overloaded"
        assert post(app.port, chat_body())[0] == 503
        one.send('{"type": "cancel"}')
        assert chat_messages(one)[-1]["error"]["code"] == "response_cancelled"
        until(lambda: other.send(chat()) or chat_messages(other)[-1]["type"] == "done", "the place to be free")


# Workers that end


@pytest.mark.parametrize(
    ("ends", "served_by"), [(signal.SIGTERM, False), (signal.SIGHUP, True), (signal.SIGUSR2, True)],
    ids=["stops", "reloads", "is succeeded"],
)  # fmt: skip
def test_sockets_at_rest_are_closed_at_once_and_talking_ones_after_their_turn(serve: Serve, ends, served_by) -> None:
    app = serve(DEMO_PACE_MS=20)
    text = "word " * 60
    with dial(app.port) as idle, dial(app.port) as talking:
        talking.send(chat(text))
        received(talking)
        if ends == signal.SIGUSR2:
            app.process.send_signal(ends)
            until(lambda: app.log().count("Booting worker") > 1, "the next master's worker")
            ends = signal.SIGTERM
        began = time.monotonic()
        app.process.send_signal(ends)
        assert wait_closed(idle)[0] == 1012
        assert time.monotonic() - began < 10
        rest = chat_messages(talking)
        assert rest[-1] == {"type": "done"}
        assert text_of(rest).count("word") >= 50
        assert wait_closed(talking)[0] == 1012
    if served_by:
        with dial(app.port) as client:
            client.send(chat())
            assert answer_of(client)
    else:
        assert app.process.wait(EVER) == 0


def test_a_turn_that_does_not_end_is_told_and_closed_when_the_time_is_over(serve: Serve) -> None:
    app = serve(DEMO_PACE_MS=500, GRACEFUL_TIMEOUT=3)
    with dial(app.port) as talking, socket.create_connection(("127.0.0.1", app.port)):
        deaf = RawClient(app.port)  # answers no close frame
        talking.send(chat("word " * 1000))
        received(talking)
        began = time.monotonic()
        app.process.send_signal(signal.SIGTERM)
        last = chat_messages(talking)[-1]
        assert (last["type"], last["error"]["code"]) == ("error", "server_overloaded")
        assert wait_closed(talking)[0] == 1012
        assert app.process.wait(EVER) == 0
        assert time.monotonic() - began < 15
        assert deaf.close_code() == 1012


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_peer_that_is_gone_without_a_word_is_noticed(serve: Serve) -> None:
    """It reads, and answers no ping."""
    app = serve()
    client = RawClient(app.port)
    client.socket.settimeout(60)
    began = time.monotonic()
    assert client.close_code() is None
    assert 30 < time.monotonic() - began < 55


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_peer_that_reads_nothing_of_its_answer_is_cut_off(app: Served, shared_upstream: OpenAIUpstream) -> None:
    count = len(shared_upstream.received)
    shared_upstream.enqueue(ScriptedAnswer(texts=["word " * 2000] * 3000))
    client = RawClient(app.port, window=4096)
    client.send(Opcode.TEXT, chat().encode())
    until(lambda: len(shared_upstream.received) > count, "the request to arrive upstream")
    shared_upstream.received[count].wait_closed(70)
    app.logged("path=ws .*outcome=hung_up")


def test_peers_who_reset_behind_the_handshake_leave_nothing_behind(app: Served) -> None:
    """Seen: one that was gone before its connection had begun was handled twice, and no message was after that."""
    with dial(app.port) as client:
        client.send(chat())
        assert answer_of(client)
    sockets = app.sockets()
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", app.port), EVER) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall(handshake())
    with dial(app.port) as client:
        client.send(chat())
        assert answer_of(client)
    until(lambda: app.sockets() <= sockets, "the sockets to be as many as before")
    assert "Traceback" not in app.log()


def test_a_connection_that_was_kept_becomes_a_socket_and_loses_no_byte(app: Served) -> None:
    with socket.create_connection(("127.0.0.1", app.port), EVER) as sock:
        ping = Frame(Opcode.TEXT, b'{"type": "ping"}').serialize(mask=True)
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + handshake() + ping)
        answer = b""
        while not answer.endswith(b'\x81\x0f{"type":"pong"}'):
            data = sock.recv(4096)
            assert data, answer
            answer += data
    assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b"HTTP/1.1 101 ") == 1


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_message_that_does_not_come_whole_is_given_up(app: Served) -> None:
    client = RawClient(app.port)
    client.socket.settimeout(60)
    client.socket.sendall(Frame(Opcode.TEXT, b"x" * 50_000).serialize(mask=True)[:-1])
    assert client.close_code() == 1008
