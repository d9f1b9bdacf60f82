"""What goes out to vendors with a dialect of their own is what they take: histories that are not in order, tools and
schemas that OpenAI alone would take, formats and choices that a model has no words for.

Each table is asked of every dialect, streamed and whole; the emulated vendors refuse what the real ones refuse.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from app import create_app
from config import Settings
from providers.common.history import INTERRUPTED
from tests.conftest import environment
from tests.dialects.test_dialects import DialectClient, dialect_client, leaves
from tests.emulators.answers import TEXTS
from tests.emulators.answers import Call as Use
from tests.emulators.bedrock.answers import Turn
from tests.emulators.bedrock.server import HAIKU, NOVA, BedrockUpstream
from tests.emulators.dialects import DIALECTS
from tests.support.conversations import HI, PERSON, TIME, WEATHER
from tests.support.frames import chunks, completion, finish, streamed_calls, streamed_text
from tests.support.http import openai_error

LLAMA, MISTRAL = "meta.llama3-3-70b-instruct-v1:0", "mistral.mistral-large-2407-v1:0"
OLD = "anthropic.claude-3-haiku-20240307-v1:0"
AFTER: dict[str, Any] = {"role": "user", "content": "Are you there?"}


@dataclass(frozen=True)
class BedrockClient:
    """Bedrock's models as a dialect more."""

    upstream: BedrockUpstream
    client: Any
    model: str

    def ask(self, body: Mapping[str, Any], stream: bool) -> Any:
        asked = {"model": self.model, "provider": "bedrock-models", "messages": HI, "stream": stream, **body}
        return self.client.post("/v1/chat/completions", json=asked, buffered=True)


NATIVE = [each for each in DIALECTS if each.name != "openai"]
BEDROCK = (NOVA, HAIKU, OLD, LLAMA, MISTRAL)
LINES = [f"{each} {each.model}" for each in NATIVE] + [f"bedrock {model}" for model in BEDROCK]


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        found: dict[str, Any] = {f"{each} {each.model}": stack.enter_context(dialect_client(each)) for each in NATIVE}
        upstream = stack.enter_context(BedrockUpstream())
        upstream.always(Turn())
        values = environment(RETRIES=0, BREAKER_FAILURES=10_000, LOG_LEVEL="NONE", **upstream.settings)
        client = create_app(Settings.load(values)).test_client()
        yield found | {f"bedrock {model}": BedrockClient(upstream, client, model) for model in BEDROCK}


@pytest.fixture(params=LINES)
def client(clients: dict[str, Any], request: pytest.FixtureRequest) -> Any:
    return clients[request.param]


both_ways = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


def upstream_body(client: Any) -> Any:
    """What the vendor was asked last."""
    if isinstance(client, DialectClient):
        return next(each.json for each in reversed(client.upstream.received) if each.body)
    return client.upstream.asked[-1].params


def text_of(response: Any, stream: bool) -> str:
    """The words of an answer that must be one, without a call, and ends by itself."""
    assert response.status_code == 200, response.data
    if stream:
        assert (finish(response.data), streamed_calls(response.data)) == ("stop", [])
        return streamed_text(response.data)
    (choice,) = completion(response.data)["choices"]
    assert choice["finish_reason"] == "stop"
    assert "tool_calls" not in choice["message"]
    return str(choice["message"]["content"])


def calls_of(response: Any, stream: bool) -> list[tuple[str, Any]]:
    """The calls of an answer that must be nothing besides."""
    assert response.status_code == 200, response.data
    if stream:
        assert (finish(response.data), streamed_text(response.data)) == ("tool_calls", "")
        return [(name, arguments) for _, name, arguments in streamed_calls(response.data)]
    (choice,) = completion(response.data)["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    functions = [call["function"] for call in choice["message"]["tool_calls"]]
    return [(function["name"], json.loads(function["arguments"])) for function in functions]


# What is past


def call(identifier: Any = "call_1", arguments: Any = '{"city": "Paris"}', name: str = "get_weather") -> dict[str, Any]:
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **more}


def result(identifier: Any = "call_1", content: str = "fair") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identifier, "content": content}


