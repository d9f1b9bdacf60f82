"""What each vendor of OpenAI's shape refuses is not sent to it, and what it wants back is: rows of dialects.py."""

import json
import struct
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.context import CallContext
from core.requests import ChatRequest
from dispatch.sources import models_file
from dispatch.sources.models_file import CatalogueError
from providers.base import Provider, Target
from providers.openai_compatible.request import fit_call_id, to_upstream
from providers.openai_compatible.returned import Returned
from providers.vendors import VENDORS
from tests.emulators import OpenAIUpstream, ScriptedAnswer
from tests.emulators.answers import TEXTS
from tests.emulators.connection import Connection, Received
from tests.emulators.server import Server
from tests.emulators.strict_rows import DeepSeekUpstream, GroqUpstream, MistralUpstream
from tests.support.frames import completion, post, streamed_text

HI = [{"role": "user", "content": "hi"}]
ROWS = {row.name: row for row in VENDORS}
OPENAI_SHAPED = [row for row in VENDORS if row.kind == "openai_compatible" or row.openai_suffix]
LONG_ID = "call_" + "9f8e7d6c5b4a3928" * 12
CALL = {"id": "call_9f8e7d6c5b4a39281706f5e4", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}
WANDERED = [
    {"role": "developer", "content": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]},
    *HI,
    {
        "role": "assistant",
        "content": "a",
        "refusal": None,
        "annotations": [],
        "reasoning_content": "t",
        "reasoning_details": [{"type": "reasoning.text", "text": "t"}],
        "audio": None,
        "provider_specific_fields": {"x": 1},
        "tool_calls": [{**CALL, "index": 0, "extra_content": {"google": {"thought_signature": "s"}}}],
    },
    {"role": "tool", "tool_call_id": CALL["id"], "content": "noon", "name": "get_time"},
    {"role": "user", "content": "and now?", "name": "ada"},
]
"""A conversation that several vendors have had a part in: each left something of its own."""


class Named(Provider):
    """A name and nothing else."""

    def __init__(self, name: str) -> None:
        self.name = name


def upstream_body(vendor: str, model: str = "m", /, messages: Any = HI, **body: Any) -> dict[str, Any]:
    """What a row's upstream is sent."""
    row = ROWS[vendor]
    request = ChatRequest({"model": model, "messages": messages, **body}, model, stream=body.get("stream", False))
    return to_upstream(request, Target(Named(vendor), model, model), row)


