"""Gemini in its own dialect. What all dialects have in common is asked in tests/dialects/test_dialects.py."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google import genai
from google.genai import errors as google_errors
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st

from app import create_app
from config import Settings
from core.context import CallContext as Asked
from core.errors import GatewayError, UpstreamAuthFailed
from core.events import Finish, Text, ToolCall, Usage
from dispatch.sources.model_list_parser import parse_model_list
from providers import build
from providers.base import ParameterRules, Provider, Target
from providers.common.conversation import GO_ON, OPENING
from providers.gemini.decode import GeminiDecoder
from providers.gemini.provider import gemini_error, resource
from providers.gemini.request import STAND_IN, supported_parameters, to_upstream
from providers.gemini.thought_signatures import CARRIED, ThoughtSignatures
from providers.transport.sse import Frame
from providers.vendors import VENDORS
from schemas.chat.encode import ChunkEncoder
from schemas.chat.fold import fold
from schemas.chat.request import load_chat
from tests.conftest import environment
from tests.emulators import Call, OpenAIUpstream, ScriptedAnswer
from tests.emulators.answers import TEXTS
from tests.emulators.gemini.server import MODELS, TOP, GeminiUpstream
from tests.emulators.openai.server import PIXEL, embedding
from tests.support.conversations import AFTERWARDS, HI, PERSON, TIME, TREE, WEATHER
from tests.support.frames import chunks, completion, streamed_calls, streamed_text
from tests.support.http import openai_error

FLASH, PRO, THREE = "gemini-2.5-flash", "gemini-2.5-pro", "gemini-3-flash-preview"
PICTURE = f"data:image/png;base64,{PIXEL}"
LOOK = Call("fc_1", "get_weather", ['{"city": "Zürich"}'])


@pytest.fixture(scope="module")
def upstream() -> Iterator[GeminiUpstream]:
    with GeminiUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def client(upstream: GeminiUpstream) -> Any:
    values = environment(GEMINI_API_KEY=upstream.key, GEMINI_BASE_URL=upstream.url, RETRIES=0, BREAKER_FAILURES=9999)
    return create_app(Settings.load(values)).test_client()


def chat(client: Any, model: str = FLASH, messages: Any = HI, **more: Any) -> Any:
    return client.post("/v1/chat/completions", json={"model": model, "messages": messages, **more})


def upstream_body(
    model: str = FLASH, *, rules: ParameterRules | None = None, most: int | None = None, **body: Any
) -> dict[str, Any]:
    """What goes to Gemini for such a request."""
    provider = Provider()
    provider.name = "gemini"
    target = Target(provider, model, rules=rules or ParameterRules(), max_tokens=most)
    request = load_chat(json.dumps({"messages": HI, **body}).encode())
    return to_upstream(request, target, lambda identifier: (identifier, ""))


def config(model: str = FLASH, **body: Any) -> dict[str, Any]:
    found: dict[str, Any] = upstream_body(model, **body).get("generationConfig", {})
    return found


# What is sent


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"temperature": 0, "top_p": 0.5, "top_k": 3}, {"temperature": 0, "topP": 0.5, "topK": 3}),
        ({"seed": 7, "presence_penalty": 1}, {"seed": 7}),
        ({"max_tokens": 9, "max_completion_tokens": 5}, {"maxOutputTokens": 5}),
        ({"stop": "END"}, {"stopSequences": ["END"]}),
        ({"n": 1}, {}),
        ({"n": 3}, {"candidateCount": 3}),
        ({"logprobs": True, "top_logprobs": 2}, {"responseLogprobs": True, "logprobs": 2}),
        ({"logprobs": False, "top_logprobs": 2}, {"responseLogprobs": False}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"responseMimeType": "application/json"}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": PERSON}}},
            {"responseMimeType": "application/json", "responseJsonSchema": PERSON},
        ),
        ({"user": "u", "logit_bias": {"1": 2}, "store": True, "parallel_tool_calls": False}, {}),
    ],
    ids=" ".join,
)
def test_parameters(body: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each by its own name there, `stop` whole; what has no counterpart is left out."""
    assert config(**body) == expected
    types.GenerationConfig.model_validate(expected)


