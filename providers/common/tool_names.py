"""Maps names of tools that a vendor refuses, although OpenAI accepts them, and maps them back. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from core.events import Events, ToolCall
from core.requests import ChatRequest

GOOGLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]*")
"""https://ai.google.dev/api/caching#FunctionDeclaration"""
COHERE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""https://docs.cohere.com/v1/reference/chat, tools"""

Json = Mapping[str, Any]


def fit_names(request: ChatRequest, allowed: re.Pattern[str] | None) -> tuple[ChatRequest, dict[str, str]]:
    """The request with `allowed` names (None: any), and the caller's own names by the new ones; the same request and {}
    if all names are allowed.
    """
    if allowed is None:
        return request, {}
    used = dict.fromkeys(_names(request))
    fitted: dict[str, str] = {}
    for name in used:
        if not allowed.fullmatch(name):
            fit = re.sub(r"[^A-Za-z0-9_]", "_", name)
            fit = fit if allowed.fullmatch(fit) else f"_{fit}"
            while fit in used or fit in fitted.values():
                fit += "_"
            fitted[name] = fit
    if not fitted:
        return request, {}
    body = dict(request.body)
    for key in ("tools", "functions", "tool_choice", "function_call", "messages"):
        if key in body:
            body[key] = _rename(body[key], fitted)
    return replace(request, body=body), {fit: name for name, fit in fitted.items()}


def restore_names(events: Events, names: Mapping[str, str]) -> Events:
    """The events with the caller's own names."""
    for event in events:
        if isinstance(event, ToolCall) and event.name in names:
            yield replace(event, name=names[event.name])
        else:
            yield event


def _names(request: ChatRequest) -> Iterator[str]:
    """The names of the tools, and of the calls in the conversation."""
    calls = [call for message in request.messages for call in message.get("tool_calls") or ()]
    legacy = [{"function": message["function_call"]} for message in request.messages if message.get("function_call")]
    for each in (*request.tools, *calls, *legacy):
        function = each.get("function")
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            yield function["name"]


def _rename(value: Any, names: Json) -> Any:
    """Tools, a tool choice or messages with changed function names: in `function`, `functions` and `function_call`, in
    calls and in results; schemas and contents are not changed.
    """
    if isinstance(value, list):
        return [_rename(each, names) for each in value]
    if not isinstance(value, dict):
        return value
    changed = {
        key: _rename(each, names)
        if key in ("function", "tool_calls", "function_call", "allowed_tools", "tools")
        else each
        for key, each in value.items()
    }
    if isinstance(name := value.get("name"), str) and value.get("role", "tool") in ("tool", "function"):
        changed["name"] = names.get(name, name)
    return changed
