"""The tools of a Responses request as a chat has them, and as an answer repeats them. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import InvalidRequest, Unsupported
from core.json_values import Json

FUNCTION_KEYS = ("name", "description", "parameters", "strict")


def chat_tools(tools: Sequence[Json], custom_input: str, *, drops: bool) -> list[Json]:
    """The functions among the tools; a custom tool is a function of one text. Raises Unsupported for tools that OpenAI
    itself runs, unless it `drops` them.
    """
    made = []
    for at, tool in enumerate(tools):
        kind, where = tool.get("type"), f"tools[{at}]"
        if kind not in ("function", "custom"):
            if drops:
                continue
            raise Unsupported(
                f"A tool of type {kind!r} is run by OpenAI itself, and not here. Declare a function instead, or set "
                "RESPONSES_DROP_TOOLS=true to leave such tools out.",
                param=f"{where}.type",
            )
        if not isinstance(tool.get("name"), str) or not tool["name"]:
            raise InvalidRequest("It must be a string.", param=f"{where}.name")
        function = {key: tool[key] for key in FUNCTION_KEYS if tool.get(key) is not None}
        if kind == "custom":
            function["parameters"] = _text_alone(custom_input, tool.get("format"))
        kept = {key: tool[key] for key in ("cache_control",) if key in tool}
        made.append({"type": "function", "function": function, **kept})
    return made


def _text_alone(name: str, form: Any) -> Json:
    """The schema of an object with one text in it; a grammar is told in words, as nothing else would hold it."""
    about = "The input, as plain text."
    if isinstance(form, dict) and isinstance(form.get("definition"), str):
        about += f" It must follow this {form.get('syntax') or ''} grammar:\n{form['definition']}"
    properties = {name: {"type": "string", "description": about}}
    return {"type": "object", "properties": properties, "required": [name], "additionalProperties": False}


def chat_tool_choice(choice: Any, tools: list[Json], *, drops: bool) -> tuple[list[Json], Any]:
    """The tools that may be called, and a chat's tool_choice; None for none of it.

    `allowed_tools` leaves the others out, as hardly any upstream knows it.
    """
    if choice is None or isinstance(choice, str):
        return tools, choice
    kind = choice.get("type")
    if kind in ("function", "custom"):
        return tools, {"type": "function", "function": {"name": _name(choice, tools, "tool_choice.name")}}
    if kind == "allowed_tools":
        allowed = choice.get("tools")
        if not isinstance(allowed, list) or not allowed or not all(isinstance(each, dict) for each in allowed):
            raise InvalidRequest("It must be a list of tools.", param="tool_choice.tools")
        declared = [each for each in allowed if each.get("type") in ("function", "custom") or not drops]
        names = {_name(each, tools, f"tool_choice.tools[{at}]") for at, each in enumerate(declared)}
        return [tool for tool in tools if tool["function"]["name"] in names], choice.get("mode", "auto")
    if drops:
        return tools, "auto"
    raise Unsupported(f"A tool_choice of type {kind!r} is for tools that OpenAI itself runs.", param="tool_choice.type")


def _name(tool: Mapping[str, Any], tools: Sequence[Json], where: str) -> str:
    name = tool.get("name")
    if not any(each["function"]["name"] == name for each in tools):
        raise InvalidRequest("It names a tool that is not among `tools`.", param=where)
    return str(name)


def echoed_tool(tool: Json) -> Json:
    """A tool with the keys that it must have in an answer."""
    if tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, "strict": None, **tool}
