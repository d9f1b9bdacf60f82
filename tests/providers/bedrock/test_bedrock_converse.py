"""A chat request as Converse has it, and Converse's answers as events: pure translations, nothing is sent."""

import base64
import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InvalidRequest, Unsupported, UpstreamDown
from core.events import Citation, Event, Finish, Reasoning, Text, ToolArguments, ToolCall, Usage
from core.requests import ChatRequest
from providers.base import ParameterRules, Target
from providers.bedrock.models.decode import decode_events, events_of_body
from providers.bedrock.models.provider import BedrockModels
from providers.bedrock.models.request import SUPPORTED_PARAMETERS, to_upstream
from providers.common.conversation import OPENING
from schemas.chat.request import load_chat
from tests.emulators.answers import Call
from tests.emulators.bedrock.answers import Turn
from tests.emulators.bedrock.converse import check, converse
from tests.emulators.bedrock.event_stream import dumps
from tests.emulators.bedrock.rules import _checked, operations

PROVIDER = BedrockModels(name="bedrock-models", model="amazon.nova-lite-v1:0", account={"variables": {}})
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HI = {"role": "user", "content": "Hi"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather",
        "parameters": {"$defs": {"c": {"type": "string"}}, "properties": {"city": {"$ref": "#/$defs/c"}}},
    },
}
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}},
        {"id": "call/2?", "type": "function", "function": {"name": "weather", "arguments": ""}},
    ],
}
ANSWERED = [
    {"role": "tool", "tool_call_id": "call_1", "content": "Sun"},
    {"role": "tool", "tool_call_id": "call/2?", "content": [{"type": "text", "text": "Rain"}]},
]
INPUT = {name: model.input_shape for _, _, _, model in operations() if (name := model.name).startswith("Converse")}


def request(*messages: dict[str, Any], **more: Any) -> ChatRequest:
    return load_chat(json.dumps({"messages": messages or (HI,), **more}).encode())


def upstream_body(*messages: dict[str, Any], model: str = "amazon.nova-lite-v1:0", **more: Any) -> dict[str, Any]:
    """The parameters, which Amazon's own model and the emulated Converse have found right."""
    asked = request(*messages, **more)
    params = to_upstream(asked, Target(PROVIDER, model))
    shape = INPUT["ConverseStream" if asked.stream else "Converse"]
    check(_checked(shape, json.loads(dumps(params)), ""))
    return params


def request_error(*messages: dict[str, Any], kind: type[InvalidRequest] = Unsupported, **more: Any) -> InvalidRequest:
    with pytest.raises(kind) as raised:
        to_upstream(request(*messages, **more), Target(PROVIDER, "amazon.nova-lite-v1:0"))
    assert raised.value.message.endswith("."), raised.value
    return raised.value


def part(kind: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": kind, kind: value, **more}]}


# the conversation


def test_a_plain_question() -> None:
    assert upstream_body() == {
        "modelId": "amazon.nova-lite-v1:0",
        "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
    }


def test_system_stands_apart_and_roles_alternate() -> None:
    body = upstream_body(
        {"role": "system", "content": "Be kind."},
        HI,
        {"role": "user", "content": [{"type": "text", "text": "there"}, {"type": "text", "text": "  "}]},
        {"role": "assistant", "content": "Hello"},
        {"role": "assistant", "content": ""},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Well?"},
    )
    assert body["system"] == [{"text": "Be kind."}, {"text": "Be brief."}]
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "Hi"}, {"text": "there"}]},
        {"role": "assistant", "content": [{"text": "Hello"}]},
        {"role": "user", "content": [{"text": "Well?"}]},
    ]


def test_an_agent_may_speak_first() -> None:
    """A voice agent greets before the caller has said a word; Converse insists on the user."""
    bodyages = upstream_body({"role": "assistant", "content": "Welcome!"}, HI)["messages"]
    assert [message["role"] for message in bodyages] == ["user", "assistant", "user"]
    assert bodyages[0]["content"] == [{"text": OPENING}]
    assert upstream_body({"role": "system", "content": "Greet."})["messages"] == [
        {"role": "user", "content": [{"text": OPENING}]}
    ]


