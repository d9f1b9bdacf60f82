"""Reading what a caller got: frames, and whether they are what OpenAI's own types and rules say they must be."""

import http.client
import json
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk

EVER = 20.0

CHUNK_KEYS = {
    "id",
    "object",
    "created",
    "model",
    "service_tier",
    "system_fingerprint",
    "choices",
    "usage",
    "obfuscation",
}
CHOICE_KEYS = {"index", "delta", "finish_reason", "logprobs"}
DELTA_KEYS = {"role", "content", "refusal", "tool_calls", "annotations"}


def post(
    port: int, body: Any, path: str = "/v1/chat/completions", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower-case names) and body of one request, whatever they are."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=EVER)
    raw = body if isinstance(body, (bytes, str)) else json.dumps(body)
    connection.request("POST", path, raw, {"Content-Type": "application/json", **(headers or {})})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, data


def chat_body(text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], **more}


def payloads(stream: bytes) -> list[str]:
    """The data of each frame; comments are left out, anything else that is no plain data frame fails."""
    assert stream.endswith(b"data: [DONE]\n\n"), stream[-300:]
    frames = stream.decode().split("\n\n")
    assert frames.pop() == ""
    data = [frame for frame in frames if not frame.startswith(": ")]
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in data), stream
    found = [frame.removeprefix("data: ") for frame in data]
    assert found.count("[DONE]") == 1
    return found[:-1]


def chunks(stream: bytes) -> list[dict[str, Any]]:
    """A well-formed stream's chunks: each rule of OpenAI's frames and of streamed calls is asserted on the way."""
    found = [json.loads(data) for data in payloads(stream)]
    assert found
    for chunk in found:
        ChatCompletionChunk.model_validate(chunk, strict=True)
        assert set(chunk) <= CHUNK_KEYS, chunk
        for choice in chunk["choices"]:
            assert set(choice) <= CHOICE_KEYS, chunk
            assert {"index", "delta", "finish_reason"} <= set(choice), chunk
            assert set(choice["delta"]) <= DELTA_KEYS, chunk
            assert len(choice["delta"].get("tool_calls") or []) <= 1, chunk
    for key in ("id", "created", "model"):
        assert len({chunk[key] for chunk in found}) == 1, key
    for index in {choice["index"] for chunk in found for choice in chunk["choices"]}:
        _check_choice([choice for chunk in found for choice in chunk["choices"] if choice["index"] == index])
    usages = [chunk for chunk in found if chunk.get("usage")]
    assert all(chunk["choices"] == [] and chunk is found[-1] for chunk in usages), usages
    return found


def _check_choice(choices: list[dict[str, Any]]) -> None:
    roles = [position for position, choice in enumerate(choices) if choice["delta"].get("role")]
    assert roles == [0], "one role, in the first delta"
    finishes = [position for position, choice in enumerate(choices) if choice["finish_reason"]]
    assert finishes == [len(choices) - 1], "one finish, in the last chunk"
    opened: list[str] = []
    for choice in choices:
        for call in choice["delta"].get("tool_calls") or []:
            if call.get("id"):
                assert call["index"] == len(opened), call
                assert call["function"]["name"], call
                assert call["id"] not in opened, call
                opened.append(call["id"])
            else:
                assert call["index"] < len(opened), call
                assert not call["function"].get("name"), call
    if opened:
        assert choices[-1]["finish_reason"] == "tool_calls"


def streamed_text(stream: bytes, index: int = 0) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for chunk in chunks(stream)
        for choice in chunk["choices"]
        if choice["index"] == index
    )


def streamed_calls(stream: bytes) -> list[tuple[str, str, Any]]:
    """(id, name, arguments) of the calls in a stream."""
    calls: list[list[Any]] = []
    for chunk in chunks(stream):
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls") or []:
                if call.get("id"):
                    calls.append([call["id"], call["function"]["name"], ""])
                calls[call["index"]][2] += call["function"].get("arguments") or ""
    return [(identifier, name, json.loads(arguments)) for identifier, name, arguments in calls]


def finish(stream: bytes) -> str:
    return next(
        choice["finish_reason"] for chunk in chunks(stream) for choice in chunk["choices"] if choice["finish_reason"]
    )


def completion(body: bytes) -> dict[str, Any]:
    """A whole answer, valid by OpenAI's types."""
    data: dict[str, Any] = json.loads(body)
    ChatCompletion.model_validate(data, strict=True)
    return data


def error(body: bytes) -> dict[str, Any]:
    """OpenAI's error object, all four keys."""
    data = json.loads(body)
    assert set(data) == {"error"}, data
    assert set(data["error"]) == {"message", "type", "param", "code"}, data
    return data["error"]
