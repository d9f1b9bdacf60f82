"""A conversation in Anthropic's dialect as OpenAI's chat JSON. Pure.

https://platform.claude.com/docs/en/api/messages/create. For content without a counterpart in OpenAI's dialect, an
Unsupported is noted (`Conversation.lacks`). It is raised only if an upstream of another dialect is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core import lenient_json
from core.errors import InvalidRequest, Unsupported
from core.json_values import Json

SERVER_BLOCKS = ("server_tool_use", "mcp_tool_use", "mcp_tool_result", "fallback", "compaction", "tool_reference")
"""Blocks of an assistant that Anthropic's own tools have made; so are those whose type ends in `_tool_result`. They are
left out, as other models do not need them.
"""
PLAIN_TOOLS = (None, "custom")
BUDGETS = ((4_096, "low"), (12_288, "medium"))
"""The most tokens of thinking -> the effort that they mean. More tokens mean a high effort."""
MOVED_PARTS = "(What the tool {} gave:)"


@dataclass(slots=True)
class Conversation:
    """The messages of a chat while they are made. `places` has the field that each was made of; `lacks` the error for
    content that was left out.
    """

    messages: list[Json] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    lacks: Unsupported | None = None

    def add(self, message: Json, place: str) -> None:
        """Add a message that was made of the field `place`."""
        self.messages.append(message)
        self.places.append(place)

    def lose(self, what: str, place: str) -> None:
        """Note content that has no counterpart. The error names the first one."""
        self.lacks = self.lacks or Unsupported(what, param=place)


def translate(body: Mapping[str, Any]) -> tuple[Json, Conversation]:
    """The body of the equivalent chat, and its conversation. Raises InvalidRequest with the field's name."""
    talk = Conversation()
    if system := body.get("system"):
        talk.add({"role": "system", "content": _texts(_blocks(system, "system"), "\n\n")}, "system")
    for at, message in enumerate(body["messages"]):
        place = f"messages[{at}]"
        blocks = _blocks(message["content"], f"{place}.content")
        if message["role"] == "assistant":
            _add_assistant(talk, blocks, place)
        elif message["role"] == "system":
            talk.add({"role": "system", "content": _texts(blocks, "\n\n")}, place)
        else:
            _add_user(talk, blocks, place)
    for name in ("container", "mcp_servers"):
        if body.get(name):
            talk.lose(f"`{name}` is Anthropic's own, and has no counterpart elsewhere.", name)
    tools = _tools(body, talk)
    return {"model": body["model"], "messages": talk.messages, **tools, **_parameters(body)}, talk


def _blocks(content: Any, place: str) -> list[tuple[str, Json]]:
    """The content's blocks, each with its field's name. Raises InvalidRequest for another shape."""
    if isinstance(content, str):
        return [(place, {"type": "text", "text": content})] if content else []
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise InvalidRequest(f"'{place}': Must be a string or a list of blocks.", param=place)
    return [(f"{place}[{at}]", block) for at, block in enumerate(content)]


def _text(block: Mapping[str, Any], place: str) -> Json:
    return {"type": "text", "text": _string(block, "text", place), **_cache_marks(block)}


def _string(block: Mapping[str, Any], name: str, place: str) -> str:
    value = block.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"'{place}.{name}': Must be a string.", param=f"{place}.{name}")
    return value


def _cache_marks(block: Mapping[str, Any]) -> Json:
    return {"cache_control": block["cache_control"]} if block.get("cache_control") else {}


def _texts(blocks: list[tuple[str, Json]], between: str) -> str | list[Json]:
    """One text; or parts, if a block has a cache mark. Raises InvalidRequest for blocks that are no texts."""
    for place, block in blocks:
        if block["type"] != "text":
            raise InvalidRequest(f"'{place}': Must be a text block.", param=place)
    parts = [_text(block, place) for place, block in blocks]
    return parts if any("cache_control" in part for part in parts) else between.join(part["text"] for part in parts)