def test_calls_and_their_results() -> None:
    """The ids that a result answers to; results of one turn stand in one message, with what the user adds."""
    bodyages = upstream_body(HI, CALLED, *ANSWERED, {"role": "user", "content": "So?"}, tools=[WEATHER])["messages"]
    first, second = (block["toolUse"] for block in bodyages[1]["content"])
    assert first == {"toolUseId": "call_1", "name": "weather", "input": {"city": "Bern"}}
    assert second["input"] == {}
    results = [block["toolResult"] for block in bodyages[2]["content"][:2]]
    assert [each["toolUseId"] for each in results] == ["call_1", second["toolUseId"]]
    assert [each["content"] for each in results] == [[{"text": "Sun"}], [{"text": "Rain"}]]
    assert bodyages[2]["content"][2] == {"text": "So?"}


def test_results_come_first_and_a_refusal_is_not_lost() -> None:
    """Claude insists on the results before the words of the same turn."""
    call = {"role": "assistant", "content": None, "tool_calls": CALLED["tool_calls"][:1]}
    bodyages = upstream_body(HI, call, {"role": "user", "content": "Wait"}, ANSWERED[0], tools=[WEATHER])["messages"]
    assert ["toolResult" in block for block in bodyages[2]["content"]] == [True, False]
    refusal = {"role": "assistant", "content": None, "refusal": "I may not."}
    assert upstream_body(HI, refusal, HI)["messages"][1]["content"] == [{"text": "I may not."}]


def test_legacy_functions() -> None:
    legacy = {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}}
    result = {"role": "function", "name": "weather", "content": "Sun"}
    body = upstream_body(HI, legacy, result, functions=[WEATHER["function"]], function_call={"name": "weather"})
    (call,) = body["messages"][1]["content"]
    result = {"toolUseId": call["toolUse"]["toolUseId"], "content": [{"text": "Sun"}]}
    assert body["messages"][2]["content"] == [{"toolResult": result}]
    assert body["toolConfig"]["toolChoice"] == {"tool": {"name": "weather"}}


@pytest.mark.parametrize("more", [{}, {"tools": [WEATHER], "tool_choice": "none"}])
def test_without_tools_old_calls_become_text(more: dict[str, Any]) -> None:
    """Converse refuses calls in a conversation that declares no tools; `none` cannot be said otherwise."""
    body = upstream_body(HI, CALLED, *ANSWERED, **more)
    assert "toolConfig" not in body
    assert body["messages"][1]["content"][0] == {"text": '(weather was called with {"city":"Bern"})'}
    assert {"text": "Sun"} in body["messages"][2]["content"]


def test_a_result_without_its_call() -> None:
    wrong = {"role": "tool", "tool_call_id": "call_9", "content": "Sun"}
    assert request_error(HI, wrong, kind=InvalidRequest, tools=[WEATHER]).param == "messages[1].tool_call_id"


MESSAGE = st.one_of(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["system", "user", "assistant", "developer"]),
        st.sampled_from(["", " ", "Hi", [], [{"type": "text", "text": "\n"}], [{"type": "text", "text": "Ho"}]]),
    ),
    st.just([CALLED, *ANSWERED]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(MESSAGE, min_size=1, max_size=8), st.booleans())
def test_any_conversation_becomes_one_that_converse_takes(messages: list[Any], tools: bool) -> None:
    flat = [each for message in messages for each in (message if isinstance(message, list) else [message])]
    spoken = [each for each in flat if each["role"] in ("user", "assistant", "tool")]
    if spoken and not any(words in json.dumps(spoken) for words in ("Hi", "Ho", "Sun")):
        assert "says nothing" in request_error(*flat, kind=InvalidRequest).message
    else:
        upstream_body(*flat, **({"tools": [WEATHER]} if tools else {}))