FOREIGN = {"refusal": None, "annotations": [], "audio": None, "reasoning_content": "Hm.", "function_call": None}
HISTORIES: dict[str, list[dict[str, Any]]] = {
    **{
        f"arguments {given!r}": [*HI, calling(call(arguments=given)), result(), AFTER]
        for given in ("null", "", None, '{"city": "Par', "[]", '"{}"', {"city": "Paris"}, "[1]", "Paris")
    },
    "no arguments": [*HI, calling({"id": "call_1", "function": {"name": "get_weather"}}), result(), AFTER],
    "an id again": [*HI, calling(call()), result(), calling(call()), result(), AFTER],
    "an id twice in one": [*HI, calling(call(), call(name="get_time")), result(), result(), AFTER],
    "no ids": [*HI, calling(call(""), call(None)), result(""), result(None), AFTER],
    "ids of others": [*HI, calling(call("a.b"), call("a:b"), call("x" * 204)),
                      result("a.b"), result("a:b"), result("x" * 204), AFTER],
    "interrupted": [*HI, calling(call()), AFTER],
    "interrupted amid results": [*HI, calling(call(), call("call_2")), result("call_2"), AFTER],
    "interrupted long ago": [*HI, calling(call()), AFTER, {"role": "assistant", "content": "Yes."}, AFTER],
    "a stray result first": [result(), AFTER],
    "a stray result amid": [*HI, {"role": "assistant", "content": "Well."}, result("call_9"), AFTER],
    "a result twice": [*HI, calling(call()), result(), result(), AFTER],
    "a late result": [*HI, calling(call()), AFTER, {"role": "assistant", "content": "Wait."}, result(), AFTER],
    "an answer as it came": [*HI, calling(call(), **FOREIGN), result(), {"role": "assistant", "content": "Fair.",
                             **FOREIGN, "tool_calls": []}, AFTER],
    "a spoken answer": [*HI, {"role": "assistant", "content": None, "audio": {"id": "a", "transcript": "Ah"}}, AFTER],
    "free text": [*HI, calling({"id": "call_1", "type": "custom", "custom": {"name": "get_weather", "input": "x"}}),
                  result(), AFTER],
    "a function interrupted": [*HI, {"role": "assistant", "content": None,
                                     "function_call": {"name": "get_weather", "arguments": "null"}}, AFTER],
}  # fmt: skip


@pytest.mark.parametrize("history", HISTORIES)
@both_ways
def test_no_past_ends_a_call(client: Any, history: str, stream: bool) -> None:
    """Voice frameworks write such histories when the caller cuts in, and other vendors' answers leave them."""
    response = client.ask({"messages": HISTORIES[history], "tools": [WEATHER, TIME]}, stream)
    assert response.status_code == 200, response.data
    assert b'"error"' not in response.data
    values = "\n".join(leaves(json.loads(json.dumps(upstream_body(client), default=str))))
    assert ("interrupted" in values) == ("interrupted" in history)
    assert "Hm." not in values


def test_unreadable_arguments_are_not_lost(client: Any) -> None:
    client.ask({"messages": HISTORIES['arguments \'{"city": "Par\''], "tools": [WEATHER]}, False)
    values = "\n".join(leaves(json.loads(json.dumps(upstream_body(client), default=str))))
    assert "_raw" in values
    assert "Par" in values
    assert INTERRUPTED not in values


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([*HI, result("call_9")], "messages[1].tool_call_id"),
        ([*HI, calling(call())], "messages[1].tool_calls[0]"),
        ([*HI, calling(call(), call("call_2")), result()], "messages[1].tool_calls[1]"),
        ([*HI, calling(call()), result(), result()], "messages[3].tool_call_id"),
    ],
)
@both_ways
def test_what_is_new_is_judged(client: Any, messages: list[Any], param: str, stream: bool) -> None:
    """The caller can still mend it, and a result that is lost would be a tool that acts twice."""
    assert openai_error(client.ask({"messages": messages, "tools": [WEATHER, TIME]}, stream), 400)["param"] == param


# Tools


ODD_NAMES = ["21st_magic_builder", "-dash", "a-b", "a_b"]


