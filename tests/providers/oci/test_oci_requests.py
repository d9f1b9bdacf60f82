"""What OCI is sent: every chatRequest here is held against the oci package's own models, and against what is meant."""

from collections.abc import Mapping
from typing import Any

import pytest

from core.errors import GatewayError, InvalidRequest, Unsupported
from core.requests import ChatRequest
from providers.base import ParameterRules, Provider, Target
from providers.oci.chat import openai
from providers.oci.chat.tool_schemas import definitions, parameters
from providers.oci.client import serving_mode
from providers.oci.provider import styles
from tests.emulators.oci.fields import check

GENERIC, COHERE, V2 = "meta.llama-4-maverick", "cohere.command-a-03-2025", "cohere.command-a-reasoning-08-2025"
SEES = {"GENERIC": "google.gemini-2.5-pro", "COHEREV2": "cohere.command-a-vision-07-2025"}
HI = [{"role": "user", "content": "hi"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": CITY}} for name in ("weather", "news")]
NAMED = {"type": "function", "function": {"name": "news"}}
CALLED = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
ROUND = [*HI, {"role": "assistant", "tool_calls": [CALLED]}, {"role": "tool", "tool_call_id": "c1", "content": "sun"}]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "high"}}


def target(model: str, **more: Any) -> Target:
    return Target(Provider(), model, model, **more)


def upstream_body(model: str, body: Mapping[str, Any], *, most: int = 4000, **more: Any) -> dict[str, Any]:
    """The chatRequest, which has the shape that the package's models have."""
    style = "GENERIC" if not model.startswith("cohere.") else "COHEREV2" if "-a-" in model[:-8] else "COHERE"
    style = {COHERE: "COHERE", V2: "COHEREV2", SEES["COHEREV2"]: "COHEREV2"}.get(model, style)
    body = {"messages": HI, **body}
    request = ChatRequest(body, model, stream=body.get("stream", False))
    found = styles(most)[style].to_upstream(request, target(model, **more))
    check({"compartmentId": "c", "servingMode": serving_mode(target(model)), "chatRequest": found}, "ChatDetails")
    return found


def request_error(model: str, body: Mapping[str, Any]) -> GatewayError:
    with pytest.raises(InvalidRequest) as caught:
        upstream_body(model, body)
    return caught.value


# what is common


@pytest.mark.parametrize("model", [GENERIC, COHERE, V2])
def test_a_stream_asks_for_its_usage_and_a_whole_answer_does_not(model: str) -> None:
    """OCI answers `stream_options` where nothing streams with a 400."""
    streamed, whole = (
        upstream_body(model, {"stream": True}),
        upstream_body(model, {"stream_options": {"include_usage": True}}),
    )
    assert (streamed["isStream"], streamed["streamOptions"]) == (True, {"isIncludeUsage": True})
    assert (whole["isStream"], "streamOptions" in whole) == (False, False)


@pytest.mark.parametrize(("model", "name"), [(GENERIC, "stop"), (COHERE, "stopSequences"), (V2, "stopSequences")])
def test_stop_as_a_text_is_one_sequence(model: str, name: str) -> None:
    """A stop string was once split into its letters."""
    assert upstream_body(model, {"stop": "END"})[name] == ["END"]
    assert upstream_body(model, {"stop": ["a", "b"]})[name] == ["a", "b"]


@pytest.mark.parametrize(
    ("model", "asked", "limits", "expected"),
    [
        (GENERIC, {"max_tokens": 9000}, {}, {"maxTokens": 9000}),
        (GENERIC, {"max_tokens": 9000, "max_completion_tokens": 70}, {}, {"maxTokens": 70}),
        (GENERIC, {"max_tokens": 9000}, {"max_tokens": 80}, {"maxTokens": 80}),
        (GENERIC, {}, {"max_tokens": 80}, {}),
        ("openai.gpt-5-mini", {"max_tokens": 60}, {}, {"maxCompletionTokens": 60}),
        ("openai.o3", {"max_completion_tokens": 60}, {}, {"maxCompletionTokens": 60}),
        ("openai.gpt-4.1", {"max_completion_tokens": 60}, {}, {"maxTokens": 60}),
        (COHERE, {"max_tokens": 9000}, {}, {"maxTokens": 4000}),
        (V2, {"max_tokens": 9000}, {"max_tokens": 80}, {"maxTokens": 80}),
    ],
)
def test_the_cap_on_an_answer(
    model: str, asked: dict[str, int], limits: dict[str, int], expected: dict[str, int]
) -> None:
    """GPT-5 takes maxCompletionTokens alone; Cohere's models are clamped, instead of failing."""
    found = upstream_body(model, asked, **limits)
    assert {name: found[name] for name in ("maxTokens", "maxCompletionTokens") if name in found} == expected