JUNK = st.one_of(st.none(), st.booleans(), st.integers(-1, 3), st.just("x"), st.just([]), st.just(["x"]), st.just({}))
JUNKY = st.deferred(
    lambda: JUNK | st.dictionaries(st.sampled_from(KEYS), JUNK | st.lists(JUNK, max_size=2), max_size=3)
)
KEYS = (
    "type",
    "function",
    "name",
    "arguments",
    "parameters",
    "url",
    "image_url",
    "file",
    "file_data",
    "data",
    "schema",
)
KEYS += ("cache_control", "ttl", "json_schema", "input_audio", "format", "text", "id", "filename", "description")


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_junk_is_refused_and_nothing_worse(data: st.DataObject) -> None:
    """A 400, never a 500."""
    kinds = st.sampled_from(["text", "image_url", "file", "input_audio", "refusal", "x"])
    part = st.builds(lambda kind, more: {**more, "type": kind}, kinds, st.dictionaries(st.sampled_from(KEYS), JUNKY))
    thing = st.dictionaries(st.sampled_from(KEYS), JUNKY, max_size=4)
    message = {
        "role": data.draw(st.sampled_from(["user", "assistant", "tool", "function", "system"])),
        "content": data.draw(st.lists(part, max_size=2)),
        "tool_calls": data.draw(st.lists(thing, max_size=2)),
        "function_call": data.draw(JUNKY),
        "cache_control": data.draw(JUNKY),
        "refusal": data.draw(JUNKY),
    }
    more = {"tools": data.draw(st.lists(thing, max_size=2)), "tool_choice": data.draw(thing | st.just("auto"))}
    more |= {"response_format": data.draw(thing), "bedrock": data.draw(JUNKY)}
    with suppress(InvalidRequest):
        to_upstream(request(message, **more), Target(PROVIDER, "anthropic.claude"))


# what a message holds


@pytest.mark.parametrize(("media", "kind"), [("image/png", "png"), ("image/jpg", "jpeg"), ("image/webp", "webp")])
def test_a_picture(media: str, kind: str) -> None:
    blocks = upstream_body(part("image_url", {"url": f"data:{media};base64,{PNG}"}))["messages"][0]["content"]
    assert blocks == [{"image": {"format": kind, "source": {"bytes": base64.b64decode(PNG)}}}]


def test_a_document_has_a_name_of_its_own_and_a_text_beside_it() -> None:
    file = {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "Q3_report (final).pdf"}
    bare = {"file_data": "aGVsbG8=", "filename": "Q3_report (final).md"}
    content = [{"type": "file", "file": file}, {"type": "file", "file": bare}]
    blocks = upstream_body({"role": "user", "content": content})["messages"][0]["content"]
    documents = [block["document"] for block in blocks if "document" in block]
    assert [each["format"] for each in documents] == ["pdf", "md"]
    assert [each["name"] for each in documents] == ["Q3 report (final)", "Q3 report (final) 2"]
    assert blocks[-1] == {"text": "Q3 report (final)"}


def test_sound() -> None:
    blocks = upstream_body(part("input_audio", {"data": "UklGRg==", "format": "wav"}))["messages"][0]["content"]
    assert blocks == [{"audio": {"format": "wav", "source": {"bytes": b"RIFF"}}}]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (part("image_url", {"url": "https://example.com/a.png"}), Unsupported),
        (part("image_url", {"url": "s3://bucket/a.png"}), Unsupported),
        (part("image_url", {"url": "data:image/tiff;base64,AAAA"}), Unsupported),
        (part("image_url", {"url": "data:image/png;base64,A"}), InvalidRequest),
        (part("image_url", {}), InvalidRequest),
        (part("file", {"file_id": "file-1"}), Unsupported),
        (part("file", {"file_data": "AAAA", "filename": "a.exe"}), Unsupported),
        (part("input_audio", {"data": "AAAA", "format": "midi"}), InvalidRequest),
        (part("video_url", {"url": "x"}), Unsupported),
        ({"role": "system", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, Unsupported),
    ],
)
def test_what_cannot_be_sent_is_named(message: dict[str, Any], kind: type[InvalidRequest]) -> None:
    """Content is never lost in silence."""
    assert str(request_error(HI, message, kind=kind).param).startswith("messages[1].content[0]")