def _add_user(talk: Conversation, blocks: list[tuple[str, Json]], place: str) -> None:
    """Add a user's message. Results of tools become messages before it; their pictures and files are moved into it."""
    moved: list[Json] = []
    for where, block in blocks:
        if block["type"] == "tool_result":
            moved += _add_result(talk, block, where)
    parts = moved + [part for where, block in blocks if block["type"] != "tool_result"
                     for part in _parts(talk, block, where)]  # fmt: skip
    if parts:
        single = len(parts) == 1 and parts[0].keys() == {"type", "text"}
        talk.add({"role": "user", "content": parts[0]["text"] if single else parts}, place)


def _add_result(talk: Conversation, block: Mapping[str, Any], place: str) -> list[Json]:
    """Add a tool's message. Returns the parts that such a message cannot have in OpenAI's dialect."""
    content = block.get("content") or []
    parts = [
        part
        for where, each in _blocks(content, f"{place}.content")
        for part in _parts(talk, each, where)
    ]  # fmt: skip
    identifier = _string(block, "tool_use_id", place)
    said = "\n".join(part["text"] for part in parts if part["type"] == "text")
    failed = block.get("is_error") is True
    if failed and not said.lower().startswith("error"):
        said = f"Error: {said}" if said else "Error"
    marks: Json = {"is_error": True} if failed else {}
    talk.add({"role": "tool", "tool_call_id": identifier, "content": said, **marks, **_cache_marks(block)}, place)
    others = [part for part in parts if part["type"] != "text"]
    return [{"type": "text", "text": MOVED_PARTS.format(identifier)}, *others] if others else []


def _parts(talk: Conversation, block: Mapping[str, Any], place: str) -> list[Json]:
    """The parts, in OpenAI's dialect, of a block of a user's message or of a tool's result."""
    kind = block.get("type")
    if kind == "text":
        return [_text(block, place)]
    if kind == "image":
        return _image(talk, block, place)
    if kind == "document":
        return _document(talk, block, place)
    if kind == "search_result":
        said = "\n".join(_string(each, "text", where) for where, each in _blocks(block.get("content") or [], place))
        return [
            {"type": "text", "text": f"{block.get('title')} ({block.get('source')})\n{said}", **_cache_marks(block)}
        ]
    if kind == "tool_reference":
        return [{"type": "text", "text": str(block.get("tool_name"))}]
    talk.lose(f"A block of type {kind!r} is Anthropic's own, and has no counterpart elsewhere.", place)
    return []


def _source(block: Mapping[str, Any], place: str) -> Json:
    source = block.get("source")
    if not isinstance(source, dict):
        raise InvalidRequest(f"'{place}.source': Must be an object.", param=f"{place}.source")
    return source


def _image(talk: Conversation, block: Mapping[str, Any], place: str) -> list[Json]:
    source, where = _source(block, place), f"{place}.source"
    if source.get("type") == "base64":
        url = f"data:{_string(source, 'media_type', where)};base64,{_string(source, 'data', where)}"
    elif source.get("type") == "url":
        url = _string(source, "url", where)
    else:
        talk.lose("A picture must be sent as base64 or by its URL: a file's id is known at Anthropic alone.", where)
        return []
    return [{"type": "image_url", "image_url": {"url": url}, **_cache_marks(block)}]


def _document(talk: Conversation, block: Mapping[str, Any], place: str) -> list[Json]:
    """A PDF becomes a file; a document of texts becomes texts below its title."""
    source, where = _source(block, place), f"{place}.source"
    title = block["title"] if isinstance(block.get("title"), str) else ""
    header = "\n".join(each for each in (title, block.get("context")) if isinstance(each, str) and each)
    heading = [{"type": "text", "text": header}] if header else []
    match source.get("type"):
        case "base64":
            data = f"data:{_string(source, 'media_type', where)};base64,{_string(source, 'data', where)}"
            file = {"filename": title or "document.pdf", "file_data": data}
            return [*(heading if block.get("context") else []), {"type": "file", "file": file, **_cache_marks(block)}]
        case "text":
            return [*heading, {"type": "text", "text": _string(source, "data", where), **_cache_marks(block)}]
        case "content":
            inside = _blocks(source.get("content") or [], f"{where}.content")
            return [*heading, *(part for at, each in inside for part in _parts(talk, each, at))]
    talk.lose("A document must be sent as base64 or text: its URL or a file's id is read at Anthropic alone.", where)
    return []