def test_coheres_clamp_is_a_setting() -> None:
    assert upstream_body(COHERE, {"max_tokens": 9000}, most=8000)["maxTokens"] == 8000


@pytest.mark.parametrize("model", [GENERIC, COHERE, V2])
def test_rules_of_models_yaml_are_applied_to_what_is_sent(model: str) -> None:
    rules = ParameterRules(update={"temperature": 0.2}, add={"seed": 7}, delete=("topP",))
    found = upstream_body(model, {"temperature": 1, "top_p": 0.5}, rules=rules)
    assert (found["temperature"], found["seed"], "topP" in found) == (0.2, 7, False)


@pytest.mark.parametrize("model", [GENERIC, COHERE, V2])
def test_tools_of_other_kinds_are_passed_over(model: str) -> None:
    """A tool that is no function once aborted the request."""
    found = upstream_body(model, {"tools": [{"type": "web_search"}, TOOLS[0]]})
    assert len(found["tools"]) == 1
    assert "tools" not in upstream_body(model, {"tools": [{"type": "web_search"}], "tool_choice": "auto"})


@pytest.mark.parametrize("model", [COHERE, V2])
def test_more_than_one_answer_is_refused_where_there_is_one(model: str) -> None:
    assert request_error(model, {"n": 2}).param == "n"
    assert isinstance(request_error(model, {"n": 2}), Unsupported)
    assert upstream_body(model, {"n": 1})


@pytest.mark.parametrize("model", [GENERIC, COHERE, V2])
def test_speech_is_not_answered_in_text(model: str) -> None:
    assert request_error(model, {"modalities": ["text", "audio"]}).param == "modalities"


@pytest.mark.parametrize(
    "model",
    ["meta.llama-3.3-70b-instruct", "xai.grok-3-mini", "openai.gpt-oss-20b", "cohere.command-r-plus-08-2024", V2],
)
def test_a_picture_for_a_model_that_sees_nothing(model: str) -> None:
    messages = [*HI, {"role": "user", "content": [{"type": "text", "text": "this"}, PICTURE]}]
    error = request_error(model, {"messages": messages})
    assert (error.status, error.param) == (400, "messages[1].content[1]")


@pytest.mark.parametrize("model", SEES.values())
def test_a_picture_keeps_its_detail(model: str) -> None:
    content = upstream_body(model, {"messages": [{"role": "user", "content": [PICTURE]}]})["messages"][0]["content"]
    assert content[0]["imageUrl"] == {"url": "data:image/png;base64,AAAA", "detail": "HIGH"}


def test_legacy_functions_are_tools() -> None:
    messages = [
        *HI,
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
        {"role": "function", "name": "weather", "content": "sun"},
    ]
    body = {"messages": messages, "functions": [TOOLS[0]["function"]], "function_call": {"name": "weather"}}
    found = upstream_body(GENERIC, body)
    call, result = found["messages"][1]["toolCalls"][0], found["messages"][2]
    assert (result["role"], result["toolCallId"], call["name"]) == ("TOOL", call["id"], "weather")
    assert found["toolChoice"] == {"type": "FUNCTION", "name": "weather"}
    assert upstream_body(COHERE, body)["toolResults"][0]["call"] == {"name": "weather", "parameters": {}}


@pytest.mark.parametrize("model", [GENERIC, COHERE, V2])
def test_a_result_of_no_call_is_refused(model: str) -> None:
    """An id that is lost on the way back is OCI's "toolCallId not found"."""
    messages = [*HI, {"role": "tool", "tool_call_id": "c9", "content": "sun"}]
    assert request_error(model, {"messages": messages}).param == "messages[1].tool_call_id"


# GENERIC


@pytest.mark.parametrize("model", [GENERIC, V2])
def test_a_late_result_stands_behind_its_call(model: str) -> None:
    """The user has spoken meanwhile; instructions keep their place."""
    system = {"role": "system", "content": "Be brief."}
    late = [system, *ROUND[:2], {"role": "user", "content": "well?"}, ROUND[2], system]
    found = upstream_body(model, {"messages": late})["messages"]
    assert [message["role"] for message in found] == ["SYSTEM", "USER", "ASSISTANT", "TOOL", "USER", "SYSTEM"]