def test_cache_points() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    long = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    body = upstream_body(
        {"role": "system", "content": [{"type": "text", "text": "Be kind.", **long}]},
        {"role": "user", "content": [{"type": "text", "text": "Hi", **mark}, {"type": "text", "text": "there"}]},
        tools=[{**WEATHER, **mark}],
    )
    point = {"cachePoint": {"type": "default"}}
    assert body["system"] == [{"text": "Be kind."}, {"cachePoint": {"type": "default", "ttl": "1h"}}]
    assert body["messages"][0]["content"] == [{"text": "Hi"}, point, {"text": "there"}]
    assert body["toolConfig"]["tools"][1] == point


# what is asked for


@pytest.mark.parametrize(
    ("more", "config"),
    [
        ({"max_tokens": 50, "max_completion_tokens": 40}, {"maxTokens": 40}),
        ({"temperature": 1.7, "top_p": -0.5}, {"temperature": 1.0, "topP": 0.0}),
        ({"temperature": 0.2}, {"temperature": 0.2}),
        ({"stop": "END"}, {"stopSequences": ["END"]}),
        ({"stop": ["A", "", "B"]}, {"stopSequences": ["A", "B"]}),
        ({"max_tokens": -1, "stop": []}, None),
    ],
)
def test_inference(more: dict[str, Any], config: dict[str, Any] | None) -> None:
    """A stop string is not split into letters."""
    assert upstream_body(**more).get("inferenceConfig") == config