def test_penalties_go_to_those_that_take_them() -> None:
    """Since 2.5 they are a 400, "Penalty is not enabled for this model"."""
    asked = {"presence_penalty": 1, "frequency_penalty": 0.5}
    for model in ("gemini-2.0-flash", "gemma-3-27b-it"):
        assert config(model, **asked) == {"presencePenalty": 1, "frequencyPenalty": 0.5}
        assert set(asked) <= supported_parameters(model)
    for model in (FLASH, THREE, "gemini-flash-latest"):
        assert config(model, **asked) == {}
        assert not set(asked) & supported_parameters(model)


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        (FLASH, "none", {"thinkingBudget": 0}),
        (FLASH, "low", {"thinkingBudget": 1024}),
        (FLASH, "high", {"thinkingBudget": 24576}),
        (PRO, "none", {"thinkingBudget": 128}),
        (THREE, "none", {"thinkingLevel": "MINIMAL"}),
        (THREE, "medium", {"thinkingLevel": "MEDIUM"}),
        ("models/gemini-3.1-pro-preview", "minimal", {"thinkingLevel": "LOW"}),
        ("gemini-3.1-pro-preview", "medium", {"thinkingLevel": "MEDIUM"}),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "HIGH"}),
        ("gemini-3.5-flash", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.8-flash", "none", {"thinkingLevel": "LOW"}),
        ("gemini-flash-latest", "minimal", {"thinkingLevel": "LOW"}),
        ("gemini-flash-lite-latest", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini-flash-latest", "xhigh", {"thinkingLevel": "HIGH"}),
        ("gemini-2.0-flash", "high", None),
        ("gemma-3-27b-it", "high", None),
        ("gemini-2.5-flash-image", "high", None),
        (FLASH, "some", None),
    ],
)
def test_how_much_it_thinks(model: str, effort: str, expected: Any) -> None:
    assert config(model, reasoning_effort=effort).get("thinkingConfig") == expected


def test_thoughts_are_asked_for_only_where_they_are_wanted_and_can_be_had() -> None:
    assert config(include_reasoning=True)["thinkingConfig"] == {"includeThoughts": True}
    assert "thinkingConfig" not in config()
    assert "thinkingConfig" not in config("gemini-2.0-flash", include_reasoning=True)


def test_roles_alternate_and_results_are_objects() -> None:
    """A result is matched by its call's id and name, whatever it looks like."""
    calls = [{"id": f"c{at}", "function": {"name": "f", "arguments": ""}} for at in range(3)]
    results = [
        {"role": "tool", "tool_call_id": f"c{at}", "content": said} for at, said in enumerate(("[1]", "x", '{"a":1}'))
    ]
    body = upstream_body(
        THREE,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "one"},
            {"role": "user", "content": "two"},
            {"role": "assistant", "content": "well", "tool_calls": calls},
            *reversed(results),
            {"role": "user", "content": "and?"},
            {"role": "system", "content": "Be kind."},
        ],
    )
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]}
    user, model, answered = body["contents"]
    assert [part["text"] for part in user["parts"]] == ["one", "two"]
    assert [(each["role"]) for each in body["contents"]] == ["user", "model", "user"]
    assert [part.get("functionCall", {}).get("args") for part in model["parts"]] == [None, {}, {}, {}]
    assert [part.get("thoughtSignature") for part in model["parts"]] == [None, STAND_IN, None, None]
    *responses, last = answered["parts"]
    assert [each["functionResponse"]["response"] for each in responses] == [{"output": [1]}, {"output": "x"}, {"a": 1}]
    assert [each["functionResponse"]["id"] for each in responses] == ["c0", "c1", "c2"]
    assert last == {"text": "and?"}


def test_the_user_speaks_last() -> None:
    """Newer models refuse a conversation that the model has ended."""
    assert upstream_body(messages=[*HI, {"role": "assistant", "content": "Well"}])["contents"][-1]["parts"] == [
        {"text": GO_ON}
    ]


