"""Anthropic's Messages: what is sent for each model, what is made of its answers, and that its own SDK agrees."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anthropic
import pytest
from anthropic.lib._parse._transform import transform_schema

from core.context import CallContext, Timeouts
from core.errors import ContextTooLong, GatewayError, InvalidRequest, Unsupported, UpstreamDown, UpstreamError
from core.events import Citation, Event, Finish, Reasoning, Text, ToolArguments, ToolCall, Usage
from core.requests import ChatRequest
from providers.anthropic.decode import AnthropicDecoder as Reading
from providers.anthropic.provider import Anthropic, anthropic_error, error_in_body, with_version
from providers.anthropic.request import to_upstream
from providers.base import ParameterRules, Target
from providers.common.json_schema import closed_schema
from providers.transport.sse import Frame
from providers.vendors import VENDORS
from tests.emulators import Connection, Fault, Phase, ScriptedAnswer
from tests.emulators.answers import TEXTS
from tests.emulators.anthropic.server import MODELS, AnthropicUpstream
from tests.emulators.openai.server import PIXEL
from tests.emulators.reply import Piece, Reply, play
from tests.support.conversations import AFTERWARDS, BOTH, HI, PERSON, TREE, WEATHER
from tests.support.frames import completion
from tests.support.http import openai_error

VENDOR = next(row for row in VENDORS if row.name == "anthropic")
HAIKU = "claude-haiku-4-5"
NEWEST = "claude-sonnet-5-5"
PNG = f"data:image/png;base64,{PIXEL}"
CACHED = {"cache_control": {"type": "ephemeral"}}


def provider(upstream: AnthropicUpstream, **options: Any) -> Anthropic:
    return Anthropic(VENDOR, **{"base_url": upstream.url, "api_key": upstream.key, **options})


def target(model: str = HAIKU, **details: Any) -> Target:
    return Target(Anthropic(VENDOR, base_url="http://127.0.0.1:1"), model, **details)


def upstream_body(model: str = HAIKU, *, reasoning: bool = False, **body: Any) -> dict[str, Any]:
    """What goes to this model for this body."""
    return to_upstream(ChatRequest({"messages": HI, **body}, include_reasoning=reasoning), target(model))


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


@pytest.fixture(scope="module")
def upstream() -> Iterator[AnthropicUpstream]:
    with AnthropicUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def sdk(upstream: AnthropicUpstream) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=upstream.url, api_key=upstream.key, max_retries=0, timeout=10)


# What is sent


def test_the_least() -> None:
    assert upstream_body() == {
        "model": HAIKU,
        "max_tokens": 32_000,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }


@pytest.mark.parametrize(("given", "capped", "cap"), [
    ({"max_tokens": 10}, None, 10),
    ({"max_tokens": 10, "max_completion_tokens": 20}, None, 20),
    ({"max_tokens": 500}, 100, 100),
    ({}, 100, 100),
])  # fmt: skip
def test_max_tokens(given: dict[str, int], capped: int | None, cap: int) -> None:
    request = ChatRequest({"messages": HI, **given})
    assert to_upstream(request, target(max_tokens=capped))["max_tokens"] == cap


@pytest.mark.parametrize(("model", "kept"), [
    ("claude-3-haiku-20240307", {"temperature", "top_p", "top_k"}),
    ("claude-sonnet-4-20250514", {"temperature", "top_k"}),
    (HAIKU, {"temperature", "top_k"}),
    ("anthropic/claude-opus-4.6", {"temperature", "top_k"}),
    ("claude-opus-4-7", set()),
    ("us.anthropic.claude-opus-4-8-v1:0", set()),
    ("claude-sonnet-5", set()),
    ("claude-fable-5-1", set()),
    ("claude-octopus-9", set()),
    ("another-vendors-model", {"temperature", "top_p", "top_k"}),
])  # fmt: skip
def test_a_model_that_refuses_sampling_parameters_gets_none(model: str, kept: set[str]) -> None:
    body = upstream_body(model, temperature=1.7, top_p=0.9, top_k=40)
    assert {"temperature", "top_p", "top_k"} & body.keys() == kept
    assert body.get("temperature", 1) == 1
    alone = upstream_body(model, top_p=0.9)
    assert ("top_p" in alone) == bool(kept)


@pytest.mark.parametrize(("model", "effort", "thinking", "output"), [
    (HAIKU, "high", {"type": "enabled", "budget_tokens": 16_384}, None),
    (HAIKU, "minimal", None, None),
    (HAIKU, "none", None, None),
    ("claude-opus-4-5", "xhigh", {"type": "enabled", "budget_tokens": 24_576}, {"effort": "high"}),
    ("claude-sonnet-4-6", "low", {"type": "adaptive", "display": "omitted"}, {"effort": "low"}),
    ("claude-sonnet-4-6", "xhigh", {"type": "adaptive", "display": "omitted"}, {"effort": "high"}),
    ("claude-opus-4-8", "none", None, None),
    ("claude-opus-4-8", "xhigh", {"type": "adaptive", "display": "omitted"}, {"effort": "xhigh"}),
    ("claude-sonnet-5", "none", {"type": "disabled"}, None),
    ("claude-haiku-5-5", "minimal", None, {"effort": "low"}),
    (NEWEST, "none", {"type": "between_tools"}, None),
    ("claude-opus-5-5", "none", None, {"effort": "low"}),
    ("claude-mythos-5-2", "medium", {"type": "adaptive", "display": "omitted"}, {"effort": "medium"}),
    ("claude-3-5-haiku-latest", "high", None, None),
    (HAIKU, "enormous", None, None),
])  # fmt: skip
def test_reasoning_effort_is_what_the_model_has_for_it(model: str, effort: str, thinking: Any, output: Any) -> None:
    body = upstream_body(model, reasoning_effort=effort, temperature=0.2)
    assert (body.get("thinking"), body.get("output_config")) == (thinking, output)
    if thinking and thinking["type"] in ("enabled", "adaptive"):
        assert "temperature" not in body


def test_thinking_is_shown_to_who_reads_along() -> None:
    shown = {"type": "adaptive", "display": "summarized"}
    assert upstream_body(NEWEST, reasoning=True)["thinking"] == shown
    assert upstream_body("claude-sonnet-4-6", reasoning=True, reasoning_effort="low")["thinking"] == shown
    assert "thinking" not in upstream_body("claude-sonnet-4-6", reasoning=True)


def test_a_budget_stays_below_max_tokens() -> None:
    assert upstream_body(reasoning_effort="high", max_tokens=3000)["thinking"]["budget_tokens"] == 2999
    assert "thinking" not in upstream_body(reasoning_effort="high", max_tokens=1024)


def test_a_tool_that_must_be_called_is_called_without_thinking() -> None:
    forced = {"reasoning_effort": "high", "tools": [WEATHER], "tool_choice": "required"}
    assert "thinking" not in upstream_body(**forced)
    assert upstream_body("claude-sonnet-5", **forced)["thinking"] == {"type": "disabled"}


def test_a_callers_own_thinking_passes() -> None:
    own = {"type": "enabled", "budget_tokens": 1024}
    assert upstream_body(thinking=own)["thinking"] == own


def test_instructions_are_one_text_unless_they_are_cached() -> None:
    messages = [{"role": "system", "content": "One."}, *HI, {"role": "developer", "content": "Two."}]
    assert upstream_body(messages=messages)["system"] == "One.\n\nTwo."
    messages[0] = {"role": "system", "content": [{"type": "text", "text": "One.", **CACHED}]}
    assert upstream_body(messages=messages)["system"] == [
        {"type": "text", "text": "One.", **CACHED},
        {"type": "text", "text": "Two."},
    ]


def test_what_follows_in_one_role_is_one_turn_and_results_come_first() -> None:
    more = [*AFTERWARDS, {"role": "user", "content": "And tomorrow?"}]
    asked, called, results = upstream_body(messages=more, tools=[WEATHER])["messages"]
    assert [block["type"] for block in called["content"]] == ["text", "tool_use", "tool_use"]
    assert called["content"][1]["input"] == {"city": "Zürich"}
    assert [block["type"] for block in results["content"]] == ["tool_result", "tool_result", "text"]
    assert [message["role"] for message in (asked, called, results)] == ["user", "assistant", "user"]


def test_a_calls_id_from_another_vendor_fits() -> None:
    """A conversation may have begun elsewhere, whose ids have other characters."""
    call = {"id": "call:1|x/y=", "type": "function", "function": {"name": "tick", "arguments": ""}}
    messages = [
        *HI,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": [{"type": "image_url", "image_url": {"url": PNG}}]},
    ]
    _, called, results = upstream_body(messages=messages)["messages"]
    assert called["content"][0]["id"] == results["content"][0]["tool_use_id"]
    assert re.fullmatch("[a-zA-Z0-9_-]+", called["content"][0]["id"])
    assert results["content"][0]["content"][0]["type"] == "image"


def test_tools_of_an_earlier_time_are_declared_and_not_called() -> None:
    body = upstream_body(messages=AFTERWARDS)
    assert [tool["name"] for tool in body["tools"]] == ["get_weather", "get_time"]
    assert body["tool_choice"] == {"type": "none"}


@pytest.mark.parametrize(("model", "nudged"), [(HAIKU, False), ("claude-opus-4-6", True), (NEWEST, True)])
def test_a_conversation_that_ends_with_the_assistant(model: str, nudged: bool) -> None:
    body = upstream_body(model, messages=[*HI, {"role": "assistant", "content": "The answer is \n"}])
    assert (body["messages"][-1]["role"] == "user") == nudged
    if not nudged:
        assert body["messages"][-1]["content"][-1]["text"] == "The answer is"


def test_an_instruction_at_the_end_does_not_make_the_model_go_on_with_its_own_words() -> None:
    late = [*HI, {"role": "assistant", "content": "Hello."}, {"role": "system", "content": "Say goodbye."}]
    assert [message["role"] for message in upstream_body(messages=late)["messages"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize(("choice", "expected"), [
    ("auto", None),
    ("none", {"type": "none"}),
    ("required", {"type": "any"}),
    ({"type": "function", "function": {"name": "get_weather"}}, {"type": "tool", "name": "get_weather"}),
])  # fmt: skip
def test_tool_choice(choice: Any, expected: Any) -> None:
    assert upstream_body(tools=[WEATHER], tool_choice=choice).get("tool_choice") == expected
    single = upstream_body(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False)["tool_choice"]
    one = {} if choice == "none" else {"disable_parallel_tool_use": True}
    assert single == {**(expected or {"type": "auto"}), **one}


def test_allowed_tools_are_the_only_ones() -> None:
    few = {"mode": "required", "tools": [{"type": "function", "function": {"name": "plant"}}]}
    body = upstream_body(tools=[WEATHER, TREE], tool_choice={"type": "allowed_tools", "allowed_tools": few})
    assert body["tool_choice"] == {"type": "tool", "name": "plant"}
    few["mode"] = "auto"
    body = upstream_body(tools=[WEATHER, TREE], tool_choice={"type": "allowed_tools", "allowed_tools": few})
    assert [tool["name"] for tool in body["tools"]] == ["plant"]


def test_cache_control_passes_on_parts_and_tools() -> None:
    body = upstream_body(messages=user({"type": "text", "text": "long", **CACHED}), tools=[{**WEATHER, **CACHED}])
    assert body["messages"][0]["content"][0]["cache_control"] == CACHED["cache_control"]
    assert body["tools"][0]["cache_control"] == CACHED["cache_control"]


def test_cache_control_of_a_whole_message_is_its_last_parts() -> None:
    """As other gateways take it, where the content is a string."""
    messages = [{"role": "system", "content": "long", **CACHED}, {**HI[0], **CACHED}]
    body = upstream_body(messages=messages)
    assert body["system"] == [{"type": "text", "text": "long", **CACHED}]
    assert body["messages"][0]["content"] == [{"type": "text", "text": "hi", **CACHED}]


def test_a_result_that_comes_after_the_user_has_spoken() -> None:
    """Whoever is on the phone does not wait for a tool: its result goes before their words all the same."""
    call = {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    asked = [*HI, {"role": "assistant", "tool_calls": [call, {**call, "id": "b"}]}]
    results = [{"role": "tool", "tool_call_id": each, "content": "fair"} for each in ("b", "a")]
    late = upstream_body(
        messages=[*asked, results[0], *user({"type": "text", "text": "Well?"}), results[1]], tools=[WEATHER]
    )
    said = late["messages"][2]["content"]
    assert [block.get("tool_use_id") or block["text"] for block in said] == ["b", "a", "Well?"]


def test_schemas_of_tools() -> None:
    """A reference may stand inside a schema, and not at its head; one without a type is an object's."""
    inside = TREE["function"]["parameters"]
    assert upstream_body(tools=[TREE])["tools"][0]["input_schema"] == inside
    head = {"type": "function", "function": {"name": "x", "parameters": {**inside, "$ref": "#/$defs/node"}}}
    assert "$ref" not in upstream_body(tools=[head])["tools"][0]["input_schema"]
    bare = {"type": "function", "function": {"name": "x"}}
    assert upstream_body(tools=[bare])["tools"][0] == {"name": "x", "input_schema": {"type": "object"}}