STRICT: Mapping[str, set[str]] = {
    "openai": {"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "audio", "function_call"},
    "azure": {"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "audio", "function_call"},
    "groq": {"role", "content", "name", "tool_calls", "tool_call_id"},
    "gemini": {"role", "content", "name", "tool_calls", "tool_call_id"},
    "mistral": {"role", "content", "name", "tool_calls", "tool_call_id", "prefix"},
}


@pytest.mark.parametrize("vendor", STRICT)
def test_what_other_vendors_left_in_a_history_is_not_sent_on(vendor: str) -> None:
    """Each answers a 4xx to a key that it does not know."""
    messages = upstream_body(vendor, messages=WANDERED)["messages"]
    assert {key for message in messages for key in message} <= STRICT[vendor]
    assert "refusal" not in messages[2]
    (call,) = messages[2]["tool_calls"]
    assert set(call) - {"extra_content"} == {"id", "type", "function"}
    assert ("extra_content" in call) == (vendor == "gemini")
    assert "cache_control" not in json.dumps(messages)
    assert [message["content"] for message in messages[1:]] == ["hi", "a", "noon", "and now?"]
    assert call["id"] == messages[3]["tool_call_id"]


def test_a_refusal_is_content_where_there_is_no_such_key() -> None:
    refused = [*HI, {"role": "assistant", "content": None, "refusal": "I will not."}, *HI]
    assert upstream_body("mistral", messages=refused)["messages"][1] == {"role": "assistant", "content": "I will not."}
    assert upstream_body("openai", messages=refused)["messages"][1]["refusal"] == "I will not."


def test_mistral_takes_a_name_of_a_tool_alone() -> None:
    messages = upstream_body("mistral", messages=WANDERED)["messages"]
    assert "name" not in messages[4]
    assert messages[3]["name"] == "get_time"


@pytest.mark.parametrize("vendor", ["deepseek", "groq", "mistral", "together", "vllm", "ollama", "llamacpp", "gemini"])
def test_a_developer_is_the_system_where_there_is_none(vendor: str) -> None:
    assert upstream_body(vendor, messages=WANDERED)["messages"][0]["role"] == "system"


@pytest.mark.parametrize("vendor", ["openai", "azure", "openrouter"])
def test_a_developer_stays_one_where_there_are(vendor: str) -> None:
    assert upstream_body(vendor, messages=WANDERED)["messages"][0]["role"] == "developer"


def test_mistral_gets_no_parameter_that_it_refuses() -> None:
    body = {"max_completion_tokens": 50, "store": False, "metadata": {"a": "b"}, "seed": 7, "temperature": 0.3}
    sent_body = upstream_body("mistral", **body, stream=True, stream_options={"include_usage": True}, guardrails=[])
    assert set(sent_body) == {"model", "messages", "max_tokens", "random_seed", "temperature", "stream", "guardrails"}
    assert (sent_body["max_tokens"], sent_body["random_seed"]) == (50, 7)


@pytest.mark.parametrize(
    ("vendor", "model", "given", "name"),
    [
        ("deepseek", "deepseek-v4-flash", "max_completion_tokens", "max_tokens"),
        ("mistral", "m", "max_completion_tokens", "max_tokens"),
        ("openai", "gpt-5-mini", "max_tokens", "max_completion_tokens"),
        ("openai", "o4-mini-2025-04-16", "max_tokens", "max_completion_tokens"),
        ("openai", "gpt-5.2", "max_tokens", "max_completion_tokens"),
        ("openai", "gpt-4o-mini", "max_tokens", "max_tokens"),
        ("openai", "gpt-4o-mini", "max_completion_tokens", "max_completion_tokens"),
    ],
)
def test_the_cap_has_the_name_that_is_known_there(vendor: str, model: str, given: str, name: str) -> None:
    sent_body = upstream_body(vendor, model, **{given: 40})
    assert {key: value for key, value in sent_body.items() if "tokens" in key} == {name: 40}


def test_of_two_caps_the_newer_one_counts() -> None:
    assert upstream_body("mistral", max_tokens=9, max_completion_tokens=5)["max_tokens"] == 5
    assert upstream_body("openai", "gpt-5", max_tokens=9, max_completion_tokens=5)["max_completion_tokens"] == 5


def test_models_that_think_first_get_no_sampling() -> None:
    sent_body = upstream_body(
        "openai", "gpt-5-mini", max_tokens=50, temperature=0.7, top_p=0.9, presence_penalty=1, seed=1
    )
    assert set(sent_body) == {"model", "messages", "max_completion_tokens", "seed"}
    assert upstream_body("openai", "gpt-5-chat-latest", temperature=0.7)["temperature"] == 0.7
    assert upstream_body("openai", "gpt-4o", temperature=0.7)["temperature"] == 0.7


# the ids of calls


IDS = ["call_9f8e7d6c5b4a39281706f5e4", "call_9f8e7d6c5b4a39281706f5e5", LONG_ID, f"{LONG_ID}x", "a b", "é", "x" * 41]


@pytest.mark.parametrize("vendor", ["mistral", "openai", "azure"])
def test_ids_of_calls_are_made_to_fit_and_stay_different(vendor: str) -> None:
    calls = [{**CALL, "id": each} for each in IDS]
    results = [{"role": "tool", "tool_call_id": each, "content": "x"} for each in IDS]
    messages = upstream_body(
        vendor, messages=[*HI, {"role": "assistant", "content": None, "tool_calls": calls}, *results]
    )["messages"]
    made = [call["id"] for call in messages[1]["tool_calls"]]
    assert made == [message["tool_call_id"] for message in messages[2:]]
    assert len(set(made)) == len(IDS)
    if vendor == "mistral":
        assert all(len(each) == 9 and each.isascii() and each.isalnum() for each in made)
    else:
        assert all(0 < len(each) <= 40 for each in made)
        assert made[0] == IDS[0]


def test_an_id_that_fits_is_left_as_it_is() -> None:
    assert fit_call_id("aB3dE6gH9", "[a-zA-Z0-9]{9}") == "aB3dE6gH9"
    assert fit_call_id("anything", "") == "anything"
    assert fit_call_id("anything", "never[.]") == "anything"


def test_what_is_past_is_mended_for_every_row() -> None:
    """A call without a result, as voice frameworks leave it, is a 400 everywhere."""
    cut = [*HI, {"role": "assistant", "content": None, "tool_calls": [CALL]}, *HI]
    for row in OPENAI_SHAPED:
        roles = [message["role"] for message in upstream_body(row.name, messages=cut)["messages"]]
        assert roles == ["user", "assistant", "tool", "user"], row.name


def test_legacy_functions_are_tools_where_there_are_none() -> None:
    asked = {"functions": [{"name": "f"}], "function_call": {"name": "f"}}
    history = [
        *HI,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "x"},
    ]
    assert upstream_body("deepseek", messages=history)["messages"][2]["role"] == "tool"
    sent_body = upstream_body("mistral", messages=history, **asked)
    assert sent_body["tools"] == [{"type": "function", "function": {"name": "f"}}]
    assert sent_body["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert not {"functions", "function_call"} & sent_body.keys()
    assert sent_body["messages"][1]["tool_calls"][0]["id"] == sent_body["messages"][2]["tool_call_id"]
    assert set(upstream_body("together", messages=history, **asked)) >= {"functions", "function_call"}


def test_a_good_body_is_sent_as_it_came() -> None:
    messages = [{"role": "system", "content": "s"}, *HI, {"role": "assistant", "content": "a"}, *HI]
    for row in OPENAI_SHAPED:
        assert upstream_body(row.name, messages=messages)["messages"] == messages


# what a vendor wants back


@dataclass(frozen=True)
class Wants:
    """A vendor that wants something back: where it stands in its answer, and in the next request."""

    settings: Callable[[OpenAIUpstream], Mapping[str, str]]
    provider: str
    whole: Mapping[str, Any]
    deltas: tuple[Mapping[str, Any], ...]
    key: str
    value: Any


SIGNED = {"google": {"thought_signature": "c2lnbmF0dXJl"}}
DETAILS = [
    {"type": "reasoning.text", "text": "I should call it.", "index": 0, "format": "x", "signature": "s"},
    {"type": "reasoning.encrypted", "data": "abc", "index": 1},
]
FIRST = {**DETAILS[0], "text": "I should"}
WANTS = {
    "deepseek": Wants(
        lambda upstream: {"DEEPSEEK_API_KEY": upstream.key, "DEEPSEEK_BASE_URL": upstream.base_url},
        "deepseek",
        {"content": "Let me look", "reasoning_content": "I should call it.", "tool_calls": [CALL]},
        (
            {"role": "assistant", "content": None, "reasoning_content": ""},
            {"reasoning_content": "I should"},
            {"reasoning_content": " call it."},
            {"content": "Let me look", "reasoning_content": None},
            {"tool_calls": [{"index": 0, **CALL}]},
        ),
        "reasoning_content",
        "I should call it.",
    ),
    "openrouter": Wants(
        lambda upstream: {"OPENROUTER_API_KEY": upstream.key, "OPENROUTER_BASE_URL": upstream.base_url},
        "openrouter",
        {"content": None, "reasoning_details": DETAILS, "tool_calls": [CALL]},
        (
            {"role": "assistant", "content": "", "reasoning_details": [{**FIRST, "signature": None}]},
            {"content": "", "reasoning_details": [{**DETAILS[0], "text": " call it."}]},
            {"content": "", "reasoning_details": [DETAILS[1]]},
            {"tool_calls": [{"index": 0, **CALL}]},
        ),
        "reasoning_details",
        DETAILS,
    ),
    "gemini": Wants(
        lambda upstream: {"GEMINI_API_KEY": upstream.key, "GEMINI_BASE_URL": f"{upstream.url}/v1beta/openai"},
        "gemini",
        {"content": None, "tool_calls": [{**CALL, "extra_content": SIGNED}]},
        ({"role": "assistant", "tool_calls": [{"index": 0, **CALL, "extra_content": SIGNED}]},),
        "tool_calls",
        [{**CALL, "extra_content": SIGNED}],
    ),
}


def answer_of(kind: str, data: str, status: str = "200 OK") -> bytes:
    """A whole response."""
    raw = data.encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw


@contextmanager
def playing(wants: Wants) -> Iterator[Any]:
    """A vendor that calls once, and then answers, and keeps what it was sent."""

    def handle(connection: Connection, received: Received) -> None:
        body = json.loads(received.body)
        envelope = {"id": "c1", "created": 1, "model": "m"}
        if any(message["role"] == "tool" for message in body["messages"]):
            message: Mapping[str, Any] = {"role": "assistant", "content": "It is noon.", "refusal": None}
            deltas: tuple[Mapping[str, Any], ...] = ({"role": "assistant", "content": "It is noon."},)
            finish = "stop"
        else:
            message, deltas, finish = {"role": "assistant", **wants.whole}, wants.deltas, "tool_calls"
        if body.get("stream"):
            choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
            choices.append({"index": 0, "delta": {}, "finish_reason": finish})
            frames = [{**envelope, "object": "chat.completion.chunk", "choices": [choice]} for choice in choices]
            data = "".join(f"data: {json.dumps(frame)}\n\n" for frame in frames) + "data: [DONE]\n\n"
            kind = "text/event-stream"
        else:
            choice = {"index": 0, "message": message, "finish_reason": finish}
            kind, data = "application/json", json.dumps({**envelope, "object": "chat.completion", "choices": [choice]})
        connection.send(answer_of(kind, data))

    with Server(handle) as server:
        server.key, server.base_url = "k", f"{server.url}/v1"  # type: ignore[attr-defined]
        yield server


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("vendor", WANTS)
def test_what_a_vendor_wants_back_comes_back(app_with: Callable[..., Any], vendor: str, stream: bool) -> None:
    """The caller is told nothing of it, and sends nothing of it."""
    wants = WANTS[vendor]
    with playing(wants) as upstream:
        client = app_with(**wants.settings(upstream))
        body = {"model": "m", "provider": wants.provider, "messages": HI, "stream": stream}
        answer = client.post("/v1/chat/completions", json=body, buffered=True)
        assert answer.status_code == 200
        assert b"reasoning" not in answer.data
        assert b"extra_content" not in answer.data
        turn = [{"role": "assistant", "content": None, "tool_calls": [CALL]}]
        turn += [{"role": "tool", "tool_call_id": CALL["id"], "content": "noon"}]
        again = client.post("/v1/chat/completions", json={**body, "messages": [*HI, *turn]}, buffered=True)
        assert again.status_code == 200
        sent_body = json.loads(upstream.received[-1].body)
    assert sent_body["messages"][1][wants.key] == wants.value
    assert "thinking" not in sent_body


def test_what_is_lost_has_a_stand_in() -> None:
    """DeepSeek answers a 400 to a call without reasoning_content while it thinks: it is then asked not to think."""
    row = ROWS["deepseek"]
    turn = [*HI, {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    turn += [{"role": "tool", "tool_call_id": CALL["id"], "content": "noon"}]
    returned = Returned(row.dialect, CallContext(), Target(Named("deepseek"), "deepseek-v4-flash"))
    body = returned.put_back({"messages": turn})
    assert body["messages"][1]["reasoning_content"] == ""
    assert body["thinking"] == {"type": "disabled"}
    assert returned.put_back({"messages": turn, "thinking": {"type": "enabled"}})["thinking"] == {"type": "enabled"}
    assert "thinking" not in returned.put_back({"messages": HI})
    for model, stands in (("gemini-3-flash-preview", True), ("gemini-2.5-flash", False)):
        google = Returned(ROWS["gemini"].dialect, CallContext(), Target(Named("gemini"), model))
        assert ("extra_content" in google.put_back({"messages": turn})["messages"][1]["tool_calls"][0]) is stands


def test_what_a_caller_brings_back_goes_before_what_is_kept(app_with: Callable[..., Any]) -> None:
    """A client that was given `reasoning_content`, by include_reasoning, sends it back as it came."""
    wants = WANTS["deepseek"]
    with playing(wants) as upstream:
        client = app_with(**wants.settings(upstream))
        turn = [{"role": "assistant", "content": None, "reasoning_content": "mine", "tool_calls": [CALL]}]
        turn += [{"role": "tool", "tool_call_id": CALL["id"], "content": "noon"}]
        client.post("/v1/chat/completions", json={"model": "m", "messages": [*HI, *turn]})
        assert json.loads(upstream.received[-1].body)["messages"][1]["reasoning_content"] == "mine"


def test_a_call_without_an_id_is_given_one_by_which_it_is_found(app_with: Callable[..., Any]) -> None:
    unnamed = {key: value for key, value in CALL.items() if key != "id"}
    wants = WANTS["gemini"]
    without = Wants(
        wants.settings,
        "gemini",
        {"content": None, "tool_calls": [{**unnamed, "extra_content": SIGNED}]},
        ({"role": "assistant", "tool_calls": [{"index": 0, **unnamed, "extra_content": SIGNED}]},),
        "tool_calls",
        [],
    )
    with playing(without) as upstream:
        client = app_with(**without.settings(upstream))
        body = {"model": "m", "provider": "gemini", "messages": HI}
        message = completion(client.post("/v1/chat/completions", json=body).data)["choices"][0]["message"]
        (call,) = message["tool_calls"]
        turn = [message, {"role": "tool", "tool_call_id": call["id"], "content": "noon"}]
        client.post("/v1/chat/completions", json={**body, "messages": [*HI, *turn]})
        (tool_call,) = json.loads(upstream.received[-1].body)["messages"][1]["tool_calls"]
    assert tool_call["extra_content"] == SIGNED


# endpoints that a vendor does not have


ENDPOINTS: Mapping[str, dict[str, Any]] = {
    "rerank": {"query": "q", "documents": ["d"]},
    "moderations": {"input": "a"},
    "embeddings": {"input": "a"},
    "images/generations": {"prompt": "p"},
}


@pytest.mark.parametrize(
    ("provider", "path"),
    [
        ("openai", "rerank"),
        ("demo", "moderations"),
        *((provider, path) for provider in ("deepseek", "groq", "anthropic") for path in ENDPOINTS),
    ],
)
def test_an_endpoint_that_a_vendor_lacks_is_a_400_of_ours(
    app_with: Callable[..., Any], upstream: OpenAIUpstream, provider: str, path: str
) -> None:
    names = ("OPENAI", "DEEPSEEK", "GROQ", "ANTHROPIC")
    settings = {f"{name}_API_KEY": "k" for name in names} | {f"{name}_BASE_URL": upstream.base_url for name in names}
    response = app_with(**settings).post(f"/v1/{path}", json={**ENDPOINTS[path], "provider": provider})
    error = response.get_json()["error"]
    assert (response.status_code, error["code"]) == (400, "unsupported_value")
    assert provider in error["message"]
    assert not upstream.received


def test_the_answer_of_a_moderation_passes(app_with: Callable[..., Any]) -> None:
    judged = {"id": "modr-1", "model": "omni", "results": [{"flagged": False, "categories": {}, "category_scores": {}}]}

    def handle(connection: Connection, received: Received) -> None:
        assert received.path == "/v1/moderations"
        connection.send(answer_of("application/json", json.dumps(judged)))

    with Server(handle) as server:
        client = app_with(OPENAI_API_KEY="k", OPENAI_BASE_URL=f"{server.url}/v1")
        parts = [{"type": "text", "text": "a"}]
        assert client.post("/v1/moderations", json={"input": parts, "model": "omni"}).get_json() == judged
        assert json.loads(server.received[-1].body) == {"input": parts, "model": "omni"}
        client.post("/v1/moderations", json={"input": "a"})
        assert json.loads(server.received[-1].body) == {"input": "a"}


# the older endpoint, and other paths


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_text_completion_is_a_chat_of_one_message(
    app_with: Callable[..., Any], upstream: OpenAIUpstream, stream: bool
) -> None:
    client = app_with(**upstream.settings())
    asked = {"model": "gpt-4o-mini", "prompt": "Say: hi", "max_tokens": 9, "best_of": 1, "echo": False}
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    response = client.post("/v1/completions", json={**asked, **options}, buffered=True)
    sent_body = upstream.received[-1].json
    assert sent_body["messages"] == [{"role": "user", "content": "Say: hi"}]
    assert (sent_body["max_tokens"], "prompt" in sent_body, "best_of" in sent_body) == (9, False, False)
    if not stream:
        body = response.get_json()
        assert body["object"] == "text_completion"
        assert body["choices"] == [{"text": "".join(TEXTS), "index": 0, "logprobs": None, "finish_reason": "stop"}]
        assert body["usage"]["total_tokens"] == 33
        return
    data = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    chunks = [json.loads(each) for each in data]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert "".join(choice["text"] for chunk in chunks for choice in chunk["choices"]) == "".join(TEXTS)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]][-1] == "stop"
    assert chunks[-1]["usage"]["total_tokens"] == 33
    assert len({chunk["id"] for chunk in chunks}) == 1


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_the_openai_package_reads_text_completions(
    serve: Callable[..., Any], upstream: OpenAIUpstream, stream: bool
) -> None:
    client = serve(**upstream.settings()).client()
    answer = client.completions.create(model="gpt-4o-mini", prompt="hi", stream=stream)
    pieces = [chunk.choices[0].text for chunk in answer] if stream else [answer.choices[0].text]
    assert "".join(pieces) == "".join(TEXTS)


@pytest.mark.parametrize("body", [{"suffix": "x"}, {"logprobs": 1}, {"echo": True}])
def test_what_a_chat_cannot_give_is_refused(app_with: Callable[..., Any], body: dict[str, Any]) -> None:
    response = app_with().post("/v1/completions", json={"prompt": "p", **body})
    assert response.status_code == 400
    assert response.get_json()["error"]["param"] in body


@pytest.mark.parametrize("path", ["/api/chat", "/api/tags", "/api/generate", "/api/v2/x"])
def test_ollamas_clients_read_a_sentence(app_with: Callable[..., Any], path: str) -> None:
    for method in ("get", "post"):
        response = getattr(app_with(), method)(path)
        assert response.status_code == 404
        assert response.get_json()["error"].startswith("There is nothing at this path.")


def test_openrouters_paths_answer(app_with: Callable[..., Any]) -> None:
    client = app_with()
    assert client.post("/api/v1/chat/completions", json={"messages": HI}).status_code == 200
    assert client.get("/api/v1/models").status_code == 200
    assert set(client.get("/api/v1/nothing").get_json()["error"]) == {"message", "type", "param", "code"}


def test_telnyx_own_keys_go_no_further(serve: Callable[..., Any], upstream: OpenAIUpstream) -> None:
    app = serve(TOGETHER_API_KEY=upstream.key, TOGETHER_BASE_URL=upstream.base_url)
    upstream.always(ScriptedAnswer())
    body = {"model": "gpt-4o-mini", "messages": HI, "stream": True, "extra_metadata": {"telnyx_agent_target": "+1"}}
    assert streamed_text(post(app.port, body)[2]) == "".join(TEXTS)
    assert "extra_metadata" not in upstream.received[-1].json


# the vendors themselves, as strict as they are


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_conversation_wanders_between_strict_vendors(app_with: Callable[..., Any], stream: bool) -> None:
    """Each turn is answered by another: what one has left in the history, none of the others refuses."""
    settings: dict[str, str] = {}
    with ExitStack() as stack:
        kinds = {
            "MISTRAL": MistralUpstream,
            "DEEPSEEK": DeepSeekUpstream,
            "GROQ": GroqUpstream,
            "OPENAI": OpenAIUpstream,
        }
        upstreams = {name: stack.enter_context(kind()) for name, kind in kinds.items()}
        for name, upstream in upstreams.items():
            settings |= {f"{name}_API_KEY": upstream.key, f"{name}_BASE_URL": upstream.base_url}
            upstream.always(ScriptedAnswer(reasoning=["I should call it."] if name == "DEEPSEEK" else ()))
        client = app_with(RETRIES=0, REFUSED_PARAMETER_TTL=0, **settings)
        messages: list[dict[str, Any]] = [*WANDERED]
        asked = {"temperature": 0.7, "max_tokens": 50, "seed": 1, "store": False, "metadata": {"a": "b"}, "user": "u"}
        for number, provider in enumerate(("mistral", "deepseek", "groq", "openai") * 3):
            called = f"{LONG_ID}_{number}"
            reasoning = ["I should call it."] if provider == "deepseek" else []
            upstreams[provider.upper()].enqueue(
                ScriptedAnswer(reasoning=reasoning, calls=[(called, "get_time", ["{}"])])
            )
            for _ in range(2):
                model = "gpt-5-mini" if provider == "openai" else "m"
                body = {"model": model, "provider": provider, "messages": messages, "include_reasoning": True, **asked}
                response = client.post("/v1/chat/completions", json={**body, "stream": stream}, buffered=True)
                assert response.status_code == 200, (provider, response.data)
                if messages[-1]["role"] == "tool":
                    break
                use = {**CALL, "id": called}
                said_with = {"reasoning_content": "I should call it."} if number % 2 else {}
                messages += [
                    {"role": "assistant", "content": None, "tool_calls": [use], "annotations": [], **said_with}
                ]
                messages += [{"role": "tool", "tool_call_id": called, "content": "noon"}]
            messages += [{"role": "assistant", "content": "noon", "refusal": None}, {"role": "user", "content": "and?"}]


OWN = """
providers:
  lab:
    base_url: URL/v1
    refuses: [store, metadata]
    names: {max_completion_tokens: max_tokens, seed: random_seed}
    message_keys: [tool_calls, tool_call_id]
    roles: {developer: system, function: tool}
    call_ids: "[a-z0-9]{6,12}"
    returned: {reasoning_content: ""}
    lacks: [rerank]
  second:
    vendor: mistral
    base_url: URL/v1
    api_key: k2
models:
  - {name: mine, provider: lab, model: m}
"""


def test_models_yaml_says_the_same_of_a_server_of_ones_own(app_with: Callable[..., Any], tmp_path: Path) -> None:
    with playing(WANTS["deepseek"]) as upstream:
        file = tmp_path / "models.yaml"
        file.write_text(OWN.replace("URL", upstream.url))
        client = app_with(MODELS_FILE=file)
        body = {"messages": WANDERED, "store": False, "metadata": {"a": "b"}, "max_completion_tokens": 5, "seed": 1}
        assert client.post("/v1/chat/completions", json={**body, "model": "mine"}).status_code == 200
        sent_body = json.loads(upstream.received[-1].body)
        assert {key: value for key, value in sent_body.items() if key != "messages"} == {
            "model": "m",
            "max_tokens": 5,
            "random_seed": 1,
        }
        assert sent_body["messages"][0]["role"] == "system"
        assert set(sent_body["messages"][2]) == {"role", "content", "tool_calls"}
        assert 6 <= len(sent_body["messages"][2]["tool_calls"][0]["id"]) <= 12
        assert client.post("/v1/rerank", json={**ENDPOINTS["rerank"], "model": "mine"}).status_code == 400
        assert client.post("/v1/chat/completions", json={**body, "model": "second/m"}).status_code == 200
        assert "store" not in json.loads(upstream.received[-1].body)
        assert upstream.received[-1].headers["Authorization"] == "Bearer k2"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('providers: {lab: {base_url: "http://h/v1", call_ids: "[a-z"}}', "regular expression"),
        ('providers: {lab: {base_url: "http://h/v1", vendor: nobody}}', "no vendor 'nobody'"),
        ('providers: {lab: {base_url: "http://h/v1", lacks: [everything]}}', "one of"),
    ],
)
def test_what_makes_no_sense_there_stops_the_start(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(text)
    with pytest.raises(CatalogueError, match=f"(?i)line 1: .*{says}"):
        models_file.read(file, {})


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_base64_is_encoded_here(app_with: Callable[..., Any], encoding: str) -> None:
    """Many servers have no base64, and OpenAI's clients ask for it unasked."""

    def handle(connection: Connection, received: Received) -> None:
        if json.loads(received.body).get("encoding_format", "float") != "float":
            error = {"error": {"message": "encoding_format: only float is supported", "type": "invalid_request_error"}}
            connection.send(answer_of("application/json", json.dumps(error), "400 No"))
            return
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        connection.send(answer_of("application/json", json.dumps({"data": data, "model": "e", "usage": usage})))

    with Server(handle) as server:
        client = app_with(VLLM_BASE_URL=server.url)
        response = client.post("/v1/embeddings", json={"model": "e", "input": "a", "encoding_format": encoding})
    found = response.get_json()["data"][0]["embedding"]
    assert (list(struct.unpack("<2f", b64decode(found))) if encoding == "base64" else found) == [0.5, -0.25]


@pytest.mark.parametrize("provider", ["anthropic", "gemini", "cohere", "bedrock-models"])
def test_what_cannot_be_done_says_where(app_with: Callable[..., Any], provider: str) -> None:
    keys = {f"{name}_API_KEY": "k" for name in ("ANTHROPIC", "GEMINI", "COHERE")}
    aws = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-central-1"}
    part = {"type": "no_such_part", "text": "x"}
    body = {"provider": provider, "messages": [{"role": "user", "content": [part]}]}
    error = app_with(**keys, **aws).post("/v1/chat/completions", json=body).get_json()["error"]
    assert error["code"] == "unsupported_value"
    assert provider.partition("-")[0] in error["message"].lower()
    assert " there" not in error["message"]
