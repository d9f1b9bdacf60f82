"""The items of a Responses `input` as the messages of a chat. Pure; raises InvalidRequest and Unsupported by name.

Function calls become part of the assistant's message before them, and their outputs become `tool` messages. Pictures
and files of an output are moved to a user's message after it, since `tool` messages of a chat have only texts.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import uuid4

import orjson

from core.errors import InvalidRequest, Unsupported
from core.json_values import Json
from schemas.responses.tools import function_name

ROLES = frozenset({"system", "developer", "user", "assistant"})
OF_THE_SERVER = frozenset({
    "reasoning", "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call",
    "mcp_list_tools", "mcp_call", "mcp_approval_request", "mcp_approval_response",
})  # fmt: skip
"""Items of thinking, and of tools that ran at OpenAI. They are left out, as other models do not need them."""


def item_kind(item: Mapping[str, Any]) -> Any:
    """The item's type; a message may leave it out."""
    return item.get("type", "message" if "role" in item else None)


def check_items(items: Any) -> None:
    """Raise InvalidRequest if `items` is no list of items, or if an item has the wrong shape."""
    if not isinstance(items, list) or not items:
        raise InvalidRequest("It must be a string or a list of items, and not empty.", param="input")
    for at, item in enumerate(items):
        where = f"input[{at}]"
        if not isinstance(item, dict):
            raise InvalidRequest("An item must be an object.", param=where)
        kind = item_kind(item)
        if not isinstance(kind, str):
            raise InvalidRequest("An item needs a `type`, such as message.", param=f"{where}.type")
        if kind == "message" and not (isinstance(item.get("role"), str) and item["role"] in ROLES):
            raise InvalidRequest(f"It must be one of {', '.join(sorted(ROLES))}.", param=f"{where}.role")
        if kind == "message":
            _check_content(item.get("content"), f"{where}.content")
        elif kind in CALLS:
            _check_strings(
                item, ("call_id", "name", CALLS[kind], *(("namespace",) if item.get("namespace") else ())), where
            )
        elif kind in OUTPUTS:
            _check_strings(item, ("call_id",), where)
            _check_content(item.get("output"), f"{where}.output")
        elif kind == "item_reference":
            raise Unsupported(
                "Items are not kept here by themselves: send the item itself (clients do with `store: false`), or a "
                "`previous_response_id`.",
                param=where,
            )


CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
"""Items that are calls -> the key of their arguments."""
OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output"})


def _check_strings(item: Mapping[str, Any], names: Iterable[str], where: str) -> None:
    for name in names:
        if not isinstance(item.get(name), str):
            raise InvalidRequest("It must be a string.", param=f"{where}.{name}")


def _check_content(content: Any, where: str) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise InvalidRequest("It must be a string or a list of parts.", param=where)
    for at, part in enumerate(content):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise InvalidRequest("A part must be an object with a `type`.", param=f"{where}[{at}]")


def unanswered_output(before: Iterable[Json], items: Iterable[Json]) -> str:
    """The call_id of the first output without a call before it, or in the conversation so far; "" if there is none."""
    known: set[str] = set()
    for given in (before, items):
        for item in given:
            kind = item_kind(item)
            if kind in CALLS:
                known.add(item["call_id"])
            elif given is items and kind in OUTPUTS and item["call_id"] not in known:
                return str(item["call_id"])
    return ""


def whole_item(item: Json) -> Json:
    """An item with the keys that it must have in an answer."""
    kind = item_kind(item)
    made: Json = {"id": f"item_{uuid4().hex}", "status": "completed", **item, "type": kind}
    if kind == "message" and isinstance(item["content"], str):
        if item["role"] == "assistant":
            part = {"type": "output_text", "text": item["content"], "annotations": [], "logprobs": []}
        else:
            part = {"type": "input_text", "text": item["content"]}
        made["content"] = [part]
    return made