def test_ids_go_to_those_that_give_them(client: Any, upstream: GeminiUpstream) -> None:
    """Before Gemini 3 the order pairs a result with its call, whichever way the caller has it."""
    shuffled = [*AFTERWARDS[:2], *reversed(AFTERWARDS[2:])]
    for model, ids in ((FLASH, [None, None]), (THREE, ["call_one", "call_two"])):
        assert chat(client, model, shuffled, tools=[WEATHER, TIME]).status_code == 200
        found = [part["functionResponse"] for part in upstream.received[-1].json["contents"][2]["parts"]]
        assert [(each["name"], each.get("id")) for each in found] == [("get_weather", ids[0]), ("get_time", ids[1])]


def test_the_user_speaks_first() -> None:
    """A call may not open a conversation there; a greeting, or instructions alone, get the same stand-in."""
    greeting = {"role": "assistant", "content": "Good day!"}
    opened = [
        upstream_body(messages=each)["contents"] for each in ([greeting, *HI], [{"role": "system", "content": "x"}])
    ]
    assert [each[0] for each in opened] == [{"role": "user", "parts": [{"text": OPENING}]}] * 2
    assert [each["role"] for each in opened[0]] == ["user", "model", "user"]


def test_media() -> None:
    content = [
        {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a/cat.jpg?x=1"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
    ]
    (turn,) = upstream_body(messages=[{"role": "user", "content": content}])["contents"]
    assert turn["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.com/a/cat.jpg?x=1"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}},
    ]
    types.Content.model_validate(turn)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", None),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "get_time"}}, {"mode": "ANY", "allowedFunctionNames": ["get_time"]}),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "get_time"}}]},
            },
            {"mode": "VALIDATED", "allowedFunctionNames": ["get_time"]},
        ),
    ],
    ids=str,
)
def test_tool_choice(choice: Any, expected: Any) -> None:
    body = upstream_body(tools=[WEATHER, TIME, {"type": "web_search"}], tool_choice=choice)
    assert [each["name"] for each in body["tools"][0]["functionDeclarations"]] == ["get_weather", "get_time"]
    assert body.get("toolConfig", {}).get("functionCallingConfig") == expected


def test_a_schema_stands_alone() -> None:
    """What a schema refers to is put in its place; a property may be called as a keyword is."""
    tool = json.loads(json.dumps(TREE))
    tool["function"]["parameters"]["properties"]["definitions"] = {"type": "string"}
    tool["function"]["parameters"]["$defs"]["node"]["properties"]["next"] = {"$ref": "#/$defs/node"}
    (declared,) = upstream_body(tools=[tool])["tools"][0]["functionDeclarations"]
    properties = declared["parametersJsonSchema"]["properties"]
    assert properties["node"]["properties"] == {"name": {"type": "string"}, "next": {"type": "object"}}
    assert properties["definitions"] == {"type": "string"}


def test_a_schema_that_multiplies_is_refused() -> None:
    defs: dict[str, Any] = {f"d{at}": {"anyOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 9} for at in range(30)}
    defs["d30"] = {"type": "string"}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"$ref": "#/$defs/d0", "$defs": defs}}}
    with pytest.raises(GatewayError, match="too large"):
        upstream_body(tools=[tool])