def test_response_format() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    assert upstream_body(response_format=wanted)["output_config"] == {
        "format": {"type": "json_schema", "schema": PERSON}
    }
    assert "JSON" in upstream_body(response_format={"type": "json_object"})["system"]
    assert "system" not in upstream_body(response_format={"type": "text"})
    with pytest.raises(Unsupported) as caught:
        upstream_body("claude-3-haiku-20240307", response_format=wanted)
    assert caught.value.param == "response_format"


@pytest.mark.parametrize("schema", [
    PERSON,
    {"type": "object", "properties": {"n": {"type": "integer", "description": "N."}}, "additionalProperties": True},
    {"type": "array", "items": {"type": "string", "format": "uuid"}, "minItems": 1},
    {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/x"}]}},
     "$defs": {"x": {"type": "object", "properties": {}}}},
    {"$ref": "#/$defs/x", "$defs": {"x": {"type": "object", "properties": {"y": {"type": "number"}}}}},
])  # fmt: skip
def test_a_schema_is_closed_as_anthropics_own_sdk_closes_it(schema: dict[str, Any]) -> None:
    assert closed_schema(schema) == transform_schema(json.loads(json.dumps(schema)))


def test_bounds_that_cannot_be_enforced_stand_in_the_description() -> None:
    found = closed_schema({"type": "integer", "description": "Age.", "minimum": 0, "maximum": 150})
    assert found == {"type": "integer", "description": "Age. (minimum: 0, maximum: 150)"}