def test_generic_roles_and_names() -> None:
    messages = [
        {"role": "system", "content": "s"},
        {"role": "developer", "content": [{"type": "text", "text": "d"}]},
        {"role": "user", "content": "u", "name": "ann"},
        *ROUND[1:],
    ]
    found = upstream_body(GENERIC, {"messages": messages, "tools": TOOLS})["messages"]
    assert [message["role"] for message in found] == ["SYSTEM", "DEVELOPER", "USER", "ASSISTANT", "TOOL"]
    assert found[2] == {"role": "USER", "content": [{"type": "TEXT", "text": "u"}], "name": "ann"}
    called = {"id": "c1", "type": "FUNCTION", "name": "weather", "arguments": '{"city":"Bern"}'}
    assert found[3] == {"role": "ASSISTANT", "toolCalls": [called]}
    assert found[4] == {"role": "TOOL", "content": [{"type": "TEXT", "text": "sun"}], "toolCallId": "c1"}


@pytest.mark.parametrize(
    ("choice", "expected", "names"),
    [
        (None, None, ["weather", "news"]),
        ("auto", {"type": "AUTO"}, ["weather", "news"]),
        ("none", {"type": "NONE"}, ["weather", "news"]),
        ("required", {"type": "REQUIRED"}, ["weather", "news"]),
        (NAMED, {"type": "FUNCTION", "name": "news"}, ["weather", "news"]),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}},
            {"type": "AUTO"},
            ["news"],
        ),
    ],
)
def test_generic_tool_choices(choice: Any, expected: Any, names: list[str]) -> None:
    body = {"tools": TOOLS, **({} if choice is None else {"tool_choice": choice})}
    found = upstream_body(GENERIC, body)
    assert (found.get("toolChoice"), [tool["name"] for tool in found["tools"]]) == (expected, names)
    assert "function" not in found["tools"][0]


def test_generic_has_most_of_openais_parameters() -> None:
    """Parameters were once dropped, all but messages, model and stream."""
    found = upstream_body(
        "openai.gpt-4.1",
        {
            "n": 2,
            "seed": 1,
            "top_k": 40,
            "logprobs": True,
            "top_logprobs": 3,
            "logit_bias": {"5": -1},
            "metadata": {"a": "b"},
            "reasoning_effort": "xhigh",
            "verbosity": "low",
            "service_tier": "priority",
            "parallel_tool_calls": False,
            "tools": TOOLS,
            "prediction": {"type": "content", "content": "maybe"},
            "web_search_options": {
                "search_context_size": "high",
                "user_location": {"type": "approximate", "approximate": {"country": "CH"}},
            },
            "user": "u",
            "store": True,
        },
    )
    expected = {
        "numGenerations": 2,
        "seed": 1,
        "topK": 40,
        "logProbs": 3,
        "logitBias": {"5": -1},
        "metadata": {"a": "b"},
        "reasoningEffort": "HIGH",
        "verbosity": "LOW",
        "serviceTier": "PRIORITY",
        "isParallelToolCalls": False,
        "prediction": {"type": "CONTENT", "content": [{"type": "TEXT", "text": "maybe"}]},
        "webSearchOptions": {"searchContextSize": "HIGH", "userLocation": {"country": "CH"}},
    }
    assert {name: found[name] for name in expected} == expected
    assert "isParallelToolCalls" not in upstream_body(
        "meta.llama-3.3-70b-instruct", {"tools": TOOLS, "parallel_tool_calls": True}
    )
    assert "serviceTier" not in upstream_body(GENERIC, {"service_tier": "flex"})


def test_generic_formats() -> None:
    schema = {"name": "place", "schema": CITY, "strict": True, "description": "d"}
    found = upstream_body(GENERIC, {"response_format": {"type": "json_schema", "json_schema": schema}})[
        "responseFormat"
    ]
    named = {"name": "place", "schema": CITY, "isStrict": True, "description": "d"}
    assert found == {"type": "JSON_SCHEMA", "jsonSchema": named}
    assert upstream_body(GENERIC, {"response_format": {"type": "json_object"}})["responseFormat"] == {
        "type": "JSON_OBJECT"
    }
    assert request_error(GENERIC, {"response_format": {"type": "xml"}}).param == "response_format.type"


