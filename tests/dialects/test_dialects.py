"""The same conversations and failures, through every vendor's dialect, give the same answers in OpenAI's.

tests/support/conversations.py is the table of what is said, tests/emulators/dialects.py that of who says it.
`pytest -s` shows both as one table.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from threading import Thread
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from app import create_app
from config import Settings
from core.context import CallContext as CallUnderWay
from core.errors import Cancelled
from core.requests import ChatRequest
from dispatch.sources.model_list import ModelList
from providers.transport import client as http
from tests.conftest import EVER, environment, until
from tests.emulators import FAULTS, Call, Connection, Fault, OpenAIUpstream, Phase, ScriptedAnswer, cases, faults
from tests.emulators.answers import TEXTS
from tests.emulators.anthropic.server import AnthropicUpstream
from tests.emulators.cohere.server import CohereUpstream
from tests.emulators.dialects import AGENTS, PLANS, Dialect, models_file
from tests.emulators.dialects import DIALECTS as MODELS
from tests.emulators.gateway import Gateway, Room
from tests.emulators.gemini.server import GeminiUpstream
from tests.emulators.openai.server import PIXEL
from tests.emulators.reply import Reply, play
from tests.emulators.scripted import Scripted
from tests.support.conversations import AFTERWARDS, CONVERSATIONS, HI, PERSON, TIME, WEATHER, Conversation, Wanted
from tests.support.frames import chunks, completion, error, payloads

DIALECTS = (*MODELS, *AGENTS)
PATIENT = {"FIRST_EVENT_TIMEOUT": 50, "CONNECT_TIMEOUT": 20, "LOG_LEVEL": "NONE"}
"""A busy machine takes its time, above all when a vendor's SDK is loaded for its first request."""
KEPT = "line kept after a stream"
HURRIED = {"FIRST_EVENT_TIMEOUT": 0.1, "IDLE_TIMEOUT": 0.1}


@dataclass(frozen=True)
class DialectClient:
    """A dialect, its emulated vendor, and a client of ours that knows nothing of it."""

    dialect: Dialect
    upstream: Scripted
    client: Any

    def ask(self, body: Mapping[str, Any], stream: bool) -> Any:
        options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        asked = {"model": self.dialect.model, "provider": self.dialect.name, "messages": HI, **options, **body}
        return self.client.post("/v1/chat/completions", json=asked, buffered=True)


@contextmanager
def dialect_client(dialect: Dialect, **settings: object) -> Iterator[DialectClient]:
    with dialect.upstream() as upstream:
        values = environment(
            RETRIES=0, BREAKER_FAILURES=10_000, LOG_LEVEL="NONE", **dialect.settings(upstream), **settings
        )
        if providers := dialect.providers(upstream):
            values["MODELS_FILE"] = models_file(providers)
            values["DATA_DIR"] = mkdtemp(dir=Path.home())  # no conversation of another test goes on here
        yield DialectClient(dialect, upstream, create_app(Settings.load(values)).test_client())


def received_answer(response: Any, stream: bool) -> Wanted:
    """An answer as the table has it."""
    if response.status_code != 200:
        code, retry_after = error(response.data)["code"], response.headers.get("Retry-After")
        return Wanted("", (), "", (), "", response.status_code, code, retry_after)
    return _streamed(response.data) if stream else _whole(completion(response.data))


def _streamed(data: bytes) -> Wanted:
    text, reasoning, finish, usage, calls = "", "", "", None, list[list[str]]()
    for chunk in _with_reasoning(data):
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            delta = choice["delta"]
            text += delta.get("content") or ""
            reasoning += delta.get("reasoning_content") or ""
            finish = choice["finish_reason"] or finish
            for call in delta.get("tool_calls") or []:
                if call.get("id"):
                    calls.append([call["function"]["name"], ""])
                calls[call["index"]][1] += call["function"].get("arguments") or ""
    return Wanted(text, tuple((name, json.loads(each)) for name, each in calls), finish, _tokens(usage), reasoning)