@pytest.mark.parametrize(("given", "known_as"), [
    ({"user": "user-1"}, "user-1"),
    ({"user": "550e8400-e29b-41d4-a716-446655440000"}, "550e8400-e29b-41d4-a716-446655440000"),
    ({"user": "a", "safety_identifier": "b"}, "b"),
])  # fmt: skip
def test_a_user_is_known_by_id(given: dict[str, str], known_as: str) -> None:
    assert upstream_body(**given)["metadata"] == {"user_id": known_as}


@pytest.mark.parametrize("telling", ["ada@example.com", "+41 44 123 45 67", "x" * 300])
def test_who_a_user_is_stays_here(telling: str) -> None:
    """Anthropic refuses ids that look like an address or a number to call."""
    found = upstream_body(user=telling)["metadata"]["user_id"]
    assert len(found) == 64
    assert found == upstream_body(user=telling)["metadata"]["user_id"]


def test_what_else_has_a_counterpart_and_what_has_none() -> None:
    body = upstream_body(
        stop=["A", " ", ""], service_tier="default", n=2, seed=1, logprobs=True, logit_bias={"1": 1}, store=True
    )
    assert body["stop_sequences"] == ["A"]
    assert body["service_tier"] == "standard_only"
    assert body.keys() == {"model", "max_tokens", "messages", "stop_sequences", "service_tier"}


