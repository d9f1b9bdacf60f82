"""What a caller of /v1/responses sends, as the chat that it means."""

import json
from typing import Any

import pytest

from core.errors import GatewayError, InvalidRequest
from core.requests import ChatRequest, NativeBody
from schemas.limits import Limits
from schemas.responses.request import Chat, load_responses, to_chat

FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": None}


def load_request(body: dict[str, Any], before: list[dict[str, Any]] | None = None, **options: Any) -> Chat:
    asked = load_responses(json.dumps({"input": "hi", **body}).encode())
    return to_chat(asked, NativeBody(asked.body), before or [], **options)


def chat(body: dict[str, Any], **options: Any) -> ChatRequest:
    return load_request(body, **options).request


@pytest.mark.parametrize(
    ("items", "messages"),
    [
        ("hi", [{"role": "user", "content": "hi"}]),
        ([{"role": "developer", "content": "Be kind."}], [{"role": "developer", "content": "Be kind."}]),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
            [{"role": "user", "content": "hi"}],
        ),
        (
            [{"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "phase": "commentary",
              "content": [{"type": "output_text", "text": "Hm.", "annotations": [], "logprobs": []}]}],
            [{"role": "assistant", "content": "Hm."}],
        ),
        (
            [{"role": "user", "content": [
                {"type": "input_text", "text": "Look."},
                {"type": "input_image", "image_url": "https://a.example/b.png", "detail": "low"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}]}],
            [{"role": "user", "content": [
                {"type": "text", "text": "Look."},
                {"type": "image_url", "image_url": {"url": "https://a.example/b.png", "detail": "low"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}]}],
        ),
        (
            [
                {"role": "assistant", "content": "Let me look."},
                {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "..."},
                {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "arguments": "{}"},
                {"type": "function_call", "call_id": "b", "name": "g", "arguments": '{"x": 1}'},
                {"type": "function_call_output", "call_id": "a", "output": "one"},
                {"type": "function_call_output", "call_id": "b", "output": [
                    {"type": "input_text", "text": "two"}, {"type": "input_image", "image_url": "https://a.example/b"}]},
            ],
            [
                {"role": "assistant", "content": "Let me look.", "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "b", "type": "function", "function": {"name": "g", "arguments": '{"x": 1}'}}]},
                {"role": "tool", "tool_call_id": "a", "content": "one"},
                {"role": "tool", "tool_call_id": "b", "content": "two"},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.example/b"}}]},
            ],
        ),
        (
            [
                {"role": "user", "content": "Patch it."},
                {"type": "custom_tool_call", "call_id": "a", "name": "patch", "input": "*** Begin"},
                {"type": "custom_tool_call_output", "call_id": "a", "output": "done"},
            ],
            [
                {"role": "user", "content": "Patch it."},
                {"role": "assistant", "content": None, "tool_calls": [
                    {"id": "a", "type": "function",
                     "function": {"name": "patch", "arguments": '{"input":"*** Begin"}'}}]},
                {"role": "tool", "tool_call_id": "a", "content": "done"},
            ],
        ),
    ],
)  # fmt: skip
def test_items_are_messages(items: Any, messages: list[dict[str, Any]]) -> None:
    assert chat({"input": items}).messages == messages


def test_parameters_have_a_chats_names() -> None:
    asked = chat({
        "model": "m", "instructions": "Be brief.", "max_output_tokens": 9, "temperature": 0.5, "top_p": 0.9,
        "reasoning": {"effort": "low", "summary": "auto"}, "metadata": {"a": "b"}, "store": False, "truncation": "auto",
        "text": {"format": {"type": "json_schema", "name": "p", "schema": {}, "strict": True}, "verbosity": "low"},
        "include": ["message.output_text.logprobs", "reasoning.encrypted_content"], "top_logprobs": 2, "user": "u",
        "service_tier": "flex", "prompt_cache_key": "k", "safety_identifier": "s", "stream": True, "brand_new": 1,
        "stream_options": {"include_obfuscation": False}, "provider": "demo", "max_tool_calls": 3,
    })  # fmt: skip
    assert asked.body == {
        "model": "m", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "reasoning_effort": "low", "verbosity": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": {}, "strict": True}},
        "logprobs": True, "top_logprobs": 2, "user": "u", "service_tier": "flex", "prompt_cache_key": "k",
        "safety_identifier": "s", "stream": True, "brand_new": 1,
    }  # fmt: skip
    assert (asked.provider, asked.stream, asked.include_reasoning) == ("demo", True, True)


def test_nulls_are_keys_left_out() -> None:
    """Clients send them for whatever was not set."""
    nulls = dict.fromkeys(
        ["instructions", "tools", "tool_choice", "text", "reasoning", "metadata", "previous_response_id", "store"]
    )
    assert chat(nulls).body == {"messages": [{"role": "user", "content": "hi"}]}
    assert chat({"text": {"format": None, "verbosity": None}, "reasoning": {"effort": None}}).body.keys() == {
        "messages"
    }


def test_tools_are_functions() -> None:
    asked = chat({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": False})
    assert asked.body["tools"] == [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    assert asked.body["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert asked.body["parallel_tool_calls"] is False


def test_allowed_tools_leave_the_others_out() -> None:
    """Hardly any upstream knows them by that name."""
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]}
    body = chat({"tools": [FUNCTION, {**FUNCTION, "name": "g"}], "tool_choice": choice}).body
    assert ([tool["function"]["name"] for tool in body["tools"]], body["tool_choice"]) == (["g"], "required")


def test_a_choice_without_tools_is_left_out() -> None:
    """OpenAI refuses it."""
    assert chat({"tool_choice": "auto", "parallel_tool_calls": True}).body.keys() == {"messages"}


def test_tools_of_a_namespace_are_functions_with_its_name() -> None:
    inner = [{"type": "function", "name": "look_up"}, {"type": "custom", "name": "n" * 60, "description": "Notes."}]
    tools = [{"type": "namespace", "name": "crm", "description": "Customers.", "tools": inner}]
    call = {"type": "function_call", "call_id": "a", "name": "look_up", "namespace": "crm", "arguments": "{}"}
    answered = [call, {"type": "function_call_output", "call_id": "a", "output": "Ann"}]
    choice = {"type": "function", "name": "look_up", "namespace": "crm"}
    asked = {"input": [{"role": "user", "content": "Who?"}, *answered], "tools": tools, "tool_choice": choice}
    body = chat(asked).body
    first, second = (tool["function"] for tool in body["tools"])
    assert (first["name"], first["description"]) == ("crm__look_up", "Customers.")
    assert second["description"] == "Notes."
    assert second["name"].startswith("crm__nnn")
    assert len(second["name"]) == 64
    assert body["messages"][1]["tool_calls"][0]["function"]["name"] == "crm__look_up"
    assert body["tool_choice"]["function"]["name"] == "crm__look_up"


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "namespace", "tools": []}, "tools[0].name"),
        ({"type": "namespace", "name": "crm"}, "tools[0].tools"),
        ({"type": "namespace", "name": "crm", "tools": [1]}, "tools[0].tools"),
        ({"type": "namespace", "name": "crm", "tools": [{"type": "function"}]}, "tools[0].tools[0].name"),
    ],
)
def test_a_wrong_namespace_is_named(tool: Any, param: str) -> None:
    with pytest.raises(GatewayError) as wrong:
        chat({"tools": [tool]})
    assert wrong.value.param == param