def _with_reasoning(data: bytes) -> list[dict[str, Any]]:
    """The chunks, which must be OpenAI's to the letter where no thinking was asked for."""
    return [json.loads(each) for each in payloads(data)] if b"reasoning_content" in data else chunks(data)


def _whole(body: dict[str, Any]) -> Wanted:
    (choice,) = body["choices"]
    message = choice["message"]
    called = message.get("tool_calls") or []
    assert len({call["id"] for call in called}) == len(called)
    calls = [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in called]
    text, reasoning = message["content"] or "", message.get("reasoning_content") or ""
    return Wanted(text, tuple(calls), choice["finish_reason"], _tokens(body["usage"]), reasoning)


def _tokens(usage: Any) -> tuple[int, ...]:
    if usage["prompt_tokens"] == usage["completion_tokens"] == -1:  # nothing was counted
        return ()
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    details = usage["prompt_tokens_details"]["cached_tokens"], usage["completion_tokens_details"]["reasoning_tokens"]
    return usage["prompt_tokens"], usage["completion_tokens"], *details


def leaves(value: Any) -> Iterator[str]:
    """Every text in a JSON value, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from leaves(each)


# The same answers


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_the_same_answers(stream: bool) -> None:
    """Nothing of what is asked is lost, and each answer and failure is OpenAI's own."""
    table: dict[str, list[str]] = {said.name: [] for said in CONVERSATIONS}
    wrong: list[str] = []
    for dialect in DIALECTS:
        with dialect_client(dialect) as client:
            for said in CONVERSATIONS:
                if said.name in dialect.without:
                    table[said.name].append("-")
                    continue
                found = _differences(client, said, stream)
                table[said.name].append("differs" if found else "same")
                wrong += [f"{dialect}, {said}: {each}" for each in found]
    print(_shown("streamed" if stream else "whole", table))  # noqa: T201 - the table is what is to be seen
    assert not wrong, "\n".join(["", *wrong])


def _shown(title: str, table: Mapping[str, list[str]]) -> str:
    width = max(map(len, table)) + 2
    rows = [(title, [dialect.name for dialect in DIALECTS]), *table.items()]
    clients = [f"{name:{width}}" + "".join(f"{cell:12}" for cell in cells) for name, cells in rows]
    clients += [f"- {each} has no {name}: {why}" for each in DIALECTS for name, why in each.without.items()]
    return "\n".join(["", *clients])


def _differences(client: DialectClient, said: Conversation, stream: bool) -> list[str]:
    """What is not as the table has it."""
    before = len(client.upstream.received)
    client.upstream.enqueue(said.answer)
    response = client.ask(said.body, stream)
    client.upstream.forget()
    try:
        found = received_answer(response, stream)
    except (AssertionError, KeyError, ValueError) as wrong:
        return [f"{type(wrong).__name__}: {wrong} in {response.data!r}"]
    wanted = asdict(said.wanted if said.wanted.status == 200 else replace(said.wanted, text="", finish="", usage=()))
    differences = [
        f"{name} is {value!r} instead of {wanted[name]!r}: {response.data[:600]!r}"
        for name, value in asdict(found).items()
        if value != wanted[name]
        and not (name == "code" and wanted["code"] is None)
        and not (name == "usage" and not client.dialect.counts)
    ]
    bodies = [each.json for each in client.upstream.received[before:] if each.body]
    sent = " ".join(text for body in bodies for text in leaves(body))
    return differences + [f"{text!r} has not reached the vendor: {sent!r}" for text in said.texts if text not in sent]