def _add_assistant(talk: Conversation, blocks: list[tuple[str, Json]], place: str) -> None:
    calls: list[Json] = []
    thoughts: list[Json] = []
    texts: list[tuple[str, Json]] = []
    for where, block in blocks:
        kind = block["type"]
        if kind == "text":
            texts.append((where, block))
        elif kind == "tool_use":
            function = {"name": _string(block, "name", where), "arguments": _arguments(block.get("input"))}
            calls.append({"id": _string(block, "id", where), "type": "function", "function": function})
        elif kind in ("thinking", "redacted_thinking"):
            thoughts.append(block)
        elif kind not in SERVER_BLOCKS and not kind.endswith("_tool_result"):
            talk.lose(f"A block of type {kind!r} is Anthropic's own, and has no counterpart elsewhere.", where)
    message: Json = {"role": "assistant", "content": _texts(texts, "") or (None if calls else "")}
    talk.add(
        {
            **message,
            **({"tool_calls": calls} if calls else {}),
            **({"thinking_blocks": thoughts} if thoughts else {}),
        },
        place,
    )


def _arguments(given: Any) -> str:
    return lenient_json.dumps(given if isinstance(given, dict) else {}).decode()


def _tools(body: Mapping[str, Any], talk: Conversation) -> Json:
    tools = []
    for at, tool in enumerate(body.get("tools") or ()):
        if tool.get("type") not in PLAIN_TOOLS:
            what = f"The tool {tool['type']!r} is Anthropic's own; elsewhere a tool needs a name and an `input_schema`."
            talk.lose(what, f"tools[{at}]")
            continue
        function = {"name": _string(tool, "name", f"tools[{at}]"), "parameters": tool.get("input_schema") or {}}
        function |= {key: tool[key] for key in ("description", "strict") if tool.get(key) is not None}
        tools.append({"type": "function", "function": function, **_cache_marks(tool)})
    if not tools:
        return {}
    return {"tools": tools, **_tool_choice(body.get("tool_choice") or {})}


def _tool_choice(choice: Mapping[str, Any]) -> Json:
    one: Json = {"parallel_tool_calls": False} if choice.get("disable_parallel_tool_use") is True else {}
    match choice.get("type", "auto"):
        case "auto":
            return {"tool_choice": "auto", **one} if choice else one
        case "any":
            return {"tool_choice": "required", **one}
        case "none":
            return {"tool_choice": "none"}
        case "tool":
            named = {"type": "function", "function": {"name": _string(choice, "name", "tool_choice")}}
            return {"tool_choice": named, **one}
    raise InvalidRequest("'tool_choice.type': Must be auto, any, tool or none.", param="tool_choice.type")


def _parameters(body: Mapping[str, Any]) -> Json:
    """The parameters of the answer, by OpenAI's names."""
    names = {"max_tokens": "max_tokens", "stop_sequences": "stop", "temperature": "temperature", "top_p": "top_p"}
    names |= {"top_k": "top_k", "stream": "stream"}
    given = {ours: body[theirs] for theirs, ours in names.items() if body.get(theirs) not in (None, [])}
    output = body.get("output_config") or {}
    shape = output.get("format") or body.get("output_format")
    if isinstance(shape, dict) and shape.get("type") == "json_schema":
        wanted = {"name": "answer", "schema": shape.get("schema")}
        given["response_format"] = {"type": "json_schema", "json_schema": wanted}
    user = (body.get("metadata") or {}).get("user_id")
    if isinstance(user, str) and user:
        given["user"] = user
    tier = body.get("service_tier")
    if tier in ("auto", "standard_only"):
        given["service_tier"] = "auto" if tier == "auto" else "default"
    if effort := _effort(body.get("thinking") or {}, output):
        given["reasoning_effort"] = effort
    return given


def _effort(thinking: Mapping[str, Any], output: Mapping[str, Any]) -> str:
    """OpenAI's `reasoning_effort`; "" if the model may choose."""
    if thinking.get("type") == "disabled":
        return "none"
    if isinstance(effort := output.get("effort"), str):
        return effort
    budget = thinking.get("budget_tokens")
    if thinking.get("type") != "enabled" or not isinstance(budget, (int, float)):
        return ""
    return next((effort for most, effort in BUDGETS if budget <= most), "high")
