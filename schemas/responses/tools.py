"""The tools of a Responses request: as the functions of a chat, and as an answer repeats them. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from core.errors import InvalidRequest, Unsupported
from core.json_values import Json

FUNCTION_KEYS = ("name", "description", "parameters", "strict")
MOST_NAME_CHARACTERS = 64
"""The longest name of a function that OpenAI's models accept."""


@dataclass(frozen=True, slots=True)
class DeclaredTool:
    """A tool by its name in the request. `is_custom`: it takes a text instead of JSON."""

    name: str
    namespace: str = ""
    is_custom: bool = False


def function_name(name: str, namespace: str | None) -> str:
    """The name of a tool's function in a chat, where tools have no namespaces."""
    if not namespace:
        return name
    joined = f"{namespace}__{name}"
    if len(joined) <= MOST_NAME_CHARACTERS:
        return joined
    return f"{joined[: MOST_NAME_CHARACTERS - 9]}_{sha256(joined.encode()).hexdigest()[:8]}"


def declared_tools(tools: Sequence[Json]) -> dict[str, DeclaredTool]:
    """The tools that have another name or form in a chat, by the names of their functions there."""
    found = {}
    for _, namespace, tool in _flat(tools):
        name, is_custom = tool.get("name"), tool.get("type") == "custom"
        if isinstance(name, str) and (namespace or is_custom):
            found[function_name(name, namespace.get("name"))] = DeclaredTool(
                name, namespace.get("name", ""), is_custom=is_custom
            )
    return found


def _flat(tools: Sequence[Json]) -> Iterator[tuple[str, Json, Json]]:
    """Each tool with its field's name and its namespace, {} for none. Raises InvalidRequest."""
    for at, tool in enumerate(tools):
        where = f"tools[{at}]"
        if tool.get("type") != "namespace":
            yield where, {}, tool
            continue
        if not isinstance(tool.get("name"), str) or not tool["name"]:
            raise InvalidRequest("It must be a string.", param=f"{where}.name")
        inner = tool.get("tools")
        if not isinstance(inner, list) or not all(isinstance(each, dict) for each in inner):
            raise InvalidRequest("It must be a list of tools.", param=f"{where}.tools")
        for place, each in enumerate(inner):
            yield f"{where}.tools[{place}]", tool, each


def chat_tools(tools: Sequence[Json], custom_input: str, *, drops: bool) -> list[Json]:
    """The functions of a chat for the tools; a custom tool becomes a function of one text. Raises Unsupported for tools
    that OpenAI itself runs, unless it `drops` them.
    """
    made = []
    for where, namespace, tool in _flat(tools):
        kind = tool.get("type")
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
        function["name"] = function_name(tool["name"], namespace.get("name"))
        if namespace and not function.get("description") and isinstance(namespace.get("description"), str):
            function["description"] = namespace["description"]
        if kind == "custom":
            function["parameters"] = _text_alone(custom_input, tool.get("format"))
        kept = {key: tool[key] for key in ("cache_control",) if key in tool}
        made.append({"type": "function", "function": function, **kept})
    return made


def _text_alone(name: str, form: Any) -> Json:
    """The schema of an object with one text. A grammar becomes part of the description: no schema can express it."""
    about = "The input, as plain text."
    if isinstance(form, dict) and isinstance(form.get("definition"), str):
        about += f" It must follow this {form.get('syntax') or ''} grammar:\n{form['definition']}"
    properties = {name: {"type": "string", "description": about}}
    return {"type": "object", "properties": properties, "required": [name], "additionalProperties": False}


def chat_tool_choice(choice: Any, tools: list[Json], *, drops: bool) -> tuple[list[Json], Any]:
    """The tools that may be called, and a chat's tool_choice, None for none.

    For `allowed_tools` the other tools are left out, since few upstreams support it.
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
    name = function_name(str(tool.get("name")), tool.get("namespace"))
    if not any(each["function"]["name"] == name for each in tools):
        raise InvalidRequest("It names a tool that is not among `tools`.", param=where)
    return name


def echoed_tool(tool: Json) -> Json:
    """A tool with the keys that it must have in an answer."""
    if tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, "strict": None, **tool}
