"""Rows of agents and think endpoints that have OpenAI's shape, each as strict as its page says."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.emulators import Connection, Received, Server
from tests.support.frames import completion, streamed_text

FIELDS = {"model", "messages", "stream", "temperature", "max_tokens", "tools", "tool_choice", "reasoning_effort"}
"""https://developers.deepgram.com/docs/llm/request-response-format: eight, and no other."""
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "think-fast"}
TOOL = {
    "type": "function",
    "function": {"name": "end_call", "description": "Ends it.", "parameters": {"type": "object"}},
}


class Think(Server):
    """Deepgram's /v1/think."""

    def __init__(self) -> None:
        super().__init__(self._answer_to)

    def _answer_to(self, connection: Connection, received: Received) -> None:
        status, body = self._judged(received)
        kind = "text/event-stream" if status == 200 and received.json.get("stream") else "application/json"
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.send(head.encode() + body)

    def _judged(self, received: Received) -> tuple[int, bytes]:
        if (received.method, received.path) != ("POST", "/v1/think"):
            return 404, b"{}"
        if received.headers.get("Authorization") != "Token dg-key":
            return 401, b'{"err_code": "INVALID_AUTH", "err_msg": "Invalid credentials."}'
        asked = received.json
        plain = all(isinstance(message.get("content"), str | None) for message in asked["messages"])
        if asked.keys() - FIELDS or not plain or {each["role"] for each in asked["messages"]} & {"developer"}:
            return 400, json.dumps({"error": {"message": "unknown field or content", "type": "invalid"}}).encode()
        message: dict[str, Any] = {"role": "assistant", "content": "Hello."}
        if not asked.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return 200, json.dumps({**CHUNK, "object": "chat.completion", "choices": [choice]}).encode()
        frames = [
            {"index": 0, "delta": message, "finish_reason": None},
            {"index": 0, "delta": {}, "finish_reason": "stop"},
        ]
        lines = [f"data: {json.dumps({**CHUNK, 'choices': [frame]})}\n\n" for frame in frames]
        return 200, "".join([*lines, "data: [DONE]\n\n"]).encode()


@pytest.fixture
def think() -> Iterator[Think]:
    with Think() as server:
        yield server


@pytest.mark.parametrize("address", ["/v1", "/v1/think", "/v1/think/"])
@pytest.mark.parametrize("stream", [True, False])
def test_deepgrams_think_endpoint_is_asked_as_it_wants(app_with: Any, think: Think, address: str, stream: bool) -> None:
    client = app_with(DEEPGRAM_API_KEY="dg-key", DEEPGRAM_BASE_URL=think.url + address)
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    body = {
        "model": "think-fast",
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
            {"role": "user", "content": "Look.", "name": "ada"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "Nothing."},
        ],
        "tools": [TOOL],
        "max_completion_tokens": 50,
        "temperature": 0.2,
        "top_p": 0.9,
        "stop": ["x"],
        "user": "u",
        "parallel_tool_calls": False,
        "stream": stream,
        **({"stream_options": {"include_usage": True}} if stream else {}),
    }
    response = client.post("/v1/chat/completions", json=body, buffered=True)
    assert response.status_code == 200, response.data
    text = streamed_text(response.data) if stream else completion(response.data)["choices"][0]["message"]["content"]
    assert text == "Hello."
    asked = think.received[-1].json
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (asked["max_tokens"], asked["model"]) == (50, "think-fast")


def test_foundrys_address_and_token_are_the_users_own(app_with: Any, upstream: Any) -> None:
    address = f"{upstream.url}/api/projects/phones/openai/v1"
    app_with(AZURE_FOUNDRY_API_KEY=upstream.key, AZURE_FOUNDRY_BASE_URL=address).post(
        "/v1/responses", json={"model": "gpt-4o", "input": "hi", "agent": {"name": "help", "type": "agent_reference"}}
    )
    received = upstream.received[-1]
    assert received.path == "/api/projects/phones/openai/v1/responses"
    assert received.headers["Authorization"] == f"Bearer {upstream.key}"
    assert received.json["agent"] == {"name": "help", "type": "agent_reference"}