def test_rules_speak_geminis_own_language() -> None:
    harmless = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}]
    rules = ParameterRules(update={"topP": 0.5}, add={"temperature": 0.2, "safetySettings": harmless}, delete=("seed",))
    body = upstream_body(rules=rules, seed=1, top_p=0.9)
    assert body["generationConfig"] == {"topP": 0.5, "temperature": 0.2}
    assert body["safetySettings"] == harmless
    assert "safetySettings" not in upstream_body()
    assert upstream_body(most=50, max_tokens=99)["generationConfig"] == {"maxOutputTokens": 50}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"stop": list("abcdef")}, "stop"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"tool_choice": "required"}, None),
        ({"messages": [{"role": "user", "content": [{"type": "video", "video": 1}]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
            "messages[0].content[0].file",
        ),
        (
            {"messages": [*HI, {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "A"}}]}]},
            "messages[1].content[0].input_audio",
        ),
        ({"messages": AFTERWARDS[:3]}, "messages[1].tool_calls[1]"),
        ({"messages": [*HI, {"role": "tool", "tool_call_id": "x", "content": ""}]}, "messages[1].tool_call_id"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_would_be_lost_is_refused(client: Any, upstream: GeminiUpstream, body: dict[str, Any], param: str) -> None:
    before = len(upstream.received)
    if param is None:
        assert "toolConfig" not in upstream_body(**body)  # without tools there is nothing to choose
        return
    assert openai_error(chat(client, **body), 400)["param"] == param
    assert len(upstream.received) == before


# Thought signatures


class Memory:
    """A State for the tests."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def put(self, key: str, value: str, seconds: float) -> None:
        assert seconds > 3600
        self.kept[key] = value

    def get(self, key: str) -> str | None:
        return self.kept.get(key)

    def pop(self, key: str) -> str | None:
        return self.kept.pop(key, None)


def history(identifier: str, *, tail: Any = ()) -> list[dict[str, Any]]:
    """A conversation as OpenAI's client sends it after a call of that id."""
    call = {"id": identifier, "type": "function", "function": {"name": LOOK.name, "arguments": LOOK.arguments[0]}}
    return [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": identifier, "content": "fair"},
        *tail,
    ]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_signature_survives_a_client_that_knows_nothing_of_it(
    client: Any, upstream: GeminiUpstream, stream: bool
) -> None:
    """Gemini 3 refuses a history whose calls lack theirs; this vendor also refuses any that it has not given."""
    upstream.enqueue(ScriptedAnswer(calls=[LOOK, TIME_CALL]))
    answer = chat(client, THREE, tools=[WEATHER, TIME], stream=stream)
    if stream:
        ids = [identifier for identifier, _, _ in streamed_calls(answer.data)]
    else:
        ids = [call["id"] for call in completion(answer.data)["choices"][0]["message"]["tool_calls"]]
    again = json.loads(json.dumps(AFTERWARDS))
    for call, result, identifier in zip(again[1]["tool_calls"], again[2:], ids, strict=True):
        call["id"] = result["tool_call_id"] = identifier
    assert chat(client, THREE, again, tools=[WEATHER, TIME]).status_code == 200
    parts = upstream.received[-1].json["contents"][1]["parts"]
    first, second = (part for part in parts if "functionCall" in part)
    assert first["thoughtSignature"] == upstream.signatures[-1]
    assert "thoughtSignature" not in second
    assert [each["functionCall"]["id"] for each in (first, second)] == ["fc_1", "fc_2"]


TIME_CALL = Call("fc_2", "get_time", ['{"zone": "CET"}'])


def test_a_kept_signature_has_a_short_id_of_its_own_and_is_found_by_every_replica() -> None:
    """Clients and other vendors limit ids to 40 characters; two conversations may have the same id at Gemini."""
    memory = Memory()
    here, there = (ThoughtSignatures(Asked(caller="anna", state=memory)) for _ in range(2))
    first, second = here.keep("fc_1", "c2ln" * 500), here.keep("fc_1", "b3RoZXI=")
    assert re.fullmatch(r"[a-zA-Z0-9_-]{9,40}", first)
    assert there.recall(first) == ("fc_1", "c2ln" * 500)
    assert there.recall(second) == ("fc_1", "b3RoZXI=")
    assert there.recall("fc_1") == ("fc_1", "")
    assert ThoughtSignatures(Asked(caller="bert", state=memory)).recall(first) == (first, "")


def test_without_a_place_to_keep_it_the_id_carries_it() -> None:
    thoughts = ThoughtSignatures(Asked())
    identifier = thoughts.keep("fc_1", "c2ln/+==")
    assert identifier == f"fc_1{CARRIED}c2ln/+=="
    assert (
        thoughts.recall(identifier)
        == ThoughtSignatures(Asked(state=Memory())).recall(identifier)
        == ("fc_1", "c2ln/+==")
    )
    assert thoughts.recall("fc_1") == ("fc_1", "")


@pytest.mark.parametrize("memory", [None, Memory()], ids=["carried", "kept"])
def test_gemini_gets_its_own_ids_back(memory: Any) -> None:
    """In the call and in its result, whichever id the caller's client has."""
    thoughts = ThoughtSignatures(Asked(state=memory))
    (said,) = [each for each in read(SIGNED, keep=thoughts.keep) if isinstance(each, ToolCall)]
    provider = Provider()
    provider.name = "gemini"
    request = load_chat(json.dumps({"messages": history(said.id)}).encode())
    model, user = to_upstream(request, Target(provider, THREE), thoughts.recall)["contents"][1:]
    assert model["parts"][0]["functionCall"]["id"] == user["parts"][0]["functionResponse"]["id"] == "fc_1"
    assert model["parts"][0]["thoughtSignature"] == "c2ln"


SIGNED = {
    "candidates": [
        {"content": {"parts": [{"functionCall": {"id": "fc_1", "name": "get_weather"}, "thoughtSignature": "c2ln"}]}}
    ]
}


def test_a_lost_signature_is_stood_in_for(client: Any, upstream: GeminiUpstream) -> None:
    """As when another provider's model made the call, and the next answer falls to Gemini."""
    assert chat(client, THREE, history("call_of_openai"), tools=[WEATHER]).status_code == 200
    part = upstream.received[-1].json["contents"][1]["parts"][0]
    assert part["thoughtSignature"] == STAND_IN
    assert chat(client, FLASH, history("call_of_openai"), tools=[WEATHER]).status_code == 200
    assert "thoughtSignature" not in upstream.received[-1].json["contents"][1]["parts"][0]


def test_calls_without_ids_get_some(client: Any, upstream: GeminiUpstream) -> None:
    """Gemini 2.5 gives none."""
    upstream.enqueue(ScriptedAnswer(calls=[LOOK, LOOK]))
    found = streamed_calls(chat(client, tools=[WEATHER], stream=True).data)
    assert [(name, arguments) for _, name, arguments in found] == [("get_weather", {"city": "Zürich"})] * 2
    assert len({identifier for identifier, _, _ in found}) == 2
    assert all(0 < len(identifier) <= 40 for identifier, _, _ in found)


# What comes back


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", None),
        ("UNEXPECTED_TOOL_CALL", None),
        ("OTHER", None),
        ("SOMETHING_NEW", None),
    ],
)
def test_why_it_ended(client: Any, upstream: GeminiUpstream, reason: str, finish: str | None) -> None:
    """A failure of the model is an error, not an answer."""
    upstream.enqueue(ScriptedAnswer(texts=[], finish_reason=reason))
    answer = chat(client)
    if finish:
        assert completion(answer.data)["choices"][0]["finish_reason"] == finish
    else:
        assert openai_error(answer, 502)["code"] == "upstream_error"