def test_a_target_caps_and_its_rules_hold() -> None:
    target = Target(PROVIDER, "m", max_tokens=20, rules=ParameterRules(update={"serviceTier": {"type": "priority"}}))
    params = to_upstream(request(max_tokens=500), target)
    assert params["inferenceConfig"] == {"maxTokens": 20}
    assert params["serviceTier"] == {"type": "priority"}


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ("auto", {"auto": {}}),
        ("required", {"any": {}}),
        ({"type": "function", "function": {"name": "weather"}}, {"tool": {"name": "weather"}}),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [WEATHER]}}, {"auto": {}}),
    ],
)
def test_tools(choice: Any, wanted: dict[str, Any]) -> None:
    config = upstream_body(tools=[{"type": "web_search"}, WEATHER], tool_choice=choice)["toolConfig"]
    assert config["toolChoice"] == wanted
    (tool,) = config["tools"]
    assert tool["toolSpec"]["name"] == "weather"
    schema = tool["toolSpec"]["inputSchema"]["json"]
    assert schema == {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.mark.parametrize("choice", ["perhaps", {"type": "allowed_tools"}])
def test_a_tool_choice_that_is_none(choice: Any) -> None:
    assert request_error(kind=InvalidRequest, tools=[WEATHER], tool_choice=choice).param == "tool_choice"


CLAUDE = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"


def test_response_format() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": schema}}
    made = upstream_body(response_format=wanted, model=CLAUDE)["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert (made["name"], json.loads(made["schema"])) == ("a", schema)
    assert "outputConfig" not in upstream_body(response_format={"type": "text"})
    assert request_error(response_format={"type": "json_object"}).param == "response_format"
    assert (
        request_error(kind=InvalidRequest, response_format={"type": "json_schema"}).param
        == "response_format.json_schema"
    )


@pytest.mark.parametrize(
    ("model", "more", "wanted"),
    [
        (CLAUDE, {"reasoning_effort": "low", "top_k": 5}, {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        (
            CLAUDE,
            {"reasoning_effort": "high", "max_tokens": 3000, "temperature": 0.3},
            {"thinking": {"type": "enabled", "budget_tokens": 2999}},
        ),
        (CLAUDE, {"reasoning_effort": "high", "max_tokens": 500}, None),
        (CLAUDE, {"reasoning_effort": "none"}, None),
        (CLAUDE, {"reasoning_effort": "low", "tools": [WEATHER], "tool_choice": "required"}, None),
        (CLAUDE, {"top_k": 5}, {"top_k": 5}),
        (
            "us.anthropic.claude-opus-4-6-v1",
            {"reasoning_effort": "high", "temperature": 0.3},
            {"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "high"}},
        ),
        ("anthropic.claude-opus-4-7", {"temperature": 0.3, "top_p": 0.9, "top_k": 5}, None),
        ("global.anthropic.claude-opus-5", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        ("openai.gpt-oss-120b-1:0", {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ("openai.gpt-oss-120b-1:0", {"reasoning_effort": "none"}, {"reasoning_effort": "low"}),
        (
            "amazon.nova-2-lite-v1:0",
            {"reasoning_effort": "high"},
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}},
        ),
        ("amazon.nova-lite-v1:0", {"reasoning_effort": "high"}, None),
    ],
)
def test_thinking(model: str, more: dict[str, Any], wanted: dict[str, Any] | None) -> None:
    """As each takes it: Claude's newer models refuse a budget, and numbers that sample."""
    body = upstream_body(model=model, **more)
    assert body.get("additionalModelRequestFields") == wanted
    if "anthropic" in model:
        assert not body.get("inferenceConfig", {}).keys() & {"temperature", "topP"}


@pytest.mark.parametrize(("effort", "kept"), [("low", {"maxTokens": 9, "temperature": 0.5}), ("xhigh", None)])
def test_nova_sets_no_bounds_to_its_highest_effort(effort: str, kept: Any) -> None:
    body = upstream_body(model="us.amazon.nova-2-lite-v1:0", reasoning_effort=effort, max_tokens=9, temperature=0.5)
    assert body.get("inferenceConfig") == kept


def test_a_budget_stays_below_the_models_own_cap() -> None:
    capped = Target(PROVIDER, CLAUDE, max_tokens=2000)
    body = to_upstream(request(reasoning_effort="high", max_tokens=30_000), capped)
    assert body["inferenceConfig"] == {"maxTokens": 2000}
    assert body["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 1999


@pytest.mark.parametrize(("model", "last"), [(CLAUDE, "assistant"), ("anthropic.claude-opus-4-7", "user")])
def test_newer_models_do_not_go_on_with_an_answer(model: str, last: str) -> None:
    assert upstream_body(HI, {"role": "assistant", "content": "Well,"}, model=model)["messages"][-1]["role"] == last


def test_after_a_call_nothing_is_thought() -> None:
    """The thoughts before the call would have to come back signed, and OpenAI's dialect has no place for them."""
    body = upstream_body(HI, CALLED, *ANSWERED, model=CLAUDE, tools=[WEATHER], reasoning_effort="low")
    assert "additionalModelRequestFields" not in body


def test_of_two_that_claude_takes_not_together_one_is_sent() -> None:
    assert upstream_body(model=CLAUDE, temperature=0.5, top_p=0.9)["inferenceConfig"] == {"temperature": 0.5}


def test_bedrocks_own_fields() -> None:
    own = {
        "guardrailConfig": {"guardrailIdentifier": "abc123", "guardrailVersion": "1", "streamProcessingMode": "async"},
        "additionalModelRequestFields": {"top_k": 9},
        "performanceConfig": {"latency": "optimized"},
        "requestMetadata": {"line": "1"},
    }
    body = upstream_body(bedrock=own, stream=True)
    assert {key: body[key] for key in own} == own
    assert "streamProcessingMode" not in upstream_body(bedrock=own)["guardrailConfig"], "Converse has it not"


@pytest.mark.parametrize(
    ("own", "param"),
    [
        ({"memoryId": "m"}, "bedrock.memoryId"),
        ({"guardrailConfig": "abc"}, "bedrock.guardrailConfig"),
        ("x", "bedrock"),
    ],
)
def test_bedrocks_own_fields_are_held_to_their_names(own: Any, param: str) -> None:
    assert request_error(kind=InvalidRequest, bedrock=own).param == param


def test_what_tunes_is_dropped_and_named() -> None:
    more = {"seed": 1, "logit_bias": {}, "user": "u", "presence_penalty": 1, "temperature": 1}
    assert set(upstream_body(**more)) == {"modelId", "messages", "inferenceConfig"}
    assert request(**more).body.keys() - SUPPORTED_PARAMETERS == {"logit_bias", "presence_penalty", "seed", "user"}
    assert request_error(n=2).param == "n"


# answers


def events(turn: Turn, stream: bool) -> list[Event]:
    """What the emulated Converse says, as events; the whole answer as the stream's."""
    if not stream:
        return list(decode_events(events_of_body(json.loads(converse(turn, {}, stream=False).body))))
    return list(decode_events(_read(converse(turn, {}, stream=True).body)))


def _read(raw: bytes) -> Iterable[Any]:
    while raw:
        size, head = int.from_bytes(raw[:4], "big"), int.from_bytes(raw[4:8], "big")
        name = raw[12 : 12 + head].partition(b":event-type\x07")[2]
        yield name[2 : 2 + int.from_bytes(name[:2], "big")].decode(), json.loads(raw[12 + head : size - 4])
        raw = raw[size:]


def merge_texts(found: list[Event]) -> list[Event]:
    """Neighbouring pieces of one kind put together."""
    made: list[Event] = []
    for event in found:
        last = made[-1] if made else None
        if isinstance(event, (Text, Reasoning)) and type(last) is type(event):
            made[-1] = type(event)(last.text + event.text)
        elif isinstance(event, ToolArguments) and isinstance(last, ToolArguments) and last.key == event.key:
            made[-1] = ToolArguments(event.key, last.text + event.text)
        else:
            made.append(event)
    return made


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer(stream: bool) -> None:
    calls = [Call("t1", "weather", ['{"a"', ":1}"]), Call("t2", "now", [])]
    found = merge_texts(events(Turn(reasoning=["H", "m"], texts=["Grü", "ße"], calls=calls), stream))
    keys = [event.key for event in found if isinstance(event, ToolCall)]
    assert found == [
        Reasoning("Hm"),
        Text("Grüße"),
        ToolCall(keys[0], "weather", "t1"),
        ToolArguments(keys[0], '{"a":1}'),
        ToolCall(keys[1], "now", "t2"),
        ToolArguments(keys[1], "{}"),
        Finish("tool_calls"),
        Usage(24, 12, 4, written=3),
    ]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("something_new", "stop"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_why_it_stopped(reason: str, finish: str, stream: bool) -> None:
    """The reason is the upstream's, in OpenAI's words."""
    assert Finish(finish) in events(Turn(texts=["Hi"], stop_reason=reason), stream)


@pytest.mark.parametrize("reason", ["malformed_tool_use", "malformed_model_output"])
@pytest.mark.parametrize("stream", [True, False])
def test_what_makes_no_sense_is_an_error(reason: str, stream: bool) -> None:
    with pytest.raises(UpstreamDown):
        events(Turn(texts=["Hi"], stop_reason=reason), stream)


def test_citations_stand_for_their_blocks_text() -> None:
    web = {"title": "A page", "location": {"web": {"url": "https://example.com/a"}}}
    named: list[Any] = [
        ("contentBlockDelta", {"delta": {"text": "One. "}}),
        ("contentBlockStop", {}),
        ("contentBlockDelta", {"delta": {"text": "Two."}}),
        ("contentBlockDelta", {"delta": {"citation": web}}),
        ("contentBlockStop", {}),
    ]
    assert list(decode_events(named))[-1] == Citation("https://example.com/a", "A page", 5, 9)
    cited = {"content": [{"text": "Two."}], "citations": [web]}
    whole = {
        "output": {"message": {"content": [{"text": "One. "}, {"citationsContent": cited}]}},
        "stopReason": "end_turn",
    }
    assert Citation("https://example.com/a", "A page", 5, 9) in list(decode_events(events_of_body(whole)))


def test_a_tool_of_the_services_own_is_no_call() -> None:
    use = {"toolUseId": "s", "name": "search", "type": "server_tool_use"}
    named = [
        ("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": use}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{}"}}}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
    ]
    assert list(decode_events(named)) == []