def test_generic_hears_and_reads_where_the_model_does() -> None:
    parts = [
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
    ]
    messages = [{"role": "user", "content": parts}]
    found = upstream_body(SEES["GENERIC"], {"messages": messages})["messages"][0]["content"]
    assert found == [
        {"type": "AUDIO", "audioUrl": {"url": "data:audio/mp3;base64,AAAA"}},
        {"type": "DOCUMENT", "documentUrl": {"url": "data:application/pdf;base64,AAAA"}},
    ]
    error = request_error("meta.llama-3.3-70b-instruct", {"messages": messages})
    assert error.param == "messages[0].content[0]"
    by_id = [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]
    assert request_error(SEES["GENERIC"], {"messages": by_id}).param == "messages[0].content[0]"


# COHERE


def test_cohere_has_a_message_and_a_history() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": [{"type": "text", "text": "three"}]},
    ]
    found = upstream_body(COHERE, {"messages": messages})
    assert (found["message"], found["preambleOverride"]) == ("three", "be brief")
    assert found["chatHistory"] == [{"role": "USER", "message": "one"}, {"role": "CHATBOT", "message": "two"}]


def test_cohere_takes_results_in_the_place_of_a_message() -> None:
    """Each result goes with its call, of which there may be several of one name."""
    second = {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Basel"}'}}
    results = [
        {"role": "tool", "tool_call_id": "c2", "content": '{"sky": "rain"}'},
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
    ]
    messages = [*HI, {"role": "assistant", "content": "well", "tool_calls": [CALLED, second]}, *results]
    found = upstream_body(COHERE, {"messages": messages, "tools": TOOLS})
    first, other = (
        {"name": "weather", "parameters": {"city": "Bern"}},
        {"name": "weather", "parameters": {"city": "Basel"}},
    )
    assert found["message"] == ""
    assert found["toolResults"] == [
        {"call": other, "outputs": [{"sky": "rain"}]},
        {"call": first, "outputs": [{"result": "sun"}]},
    ]
    assert found["chatHistory"][1] == {"role": "CHATBOT", "message": "well", "toolCalls": [first, other]}
    later = upstream_body(COHERE, {"messages": [*messages, {"role": "user", "content": "and now?"}], "tools": TOOLS})
    assert (later["message"], later["chatHistory"][2]["role"]) == ("and now?", "TOOL")
    assert "toolResults" not in later


def test_cohere_always_has_something_to_answer() -> None:
    """A greeting has no user's turn yet, and an empty message is refused."""
    assert upstream_body(COHERE, {"messages": [{"role": "system", "content": "greet"}]})["message"]
    found = upstream_body(COHERE, {"messages": [*HI, {"role": "assistant", "content": "hello"}]})
    assert found["message"]
    assert found["chatHistory"][-1] == {"role": "CHATBOT", "message": "hello"}


def test_cohere_tools_by_choice() -> None:
    """A named tool_choice once crashed."""
    assert [tool["name"] for tool in upstream_body(COHERE, {"tools": TOOLS, "tool_choice": NAMED})["tools"]] == ["news"]
    assert len(upstream_body(COHERE, {"tools": TOOLS, "tool_choice": "required"})["tools"]) == 2
    assert "tools" not in upstream_body(COHERE, {"tools": TOOLS, "tool_choice": "none"})


@pytest.mark.parametrize("more", [{"tools": TOOLS, "tool_choice": "none"}, {"tools": TOOLS, "tool_choice": NAMED}, {}])
def test_cohere_has_the_tools_whose_results_it_reads(more: dict[str, Any]) -> None:
    """A round that may not call, or tells of no tools any more, is refused without those that have answered."""
    turn = [{"role": "assistant", "tool_calls": [CALLED]}, {"role": "tool", "tool_call_id": "c1", "content": "sun"}]
    tools = {tool["name"]: tool for tool in upstream_body(COHERE, {"messages": [*HI, *turn], **more})["tools"]}
    assert "weather" in tools
    assert len(tools) == 1 + (more.get("tool_choice") == NAMED)
    assert bool(tools["weather"]["parameterDefinitions"]) == bool(more)


def sent_part(kind: str, given: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": kind, kind: given}]}


def tool_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "weather", "parameters": schema}}