def read(*parts: Any, keep: Any = None) -> list[Any]:
    reading = GeminiDecoder(1, keep or ThoughtSignatures(Asked()).keep, lambda given: GatewayError(str(given)))
    return [event for part in parts for event in reading.events(Frame(b"", json.dumps(part).encode()))]


def test_a_blocked_prompt_is_filtered() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}
    body = completion(fold(read(blocked), "m"))
    assert body["choices"][0]["finish_reason"] == "content_filter"
    assert body["usage"]["prompt_tokens"] == 4


def test_nothing_follows_a_finish() -> None:
    """Whatever a gateway repeats, a choice ends once; thoughts are counted among what was said."""
    spoken = {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]}
    counted = {**spoken, "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2, "thoughtsTokenCount": 3}}
    assert read(spoken, counted) == [Text("Hi"), Finish("stop"), Usage(1, 5, 0, 3)]


def test_an_error_in_the_middle_is_raised() -> None:
    with pytest.raises(GatewayError, match="overloaded"):
        read({"error": {"code": 503, "message": "overloaded"}})


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_several_choices_with_their_probabilities(client: Any, upstream: GeminiUpstream, stream: bool) -> None:
    answer = chat(client, n=2, logprobs=True, top_logprobs=1, stream=stream)
    if stream:
        assert [streamed_text(answer.data, index) for index in (0, 1)] == ["".join(TEXTS)] * 2
        found = [
            each["choices"][0]["logprobs"] for each in chunks(answer.data) if each["choices"][0]["delta"].get("content")
        ]
        tokens = [entry["token"] for each in found for entry in each["content"]]
        assert len(tokens) == 2 * len(TEXTS)
    else:
        first, second = completion(answer.data)["choices"]
        assert first["message"]["content"] == second["message"]["content"] == "".join(TEXTS)
        (entry, *_) = first["logprobs"]["content"]
        assert (entry["token"], entry["logprob"]) == (TEXTS[0], -0.25)
        assert [each["token"] for each in entry["top_logprobs"]] == [TEXTS[0]]


def test_an_array_in_the_place_of_a_stream(upstream: GeminiUpstream, client: Any, monkeypatch: Any) -> None:
    """Gateways drop the query: the same chunks come as one JSON array."""
    monkeypatch.setattr("providers.gemini.provider.STREAM", "streamGenerateContent")
    answer = chat(client, stream=True)
    assert streamed_text(answer.data) == "".join(TEXTS)
    upstream.enqueue(ScriptedAnswer(status=429, headers={"retry-after": "3"}))
    assert openai_error(chat(client, stream=True), 429)["code"] == "rate_limit_exceeded"


# Failures


def failing(status: int, message: str, *details: Any) -> GatewayError:
    body = {"error": {"code": status, "message": message, "details": list(details)}}
    return gemini_error("gemini", status, {}, json.dumps([body]).encode())


def test_a_bad_key_is_our_fault(upstream: GeminiUpstream) -> None:
    """Google says so with a 400. The key is in no address, and in nothing that is said."""
    values = environment(GEMINI_API_KEY="wrong-key", GEMINI_BASE_URL=upstream.url, RETRIES=0)
    answer = chat(create_app(Settings.load(values)).test_client())
    assert openai_error(answer, 502)["code"] == "upstream_authentication"
    assert b"wrong-key" not in answer.data
    assert "wrong-key" not in upstream.received[-1].path
    assert isinstance(failing(400, "API key expired. Please renew the API key."), UpstreamAuthFailed)
    located = {"error": {"code": 400, "message": "User location is not supported.", "status": "FAILED_PRECONDITION"}}
    assert isinstance(gemini_error("gemini", 400, {}, json.dumps(located).encode()), UpstreamAuthFailed)
    assert failing(400, "x", {"reason": "API_KEY_INVALID"}).upstream_status == 400  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (failing(429, "quota", {"@type": "x", "retryDelay": "7.5s"}), ("rate_limit_exceeded", 7.5)),
        (failing(429, "quota"), ("rate_limit_exceeded", None)),
        (
            failing(400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
            ("context_length_exceeded", None),
        ),
        (failing(404, "models/x is not found for API version v1beta."), ("model_not_found", None)),
        (failing(504, "Deadline expired."), ("upstream_timeout", None)),
    ],
    ids=str,
)
def test_failures(found: GatewayError, expected: tuple[str, float | None]) -> None:
    assert (found.code, found.retry_after) == expected