def tool(name: str = "find", **schema: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "Finds.", "parameters": schema}}


@pytest.mark.parametrize("name", ODD_NAMES)
@both_ways
def test_every_name_of_a_tool_may_be_called(client: Any, name: str, stream: bool) -> None:
    """There and back, also where it stands in the history, and though another has the name that it would get."""
    if getattr(client, "model", "") == LLAMA:
        pytest.skip("it takes no choice of a tool")
    tools = [tool(each, type="object", properties={}) for each in ODD_NAMES]
    messages = [*HI, calling(call(arguments="{}", name=name)), result(), AFTER]
    named = {"type": "function", "function": {"name": name}}
    response = client.ask({"messages": messages, "tools": tools, "tool_choice": named}, stream)
    assert calls_of(response, stream) == [(name, {})]


PROPERTIES = {"a": {"type": "string"}, "b": {"type": "integer"}}
SCHEMAS: dict[str, dict[str, Any]] = {
    "anyOf": {"type": "object", "properties": PROPERTIES, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
    "oneOf of objects": {"oneOf": [{"type": "object", "properties": {each: PROPERTIES[each]}} for each in PROPERTIES]},
    "allOf": {"type": "object", "allOf": [{"properties": PROPERTIES, "required": ["a"]}, {"required": ["b"]}]},
    "not and enum": {"type": "object", "properties": PROPERTIES, "not": {"required": ["a"]}, "enum": [{"b": 1}]},
    "behind a reference": {
        "$ref": "#/$defs/x",
        "$defs": {"x": {"type": "object", "properties": PROPERTIES, "anyOf": [{"required": ["a"]}]}},
    },
    "a null type": {"type": None, "properties": PROPERTIES, "required": None, "description": None},
    "no type": {"properties": PROPERTIES},
    "another type": {"type": ["object", "null"], "properties": PROPERTIES},
}


@pytest.mark.parametrize("schema", SCHEMAS)
@both_ways
def test_every_head_of_a_schema_is_made_an_object(client: Any, schema: str, stream: bool) -> None:
    """With its properties, and with what the combiners say in the description."""
    response = client.ask({"tools": [tool(**SCHEMAS[schema])]}, stream)
    assert response.status_code == 200, response.data
    values = list(leaves(json.loads(json.dumps(upstream_body(client), default=str))))
    assert {"a", "b"} <= set(values)
    described = next(each for each in values if each.startswith("Finds."))
    combined = [key for key in ("anyOf", "oneOf", "allOf", "not", "enum") if key in json.dumps(SCHEMAS[schema])]
    assert all(f'"{key}"' in described for key in combined)


# Formats and choices


def schema_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


MAP = {
    "type": "object",
    "properties": {"people": {"type": "object", "additionalProperties": {"type": "integer"}}},
    "required": ["people"],
}
BOUNDS = {"type": "object", "properties": {"r": {"type": "integer", "minimum": 1}}, "required": ["r"]}
BY_TOOL = [
    ("anthropic claude-haiku-4-5", {"model": "claude-3-haiku-20240307"}, PERSON),
    ("anthropic claude-haiku-4-5", {"model": "claude-sonnet-4-20250514"}, BOUNDS),
    ("anthropic claude-haiku-4-5", {"model": "claude-3-haiku-20240307"}, None),
    ("anthropic claude-haiku-4-5", {}, MAP),
    ("gemini gemini-3-flash-preview", {"model": "gemini-2.5-flash", "tools": [WEATHER]}, PERSON),
    ("cohere command-a-reasoning-08-2025", {"tools": [WEATHER]}, PERSON),
    ("oci cohere.command-a-vision", {"tools": [WEATHER]}, PERSON),
    (f"bedrock {OLD}", {}, PERSON),
    (f"bedrock {NOVA}", {}, BOUNDS),
    (f"bedrock {NOVA}", {"tools": [WEATHER], "tool_choice": "none"}, PERSON),
    (f"bedrock {MISTRAL}", {}, PERSON),
    (f"bedrock {HAIKU}", {}, MAP),
    (f"bedrock {HAIKU}", {}, None),
]


@pytest.mark.parametrize(("name", "more", "schema"), BY_TOOL)
@both_ways
def test_a_format_is_kept_to_by_a_tool(
    clients: dict[str, Any], name: str, more: dict[str, Any], schema: Any, stream: bool
) -> None:
    """Where the model has none: the caller gets text, streamed too, and sees no tool."""
    client = clients[name]
    format_ = schema_of(schema) if schema else {"type": "json_object"}
    forced = {"tool_choice": "none"} if more.get("tools") else {}  # emulated models call the first tool they may
    found = json.loads(text_of(client.ask({"response_format": format_, **forced, **more}, stream), stream))
    assert found.keys() == set((schema or {}).get("required", ()))


@pytest.mark.parametrize(
    "name", ["anthropic claude-haiku-4-5", f"bedrock {NOVA}", "cohere command-a-reasoning-08-2025"]
)
@both_ways
def test_the_callers_own_tools_are_called_beside_a_format(clients: dict[str, Any], name: str, stream: bool) -> None:
    """The emulated model, which must call one, calls the first: the caller's."""
    client = clients[name]
    model = {"model": "claude-3-haiku-20240307"} if name.startswith("anthropic") else {}
    response = client.ask({"response_format": schema_of(PERSON), "tools": [WEATHER], **model}, stream)
    assert calls_of(response, stream) == [("get_weather", {"city": "Zürich"})]


@both_ways
def test_words_beside_the_answers_tool_are_no_part_of_it(clients: dict[str, Any], stream: bool) -> None:
    """A model that says what it will do, and does it; one that calls no tool is heard as it is."""
    client = clients[f"bedrock {NOVA}"]
    client.upstream.enqueue(
        Turn(texts=["Here", " it is."], calls=[Use("t1", "json_answer", ['{"name": "Ada"', ', "age": 36}'])]),
        Turn(texts=["I", " may not."], stop_reason="guardrail_intervened"),
    )
    asked = {"response_format": schema_of(PERSON)}
    assert json.loads(text_of(client.ask(asked, stream), stream)) == {"name": "Ada", "age": 36}
    response = client.ask(asked, stream)
    words = streamed_text(response.data) if stream else completion(response.data)["choices"][0]["message"]["content"]
    assert words == "I may not."
    assert b'"content_filter"' in response.data


def test_a_schema_of_no_object_is_refused_where_a_tool_must_do(clients: dict[str, Any]) -> None:
    wanted = schema_of({"type": "array", "items": {"type": "string"}})
    details = openai_error(clients[f"bedrock {NOVA}"].ask({"response_format": wanted}, False), 400)
    assert details["param"] == "response_format.json_schema.schema"


@pytest.mark.parametrize("model", [HAIKU, "qwen.qwen3-32b-v1:0"])
def test_a_schema_is_closed_for_bedrock(clients: dict[str, Any], model: str) -> None:
    """Amazon takes a part of JSON schema alone, as Anthropic does."""
    client = clients[f"bedrock {HAIKU}"]
    open_ = {**BOUNDS, "additionalProperties": True}
    assert client.ask({"model": model, "response_format": schema_of(open_)}, False).status_code == 200
    format_ = upstream_body(client)["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert json.loads(format_["schema"]) == {
        "type": "object",
        "properties": {"r": {"type": "integer", "description": "(minimum: 1)"}},
        "required": ["r"],
        "additionalProperties": False,
    }


@both_ways
def test_coheres_older_style_is_made_to_call_one_tool(clients: dict[str, Any], stream: bool) -> None:
    """It has no word for that: it is asked for JSON, which comes back as the call. Of several it cannot be one."""
    client = clients["oci cohere.command-a-03-2025"]
    for tools, choice in (
        ([TIME], "required"),
        ([WEATHER, TIME], {"type": "function", "function": {"name": "get_time"}}),
    ):
        response = client.ask({"tools": tools, "tool_choice": choice}, stream)
        assert calls_of(response, stream) == [("get_time", {"zone": "Zürich"})]
    messages = [*HI, calling(call()), result()]
    response = client.ask({"messages": messages, "tools": [WEATHER], "tool_choice": "required"}, stream)
    assert calls_of(response, stream) == [("get_weather", {"city": "Zürich"})]
    assert (
        openai_error(client.ask({"tools": [WEATHER, TIME], "tool_choice": "required"}, stream), 400)["param"]
        == "tool_choice"
    )


# Families


@pytest.mark.parametrize(
    "model",
    ["meta.llama-3.3-70b-instruct", "xai.grok-4", "openai.gpt-5", "openai.gpt-oss-120b", "google.gemini-2.5-flash"],
)
@both_ways
def test_oci_is_told_of_no_effort_that_nobody_asked_for(clients: dict[str, Any], model: str, stream: bool) -> None:
    client = clients["oci openai.gpt-4.1"]
    assert client.ask({"model": model}, stream).status_code == 200
    assert "reasoningEffort" not in upstream_body(client)["chatRequest"]
    assert client.ask({"model": model, "reasoning_effort": "low"}, stream).status_code == 200
    assert upstream_body(client)["chatRequest"]["reasoningEffort"] == "LOW"


def test_gemini_on_oci_has_each_result_behind_its_call(clients: dict[str, Any]) -> None:
    """And an assistant that says something, where it only calls."""
    client = clients["oci google.gemini-2.5-flash"]
    calls = calling(call("c1"), call("c2"), content="Let me look.")
    assert (
        client.ask({"messages": [*HI, calls, result("c2"), result("c1")], "tools": [WEATHER]}, False).status_code == 200
    )
    _, one, first, two, second = upstream_body(client)["chatRequest"]["messages"]
    assert [(each["content"][0]["text"], each["toolCalls"][0]["id"]) for each in (one, two)] == [
        ("Let me look.", "c1"), (".", "c2"),
    ]  # fmt: skip
    assert (first["toolCallId"], second["toolCallId"]) == ("c1", "c2")


@both_ways
def test_gemini_on_oci_hears_the_user_first_and_last(clients: dict[str, Any], stream: bool) -> None:
    client = clients["oci google.gemini-2.5-flash"]
    said_before = [{"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "Good day."}]
    for messages in (said_before, said_before[:1]):
        text_of(client.ask({"messages": messages}, stream), stream)


@pytest.mark.parametrize(("model", "last"), [(LLAMA, "user"), (MISTRAL, "user"), (OLD, "assistant")])
@both_ways
def test_who_speaks_last_on_bedrock(clients: dict[str, Any], model: str, last: str, stream: bool) -> None:
    """Llama and Mistral want the user; Claude goes on, from a text without white space at its end."""
    client = clients[f"bedrock {model}"]
    text_of(client.ask({"messages": [*HI, {"role": "assistant", "content": "The answer is \n"}]}, stream), stream)
    messages = upstream_body(client)["messages"]
    assert messages[-1]["role"] == last
    if last == "assistant":
        assert messages[-1]["content"][-1]["text"] == "The answer is"


@pytest.mark.parametrize(("model", "operations"), [
    (LLAMA, ["Converse", "Converse"]),
    (MISTRAL, ["Converse", "Converse"]),
    ("unknown.model-v1:0", ["ConverseStream", "Converse", "Converse"]),
])  # fmt: skip
def test_a_stream_with_tools_that_bedrock_refuses(clients: dict[str, Any], model: str, operations: list[str]) -> None:
    """It is asked for whole, and cut at words. Of a model that nobody knows this is learnt once."""
    client = clients[f"bedrock {LLAMA}"]
    client.upstream.asked.clear()
    for _ in range(2):
        response = client.ask({"model": model, "tools": [WEATHER]}, True)
        assert text_of(response, True) == "".join(TEXTS)
        assert len(chunks(response.data)) > len("".join(TEXTS).split())
    assert [each.operation for each in client.upstream.asked] == operations
    client.upstream.enqueue(Turn(calls=[Use("t1", "get_weather", ['{"city": "Bern"}'])]))
    assert calls_of(client.ask({"model": model, "tools": [WEATHER]}, True), True) == [("get_weather", {"city": "Bern"})]
    assert text_of(client.ask({"model": LLAMA}, True), True) == "".join(TEXTS)
    assert client.upstream.asked[-1].operation == "ConverseStream"