def to_messages(items: Iterable[Json], *, kept: int = 0) -> tuple[list[Json], list[str]]:
    """The messages for checked items, and the field that each was made of. The first `kept` items are of the
    conversation so far, which the caller has not sent again.
    """
    messages: list[Json] = []
    places: list[str] = []
    seen: list[Json] = []
    for at, item in enumerate(items):
        where, kind = f"input[{at - kept}]" if at >= kept else "previous_response_id", item_kind(item)
        if kind not in OUTPUTS:
            _flush(messages, seen)
        if kind == "message":
            messages.append({"role": item["role"], "content": _content(item["content"], f"{where}.content")})
        elif kind in CALLS:
            _add_call(messages, _call(item, kind))
        elif kind in OUTPUTS:
            texts, others = _output(item["output"], f"{where}.output")
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": texts})
            seen += others
        elif kind not in OF_THE_SERVER:
            raise Unsupported(
                f"An item of type {kind!r} is understood by OpenAI's own models alone; leave it out, or send what it "
                "says as a message.",
                param=where,
            )
        places += [where] * (len(messages) - len(places))
    _flush(messages, seen)
    return messages, [*places, *["input"] * (len(messages) - len(places))]


def _flush(messages: list[Json], seen: list[Json]) -> None:
    """Add the pictures and files of the outputs so far, as a user's message."""
    if seen:
        messages.append({"role": "user", "content": list(seen)})
        seen.clear()


def _add_call(messages: list[Json], call: Json) -> None:
    """Add a call to the assistant's message, if that is the last one; else to a new one."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    messages[-1].setdefault("tool_calls", []).append(call)


def _call(item: Mapping[str, Any], kind: str) -> Json:
    given = item[CALLS[kind]]
    arguments = given if kind == "function_call" else orjson.dumps({CUSTOM_INPUT: given}).decode()
    name = function_name(item["name"], item.get("namespace"))
    return {"id": item["call_id"], "type": "function", "function": {"name": name, "arguments": arguments}}


CUSTOM_INPUT = "input"
"""The key of a custom tool's text: such a tool becomes a function that takes an object with this key."""


def _output(output: str | list[Json], where: str) -> tuple[str, list[Json]]:
    """The text of an output, and its other parts."""
    if isinstance(output, str):
        return output, []
    parts = [_part(part, f"{where}[{at}]") for at, part in enumerate(output)]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "\n".join(texts), [part for part in parts if part["type"] != "text"]


def _content(content: str | list[Json], where: str) -> str | list[Json]:
    """A message's content. A single text becomes a string, which every upstream accepts."""
    if isinstance(content, str):
        return content
    parts = [_part(part, f"{where}[{at}]") for at, part in enumerate(content)]
    if len(parts) <= 1 and all(part.keys() == {"type", "text"} for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _part(part: Json, where: str) -> Json:
    make = PARTS.get(part["type"])
    if make is None:
        raise Unsupported(f"A part of type {part['type']!r} is not taken here.", param=f"{where}.type")
    kept = {key: part[key] for key in ("cache_control",) if key in part}
    return {**make(part, where), **kept}


def _text(part: Json, where: str) -> Json:
    if not isinstance(part.get("text"), str):
        raise InvalidRequest("It must be a string.", param=f"{where}.text")
    return {"type": "text", "text": part["text"]}


def _refusal(part: Json, where: str) -> Json:
    if not isinstance(part.get("refusal"), str):
        raise InvalidRequest("It must be a string.", param=f"{where}.refusal")
    return {"type": "refusal", "refusal": part["refusal"]}


def _image(part: Json, where: str) -> Json:
    if not isinstance(part.get("image_url"), str):
        raise Unsupported(
            "Send the picture itself, as an `image_url` that is an https: or data: URL.", param=f"{where}.image_url"
        )
    detail = {"detail": part["detail"]} if isinstance(part.get("detail"), str) else {}
    return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}


def _file(part: Json, where: str) -> Json:
    if not isinstance(part.get("file_data"), str):
        raise Unsupported("Send the file itself, in base64, as `file_data`.", param=f"{where}.file_data")
    name = part.get("filename")
    return {
        "type": "file",
        "file": {"filename": name if isinstance(name, str) else "file", "file_data": part["file_data"]},
    }


def _audio(part: Json, where: str) -> Json:
    if not isinstance(part.get("input_audio"), dict):
        raise InvalidRequest("It must be an object with `data` and `format`.", param=f"{where}.input_audio")
    return {"type": "input_audio", "input_audio": part["input_audio"]}


PARTS: Mapping[str, Callable[[Json, str], Json]] = {
    **dict.fromkeys(("input_text", "output_text", "text"), _text),
    "refusal": _refusal,
    "input_image": _image,
    "input_file": _file,
    "input_audio": _audio,
}