# Addresses


def test_a_models_name_cannot_leave_its_place(client: Any, upstream: GeminiUpstream) -> None:
    assert chat(client, f"models/{FLASH}").status_code == 200
    assert upstream.received[-1].path == f"/v1beta/models/{FLASH}:generateContent"
    assert resource("tunedModels/mine") == "tunedModels/mine"
    assert resource("../x?key=y#z:embedContent\r\n") == "models/..%2Fx%3Fkey%3Dy%23z%3AembedContent%0D%0A"


def account(options: dict[str, Any], kind: str = "gemini") -> bytes:
    provider: Any = build(kind, options)
    raw: bytes = provider._account.request("POST", "/x?alt=sse", {}, b"")
    return raw


def test_the_list_of_models_pays_with_its_own_token() -> None:
    """The list's token goes with the list's own scheme, and the query is the handle's."""
    (entry,) = parse_model_list(
        [{"model_version": "m", "handle": "/google/v1/models/m:generateContent?x=1"}], "https://h.example/l", "tok"
    ).entries
    raw = account(dict(entry.options))
    assert raw.startswith(b"POST /google/v1/x?alt=sse&x=1 HTTP/1.1\r\n")
    assert b"Authorization: OAuth tok\r\n" in raw


def test_a_provider_of_ones_own_may_speak_it(tmp_path: Any) -> None:
    models = tmp_path / "models.yaml"
    with GeminiUpstream() as own:
        models.write_text(f"providers: {{lab: {{kind: gemini, base_url: '{own.url}', api_key: {own.key}}}}}")
        client = create_app(Settings.load(environment(MODELS_FILE=models))).test_client()
        assert completion(chat(client, provider="lab").data)["choices"][0]["finish_reason"] == "stop"


