"""A chat request in Anthropic's dialect: https://platform.claude.com/docs/en/api/messages/create"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from core.errors import InvalidRequest, Unsupported
from core.json_values import Json
from core.requests import ChatRequest
from providers.base import Target
from providers.common import claude_models as claude
from providers.common.conversation import GO_ON, OPENING, Message, conversation, instructions, merge_same_role
from providers.common.json_schema import closed_schema, holds_maps
from providers.common.translate import (
    declared_functions,
    fit_id,
    image_url,
    parse_data_url,
    require_text_output,
    response_format,
    tool_choice,
)

IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
JSON_ALONE = "Answer with one JSON object, and with nothing besides it."
IDS = re.compile(r"[a-zA-Z0-9_-]+")
# Anthropic refuses user ids that look like an e-mail address or a telephone number.
TELLING = re.compile(r".*@.*|\+?[\d\s().-]{7,20}|.{257,}", re.DOTALL)
TIERS = {"auto": "auto", "priority": "auto", "default": "standard_only"}
Recall = Callable[[str], list[Json]]
"""The thinking before the call of this id, [] if it is no longer stored."""


def to_upstream(request: ChatRequest, target: Target, recall: Recall = lambda _: []) -> Json:
    """The body of POST /v1/messages. Raises InvalidRequest and Unsupported, which name the field."""
    require_text_output(request, target.provider.name)
    family = claude.family_of(target.model)
    turns = conversation(request.messages)
    tools = _tools(request, turns)
    room = _room(request, target, family)
    forced = tools.get("tool_choice", {}).get("type") in ("any", "tool")
    thought, effort = _thinking(request, family, room, forced=forced)
    thinks = thought.get("type") != "disabled" if thought else family.thinks_by_default
    thoughts = _recall_thoughts(turns, recall) if thinks else {}
    if thought.get("type") == "enabled" and not all(thoughts.values()):
        thinks, thought = False, {}  # a call whose thinking is lost would be refused
    prefill = family.prefill and not thinks and request.messages[-1]["role"] == "assistant"
    body = {
        "model": target.model,
        "max_tokens": room,
        "system": _system(request),
        "messages": _messages(turns, thoughts if thinks else {}, prefill=prefill),
        **tools,
        "thinking": thought,
        "output_config": _output(request, family, effort),
        **({} if thinks else _sampling(request, family)),
        "stop_sequences": [each for each in request.stop if each.strip()],
        "metadata": _metadata(request),
        "service_tier": TIERS.get(str(request.body.get("service_tier"))),
        "stream": request.stream or None,
    }
    return target.rules.apply({key: value for key, value in body.items() if value not in (None, {}, [], "")})


def asks_by_tool(request: ChatRequest, target: Target) -> bool:
    """Whether only a tool can hold the answer to the format: older models have no formats, and none has one for objects
    with unnamed properties.
    """
    kind, wanted = response_format(request)
    if claude.family_of(target.model).schemas:
        return holds_maps(wanted.get("schema"))
    return kind != "text"


def _room(request: ChatRequest, target: Target, family: claude.Family) -> int:
    wanted = request.max_tokens or family.max_tokens
    return wanted if target.max_tokens is None else min(wanted, target.max_tokens)


def _system(request: ChatRequest) -> str | list[Json]:
    """One text; or blocks, if one of them is to be cached."""
    blocks = [_text(part) for part in instructions(request.messages)]
    if response_format(request)[0] == "json_object":
        blocks.append({"type": "text", "text": JSON_ALONE})
    return (
        blocks if any("cache_control" in block for block in blocks) else "\n\n".join(block["text"] for block in blocks)
    )


def _messages(turns: list[Message], thoughts: Mapping[str, list[Json]], *, prefill: bool) -> list[Json]:
    """User and assistant messages alternate; the user is first, and last unless `prefill`."""
    messages = merge_same_role(
        (("assistant" if turn.role == "assistant" else "user"), _content(turn, thoughts)) for turn in turns
    )
    if not messages or messages[0][0] != "user":
        messages.insert(0, ("user", [{"type": "text", "text": OPENING}]))
    if messages[-1][0] == "assistant":
        if prefill and messages[-1][1][-1]["type"] == "text":
            messages[-1][1][-1]["text"] = messages[-1][1][-1]["text"].rstrip()  # a blank end is refused
        else:
            messages.append(("user", [{"type": "text", "text": GO_ON}]))
    return [{"role": role, "content": content} for role, content in messages]


def _content(turn: Message, thoughts: Mapping[str, list[Json]]) -> list[Json]:
    if turn.role == "tool":
        return [_result(turn)]
    if turn.role == "user":
        return [_block(part, where) for where, part in turn.parts]
    content = [_text(part, where) for where, part in turn.parts]
    for position, use in enumerate(turn.calls):
        called = {"type": "tool_use", "id": _id(use.id), "name": use.name, "input": use.arguments}
        thought = thoughts.get(use.id, [])
        content = [*content, *thought, called] if position else [*thought, *content, called]
    return content


def _result(turn: Message) -> Json:
    blocks = [_block(part, where) for where, part in turn.parts]
    result: Json = {"type": "tool_result", "tool_use_id": _id(turn.answers)}
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return {**result, "content": blocks[0]["text"]}
    return {**result, "content": blocks} if blocks else result


def _id(identifier: str) -> str:
    """A call's id as Anthropic accepts it: another vendor may have made it."""
    return fit_id(identifier, IDS)