def test_a_custom_tool_is_a_function_of_a_text() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}
    tool = {"type": "custom", "name": "patch", "description": "Edits.", "format": grammar}
    (made,) = chat({"tools": [tool]}).body["tools"]
    assert made["function"]["parameters"]["required"] == ["input"]
    assert "start: WORD" in json.dumps(made)


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ("messages[0].content", "instructions.content"),
        ("messages[2].content[1]", "input[0].content[1]"),
        ("max_tokens", "max_output_tokens"),
        ("response_format.json_schema", "text.format.json_schema"),
        ("tools[0].function.name", "tools[0].function.name"),
        (None, None),
    ],
)
def test_a_field_of_the_chat_is_named_as_its_caller_sent_it(field: str | None, named: str | None) -> None:
    before = [{"type": "message", "role": "user", "content": "One."}]
    assert load_request({"instructions": "Be brief."}, before).field(field) == named


@pytest.mark.parametrize("items", ["input", "tools"])
def test_lists_have_their_limits(items: str) -> None:
    each = {"input": {"role": "user", "content": "hi"}, "tools": FUNCTION}[items]
    raw = json.dumps({"input": "hi", items: [each] * 4}).encode()
    with pytest.raises(InvalidRequest) as wrong:
        load_responses(raw, limits=Limits(messages=3, items=3))
    assert wrong.value.param == items


@pytest.mark.parametrize("role", [[], {}, 1, None, "narrator"])
def test_a_role_that_is_none_is_named(role: Any) -> None:
    """A list for a role was a fault of our own once."""
    with pytest.raises(InvalidRequest) as caught:
        chat({"input": [{"role": role, "content": "hi"}]})
    assert caught.value.param in ("input[0].role", "input[0].type")
