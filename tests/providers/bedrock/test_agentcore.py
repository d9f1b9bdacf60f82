"""AgentCore behind the endpoint: harnesses and runtimes remember, call the caller's tools, and fail in our words."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from app import create_app
from config import Settings
from core.events import Text
from providers.bedrock.agentcore.account import wire_session_id
from providers.bedrock.agentcore.runtime_decode import RuntimeDecoder
from providers.common.agent_sessions import Session as AgentSession
from providers.common.agent_sessions import SessionLease, SessionOwner, lasting_id
from providers.transport.sse import Frame
from tests.conftest import environment
from tests.emulators import Call, ScriptedAnswer, faults
from tests.emulators.bedrock.agentcore import (
    ACCESS_KEY,
    HARNESS,
    REGION,
    RUNTIME,
    SECRET,
    HarnessUpstream,
    RuntimeUpstream,
)
from tests.emulators.dialects import models_file
from tests.support.frames import chunks, completion, error, finish, payloads, streamed_calls, streamed_text
from tests.support.http import openai_error
from tools.doctor.examine import examine

CHAT = "/v1/chat/completions"
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture
def harness() -> Iterator[HarnessUpstream]:
    with HarnessUpstream() as upstream:
        yield upstream


@pytest.fixture
def runtime() -> Iterator[RuntimeUpstream]:
    with RuntimeUpstream() as upstream:
        yield upstream


@pytest.fixture
def app(tmp_path: Path) -> Callable[..., Any]:
    """app(upstream, row=..., **provider): a client of an app with that agent, as the model `agent`."""

    def start(upstream: Any, row: Any = None, env: Any = None, **provider: Any) -> Any:
        kind, arn = (
            ("agentcore-harness", HARNESS) if isinstance(upstream, HarnessUpstream) else ("agentcore-runtime", RUNTIME)
        )
        file = tmp_path / "models.yaml"
        file.write_text(
            yaml.safe_dump(
                {
                    "providers": {"agent": {"kind": kind, "arn": arn, **provider}},
                    "models": [{"name": "agent", "provider": "agent", **(row or {})}],
                }
            )
        )
        values = {**upstream.settings, "MODELS_FILE": file, "DATA_DIR": tmp_path / "data", **(env or {})}
        return create_app(Settings.load(environment(**values))).test_client()

    return start


def ask(client: Any, messages: list[Any], headers: Any = None, **body: Any) -> Any:
    asked = {"model": "agent", "messages": messages, **body}
    return client.post(CHAT, json=asked, headers=headers or {}, buffered=True)


def answer_message(client: Any, messages: list[Any], **body: Any) -> dict[str, Any]:
    response = ask(client, messages, **body)
    assert response.status_code == 200, response.data
    return completion(response.data)["choices"][0]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


# Amazon's own client reads what the emulators say


def own_client(url: str) -> Any:
    return boto3.client(
        "bedrock-agentcore",
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET,
        endpoint_url=url,
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_boto3_reads_the_harness(harness: HarnessUpstream) -> None:
    harness.enqueue(ScriptedAnswer(texts=["Hi"], calls=[Call("tooluse_1", "end_call", ["{}"])]))
    messages = [{"role": "user", "content": [{"text": "hi"}]}]
    answer = own_client(harness.url).invoke_harness(harnessArn=HARNESS, runtimeSessionId="s" * 40, messages=messages)
    names = [next(iter(event)) for event in answer["stream"]]
    assert names[0] == "messageStart"
    assert names[-2:] == ["messageStop", "metadata"]


def test_boto3_reads_the_runtime(runtime: RuntimeUpstream) -> None:
    runtime.enqueue(ScriptedAnswer(texts=["Hi", "!"]))
    payload = json.dumps({"prompt": "hi"}).encode()
    answer = own_client(runtime.url).invoke_agent_runtime(
        agentRuntimeArn=RUNTIME, payload=payload, contentType="application/json"
    )
    assert answer["response"].read() == b'data: "Hi"\n\ndata: "!"\n\n'


# Sessions


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=200), st.text(max_size=20))
def test_every_sessions_id_fits_the_wire(explicit: str, caller: str) -> None:
    owner = SessionOwner(caller, HARNESS)
    fresh = SessionLease(None, owner, explicit, [], 60).fresh()
    for session in (AgentSession(lasting_id(owner, explicit), known=True), fresh):
        assert re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9-_]*", wire_session_id(session))
        assert 33 <= len(wire_session_id(session)) <= 100
        assert wire_session_id(session) == wire_session_id(session)


def test_a_harness_remembers_and_gets_the_new_words_alone(harness: HarnessUpstream, app: Callable[..., Any]) -> None:
    client = app(harness)
    messages = [user("My name is Ada.")]
    messages += [answer_message(client, messages)["message"], user("Who am I?")]
    answer_message(client, messages)
    assert len(harness.sessions) == 1
    assert [params["messages"] for params in harness.asked] == [
        [{"role": "user", "content": [{"text": "My name is Ada."}]}],
        [{"role": "user", "content": [{"text": "Who am I?"}]}],
    ]


@pytest.mark.parametrize("kind", ["harness", "runtime"])
def test_an_id_keeps_the_session_over_a_restart(
    kind: str, app: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    upstream = request.getfixturevalue(kind)
    for text in ("One.", "Two.", "Three."):
        answer_message(app(upstream), [user(text)], session_id="call-7")
    assert len(upstream.sessions) == 1
    assert len(next(iter(upstream.sessions.values()))) >= 3


def test_another_key_does_not_reach_a_session(harness: HarnessUpstream, app: Callable[..., Any]) -> None:
    client = app(harness, env={"API_KEYS": "ann:sk-ann,bob:sk-bob"})
    for key in ("sk-ann", "sk-bob", "sk-ann"):
        ask(client, [user("hi")], {"Authorization": f"Bearer {key}"}, session_id="shared")
    assert sorted(len(history) for history in harness.sessions.values()) == [2, 4]


def test_an_interrupted_turn_begins_a_new_session_with_the_history(
    harness: HarnessUpstream, app: Callable[..., Any]
) -> None:
    client = app(harness)
    answer_message(client, [user("Hi.")])
    answer_message(client, [user("Hi."), {"role": "assistant", "content": "Grü"}, user("Stop.")])
    assert len(harness.sessions) == 2
    assert [each["role"] for each in harness.asked[1]["messages"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize("kind", ["harness", "runtime"])
def test_an_agent_that_does_not_remember_is_told_everything_each_time(
    kind: str, app: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    upstream = request.getfixturevalue(kind)
    client = app(upstream, remembers=False)
    messages = [user("My name is Ada.")]
    messages += [answer_message(client, messages, session_id="s")["message"], user("Who am I?")]
    answer_message(client, messages, session_id="s")
    assert len(upstream.sessions) == 2
    assert "My name is Ada." in json.dumps(upstream.asked[1])


# What a harness is asked


def test_what_a_harness_is_asked(harness: HarnessUpstream, app: Callable[..., Any]) -> None:
    client = app(harness, row={"qualifier": "live", "params": {"add": {"allowedTools": ["*"]}}})
    own = {"actorId": "ada", "maxIterations": 3, "timeoutSeconds": 20}
    messages = [{"role": "system", "content": "Be brief."}, user("hi")]
    answer_message(client, messages, tools=[WEATHER], max_tokens=50, user="somebody", bedrock=own)
    asked = harness.asked[0]
    assert asked["qualifier"] == "live"
    assert asked["systemPrompt"] == [{"text": "Be brief."}]
    assert asked["tools"] == [
        {
            "type": "inline_function",
            "name": "get_weather",
            "config": {
                "inlineFunction": {"description": "get_weather", "inputSchema": WEATHER["function"]["parameters"]}
            },
        }
    ]
    expected = {"maxTokens": 50, "actorId": "ada", "maxIterations": 3, "timeoutSeconds": 20, "allowedTools": ["*"]}
    assert {key: asked[key] for key in expected} == expected


def test_a_row_can_keep_the_harness_own_prompt_and_tools(harness: HarnessUpstream, app: Callable[..., Any]) -> None:
    client = app(harness, row={"params": {"delete": ["systemPrompt", "tools"]}})
    answer_message(client, [{"role": "system", "content": "Be rude."}, user("hi")], tools=[WEATHER])
    assert not harness.asked[0].keys() & {"systemPrompt", "tools"}


@pytest.mark.parametrize(
    ("own", "param"),
    [
        ("text", "bedrock"),
        ({"model": {"bedrockModelConfig": {"modelId": "x"}}}, "bedrock.model"),
        ({"maxIterations": "3"}, "bedrock.maxIterations"),
        ({"maxIterations": True}, "bedrock.maxIterations"),
        ({"actorId": 7}, "bedrock.actorId"),
        ({"runtimeUserId": "a\r\nb: c"}, "bedrock.runtimeUserId"),
        ({"runtimeUserId": "Zürich"}, "bedrock.runtimeUserId"),
    ],
)
def test_an_option_that_is_none_is_refused_by_name(
    harness: HarnessUpstream, app: Callable[..., Any], own: Any, param: str
) -> None:
    assert openai_error(ask(app(harness), [user("hi")], bedrock=own), 400)["param"] == param
    assert not harness.received


# Its tools, and the caller's


def test_the_harness_own_tools_are_its_own_affair(harness: HarnessUpstream, app: Callable[..., Any]) -> None:
    harness.hooks = True
    harness.enqueue(ScriptedAnswer(texts=["Three", " files."]))
    response = ask(app(harness), [user("What is there?")], stream=True)
    assert streamed_text(response.data) == "Let me look. Three files."
    assert finish(response.data) == "stop"
    assert b"secret.txt" not in response.data


@pytest.mark.parametrize("name", ["end_call", "transfer_call", "press_digit"])
def test_a_call_of_an_inline_function_comes_back_with_its_result(
    harness: HarnessUpstream, app: Callable[..., Any], name: str
) -> None:
    """A harness does not remember a turn that ends in such a call: it gets the call back with the result."""
    client = app(harness)
    harness.enqueue(ScriptedAnswer(texts=["Bye."], calls=[Call("tooluse_1", name, ['{"why": ', '"done"}'])]))
    messages: list[Any] = [user("That is all.")]
    response = ask(client, messages, stream=True)
    assert [each[-2:] for each in streamed_calls(response.data)] == [(name, {"why": "done"})]
    assert finish(response.data) == "tool_calls"
    call = {"id": "tooluse_1", "type": "function", "function": {"name": name, "arguments": '{"why": "done"}'}}
    messages.append({"role": "assistant", "content": "Bye.", "tool_calls": [call]})
    messages.append({"role": "tool", "tool_call_id": "tooluse_1", "content": "ok"})
    answer_message(client, messages)
    assert len(harness.sessions) == 1
    assert harness.asked[1]["messages"] == [
        {
            "role": "assistant",
            "content": [
                {"text": "Bye."},
                {"toolUse": {"toolUseId": "tooluse_1", "name": name, "input": {"why": "done"}}},
            ],
        },
        {"role": "user", "content": [{"toolResult": {"toolUseId": "tooluse_1", "content": [{"text": "ok"}]}}]},
    ]


def test_results_that_no_session_waits_for_come_with_the_whole_history(
    harness: HarnessUpstream, app: Callable[..., Any]
) -> None:
    call = {"id": "call_x", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        user("Weather?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_x", "content": "Sunny."},
    ]
    answer_message(app(harness), messages)
    assert [each["role"] for each in harness.asked[0]["messages"]] == ["user", "assistant", "user"]


def test_calls_that_share_an_index_are_told_apart(harness: HarnessUpstream, app: Callable[..., Any]) -> None:
    harness.enqueue(ScriptedAnswer(calls=[Call("a", "one", ['{"x": 1}']), Call("b", "two", ['{"y": 2}'])]))
    found = streamed_calls(ask(app(harness), [user("hi")], stream=True).data)
    assert [each[-2:] for each in found] == [("one", {"x": 1}), ("two", {"y": 2})]


# How it ends


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("max_output_tokens_exceeded", "length"),
        ("max_iterations_exceeded", "length"),
        ("timeout_exceeded", "length"),
        ("content_filtered", "content_filter"),
        ("hook_stopped", "content_filter"),
    ],
)
def test_every_end_is_one_of_openais(harness: HarnessUpstream, app: Callable[..., Any], word: str, reason: str) -> None:
    harness.enqueue(ScriptedAnswer(texts=["So"], finish_reason=word))
    assert answer_message(app(harness), [user("hi")])["finish_reason"] == reason


@pytest.mark.parametrize("word", ["malformed_model_output", "malformed_tool_use", "end_turn"])
def test_nothing_said_is_a_failure_and_is_not_repeated(
    harness: HarnessUpstream, app: Callable[..., Any], word: str
) -> None:
    harness.always(ScriptedAnswer(texts=[], finish_reason=word))
    response = ask(app(harness), [user("hi")])
    assert (response.status_code, error(response.data)["code"]) == (502, "upstream_error")
    assert len(harness.received) == 1


def test_a_cut_is_not_repeated_by_any_of_them(
    harness: HarnessUpstream, runtime: RuntimeUpstream, app: Callable[..., Any]
) -> None:
    """The agent may have acted already."""
    for upstream in (harness, runtime):
        upstream.always(ScriptedAnswer(fault=faults.closed_before_headers))
        assert ask(app(upstream), [user("hi")]).status_code == 502
        assert len(upstream.received) == 1


# A runtime's payload and answer


def test_a_runtimes_payload_is_the_rows_affair(runtime: RuntimeUpstream, app: Callable[..., Any]) -> None:
    fields = {"prompt_field": "prompt", "system_field": "input.system", "qualifier": "live"}
    client = app(runtime, row={"params": {"add": {"lang": "de"}}}, **fields)
    messages = [{"role": "system", "content": "Be brief."}, user("hi")]
    answer_message(client, messages, bedrock={"payload": {"customer": 7, "input": {"x": 1}}})
    assert runtime.asked[0][1] == {
        "prompt": "hi",
        "lang": "de",
        "customer": 7,
        "input": {"x": 1, "system": "Be brief."},
    }
    assert "qualifier=live" in runtime.received[0].path


def test_a_whole_answer_is_cut_at_words_for_a_stream(runtime: RuntimeUpstream, app: Callable[..., Any]) -> None:
    runtime.whole = True
    runtime.enqueue(ScriptedAnswer(texts=["One two three four."]))
    response = ask(app(runtime), [user("hi")], stream=True)
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks(response.data)][1:5] == [
        "One ",
        "two ",
        "three ",
        "four.",
    ]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("Hi", ""),
        ({"result": "Hi"}, ""),
        ({"result": {"role": "assistant", "content": [{"text": "H"}, {"text": "i"}]}}, ""),
        ({"output": {"message": {"content": [{"text": "Hi"}]}}}, "output.message"),
        ({"response": "Hi", "cost": 3}, ""),
        ({"choices": [{"message": {"content": "Hi"}}]}, ""),
        ({"deep": [{"er": {"text": "Hi"}}]}, "deep.0.er"),
    ],
)
def test_a_text_is_found_where_apps_have_it(value: Any, path: str) -> None:
    decoder = RuntimeDecoder("app", path, streams=False)
    assert [event.text for event in decoder.from_json(value) if isinstance(event, Text)] == ["Hi"]


def test_a_text_that_strands_says_at_several_places_is_heard_once() -> None:
    """https://strandsagents.com: an event of the model, the same as `data`, and the whole message at the end."""
    events = [
        {"init_event_loop": True},
        {"event": {"messageStart": {"role": "assistant"}}},
        {"event": {"contentBlockDelta": {"delta": {"text": "Good "}, "contentBlockIndex": 0}}},
        {"data": "Good ", "delta": {"text": "Good "}},
        {"event": {"contentBlockDelta": {"delta": {"text": "day."}, "contentBlockIndex": 0}}},
        {"data": "day.", "delta": {"text": "day."}},
        {"message": {"role": "assistant", "content": [{"text": "Good day."}]}},
    ]
    frames = [Frame(b"", json.dumps(event).encode()) for event in events]
    decoder = RuntimeDecoder("app", "", streams=True)
    assert "".join(event.text for event in decoder.from_frames(frames) if isinstance(event, Text)) == "Good day."