@pytest.mark.parametrize("model", ["xai.grok-4", COHERE, "cohere.command-a-vision"])
def test_a_top_k_that_is_no_number_is_named(model: str) -> None:
    """OCI would say that something is wrong, and not what."""
    assert request_error(model, {"top_k": "5"}).param == "top_k"
    assert upstream_body(model, {"top_k": 5})["topK"] == 5


WHERE = "web_search_options.user_location"
HEARD = "messages[0].content[0]"


@pytest.mark.parametrize(
    ("model", "body", "param"),
    [
        ("xai.grok-4", {"web_search_options": {"user_location": "Bern"}}, WHERE),
        ("xai.grok-4", {"web_search_options": {"user_location": {"approximate": "Bern"}}}, f"{WHERE}.approximate"),
        ("xai.grok-4", {"prediction": {"type": "content", "content": 5}}, "prediction.content"),
        ("xai.grok-4", {"prediction": {"type": "content", "content": ["words"]}}, "prediction.content"),
        ("xai.grok-4", {"messages": [sent_part("input_audio", "UklGRg==")]}, f"{HEARD}.input_audio"),
        ("xai.grok-4", {"messages": [sent_part("file", "a.pdf")]}, f"{HEARD}.file"),
        ("xai.grok-4", {"messages": [sent_part("video_url", "https://example.com/a.mp4")]}, f"{HEARD}.video_url"),
        (COHERE, {"tools": [tool_of({"type": "object", "properties": ["city"]})]}, "tools"),
        (COHERE, {"tools": [tool_of({"type": "object", "properties": {"city": {}}, "required": 1})]}, "tools"),
    ],
)
def test_what_is_of_the_wrong_type_is_named(model: str, body: dict[str, Any], param: str) -> None:
    """The caller's fault, so no 500."""
    error = request_error(model, body)
    assert (error.status, error.param) == (400, param)


def test_cohere_schemas_are_flattened() -> None:
    """Types are Python's; what nests goes into the description, and so does what a type cannot say."""
    schema = {
        "type": "object",
        "properties": {
            "when": {"type": "string", "description": "The day.", "enum": ["today", "tomorrow"]},
            "count": {"type": "integer"},
            "share": {"type": ["number", "null"]},
            "exact": {"type": "boolean"},
            "places": {"type": "array", "items": {"$ref": "#/$defs/place"}},
            "place": {"$ref": "#/$defs/place"},
            "maybe": {"anyOf": [{"type": "null"}, {"type": "integer"}]},
        },
        "required": ["when"],
        "$defs": {"place": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
    found = definitions({"name": "f", "parameters": schema})
    types = {"when": "str", "count": "int", "share": "float", "exact": "bool", "places": "list", "place": "dict"}
    assert {name: each["type"] for name, each in found.items()} == {**types, "maybe": "int"}
    assert [name for name, each in found.items() if each["isRequired"]] == ["when"]
    assert found["when"]["description"] == 'The day. JSON schema: {"enum":["today","tomorrow"]}'
    assert '"city":{"type":"string"}' in found["places"]["description"]
    assert "description" not in found["count"]
    assert definitions({"name": "f"}) == {}


def test_cohere_formats() -> None:
    schema = {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {"$ref": "#/$defs/c", "$defs": {"c": CITY}}},
    }
    assert upstream_body(COHERE, {"response_format": schema})["responseFormat"] == {
        "type": "JSON_OBJECT",
        "schema": CITY,
    }
    assert upstream_body(V2, {"response_format": {"type": "json_object"}})["responseFormat"] == {"type": "JSON_OBJECT"}
    assert "responseFormat" not in upstream_body(COHERE, {"response_format": {"type": "text"}})


# COHEREV2


def test_v2_messages_and_tools() -> None:
    found = upstream_body(V2, {"messages": [{"role": "developer", "content": "d"}, *ROUND], "tools": TOOLS})
    assert [message["role"] for message in found["messages"]] == ["SYSTEM", "USER", "ASSISTANT", "TOOL"]
    (call,) = found["messages"][2]["toolCalls"]
    called = {"name": "weather", "arguments": '{"city":"Bern"}'}
    assert call == {"id": "c1", "type": "FUNCTION", "function": called}
    assert found["messages"][3]["toolCallId"] == "c1"
    assert found["tools"][0]["function"]["parameters"] == CITY
    assert "toolsChoice" not in found


@pytest.mark.parametrize(
    ("choice", "expected", "names"),
    [("none", "NONE", 2), ("required", "REQUIRED", 2), (NAMED, "REQUIRED", 1), ("auto", None, 2)],
)
def test_v2_tool_choices(choice: Any, expected: Any, names: int) -> None:
    found = upstream_body(V2, {"tools": TOOLS, "tool_choice": choice})
    assert (found.get("toolsChoice"), len(found["tools"])) == (expected, names)


def test_v2_thinks_and_counts() -> None:
    found = upstream_body(V2, {"reasoning_effort": "low", "logprobs": True})
    assert (found["thinking"], found["isLogProbsEnabled"]) == ({"type": "ENABLED"}, True)
    assert upstream_body(V2, {"reasoning_effort": "none"})["thinking"] == {"type": "DISABLED"}
    assert "thinking" not in upstream_body(SEES["COHEREV2"], {"reasoning_effort": "low"})
    strict = [{"type": "function", "function": {**TOOLS[0]["function"], "strict": True}}]
    assert upstream_body(V2, {"tools": strict})["isStrictToolsEnabled"] is True


# schemas, places, OpenAI's own dialect


def test_schemas_for_families_that_take_no_references() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/a"},
            "b": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "b"},
        },
        "$defs": {"a": {"type": "integer", "exclusiveMinimum": 0}},
    }
    function = {"name": "f", "parameters": schema}
    plain = {"a": {"type": "integer", "exclusiveMinimum": 0}, "b": {"type": "string", "description": "b"}}
    assert parameters(function, "meta.llama-4")["properties"] == plain
    assert parameters(function, "google.gemini-2.5-pro")["properties"]["a"] == {"type": "integer"}
    assert "anyOf" in parameters(function, "openai.gpt-5")["properties"]["b"]
    assert "$defs" not in parameters(function, "openai.gpt-5")
    named = {"type": "object", "properties": {"anyOf": {"type": "string"}}}
    assert parameters({"name": "f", "parameters": named}, "meta.llama-4") == named