def _recall_thoughts(turns: list[Message], recall: Recall) -> dict[str, list[Json]]:
    """The thinking before the calls since the user's last message, by the ids of the calls that it is stored for. Older
    thinking may be left out; models with a budget refuse these calls without theirs.
    """
    thoughts: dict[str, list[Json]] = {}
    for turn in reversed(turns):
        if turn.role == "user":
            break
        for position, use in enumerate(turn.calls):
            thought = recall(use.id)
            if thought or not position:
                thoughts[use.id] = thought
    return thoughts


def _text(part: Mapping[str, Any], where: str = "") -> Json:
    if part["type"] not in ("text", "input_text", "refusal"):
        raise Unsupported(f"An assistant's message cannot have a part of type {part['type']!r}.", param=where)
    text = str(part.get("refusal" if part["type"] == "refusal" else "text") or "")
    return {"type": "text", "text": text, **_cache_mark(part)}


def _cache_mark(part: Mapping[str, Any]) -> Json:
    """Anthropic's own mark for the prompt cache, which is passed on unchanged."""
    return {"cache_control": part["cache_control"]} if part.get("cache_control") else {}


def _block(part: Mapping[str, Any], where: str) -> Json:
    if part["type"] == "image_url":
        return {"type": "image", "source": _image(image_url(part, where)[0], where), **_cache_mark(part)}
    if part["type"] == "file":
        return {**_document(part, where), **_cache_mark(part)}
    if part["type"] not in ("text", "input_text", "refusal"):
        raise Unsupported(f"Claude takes no part of type {part['type']!r}.", param=where)
    return _text(part)


def _image(url: str, where: str) -> Json:
    found = parse_data_url(url)
    if found is None:
        return {"type": "url", "url": url}
    kind = "image/jpeg" if found[0] == "image/jpg" else found[0]
    if kind not in IMAGES:
        raise Unsupported(f"Claude takes no pictures of type {kind}.", param=f"{where}.image_url.url")
    return {"type": "base64", "media_type": kind, "data": found[1]}