def test_an_answer_without_a_text_names_what_to_set(
    runtime: RuntimeUpstream, app: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    runtime.whole = True
    response = ask(app(runtime, text_path="nowhere"), [user("hi")])
    assert (response.status_code, error(response.data)["message"]) == (502, "agent ended without an answer.")
    assert "text_path" in capfd.readouterr().err
    assert len(runtime.received) == 1


def test_an_apps_own_failure_is_not_repeated(runtime: RuntimeUpstream, app: Callable[..., Any]) -> None:
    """Amazon says 424 RuntimeClientError for an app that has raised, and it may have acted before."""
    response = ask(app(runtime, prompt_field="input.prompt"), [user("hi")])
    assert (response.status_code, error(response.data)["code"]) == (502, "upstream_error")
    assert len(runtime.received) == 1


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_in_the_midst_of_an_answer_is_told(
    runtime: RuntimeUpstream, app: Callable[..., Any], stream: bool
) -> None:
    runtime.always(ScriptedAnswer(fault=faults.error_frame))
    response = ask(app(runtime), [user("hi")], stream=stream)
    assert error(payloads(response.data)[-1].encode() if stream else response.data)["code"] == "upstream_error"
    assert b"boom" not in response.data
    assert len(runtime.received) == 1


# Configuration


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        ({"arn": RUNTIME}, "ARN is"),
        ({"arn": "concierge"}, "ARN is"),
        ({"arn": HARNESS, "text_path": "a..b"}, "text_path"),
        ({"arn": HARNESS, "remembers": "yes"}, "remembers"),
        ({"arn": HARNESS, "session_ttl": 1}, "session_ttl"),
    ],
)
def test_a_row_that_cannot_work_is_refused_at_the_start(provider: Any, said: str) -> None:
    file = models_file({"agent": {"kind": "agentcore-harness", **provider}})
    with pytest.raises(Exception, match=said):
        create_app(Settings.load(environment(MODELS_FILE=file)))


@pytest.mark.parametrize("kind", ["harness", "runtime"])
def test_the_doctor_calls_it_in_a_way_that_runs_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    upstream = request.getfixturevalue(kind)
    arn = HARNESS if kind == "harness" else RUNTIME
    file = models_file({"agent": {"kind": f"agentcore-{kind}", "arn": arn}})
    chosen = Settings.load(environment(**upstream.settings, MODELS_FILE=file, PORT=0))
    found = [each for each in examine(chosen, 10.0) if each.what == "provider agent"]
    assert [(each.state, "the credential is accepted" in each.detail) for each in found] == [("ok", True)]
    assert not upstream.sessions