def test_serving_modes() -> None:
    on_demand = {"servingType": "ON_DEMAND", "modelId": "xai.grok-4"}
    endpoint = "ocid1.generativeaiendpoint.oc1.us-chicago-1.a"
    dedicated = {"servingType": "DEDICATED", "endpointId": endpoint}
    assert serving_mode(target("xai.grok-4", details={"endpoint": ""})) == on_demand
    assert serving_mode(target("tuned", details={"endpoint": endpoint})) == dedicated
    assert serving_mode(target(endpoint)) == dedicated
    assert serving_mode(target("tuned", details={"endpoint": f"https://{endpoint}"})) == dedicated, (
        "OCI GenAI access gateway's template"
    )


def test_openais_dialect_goes_as_it_came() -> None:
    body = {"messages": HI, "max_tokens": 50, "foo": 1, "stream": True}
    found = openai.to_upstream(ChatRequest(body, stream=True), target("openai.gpt-5", max_tokens=20))
    assert found == {
        "messages": HI,
        "foo": 1,
        "stream": True,
        "model": "openai.gpt-5",
        "max_completion_tokens": 20,
        "stream_options": {"include_usage": True},
    }
    assert openai.to_upstream(ChatRequest(body), target("xai.grok-4"))["max_tokens"] == 50


URL = "https://modeldeployment.us-chicago-1.oci.customer-oci.com/ocid1.x"


@pytest.mark.parametrize(
    ("end", "stream", "by", "path", "header"),
    [
        ("/predict", False, "", "/predict", None),
        ("/predict", True, "", "/predictWithResponseStream", None),
        ("/predict/", True, "header", "/predict", "true"),
        ("/predict/v1", True, "", "/predict/v1/chat/completions", None),
        ("/predict/v1/chat/completions", True, "", "/predict/v1/chat/completions", None),
    ],
)
def test_where_a_deployment_is_asked(end: str, stream: bool, by: str, path: str, header: str | None) -> None:
    details = {"endpoint": URL + end, "stream_by": by}
    asked = openai.at_deployment(details, {"stream": stream}, "")
    assert (asked.base, asked.path, asked.headers.get("enable-streaming")) == (URL, path, header)


def test_a_deployments_model_has_a_name_of_its_own() -> None:
    details = {"type": "datascience", "endpoint": f"{URL}/predict"}
    for model, name, expected in (("mistral", "mistral", "odsc-llm"), ("served", "mistral", "served")):
        where = Target(Provider(), model, name, details=details)
        assert openai.to_upstream(ChatRequest({"messages": HI}), where)["model"] == expected