def _document(part: Mapping[str, Any], where: str) -> Json:
    given = part.get("file")
    file: Mapping[str, Any] = given if isinstance(given, dict) else {}
    name = {"title": file["filename"]} if isinstance(file.get("filename"), str) else {}
    if isinstance(file.get("file_id"), str):
        return {"type": "document", "source": {"type": "file", "file_id": file["file_id"]}, **name}
    data = str(file.get("file_data"))
    found = parse_data_url(data)
    if found is None:
        raise InvalidRequest("A file part needs `file_data`, a data: URL.", param=f"{where}.file.file_data")
    if found[0] in IMAGES:
        return {"type": "image", "source": _image(data, where)}
    if found[0] == "application/pdf":
        return {"type": "document", "source": {"type": "base64", "media_type": found[0], "data": found[1]}, **name}
    if not found[0].startswith("text/"):
        raise Unsupported(f"Claude takes no files of type {found[0]}.", param=f"{where}.file.file_data")
    try:
        plain = base64.b64decode(found[1]).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidRequest("It is not base64 of UTF-8 text.", param=f"{where}.file.file_data") from None
    return {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": plain}, **name}


def _tools(request: ChatRequest, turns: list[Message]) -> Json:
    """`tools` and `tool_choice`, if there are any."""
    declared, (mode, names) = declared_functions(request.tools), tool_choice(request)
    if not declared:
        # Calls in the conversation need their tools declared, also if none may be called any more.
        used = dict.fromkeys(use.name for turn in turns for use in turn.calls)
        tools = [{"name": name, "input_schema": {"type": "object"}} for name in used]
        return {"tools": tools, "tool_choice": {"type": "none"}} if tools else {}
    tools = [_tool(each) for each in declared if not names or each["name"] in names]
    one: Json = {"disable_parallel_tool_use": True} if request.body.get("parallel_tool_calls") is False else {}
    if mode == "none":
        return {"tools": tools, "tool_choice": {"type": "none"}}
    if mode == "required" and len(names) == 1:
        tools = [_tool(each) for each in declared]
        return {"tools": tools, "tool_choice": {"type": "tool", "name": names[0], **one}}
    if mode == "required":
        return {"tools": tools, "tool_choice": {"type": "any", **one}}
    return {"tools": tools, "tool_choice": {"type": "auto", **one} if one else {}}


def _tool(function: Mapping[str, Any]) -> Json:
    schema = function["parameters"] or {"type": "object"}
    description = {"description": function["description"]} if function.get("description") else {}
    return {"name": function["name"], **description, "input_schema": schema, **_cache_mark(function)}


def _thinking(request: ChatRequest, family: claude.Family, room: int, *, forced: bool) -> tuple[Json, str]:
    """`thinking` and the effort: the caller's own `thinking`, or the equivalent of `reasoning_effort`."""
    wish = str(request.body.get("reasoning_effort", "")).lower()
    thought, effort = claude.thinking_options(
        family, wish, shown=request.include_reasoning, forced=forced, max_tokens=room
    )
    given = request.body.get("thinking")
    return (given if isinstance(given, dict) else thought), effort


def _output(request: ChatRequest, family: claude.Family, effort: str) -> Json:
    kind, wanted = response_format(request)
    if kind == "json_schema" and not family.schemas:
        raise Unsupported("This model keeps to no JSON schema.", param="response_format")
    shape = {"format": {"type": "json_schema", "schema": closed_schema(wanted["schema"])}} if wanted else {}
    return {**({"effort": effort} if effort else {}), **shape}


def _sampling(request: ChatRequest, family: claude.Family) -> Json:
    """Temperature up to 1, top_p, top_k; of those that exclude each other, the temperature is kept."""
    if family.sampling == "none":
        return {}
    given = {key: request.body[key] for key in ("temperature", "top_p", "top_k") if key in request.body}
    if "temperature" in given:
        given["temperature"] = min(given["temperature"], 1)
        if family.sampling == "one":
            given.pop("top_p", None)
    return given


def _metadata(request: ChatRequest) -> Json:
    user = request.body.get("safety_identifier") or request.body.get("user")
    if not isinstance(user, str) or not user:
        return {}
    return {"user_id": sha256(user.encode()).hexdigest() if TELLING.fullmatch(user) else user}