# Behind a model list


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """One host with everybody behind it, and a list of their models by handles."""
    rooms = {
        "/openai": Room(OpenAIUpstream(), "authorization", "Bearer"),
        "/anthropic": Room(AnthropicUpstream(), "x-api-key"),
        "/google": Room(GeminiUpstream(), "x-goog-api-key"),
        "/cohere": Room(CohereUpstream(), "authorization", "Bearer"),
    }
    handles = {
        "gpt-4o-mini": "/openai/v1/chat/completions",
        "claude-haiku-4-5": "/anthropic/v1/messages",
        "gemini-3-flash-preview": "/google/v1beta/models/gemini-3-flash-preview:generateContent",
        "command-a-03-2025": "/cohere/v2/chat",
    }
    with Gateway(rooms, [{"model_version": name, "handle": handle} for name, handle in handles.items()]) as server:
        yield server


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_every_handle_of_a_model_list_speaks_its_dialect(
    gateway: Gateway, stream: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list's host, the list's token by its own scheme, and the vendor's dialect."""
    monkeypatch.setattr(ModelList, "start", ModelList.refresh_once)
    listed = {"MODEL_LIST_URL": f"{gateway.url}/models", "MODEL_LIST_AUTH_TOKEN": gateway.token, "DATA_DIR": tmp_path}
    client = create_app(Settings.load(environment(**PATIENT, **listed))).test_client()
    names = ["gpt-4o-mini", "claude-haiku-4-5", "gemini-3-flash-preview", "command-a-03-2025"]
    for name in names:
        options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        asked = {"model": name, "messages": AFTERWARDS, "tools": [WEATHER, TIME], **options}
        assert received_answer(client.post("/v1/chat/completions", json=asked), stream) == Wanted(), name
    assert gateway.token not in client.get("/v1/providers").text


# What can go wrong


@pytest.fixture(scope="module", params=DIALECTS, ids=str)
def clients(request: pytest.FixtureRequest) -> Iterator[tuple[DialectClient, DialectClient]]:
    """A line with the usual patience, and one with hardly any, for vendors that fall silent."""
    with dialect_client(request.param) as patient, dialect_client(request.param, **HURRIED) as hurried:
        yield patient, hurried


@cases(FAULTS)
def test_a_fault_is_told(clients: tuple[DialectClient, DialectClient], fault: Fault, stream: bool) -> None:
    """Before the first event a status, after it an error frame; never a made-up finish; no leak."""
    client = clients[fault.silent]
    if fault.name in client.dialect.without:
        return
    client.upstream.always(ScriptedAnswer(fault=fault))
    response = client.ask({}, stream)
    until(lambda: client.upstream.open_connections() <= 1, "the connections to be closed or kept")
    client.upstream.refuse()  # what is kept may still have something in it that was not asked for
    client.upstream.always(ScriptedAnswer())
    if fault.harmless:
        assert response.status_code == 200, response.data
        assert received_answer(response, stream).text == "".join(TEXTS)
    elif response.status_code == 200:
        assert fault.phase in (Phase.MIDDLE, Phase.END)
        *before, last = payloads(response.data)
        assert '"finish_reason":"' not in "".join(before)
        assert error(last.encode())["code"] == ("upstream_timeout" if fault.silent else "upstream_error")
    else:
        assert response.status_code == (504 if fault.silent else 502)
        assert error(response.data)["message"]


def test_a_line_is_kept_for_the_next_call(
    clients: tuple[DialectClient, DialectClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests share one kept connection, streamed or whole."""
    monkeypatch.setattr(http, "LINGER_SECONDS", EVER)  # a busy machine may take longer over the last bytes
    client, _ = clients

    def kept() -> bool:
        before = client.upstream.accepted
        for stream in (False, False) if KEPT in client.dialect.without else (True, False, True):
            assert received_answer(client.ask({}, stream), stream).finish == "stop"
        return client.upstream.accepted == before

    until(kept, "calls on one line: on a busy machine the end of an answer may come too late to keep it")


@pytest.mark.parametrize(
    "fault", [faults.stalled_before_headers, faults.stalled_after_headers, faults.stalled], ids=str
)
def test_a_hang_up_reaches_the_vendor(clients: tuple[DialectClient, DialectClient], fault: Fault) -> None:
    """A caller who hangs up frees the vendor's connection in every phase, and at once."""
    client, _ = clients
    client.upstream.enqueue(ScriptedAnswer(fault=fault))
    before = len(client.upstream.received)
    catalogue = client.client.application.extensions["thinkline"].catalogue
    (target,) = catalogue.route(client.dialect.model, client.dialect.name).targets
    call, ended = CallUnderWay(), []

    def listen() -> None:
        try:
            call.begin(target.timeouts)
            ended.extend(target.provider.chat(ChatRequest({"messages": HI, "stream": True}, stream=True), target, call))
        except Cancelled:
            ended.append("hung up")

    listener = Thread(target=listen)
    listener.start()
    received = client.upstream.wait_received(before + 1 + client.dialect.opens, EVER)
    call.cancel()
    received.wait_closed(EVER)
    listener.join(EVER)
    assert ended[-1:] == ["hung up"]


# Whatever is said

LETTERS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,15}", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | LETTERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LETTERS, inner, max_size=3),
    max_leaves=6,
)
OFTEN = hypothesis.settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)


