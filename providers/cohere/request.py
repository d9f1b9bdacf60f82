"""A chat request in Cohere's dialect. Pure. https://docs.cohere.com/v2/reference/chat"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from core.errors import Unsupported
from core.json_values import Json
from core.requests import ChatRequest
from providers.base import Target
from providers.common.conversation import OPENING, Message, conversation, instructions
from providers.common.json_schema import inline_references
from providers.common.translate import (
    capped_max_tokens,
    content_text,
    declared_functions,
    image_url,
    require_text_output,
    response_format,
    tool_choice,
)

MOST_STOPS = 5
NUMBERS: Mapping[str, tuple[str, float, float]] = {
    "frequency_penalty": ("frequency_penalty", 0.0, 1.0),
    "presence_penalty": ("presence_penalty", 0.0, 1.0),
    "top_p": ("p", 0.01, 0.99),
    "top_k": ("k", 0, 500),
}
"""OpenAI's name -> Cohere's name and range. The range is narrower than OpenAI's; values beyond it are clamped."""
SAME = ("temperature", "seed", "logprobs")
OWN = ("documents", "citation_options", "safety_mode", "strict_tools", "priority", "thinking", "k", "p")
"""Cohere's own parameters, which are passed on unchanged."""
SUPPORTED_PARAMETERS = frozenset(
    {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "stop", "n", "modalities"}
    | {"tools", "tool_choice", "functions", "function_call", "response_format", *NUMBERS, *SAME, *OWN}
)
"""Parameters with a counterpart; reasoning_effort only for models that reason."""

THINKS = re.compile("reasoning|thinking")
"""Models that reason unless it is turned off (https://docs.cohere.com/docs/reasoning); others refuse the parameter."""
BUDGETS = {"minimal": 512, "low": 1024, "medium": 8192}


def asks_by_tool(request: ChatRequest) -> bool:
    """Whether only a tool can hold the answer to the format: Cohere accepts no format beside tools
    (https://docs.cohere.com/docs/structured-outputs).
    """
    return bool(request.tools) and response_format(request)[0] != "text"


def to_upstream(request: ChatRequest, target: Target) -> Json:
    """The body of v2/chat. Raises InvalidRequest and Unsupported."""
    name = target.provider.name
    require_text_output(request, name)
    if request.body.get("n", 1) > 1:
        raise Unsupported(f"{name} gives one answer to a request.", param="n")
    if len(request.stop) > MOST_STOPS:
        raise Unsupported(f"{name} takes at most {MOST_STOPS} stop sequences.", param="stop")
    body: Json = {"model": target.model, "messages": _messages(request), "stream": request.stream}
    body |= {key: request.body[key] for key in (*SAME, *OWN) if key in request.body}
    for ours, (theirs, least, most) in NUMBERS.items():
        if ours in request.body:
            body[theirs] = min(max(request.body[ours], least), most)
    longest = capped_max_tokens(request, target.max_tokens)
    if longest is not None:
        body["max_tokens"] = longest
    if request.stop:
        body["stop_sequences"] = request.stop
    body |= _tools(request) | _format(request) | _thinking(request, target.model)
    return target.rules.apply(body)


def _messages(request: ChatRequest) -> list[Json]:
    system = "\n\n".join(content_text([part], "messages") for part in instructions(request.messages))
    turns = conversation(request.messages)
    messages = [{"role": "system", "content": system}] if system else []
    return messages + ([_message(turn) for turn in turns] or [{"role": "user", "content": OPENING}])


def _message(turn: Message) -> Json:
    if turn.role == "tool":  # empty content is refused, and by the documentation a result is a JSON object
        return {"role": "tool", "tool_call_id": turn.answers, "content": _text(turn) or "{}"}
    if turn.role == "user":
        content = [_part(part, where) for where, part in turn.parts]
        if all(part["type"] == "text" for part in content):
            return {"role": "user", "content": "".join(part["text"] for part in content)}
        return {"role": "user", "content": content}
    text = _text(turn)
    if not turn.calls:
        return {"role": "assistant", "content": text}
    calls = [
        {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": _json(use.arguments)}}
        for use in turn.calls
    ]
    # Cohere calls the text before a call its plan.
    return {"role": "assistant", "tool_calls": calls, **({"tool_plan": text} if text else {})}


def _text(turn: Message) -> str:
    return content_text([part for _, part in turn.parts], turn.at)


def _part(part: Mapping[str, Any], where: str) -> Json:
    match part["type"]:
        case "text" | "input_text":
            return {"type": "text", "text": content_text([part], where)}
        case "image_url":
            url, detail = image_url(part, where)
            return {"type": "image_url", "image_url": {"url": url, **({"detail": detail} if detail else {})}}
        case kind:
            raise Unsupported(f"A part of type {kind!r} cannot be sent to Cohere.", param=where)


def _tools(request: ChatRequest) -> Json:
    """If only some tools may be called, only those are declared: a tool choice has no names there."""
    mode, names = tool_choice(request)
    declared = [
        {"name": each["name"], **({"description": each["description"]} if each.get("description") else {})}
        | {"parameters": inline_references(each.get("parameters")) or {"type": "object", "properties": {}}}
        for each in declared_functions(request.tools)
        if not names or each["name"] in names
    ]
    if not declared:
        return {}
    forced = {} if mode == "auto" else {"tool_choice": "NONE" if mode == "none" else "REQUIRED"}
    return {"tools": [{"type": "function", "function": each} for each in declared], **forced}


def _format(request: ChatRequest) -> Json:
    kind, described = response_format(request)
    if kind == "text":
        return {}
    schema = {"json_schema": inline_references(described["schema"])} if described else {}
    return {"response_format": {"type": "json_object", **schema}}


def _thinking(request: ChatRequest, model: str) -> Json:
    effort = request.body.get("reasoning_effort")
    if effort is None or "thinking" in request.body or not THINKS.search(model):
        return {}
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    budget = {"token_budget": BUDGETS[effort]} if effort in BUDGETS else {}
    return {"thinking": {"type": "enabled", **budget}}


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
