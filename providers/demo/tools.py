"""Decides which of the declared tools the demo calls. Pure. Malformed parts of a request are ignored."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidRequest
from core.requests import ChatRequest

# Half of all tools have these words in their names, so a user who says one does not mean a tool yet.
_COMMON = "get set fetch find look lookup up search list show read check query current a an the of by"
_TELLING = 4


@dataclass(frozen=True, slots=True)
class Tool:
    """A declared function."""

    name: str
    description: str
    parameters: Any


def declared_tools(request: ChatRequest) -> list[Tool]:
    """The functions that may be called, without those that `allowed_tools` leaves out."""
    functions = (each.get("function") for each in request.tools if isinstance(each, Mapping))
    tools = [
        Tool(string_at(each, "name"), string_at(each, "description"), each.get("parameters"))
        for each in functions
        if isinstance(each, Mapping)
    ]
    allowed = _allowed_names(request)
    return [each for each in tools if each.name and (allowed is None or each.name in allowed)]


def chosen_tools(request: ChatRequest, prompt: str) -> list[Tool]:
    """The tools to call: those that the user's text mentions, the required one, or none.

    If one is required and the text mentions none, the best match by its words, else the first.
    """
    tools = declared_tools(request)
    choice = request.tool_choice
    if isinstance(choice, Mapping):
        if demanded := string_at(choice.get("function"), "name"):
            return [_tool_of_name(tools, demanded)]
        choice = string_at(choice.get("allowed_tools"), "mode") or "auto"
    if choice == "none" or not tools:
        return []
    spoken = set(_split(prompt))
    found = [each for each in tools if _keywords(each.name) <= spoken]
    best = max(found or tools, key=lambda each: _score(each, spoken))
    if not found:
        return [best] if choice == "required" else []
    return [best] if request.body.get("parallel_tool_calls") is False else found


def _tool_of_name(tools: Sequence[Tool], name: str) -> Tool:
    for each in tools:
        if each.name == name:
            return each
    raise InvalidRequest(
        f"tool_choice names {name!r}, which is not among the tools.", param="tool_choice", code="invalid_value"
    )


def _allowed_names(request: ChatRequest) -> set[str] | None:
    """The names in `tool_choice: {"type": "allowed_tools", ...}`; None if all are allowed."""
    choice = request.tool_choice
    allowed = choice.get("allowed_tools") if isinstance(choice, Mapping) else None
    tools = allowed.get("tools") if isinstance(allowed, Mapping) else None
    if not isinstance(tools, list):
        return None
    return {string_at(each.get("function"), "name") for each in tools if isinstance(each, Mapping)}


def _keywords(name: str) -> set[str]:
    """The words of a tool's name that a user would say: `get_weather` is about weather."""
    parts = set(_split(name))
    return parts.difference(_COMMON.split()) or parts or {name}


def _score(tool: Tool, spoken: set[str]) -> int:
    described = {each for each in _split(tool.description) if len(each) >= _TELLING}
    return 2 * len(_keywords(tool.name) & spoken) + len(described & spoken)


def _split(text: str) -> list[str]:
    """The words of a text or a name, in lower case: `getWeather`, `get_weather` and "get weather" are the same."""
    return re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text).lower())


def string_at(value: Any, key: str) -> str:
    """The string under a key of an object; "" if there is none."""
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, str) else ""