@st.composite
def answers(draw: st.DrawFn) -> ScriptedAnswer:
    """Words in any pieces, and calls whose arguments are cut anywhere."""
    calls = []
    for number, name in enumerate(draw(st.lists(NAMES, max_size=3))):
        raw = json.dumps(draw(st.dictionaries(LETTERS, VALUES, max_size=3)), ensure_ascii=draw(st.booleans()))
        cuts = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=4)))
        calls.append(Call(f"call_{number}", name, [raw[a:b] for a, b in pairwise([0, *cuts, len(raw)])]))
    texts = draw(st.lists(LETTERS, min_size=not calls, max_size=5))
    return ScriptedAnswer(texts=texts, calls=calls)


@OFTEN
@hypothesis.given(answer=answers(), stream=st.booleans())
def test_what_a_vendor_says_is_what_the_caller_hears(
    clients: tuple[DialectClient, DialectClient], answer: ScriptedAnswer, stream: bool
) -> None:
    """Text in is text out, arguments stay JSON, indices are dense, and there is one finish (`chunks` sees to that)."""
    client, _ = clients
    if client.dialect in AGENTS:
        hypothesis.assume(_can_say(client.dialect, answer, stream=stream))
    client.upstream.enqueue(answer)
    found = received_answer(client.ask({"tools": [WEATHER]}, stream), stream)
    kept_back = answer.calls and not stream and PLANS in client.dialect.without
    assert found.text == ("" if kept_back else "".join(answer.texts or ()))
    assert list(found.calls) == [(call[1], json.loads("".join(call[2]))) for call in answer.calls]
    assert found.finish == ("tool_calls" if answer.calls else "stop")


