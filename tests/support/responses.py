"""The Responses dialect as its callers speak and read it: a chat's body asked in it, and streams that are checked."""

import json
from collections.abc import Mapping
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ENDS = ("response.completed", "response.incomplete", "response.failed")
RESOURCE = {
    "id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id",
    "instructions", "output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p",
    "presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "reasoning", "usage", "max_output_tokens",
    "max_tool_calls", "store", "background", "service_tier", "metadata", "safety_identifier", "prompt_cache_key",
}  # fmt: skip
"""Keys that Open Responses demands of a response: https://www.openresponses.org/reference"""


def responses_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """A chat's body as a caller of /v1/responses sends the same."""
    same = (
        "model",
        "provider",
        "stream",
        "temperature",
        "user",
        "metadata",
        "include_reasoning",
        "parallel_tool_calls",
    )
    made: dict[str, Any] = {key: body[key] for key in same if key in body}
    made["input"] = [item for message in body["messages"] for item in _items(message)]
    if "tools" in body:
        made["tools"] = [{"type": "function", **tool["function"]} for tool in body["tools"]]
    if "tool_choice" in body:
        choice = body["tool_choice"]
        made["tool_choice"] = choice if isinstance(choice, str) else {"type": "function", **choice["function"]}
    if form := body.get("response_format"):
        made["text"] = {"format": {"type": form["type"], **form.get("json_schema", {})}}
    for name in ("max_tokens", "max_completion_tokens"):
        if name in body:
            made["max_output_tokens"] = body[name]
    if "reasoning_effort" in body:
        made["reasoning"] = {"effort": body["reasoning_effort"]}
    return made


def _items(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    role, content = message["role"], message.get("content")
    if role == "tool":
        return [{"type": "function_call_output", "call_id": message["tool_call_id"], "output": content}]
    items: list[dict[str, Any]] = []
    if message.get("refusal"):
        content = [{"type": "refusal", "refusal": message["refusal"]}]
    if content is not None:
        parts = content if isinstance(content, str) else [_part(part, role) for part in content]
        items.append({"type": "message", "role": role, "content": parts})
    calls = message.get("tool_calls", [])
    return [*items, *({"type": "function_call", "call_id": call["id"], **call["function"]} for call in calls)]


def _part(part: Mapping[str, Any], role: str) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "output_text" if role == "assistant" else "input_text", "text": part["text"]}
    if part["type"] == "image_url":
        return {"type": "input_image", "image_url": part["image_url"]["url"], "detail": "auto"}
    return dict(part)


def checked_response(response: Any) -> dict[str, Any]:
    """A response that is valid by OpenAI's types and Open Responses' demands."""
    assert response.keys() >= RESOURCE, RESOURCE - response.keys()
    Response.model_validate(response, strict=True)
    assert response["text"].get("verbosity", "low") is not None
    for tool in response["tools"]:
        assert tool["type"] != "function" or tool.keys() >= {"name", "description", "parameters", "strict"}
    for item in response["output"]:
        assert "phase" not in item
    return dict(response)


def events(stream: bytes) -> list[dict[str, Any]]:
    """A well-formed stream's events: every rule of the protocol is asserted on the way."""
    assert stream.endswith(b"data: [DONE]\n\n"), stream[-300:]
    frames = [frame for frame in stream.decode().split("\n\n") if frame and not frame.startswith(":")]
    assert frames.pop() == "data: [DONE]"
    found = []
    for number, frame in enumerate(frames):
        name, _, data = frame.partition("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == number
        EVENT.validate_python(event, strict=True)
        found.append(event)
    types = [event["type"] for event in found]
    assert types[:2] == ["response.created", "response.in_progress"]
    assert [each for each in types if each in ENDS] == [types[-1]], types
    for event in (found[0], found[1], found[-1]):
        checked_response(event["response"])
    assert len({event["response"]["id"] for event in (found[0], found[1], found[-1])}) == 1
    assert (found[0]["response"]["status"], found[0]["response"]["output"]) == ("in_progress", [])
    if "error" not in types:
        _check_items(found[2:-1], found[-1]["response"]["output"])
    return found


def _check_items(middle: list[dict[str, Any]], output: list[dict[str, Any]]) -> None:
    """One item after the other, each added, told and done, and the whole of them in the last response."""
    at = 0
    while middle:
        added, *middle = middle
        assert (added["type"], added["output_index"]) == ("response.output_item.added", at), added
        item = added["item"]
        assert item["type"] != "message" or (item["content"], item["status"]) == ([], "in_progress")
        assert item["type"] != "function_call" or (item["arguments"], item["status"]) == ("", "in_progress")
        end = next(i for i, event in enumerate(middle) if event["type"] == "response.output_item.done")
        deltas, done, middle = middle[:end], middle[end], middle[end + 1 :]
        assert done["output_index"] == at
        assert done["item"] == output[at]
        assert done["item"]["id"] == item["id"]
        assert all((each["item_id"], each["output_index"]) == (item["id"], at) for each in deltas), deltas
        _check_texts(deltas, done["item"])
        at += 1
    assert at == len(output)


def _check_texts(deltas: list[dict[str, Any]], item: dict[str, Any]) -> None:
    """The pieces are the whole, and parts are told one after the other."""
    said: dict[Any, str] = {}
    opened: list[Any] = []
    for event in deltas:
        place = event.get("content_index", event.get("summary_index", 0))
        if event["type"].endswith("part.added"):
            opened.append(place)
            assert opened == list(range(len(opened)))
        elif event["type"].endswith(".delta"):
            assert item["type"] not in ("message", "reasoning") or opened[-1] == place
            said[place] = said.get(place, "") + event["delta"]
        elif event["type"].endswith(("text.done", "refusal.done", "arguments.done", "input.done")):
            whole = next(event[key] for key in ("text", "refusal", "arguments", "input") if key in event)
            assert whole == said.get(place, "")
    if item["type"] == "message":
        parts = [part.get("text", part.get("refusal")) for part in item["content"]]
        assert parts == [said.get(place, "") for place in opened]
    elif item["type"] == "function_call":
        assert item["arguments"] == said.get(0, "")
        assert isinstance(json.loads(item["arguments"]), dict) or item["status"] == "incomplete"


def final_response(stream: bytes) -> dict[str, Any]:
    """The response at the end of a stream."""
    response: dict[str, Any] = events(stream)[-1]["response"]
    return response


def text_of(response: Mapping[str, Any]) -> str:
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part.get("text", part.get("refusal")) for part in parts)


def calls_of(response: Mapping[str, Any]) -> list[tuple[str, Any]]:
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    return [(call["name"], json.loads(call["arguments"])) for call in calls]