def test_rules_of_models_yaml_speak_anthropics_dialect() -> None:
    rules = ParameterRules(update={"inference_geo": "eu"}, delete=("metadata",), rename={"max_tokens": "max"})
    body = to_upstream(ChatRequest({"messages": HI, "user": "u"}), target(rules=rules))
    assert (body["inference_geo"], body["max"]) == ("eu", 32_000)
    assert "metadata" not in body


def test_pictures_and_documents() -> None:
    plain = base64.b64encode("Grüezi".encode()).decode()
    body = upstream_body(messages=user(
        {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
        {"type": "file", "file": {"file_data": f"data:text/markdown;base64,{plain}"}},
        {"type": "file", "file": {"file_id": "file_1"}},
    ))  # fmt: skip
    picture, linked, paper, note, stored = body["messages"][0]["content"]
    assert picture == {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    assert linked["source"] == {"type": "url", "url": "https://example.com/a.jpg"}
    assert paper == {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
        "title": "a.pdf",
    }
    assert note["source"] == {"type": "text", "media_type": "text/plain", "data": "Grüezi"}
    assert stored["source"] == {"type": "file", "file_id": "file_1"}


@pytest.mark.parametrize(("part", "param"), [
    ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, ""),
    ({"type": "image_url", "image_url": {"url": "data:image/bmp;base64,AAAA"}}, ".image_url.url"),
    ({"type": "image_url", "image_url": {"url": "data:nonsense"}}, ".image_url.url"),
    ({"type": "image_url"}, ".image_url"),
    ({"type": "file", "file": {"file_data": "data:application/zip;base64,AAAA"}}, ".file.file_data"),
    ({"type": "file", "file": {"file_data": "data:text/plain;base64,/w=="}}, ".file.file_data"),
    ({"type": "file", "file": {}}, ".file.file_data"),
    ({"type": "file"}, ".file.file_data"),
    ({"type": "video_url", "video_url": {}}, ""),
])  # fmt: skip
def test_content_that_would_be_lost_is_refused_by_its_field(part: dict[str, Any], param: str) -> None:
    with pytest.raises((Unsupported, InvalidRequest)) as caught:
        upstream_body(messages=[*HI, *user({"type": "text", "text": "x"}, part)])
    assert caught.value.param == f"messages[1].content[1]{param}"


@pytest.mark.parametrize(("body", "param"), [
    ({"messages": [*HI, {"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}]},
     "messages[1].content[0]"),
    ({"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}]},
     "messages[0].content[0]"),
    ({"messages": [*HI, {"role": "tool", "tool_call_id": "x", "content": "?"}]}, "messages[1].tool_call_id"),
    ({"messages": [*AFTERWARDS, {"role": "tool", "tool_call_id": "call_one", "content": "again"}]},
     "messages[4].tool_call_id"),
    ({"messages": AFTERWARDS[:3]}, "messages[1].tool_calls[1]"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages[0]"),
    ({"messages": [*HI, {"role": "assistant", "tool_calls": [{"id": "a"}]}]}, "messages[1].tool_calls[0]"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": "perhaps"}, "tool_choice"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"modalities": ["text", "audio"]}, "modalities"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_by_its_field(body: dict[str, Any], param: str) -> None:
    """A result's id is never lost, or taken for another's."""
    with pytest.raises(InvalidRequest) as caught:
        upstream_body(**body)
    assert caught.value.param == param


# What is made of an answer


def decode(*events: dict[str, Any]) -> list[Event]:
    """The events of these frames; the last must finish the answer."""
    reading = Reading(lambda error: error_in_body("anthropic", error), lambda *_: None)
    found = [event for each in events for event in reading.events(Frame(b"", json.dumps(each).encode()))]
    assert reading.finished
    return found


def block(index: int, kind: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": kind},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def end(reason: str, **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage or None}


@pytest.mark.parametrize(("reason", "finish"), [
    ("end_turn", "stop"),
    ("stop_sequence", "stop"),
    ("pause_turn", "stop"),
    ("max_tokens", "length"),
    ("model_context_window_exceeded", "length"),
    ("tool_use", "tool_calls"),
    ("refusal", "content_filter"),
    ("one_that_is_new", "stop"),
])  # fmt: skip
def test_stop_reasons(reason: str, finish: str) -> None:
    assert decode(end(reason)) == [Finish(finish)]


@pytest.mark.parametrize("rubbish", [b"data: null", b"data: {not json", b'data: {"type": "message_delta"}'])
def test_rubbish_behind_a_whole_answer_does_not_spoil_it(upstream: AnthropicUpstream, rubbish: bytes) -> None:
    def odd(connection: Connection, reply: Reply) -> None:
        kept = [piece for piece in reply.pieces if b"message_stop" not in piece.data]
        play(connection, replace(reply, pieces=(*kept, Piece(rubbish + b"\n\n"))))

    upstream.enqueue(ScriptedAnswer(texts=["Hello"], fault=Fault("odd", "", Phase.THROUGHOUT, odd)))
    request = ChatRequest({"messages": HI, "stream": True}, stream=True)
    call = CallContext()
    call.begin(Timeouts())
    found = list(provider(upstream).chat(request, Target(provider(upstream), HAIKU), call))
    assert [each for each in found if isinstance(each, (Text, Finish))] == [Text("Hello"), Finish("stop")]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    found = decode(*block(0, {"type": "tool_use", "id": "t", "name": "f", "input": {}},
                         {"type": "input_json_delta", "partial_json": ""}), end("tool_use"))  # fmt: skip
    assert found == [ToolCall(0, "f", "t"), ToolArguments(0, "{}"), Finish("tool_calls")]


def test_blocks_and_events_that_nobody_knows_say_nothing() -> None:
    found = decode(
        {"type": "message_start", "message": {}},
        {"type": "a_new_event", "index": 7},
        *block(0, {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
               {"type": "input_json_delta", "partial_json": '{"q": 1}'}),
        *block(1, {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}),
        *block(2, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hi"}, {"type": "a_new_delta"}),
        end("end_turn"),
        end("end_turn"),
        {"type": "message_stop"},
    )  # fmt: skip
    assert found == [Text("Hi"), Finish("stop")]


def test_citations_span_the_text_that_they_are_of() -> None:
    source = {"type": "web_search_result_location", "url": "https://e.example", "title": "E", "cited_text": "x"}
    found = decode(
        *block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "So: "}),
        *block(1, {"type": "text", "text": "", "citations": []},
               {"type": "citations_delta", "citation": source}, {"type": "text_delta", "text": "18 °C"}),
        end("end_turn"),
    )  # fmt: skip
    assert Citation("https://e.example", "E", 4, 9) in found


def test_usage_counts_the_cache_and_ends_with_the_last_word() -> None:
    start = {"input_tokens": 10, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 85, "output_tokens": 1}
    last = {"output_tokens": 30, "output_tokens_details": {"thinking_tokens": 12}, "cache_read_input_tokens": None}
    found = decode({"type": "message_start", "message": {"usage": start}}, end("end_turn", **last))
    assert found[-1] == Usage(100, 30, cached=85, reasoning=12, written=5)


def test_thinking_is_reasoning() -> None:
    found = decode(
        *block(0, {"type": "thinking", "thinking": "", "signature": ""},
               {"type": "thinking_delta", "thinking": "Hm."}, {"type": "signature_delta", "signature": "s"}),
        *block(1, {"type": "redacted_thinking", "data": "xxx"}),
        *block(2, {"type": "text", "text": "Yes."}),
        end("end_turn"),
    )  # fmt: skip
    assert [event for event in found if not isinstance(event, Reasoning) or event.text] == [
        Reasoning("Hm."),
        Text("Yes."),
        Finish("stop"),
    ]


# Failures


@pytest.mark.parametrize(("kind", "status", "code"), [
    ("invalid_request_error", 400, None),
    ("authentication_error", 502, "upstream_authentication"),
    ("permission_error", 502, "upstream_authentication"),
    ("billing_error", 502, "insufficient_quota"),
    ("not_found_error", 502, "upstream_error"),
    ("request_too_large", 413, None),
    ("rate_limit_error", 429, "rate_limit_exceeded"),
    ("api_error", 502, "upstream_error"),
    ("timeout_error", 504, "upstream_timeout"),
    ("overloaded_error", 503, "upstream_error"),
    ("one_that_is_new", 502, "upstream_error"),
])  # fmt: skip
def test_an_error_event_is_what_its_status_would_be(kind: str, status: int, code: str | None) -> None:
    error = error_in_body("anthropic", {"type": kind, "message": "m"})
    assert (error.status, error.code) == (status, code)


@pytest.mark.parametrize(("status", "message", "expected"), [
    (400, "prompt is too long: 210000 tokens > 200000 maximum", ContextTooLong),
    (400, "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000", ContextTooLong),
    (400, "Your credit balance is too low to access the Anthropic API.", UpstreamError),
    (529, "Overloaded", UpstreamDown),
])  # fmt: skip
def test_what_a_failure_means(status: int, message: str, expected: type[GatewayError]) -> None:
    body = json.dumps({"type": "error", "error": {"type": "x", "message": message}}).encode()
    error = anthropic_error("anthropic", status, {}, body)
    assert type(error) is expected
    assert ("credit" in message) == (error.code == "insufficient_quota")


def test_an_embedding_is_refused(app_with: Any, upstream: AnthropicUpstream) -> None:
    client = app_with(ANTHROPIC_API_KEY=upstream.key, ANTHROPIC_BASE_URL=upstream.url)
    openai_error(client.post("/v1/embeddings", json={"input": "x", "model": f"anthropic/{HAIKU}"}), 400)


# Thinking survives a client that knows nothing of it


class Memory:
    """A state store."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def put(self, key: str, value: str, seconds: float) -> None:
        assert seconds > 60
        self.kept[key] = value

    def get(self, key: str) -> str | None:
        return self.kept.get(key)

    def pop(self, key: str) -> str | None:
        return self.kept.pop(key, None)


def tool_loop(upstream: AnthropicUpstream, *calls: CallContext, model: str = HAIKU, stream: bool = True) -> list[Any]:
    """The bodies of a call of two tools, which is thought about, and of the request that brings their results."""
    anthropics = provider(upstream)
    upstream.enqueue(ScriptedAnswer(reasoning=["Hm", "."], texts=["Let me look."], calls=BOTH), ScriptedAnswer())
    before = len(upstream.received)
    for messages, call in zip((AFTERWARDS[:1], AFTERWARDS), calls, strict=True):
        body = {"messages": messages, "tools": [WEATHER], "reasoning_effort": "low"}
        list(anthropics.chat(ChatRequest(body, stream=stream), Target(anthropics, model), call))
    return [received.json for received in upstream.received[before:]]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("model", [HAIKU, NEWEST])
def test_thinking_comes_back_with_its_calls(upstream: AnthropicUpstream, model: str, stream: bool) -> None:
    """The vendor checks its own signature, and refuses calls whose thinking is lost."""
    memory = Memory()
    calls = [CallContext(caller="ada", state=memory) for _ in range(2)]
    first, second = tool_loop(upstream, *calls, model=model, stream=stream)
    assert first["thinking"] == second["thinking"]
    thought, *rest = second["messages"][1]["content"]
    assert (thought["type"], thought["thinking"]) == ("thinking", "Hm.")
    assert thought["signature"] in upstream.signatures
    assert [block["type"] for block in rest] == ["text", "tool_use", "tool_use"]


@pytest.mark.parametrize("others", [{"caller": "bob"}, {"caller": "ada", "state": None}], ids=str)
def test_where_it_is_not_known_any_more_nothing_is_thought(upstream: AnthropicUpstream, others: dict[str, Any]) -> None:
    """A request for which nobody remembers the thinking is answered all the same; nobody reads another's."""
    memory = Memory()
    calls = [CallContext(caller="ada", state=memory), CallContext(**{"state": memory, **others})]
    _, second = tool_loop(upstream, *calls)
    assert "thinking" not in second
    assert second["messages"][1]["content"][0]["type"] == "text"


# Addresses, and the list of models


@pytest.mark.parametrize(("address", "prefix"), [
    ("https://api.anthropic.com", "https://api.anthropic.com/v1"),
    ("https://api.anthropic.com/", "https://api.anthropic.com/v1"),
    ("https://api.anthropic.com/v1", "https://api.anthropic.com/v1"),
    ("https://api.anthropic.com/v1/messages", "https://api.anthropic.com/v1"),
    ("https://api.deepseek.com/anthropic", "https://api.deepseek.com/anthropic/v1"),
    ("https://gate.example/raw/messages?tenant=x", "https://gate.example/raw?tenant=x"),
])  # fmt: skip
def test_an_address_may_say_where_the_messages_are(address: str, prefix: str) -> None:
    assert with_version(address) == prefix


def test_models_page_by_page(upstream: AnthropicUpstream) -> None:
    found = provider(upstream).models(CallContext())
    assert [model.id for model in found] == list(MODELS)
    assert {(model.owned_by, model.created) for model in found} == {("anthropic", 1759276800)}


@pytest.mark.parametrize("ending", ["", "/v1", "/v1/messages"])
def test_a_models_file_names_it_in_any_form(
    app_with: Any, upstream: AnthropicUpstream, tmp_path: Any, ending: str
) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(
        f"providers:\n  claude:\n    kind: anthropic\n    base_url: {upstream.url}{ending}\n"
        f"    api_key: {upstream.key}\n"
        f"models:\n  - name: speaker\n    provider: claude\n    model: {HAIKU}\n    max_tokens: 50\n"
    )
    response = app_with(MODELS_FILE=file).post("/v1/chat/completions", json={"model": "speaker", "messages": HI})
    answer = completion(response.data)
    assert (answer["model"], answer["choices"][0]["message"]["content"]) == ("speaker", "".join(TEXTS))
    assert upstream.received[-1].json["max_tokens"] == 50


def test_what_was_dropped_stands_in_the_log(upstream: AnthropicUpstream, caplog: pytest.LogCaptureFixture) -> None:
    anthropics = provider(upstream)
    body = {"messages": HI, "seed": 1, "temperature": 0.1, "user": "u", "max_tokens": 5, "tool_choice": "auto"}
    with caplog.at_level("DEBUG", "thinkline.providers"):
        list(anthropics.chat(ChatRequest(body), Target(anthropics, NEWEST), CallContext()))
    (record,) = caplog.records
    assert record.facts["parameters"] == ["seed", "temperature"]  # type: ignore[attr-defined]


# The emulated vendor is no mirror of ours: Anthropic's own SDK talks to it


def test_the_sdk_is_answered(sdk: anthropic.Anthropic, upstream: AnthropicUpstream) -> None:
    said = {"model": HAIKU, "max_tokens": 99, "messages": HI}
    message = sdk.messages.create(**said)
    assert [block.text for block in message.content if block.type == "text"] == ["".join(TEXTS)]
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 14)
    upstream.enqueue(ScriptedAnswer(reasoning=["Hm."], texts=["Hi", "!"], calls=BOTH, crlf=True))
    with sdk.messages.stream(**said) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert final.content[2].input == {"city": "Zürich"}
    assert [model.id for model in sdk.models.list(limit=2)] == list(MODELS)


@pytest.mark.parametrize(("status", "raised"), [
    (400, anthropic.BadRequestError),
    (401, anthropic.AuthenticationError),
    (429, anthropic.RateLimitError),
    (503, anthropic.InternalServerError),
])  # fmt: skip
def test_the_sdk_is_refused(
    sdk: anthropic.Anthropic, upstream: AnthropicUpstream, status: int, raised: type[Exception]
) -> None:
    upstream.enqueue(ScriptedAnswer(status=status))
    with pytest.raises(raised):
        sdk.messages.create(model=HAIKU, max_tokens=9, messages=HI)


@pytest.mark.parametrize(("body", "message"), [
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "detail": "low"}]}]}, "Extra inputs"),
    ({"messages": [*HI, *HI]}, "alternate"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "first message"),
    ({"messages": [{"role": "user", "content": " "}]}, "non-whitespace"),
    ({"extra_body": {"temperature": 0.5}, "model": NEWEST}, "deprecated"),
    ({"extra_body": {"temperature": 0.5, "top_p": 0.5}}, "cannot both"),
    ({"extra_body": {"seed": 1}}, "Extra inputs"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}, "model": NEWEST}, "not supported"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "greater than"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"stop_sequences": [" "]}, "non-whitespace"),
    ({"metadata": {"user_id": "a@b.c"}}, "email"),
    ({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}, "additionalProperties"),
    ({"output_config": {"effort": "minimal"}}, "Input should be"),
    ({"extra_headers": {"anthropic-version": "1999-01-01"}}, "version"),
])  # fmt: skip
def test_the_emulated_vendor_refuses_what_the_real_one_does(
    sdk: anthropic.Anthropic, body: dict[str, Any], message: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=message):
        sdk.messages.create(**{"model": HAIKU, "max_tokens": 9, "messages": HI, **body})