def _can_say(agent: Dialect, answer: ScriptedAnswer, *, stream: bool) -> bool:
    """Whether an agent can say so: one says something, not all call tools, and a stream of OCI's must not look like one
    whose pieces hold all that was said before.
    """
    texts = [text for text in answer.texts or () if text]
    ambiguous = stream and any(text.startswith("".join(texts[:at])) for at, text in enumerate(texts) if at)
    return bool(texts or answer.calls) and not (answer.calls and PLANS in agent.without) and not ambiguous


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Messages in any order of roles, some of them empty, some with calls and their results."""
    messages: list[dict[str, Any]] = []
    for number, role in enumerate(draw(st.lists(st.sampled_from(["system", "user", "assistant", "call"]), max_size=6))):
        words = draw(LETTERS)
        if role == "call":
            arguments = json.dumps(draw(st.dictionaries(NAMES, LETTERS, max_size=2)), ensure_ascii=False)
            function = {"name": "get_weather", "arguments": arguments}
            call = {"id": f"call_{number}", "type": "function", "function": function}
            messages.append({"role": "assistant", "content": words, "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": draw(LETTERS)})
        else:
            messages.append({"role": role, "content": words})
    return [*messages, {"role": "user", "content": "Now."}]


@OFTEN
@hypothesis.given(messages=conversations())
def test_what_the_caller_says_is_what_a_vendor_hears(
    clients: tuple[DialectClient, DialectClient], messages: list[dict[str, Any]]
) -> None:
    """No vendor refuses a conversation that OpenAI takes, and every word of it reaches them all."""
    client, _ = clients
    before = len(client.upstream.received)
    response = client.ask({"messages": messages, "tools": [WEATHER]}, stream=False)
    assert response.status_code == 200, response.data
    *opening, request = client.upstream.received[before:]
    assert len(opening) == client.dialect.opens
    sent = "\n".join(leaves(request.json))
    for message in messages:
        if message["content"].strip() and not (
            message["role"] == "system" and "instructions" in client.dialect.without
        ):
            assert (message["content"].strip() if client.dialect in AGENTS else message["content"]) in sent


@hypothesis.settings(OFTEN, max_examples=100)
@hypothesis.given(seed=st.integers(0, 2**32), stream=st.booleans())
def test_nonsense_is_no_answer_and_no_crash(
    clients: tuple[DialectClient, DialectClient], seed: int, stream: bool
) -> None:
    """A vendor that leaves frames out, or puts something else in their place."""
    client, _ = clients
    chance = Random(seed)

    def odd(connection: Connection, reply: Reply) -> None:
        pieces = [replace(piece, data=_spoilt(piece.data, chance)) for piece in reply.pieces]
        kept = [piece for piece in pieces if not reply.stream or chance.random() < 0.9]
        play(connection, replace(reply, pieces=tuple(kept)))

    fault = Fault("odd", "", Phase.THROUGHOUT, odd)
    client.upstream.always(
        ScriptedAnswer(texts=["Hm."], calls=[Call("call_1", "get_weather", ['{"city": ', '"x"}'])], fault=fault)
    )
    response = client.ask({"tools": [WEATHER]}, stream)
    client.upstream.always(ScriptedAnswer())
    assert response.status_code in (200, 502), response.data
    assert b"Something went wrong here" not in response.data
    if response.status_code == 200 and b'{"error":' not in response.data:
        (chunks if stream else completion)(response.data)  # what is translated, and no failure, is sound


def _spoilt(frame: bytes, chance: Random) -> bytes:
    """A frame, or a body, now and then with something else in it."""
    start, end = frame.find(b"{"), frame.rfind(b"}") + 1
    if start < 0 or chance.random() < 0.7:
        return frame
    return frame[:start] + json.dumps(_changed(json.loads(frame[start:end]), chance)).encode() + frame[end:]


def _changed(value: Any, chance: Random, depth: int = 0) -> Any:
    """Something else at some place in it; not at its head, nor so many levels below it."""
    if isinstance(value, dict) and value and (depth or chance.random() < 0.8):
        name = chance.choice(sorted(value))
        if not depth and chance.random() < 0.2:
            return {key: each for key, each in value.items() if key != name}
        return {**value, name: _changed(value[name], chance, max(0, depth - 1))}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        return [*value[:at], _changed(value[at], chance), *value[at + 1 :]]
    return chance.choice((None, True, -1, 1.5, "", "x", [], {}, [None], {"type": "x"}, [{"a": [1]}]))


ASKED: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look."},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
            ],
        },
        *AFTERWARDS,
        {"role": "assistant", "content": None, "function_call": {"name": "get_time", "arguments": "{}"}},
        {"role": "function", "name": "get_time", "content": "9:30"},
    ],
    "tools": [WEATHER, TIME],
    "tool_choice": {"type": "function", "function": {"name": "get_time"}},
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "p", "schema": {"type": "object", "properties": {"a": {"anyOf": [PERSON]}}}},
    },
    "stop": ["x"],
    "temperature": 0.5,
    "top_k": 3,
    "user": "u",
    "thinking": {"type": "disabled"},
    "documents": [{"id": "1", "data": {"text": "t"}}],
}


@hypothesis.settings(OFTEN, max_examples=200)
@hypothesis.given(seed=st.integers(0, 2**32))
def test_an_odd_request_is_no_fault_of_ours(clients: tuple[DialectClient, DialectClient], seed: int) -> None:
    """Whatever a caller puts in the place of something else, it is answered, or refused by name."""
    client, _ = clients
    chance = Random(seed)
    body = ASKED
    for _ in range(chance.randint(1, 3)):
        body = _changed(body, chance, depth=1)
    body = {**ASKED, **body} if isinstance(body, dict) else ASKED
    response = client.ask(body, stream=False)
    assert response.status_code != 500, (response.data, body)
