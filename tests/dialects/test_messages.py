"""Conversations in Anthropic's dialect give the same answers whichever vendor gives them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from app import create_app
from config import Settings
from tests.conftest import environment
from tests.emulators import Call, Fault, ScriptedAnswer, faults
from tests.emulators.answers import TEXTS
from tests.emulators.anthropic.server import AnthropicUpstream
from tests.emulators.bedrock.answers import Turn
from tests.emulators.bedrock.server import COUNTED, HAIKU, NOVA, BedrockUpstream
from tests.emulators.dialects import DIALECTS, Dialect
from tests.emulators.gemini.server import COUNTED as GEMINI_COUNTED
from tests.emulators.gemini.server import GeminiUpstream
from tests.emulators.openai.server import PIXEL, OpenAIUpstream
from tests.emulators.scripted import NO_SUCH_MODEL, Scripted
from tests.support import messages as read

QUIET = {"RETRIES": 0, "BREAKER_FAILURES": 10_000, "LOG_LEVEL": "NONE"}
WEATHER = {
    "name": "get_weather",
    "description": "Weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "cache_control": {"type": "ephemeral"},
}
TIME = {"name": "get_time", "input_schema": {"type": "object", "properties": {"zone": {"type": "string"}}}}
BOTH = [Call("call_one", "get_weather", ['{"city"', ': "Bern"}']), Call("call_two", "get_time", ['{"zone": "CET"}'])]
SYSTEM = [
    {"type": "text", "text": "Be brief."},
    {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}},
]
AFTERWARDS = [
    {"role": "user", "content": [{"type": "text", "text": "Weather and time?"}]},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "call_one", "name": "get_weather", "input": {"city": "Bern"}},
            {"type": "tool_use", "id": "call_two", "name": "get_time", "input": {}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "call_one", "content": [{"type": "text", "text": "18 degrees"}]},
            {"type": "tool_result", "tool_use_id": "call_two", "content": "no such zone", "is_error": True},
            {"type": "text", "text": "And now?"},
        ],
    },
]
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}


@dataclass(frozen=True)
class Line:
    dialect: Dialect
    upstream: Scripted
    client: Any

    def ask(self, *, path: str = "/v1/messages?beta=true", headers: dict[str, str] | None = None, **more: Any) -> Any:
        body = {**read.ask_body(), "model": self.dialect.model, "provider": self.dialect.name, **more}
        return self.client.post(path, json=body, headers=headers or {}, buffered=True)

    def heard(self) -> Any:
        """The body that came to the vendor last."""
        return json.loads(self.upstream.received[-1].body)


@contextmanager
def line_to(dialect: Dialect, **settings: object) -> Iterator[Line]:
    with dialect.upstream() as upstream:
        values = environment(**{**QUIET, **dialect.settings(upstream), **settings})
        yield Line(dialect, upstream, create_app(Settings.load(values)).test_client())


@pytest.fixture(params=DIALECTS, ids=lambda each: f"{each.name}/{each.model}")
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    with line_to(request.param) as found:
        yield found


ANTHROPIC = next(each for each in DIALECTS if each.name == "anthropic")
OPENAI = next(each for each in DIALECTS if each.name == "openai")


def message(response: Any, *, stream: bool) -> dict[str, Any]:
    assert response.status_code == 200, response.data
    assert response.headers["request-id"] == response.headers["x-request-id"]
    return read.streamed(response.data) if stream else read.whole(response.data)


@pytest.mark.parametrize("stream", [True, False])
def test_a_text(line: Line, stream: bool) -> None:
    found = message(line.ask(system=SYSTEM, stream=stream, metadata={"user_id": "u1"}), stream=stream)
    assert read.text(found) == "".join(TEXTS)
    assert (found["stop_reason"], found["usage"]["input_tokens"], found["usage"]["output_tokens"]) == (
        "end_turn",
        19,
        14,
    )
    sent = line.upstream.received[-1].body
    assert b"Be brief." in sent
    assert b"Be kind." in sent


@pytest.mark.parametrize("stream", [True, False])
def test_calls_and_their_results(line: Line, stream: bool) -> None:
    line.upstream.enqueue(ScriptedAnswer(calls=BOTH))
    tools = [WEATHER, TIME]
    found = message(line.ask(tools=tools, stream=stream), stream=stream)
    assert read.calls(found) == [("get_weather", {"city": "Bern"}), ("get_time", {"zone": "CET"})]
    assert found["stop_reason"] == "tool_use"
    asked = [{"role": "user", "content": "Weather and time?"}, {"role": "assistant", "content": found["content"]}]
    uses = [block for block in found["content"] if block["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": use["id"], "content": f"{use['name']} says so"} for use in uses]
    again = line.ask(tools=tools, stream=stream, messages=[*asked, {"role": "user", "content": results}])
    assert read.text(message(again, stream=stream)) == "".join(TEXTS)
    assert b"get_time says so" in line.upstream.received[-1].body


def test_a_past_with_a_failed_call(line: Line) -> None:
    found = message(line.ask(tools=[WEATHER, TIME], messages=AFTERWARDS), stream=False)
    assert read.text(found) == "".join(TEXTS)
    sent = line.upstream.received[-1].body
    for text in (b"18 degrees", b"no such zone", b"And now?", b"Let me look."):
        assert text in sent
    assert line.dialect is ANTHROPIC or b"Error: no such zone" in sent


def test_a_named_tool(line: Line) -> None:
    choice = {"type": "tool", "name": "get_time", "disable_parallel_tool_use": True}
    assert [name for name, _ in read.calls(message(line.ask(tools=[WEATHER, TIME], tool_choice=choice), stream=False))]


@pytest.mark.parametrize("inside", [False, True], ids=["the user's", "a tool's"])
def test_a_picture(line: Line, inside: bool) -> None:
    if "images" in line.dialect.without:
        pytest.skip(line.dialect.without["images"])
    result = {"type": "tool_result", "tool_use_id": "call_one", "content": [{"type": "text", "text": "it"}, PICTURE]}
    use = {"type": "tool_use", "id": "call_one", "name": "get_weather", "input": {}}
    past = [{"role": "user", "content": "Look."}, {"role": "assistant", "content": [use]}] if inside else []
    content = [result] if inside else [PICTURE, {"type": "text", "text": "What is it?"}]
    asked = line.ask(messages=[*past, {"role": "user", "content": content}], tools=[WEATHER])
    assert read.text(message(asked, stream=False)) == "".join(TEXTS)
    assert PIXEL.encode() in line.upstream.received[-1].body


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        (ScriptedAnswer(status=429), 429, "rate_limit_error"),
        (ScriptedAnswer(status=503), 529, "overloaded_error"),
        (ScriptedAnswer(fault=faults.closed_before_headers), 502, "api_error"),
    ],
    ids=["429", "503", "closed"],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_failure_has_its_status(line: Line, answer: ScriptedAnswer, status: int, kind: str, stream: bool) -> None:
    line.upstream.always(answer)
    response = line.ask(stream=stream)
    assert (response.status_code, read.error(response.data)["type"]) == (status, kind)
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("fault", [faults.cut, faults.reset, faults.malformed, faults.error_frame, faults.no_finish])
def test_a_failure_after_the_first_word_is_an_error_event(line: Line, fault: Fault) -> None:
    line.upstream.enqueue(ScriptedAnswer(fault=fault))
    events = read.frames(line.ask(stream=True).data)
    assert events[0]["type"] == "message_start"
    assert events[-1]["type"] == "error"
    assert "content_block_delta" in [event["type"] for event in events]


def test_no_such_model(line: Line) -> None:
    response = line.ask(model=NO_SUCH_MODEL)
    assert (response.status_code, read.error(response.data)["type"]) == (404, "not_found_error")


def test_thinking_is_shown_to_who_speaks_of_it(line: Line) -> None:
    if "reasoning" in line.dialect.without:
        pytest.skip(line.dialect.without["reasoning"])
    line.upstream.always(ScriptedAnswer(reasoning=["Hm", "m."]))
    thinking = {"type": "enabled", "budget_tokens": 2000}
    found = message(line.ask(stream=True, max_tokens=3000, thinking=thinking), stream=True)
    assert [block["type"] for block in found["content"]] == ["thinking", "text"]
    assert found["content"][0]["thinking"] == "Hmm."
    if line.dialect is not ANTHROPIC:
        assert [block["type"] for block in message(line.ask(), stream=False)["content"]] == ["text"]


@pytest.mark.parametrize("path", ["/v1/v1/messages", "/messages", "/api/v1/messages"])
def test_the_paths_that_clients_make(path: str) -> None:
    with line_to(OPENAI) as line:
        assert read.text(message(line.ask(path=path), stream=False)) == "".join(TEXTS)


def test_counting_is_an_estimate_where_nobody_counts() -> None:
    with line_to(OPENAI) as line:
        path, words = "/v1/messages/count_tokens", "word " * 200
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": words}]}
        few = read.count(line.client.post(path, json=body).data)
        body["messages"].append({"role": "user", "content": [PICTURE]})
        more = read.count(line.client.post(path, json={**body, "tools": [WEATHER]}).data)
        assert 150 < few < 300
        assert 1000 < more - few < 2500
        assert line.upstream.received == []


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
        ({"mcp_servers": [{"type": "url", "url": "https://a.example"}]}, "mcp_servers"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}
                ]
            },
            "messages[0].content[0].source",
        ),
    ],
    ids=["a server's tool", "MCP servers", "a file's id"],
)
def test_what_is_anthropics_own_is_refused_elsewhere_by_name(more: dict[str, Any], field: str) -> None:
    with line_to(OPENAI) as line:
        response = line.ask(**more)
        assert response.status_code == 400
        assert read.error(response.data)["details"] == {"error_code": "unsupported_value", "param": field}
        assert line.upstream.received == []


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0].source"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "messages[0].content[0].tool_use_id"),
        ({"system": [{"type": "image", "source": {}}]}, "system[0]"),
        ({"tools": [{"description": "x"}]}, "tools[0].name"),
        ({"tool_choice": {"type": "some"}, "tools": [TIME]}, "tool_choice.type"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_a_mistake_is_told_with_its_field(more: dict[str, Any], field: str) -> None:
    with line_to(OPENAI) as line:
        response = line.ask(**more)
        assert (response.status_code, read.error(response.data)["type"]) == (400, "invalid_request_error")
        assert read.error(response.data)["details"]["param"] == field


def test_a_vendors_refusal_names_the_field_that_came() -> None:
    """The chat has a system message before it, and a message for each result."""
    with line_to(OPENAI) as line:
        result = {"type": "tool_result", "tool_use_id": "unknown", "content": "x"}
        past = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello."}]
        response = line.ask(system="Be brief.", messages=[*past, {"role": "user", "content": [result]}])
        assert response.status_code == 400
        assert read.error(response.data)["details"]["param"] == "messages[2].content[0]"


def test_parameters_and_formats_in_openais_words() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    with line_to(OPENAI) as line:
        line.upstream.enqueue(ScriptedAnswer(texts=['{"a": "b"}']))
        found = message(
            line.ask(
                model="gpt-5.2",
                stop_sequences=["END"],
                max_tokens=50,
                output_config={"effort": "low", "format": {"type": "json_schema", "schema": schema}},
                tools=[TIME],
                tool_choice={"type": "auto", "disable_parallel_tool_use": True},
                metadata={"user_id": "u1"},
                context_management={"edits": []},
            ),
            stream=False,
        )
        assert read.text(found) == '{"a": "b"}'
        sent = line.heard()
        assert sent["stop"] == ["END"]
        assert (sent["max_completion_tokens"], sent["reasoning_effort"], sent["user"]) == (50, "low", "u1")
        assert sent["response_format"]["json_schema"]["schema"] == schema
        assert sent["parallel_tool_calls"] is False
        assert "context_management" not in sent
        assert "cache_control" not in json.dumps(sent)


def test_documents() -> None:
    parts = [
        {"type": "document", "title": "Plan", "source": {"type": "text", "media_type": "text/plain", "data": "Build."}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}},
        {"type": "text", "text": "Sum it up."},
    ]
    with line_to(OPENAI) as line:
        message(line.ask(messages=[{"role": "user", "content": parts}]), stream=False)
        (sent,) = line.heard()["messages"]
        assert [part["type"] for part in sent["content"]] == ["text", "text", "file", "text"]
        assert sent["content"][2]["file"]["file_data"] == "data:application/pdf;base64,JVBERi0="


def test_bedrocks_claude_gets_its_thoughts_marks_and_failures_back() -> None:
    with BedrockUpstream() as upstream:
        client = create_app(Settings.load(environment(**QUIET, **upstream.settings))).test_client()
        upstream.enqueue(Turn(texts=["Hello"]))
        past = [dict(each) for each in AFTERWARDS]
        thought = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
        past[1] = {"role": "assistant", "content": [thought, *past[1]["content"]]}
        body = read.ask_body(system=SYSTEM, messages=past, tools=[WEATHER, TIME], max_tokens=4000, stream=True)
        thinking = {"type": "enabled", "budget_tokens": 2048}
        asked = {**body, "model": HAIKU, "provider": "bedrock-models", "thinking": thinking}
        response = client.post("/v1/messages", json=asked, buffered=True)
        assert read.text(message(response, stream=True)) == "Hello"
        sent = json.loads(upstream.received[-1].body)
        assert sent["additionalModelRequestFields"]["thinking"]["type"] == "enabled"
        assert sent["messages"][1]["content"][0]["reasoningContent"]["reasoningText"]["signature"] == "c2ln"
        results = [block["toolResult"] for block in sent["messages"][2]["content"] if "toolResult" in block]
        assert [each.get("status") for each in results] == [None, "error"]
        assert {"cachePoint": {"type": "default"}} in sent["system"]


@pytest.mark.parametrize("model", [HAIKU, NOVA])
def test_bedrock_counts_for_models_that_it_counts_for(model: str) -> None:
    with BedrockUpstream() as upstream:
        client = create_app(Settings.load(environment(**QUIET, **upstream.settings))).test_client()
        asked = {"model": model, "messages": [{"role": "user", "content": "hi"}], "provider": "bedrock-models"}
        response = client.post("/v1/messages/count_tokens", json={**asked, "tools": [WEATHER]})
        count = read.count(response.data)
        assert count == COUNTED if model == HAIKU else 40 < count < 60


def test_gemini_counts_too() -> None:
    with GeminiUpstream() as upstream:
        settings = {"GEMINI_API_KEY": upstream.key, "GEMINI_BASE_URL": upstream.base_url}
        client = create_app(Settings.load(environment(**QUIET, **settings))).test_client()
        asked = {
            "model": "gemini-2.5-flash",
            "messages": [{"role": "user", "content": "hi"}],
            "provider": "gemini",
            "system": "Be brief.",
        }
        response = client.post("/v1/messages/count_tokens", json={**asked, "tools": [WEATHER]})
        assert read.count(response.data) == GEMINI_COUNTED
        upstream.always(ScriptedAnswer(status=400), path="countTokens")
        estimate = client.post("/v1/messages/count_tokens", json={**asked, "tools": [WEATHER]})
        assert 20 < read.count(estimate.data) < 90


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/messages", 405), ("POST", "/v1/messages/batches", 404)]
)
def test_what_is_not_there_is_an_error_of_this_dialect(method: str, path: str, status: int) -> None:
    client = create_app(Settings.load(environment(**QUIET))).test_client()
    response = client.open(path, method=method)
    assert response.status_code == status
    assert (response.json["type"], "type" in response.json["error"]) == ("error", True)


def test_a_pattern_of_models_leads_where_the_file_says(tmp_path: Any) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(
        "models:\n"
        "  - {name: quick, provider: openai, model: gpt-4o-mini, aliases: ['claude-*', 'claude-haiku-*']}\n"
        "  - {name: claude-opus-4-8, provider: openai, model: gpt-5.2}\n"
    )
    with line_to(OPENAI, MODELS_FILE=file) as line:
        for name, wanted in (("claude-sonnet-5", "gpt-4o-mini"), ("claude-opus-4-8", "gpt-5.2")):
            body = {**read.ask_body(), "model": name}
            assert line.client.post("/v1/messages", json=body).status_code == 200
            assert line.heard()["model"] == wanted
        listed = {row["id"] for row in line.client.get("/v1/models").get_json()["data"]}
        assert "claude-*" not in listed
    with line_to(OPENAI, MODEL_ALIASES="claude-*=gpt-4o-mini") as line:
        assert line.client.post("/v1/messages", json=read.ask_body()).status_code == 200
        assert line.heard()["model"] == "gpt-4o-mini"


def test_from_one_vendor_to_another_with_calls_and_thoughts() -> None:
    """A call of another vendor's, by an id that Anthropic does not take, and a thought that it has not signed."""
    with OpenAIUpstream() as first, AnthropicUpstream() as second:
        values = environment(**QUIET, **OPENAI.settings(first), **ANTHROPIC.settings(second))
        client = create_app(Settings.load(values)).test_client()
        past = [
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": ""},
                    {"type": "tool_use", "id": "functions.get_weather:0", "name": "get_weather", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "functions.get_weather:0", "content": "18"}],
            },
        ]
        for provider, model in (("openai", "gpt-4o-mini"), ("anthropic", "claude-haiku-4-5")):
            body = read.ask_body(messages=past, tools=[WEATHER]) | {"provider": provider, "model": model}
            response = client.post("/v1/messages", json=body)
            assert response.status_code == 200, response.data