def test_its_openai_shaped_endpoint_is_still_one(app_with: Callable[..., Any]) -> None:
    with OpenAIUpstream(base="/v1beta/openai") as compatible:
        client = app_with(GEMINI_API_KEY=compatible.key, GEMINI_BASE_URL=compatible.base_url + "/")
        assert completion(chat(client).data)["choices"][0]["message"]["content"] == "".join(TEXTS)


# Embeddings and models


def embed(client: Any, **body: Any) -> Any:
    return client.post("/v1/embeddings", json={"model": "gemini-embedding-001", **body})


def test_embeddings_in_batches(client: Any, upstream: GeminiUpstream) -> None:
    """All the vectors, in order."""
    before = len(upstream.received)
    texts = [f"text {at}" for at in range(230)]
    data = embed(client, input=texts, dimensions=4, input_type="search_query").get_json()
    assert [row["embedding"] for row in data["data"]] == [embedding(text, 4) for text in texts]
    assert [len(each.json["requests"]) for each in upstream.received[before:]] == [100, 100, 30]
    one = upstream.received[-1].json["requests"][0]
    assert (one["taskType"], one["outputDimensionality"]) == ("RETRIEVAL_QUERY", 4)
    assert data["usage"] == {"prompt_tokens": 230, "total_tokens": 230}


@pytest.mark.parametrize(
    ("given", "param"), [([[1, 2]], "input[0]"), ([{"type": "image_url", "image_url": "https://x/y.png"}], "input[0]")]
)
def test_what_it_does_not_embed(client: Any, given: Any, param: str) -> None:
    """An address is not fetched by us."""
    assert openai_error(embed(client, input=given), 400)["param"] == param


def test_pictures_are_embedded(client: Any, upstream: GeminiUpstream) -> None:
    data = embed(
        client, input=["a", {"type": "image_url", "image_url": {"url": PICTURE}}], input_type="FACT_VERIFICATION"
    )
    assert [row["embedding"] for row in data.get_json()["data"]] == [embedding("a"), embedding(PIXEL)]
    assert upstream.received[-1].json["requests"][1]["taskType"] == "FACT_VERIFICATION"


def test_models_page_by_page(client: Any) -> None:
    """Those that converse or embed, by the names to call them by."""
    ids = [each["id"] for each in client.get("/v1/models").get_json()["data"]]
    assert ids == [name for name in MODELS if name != "imagen-4.0"]


# Google's own SDK


@pytest.fixture
def google(upstream: GeminiUpstream) -> genai.Client:
    return genai.Client(api_key=upstream.key, http_options=types.HttpOptions(base_url=upstream.url))


def test_googles_sdk_understands_the_emulation(upstream: GeminiUpstream, google: genai.Client) -> None:
    """So that it is no mirror of ours."""
    whole = google.models.generate_content(model=FLASH, contents="hi")
    assert whole.text == "".join(TEXTS)
    assert whole.usage_metadata
    assert whole.usage_metadata.total_token_count == 33
    streamed = list(google.models.generate_content_stream(model=FLASH, contents="hi"))
    assert "".join(each.text or "" for each in streamed) == "".join(TEXTS)
    upstream.enqueue(ScriptedAnswer(status=429))
    with pytest.raises(google_errors.ClientError, match="RESOURCE_EXHAUSTED"):
        google.models.generate_content(model=FLASH, contents="hi")
    vectors = google.models.embed_content(model="gemini-embedding-001", contents=["a", "b"]).embeddings
    assert [each.values for each in vectors or []] == [embedding("a"), embedding("b")]
    assert [each.name for each in google.models.list()] == [f"models/{name}" for name in MODELS]


def test_we_ask_as_googles_sdk_does(upstream: GeminiUpstream, google: genai.Client, client: Any) -> None:
    """The same conversation by both ways is the same JSON."""
    upstream.enqueue(ScriptedAnswer(calls=[LOOK]))
    first = google.models.generate_content(
        model=THREE, contents="hi", config=types.GenerateContentConfig(tools=[DECLARED])
    )
    assert first.candidates
    assert first.function_calls
    carried = f"fc_1{CARRIED}{upstream.signatures[-1]}"
    contents = [
        types.Content(role="user", parts=[types.Part(text="hi")]),
        first.candidates[0].content,
        types.Content(
            role="user",
            parts=[
                types.Part(
                    function_response=types.FunctionResponse(id="fc_1", name="get_weather", response={"sky": "fair"})
                ),
                types.Part(inline_data=types.Blob(mime_type="image/png", data=b"\x89PNG")),
            ],
        ),
    ]
    google.models.generate_content(
        model=THREE,
        contents=contents,
        config=types.GenerateContentConfig(
            system_instruction="Be brief.",
            temperature=0.5,
            top_p=0.9,
            max_output_tokens=99,
            stop_sequences=["END"],
            thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW),
            tools=[DECLARED],
            tool_config=types.ToolConfig(
                function_calling_config=types.FunctionCallingConfig(
                    mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["get_weather"]
                )
            ),
        ),
    )
    theirs = upstream.received[-1]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}
    messages = history(carried, tail=[{"role": "user", "content": [image]}])
    messages[2]["content"] = '{"sky": "fair"}'
    asked = {
        "messages": [{"role": "system", "content": "Be brief."}, *messages],
        "tools": [WEATHER],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 99,
        "stop": "END",
        "reasoning_effort": "low",
    }
    assert chat(client, THREE, **asked).status_code == 200
    ours = upstream.received[-1]
    assert ours.path == theirs.path.replace("/v1/", "/v1beta/")
    assert plain(ours.json) == plain(theirs.json)


DECLARED = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="get_weather",
            description="get_weather.",
            parameters_json_schema=WEATHER["function"]["parameters"],
        )
    ]
)


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """As Google's types read it: names and base64 may be written in two ways. The SDK gives instructions a role too."""
    body["systemInstruction"].pop("role", None)
    return {name: [TOP[name].model_validate(each) for each in as_list(value)] for name, value in body.items()}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# Whatever it says

PARTS = st.one_of(
    st.builds(lambda text: {"text": text}, st.text()),
    st.builds(lambda text: {"text": text, "thought": True}, st.text()),
    st.builds(
        lambda name, args: {"functionCall": {"name": name, "args": args}},
        st.sampled_from(["f", "g"]),
        st.dictionaries(st.text(), st.one_of(st.integers(-9, 9), st.text(), st.none())),
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(PARTS, max_size=3), max_size=5))
def test_text_stays_text_and_calls_stay_calls(parts: list[list[dict[str, Any]]]) -> None:
    """Dense indices, one finish, and every text and argument as it was."""
    frames = [{"candidates": [{"content": {"parts": each}}]} for each in parts]
    events = read(*frames, {"candidates": [{"finishReason": "STOP"}]})
    encoder = ChunkEncoder("m")
    stream = b"".join(map(encoder.encode, events)) + encoder.end()
    flat = [part for each in parts for part in each]
    assert streamed_text(stream) == "".join(part["text"] for part in flat if "text" in part and not part.get("thought"))
    calls = [part["functionCall"] for part in flat if "functionCall" in part]
    assert [(name, args) for _, name, args in streamed_calls(stream)] == [
        (each["name"], each["args"]) for each in calls
    ]
    assert completion(fold(events, "m"))["choices"][0]["message"]["content"] in (streamed_text(stream), None)


def test_the_row_says_how_it_is_spoken_to() -> None:
    (row,) = (vendor for vendor in VENDORS if vendor.name == "gemini")
    raw = account({"vendor": row, "base_url": row.base_url, "api_key": "k"})
    assert raw.startswith(b"POST /v1beta/x?alt=sse HTTP/1.1\r\n")
    assert b"x-goog-api-key: k\r\n" in raw
    assert b"Authorization" not in raw
