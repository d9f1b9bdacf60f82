"""A conversation in OpenAI's dialect as messages for the other dialects. Pure functions.

They raise InvalidRequest and Unsupported that name the message.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from core.errors import InvalidRequest
from core.json_values import Json
from providers.common.history import RESULTS, mend_with_indices, mended_arguments
from providers.common.translate import content_parts, content_text

OPENING = "(The user has not spoken yet.)"
"""The user's message for an upstream that requires the user to speak first."""
GO_ON = "(Go on.)"
"""The user's message for an upstream that requires the user to speak last."""

Role = Literal["user", "assistant", "tool"]
INSTRUCTIONS = ("system", "developer")
TEXTS = ("text", "input_text", "refusal")


class ToolUse(NamedTuple):
    """A call by the assistant: `arguments` as an object, `where` its field in the request."""

    id: str
    name: str
    arguments: Json
    where: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; instructions are not among them.

    `at` is the message: `messages[2]`; `parts` stand in its `content`, each with its field: `messages[2].content[0]`.
    Empty parts are left out. A tool's message `answers` the call of that id, of the function `name`; `failed` is true
    if the tool failed. In another message `name` is the speaker's. `thoughts` are Anthropic's signed blocks, before the
    rest.
    """

    role: Role | Literal["system", "developer"]
    at: str
    parts: list[tuple[str, Json]]
    calls: tuple[ToolUse, ...] = ()
    answers: str = ""
    name: str = ""
    failed: bool = False
    thoughts: tuple[Json, ...] = ()


def instructions(messages: Sequence[Mapping[str, Any]]) -> list[Json]:
    """The parts of all system and developer messages, in order."""
    parts = []
    for number, message in enumerate(messages):
        if message["role"] in INSTRUCTIONS:
            content_text(message.get("content"), f"messages[{number}]")
            parts += [part for _, part in _nonempty_parts(message, f"messages[{number}]")]
    return parts


def conversation(messages: Sequence[Mapping[str, Any]], *, with_instructions: bool = False) -> list[Message]:
    """The conversation's messages without empty ones. `with_instructions` includes system and developer messages, also
    empty ones.

    The past part is mended first (history.py). A legacy `function_call` is a call, and a `function` message its result.
    Raises InvalidRequest for a new result without a call, a new call without a result, and if all messages are empty.
    Without messages it is [].
    """
    turns: list[Message] = []
    waiting: dict[str, ToolUse] = {}
    spoken = ""
    for number, message in mend_with_indices(messages):
        role, at = message["role"], f"messages[{number}]"
        if role in INSTRUCTIONS:
            turns += (
                [Message(role, at, _parts_with_fields(message, at), name=message.get("name") or "")]
                if with_instructions
                else []
            )
            continue
        spoken = spoken or at
        if role in RESULTS:
            use = _take_call(message, at, waiting)
            failed = message.get("is_error") is True
            turns.append(
                Message("tool", at, _nonempty_parts(message, at), answers=use.id, name=use.name, failed=failed)
            )
            continue
        parts, calls = _nonempty_parts(message, at), tuple[ToolUse, ...]()
        if role == "assistant":
            calls = tuple(_calls(message, at))
            waiting = {use.id: use for use in calls}
        if parts or calls:
            speaker: Role = "user" if role == "user" else "assistant"
            thoughts = message.get("thinking_blocks")
            thoughts = tuple(thoughts) if isinstance(thoughts, list) else ()
            turns.append(Message(speaker, at, parts, calls, name=message.get("name") or "", thoughts=thoughts))
    for use in waiting.values():
        raise InvalidRequest("A tool call must be followed by a tool message with its result.", param=use.where)
    if spoken and all(turn.role in INSTRUCTIONS for turn in turns):
        raise InvalidRequest("The conversation says nothing: its messages are empty.", param=spoken)
    return turns


def _parts_with_fields(message: Mapping[str, Any], at: str) -> list[tuple[str, Json]]:
    return [(f"{at}.content[{place}]", part) for place, part in enumerate(content_parts(message.get("content")))]


def _nonempty_parts(message: Mapping[str, Any], at: str) -> list[tuple[str, Json]]:
    """The parts that are not empty, each with its field: upstreams refuse empty or blank text.

    A refusal beside the content is a part too. So is the transcript of a spoken answer without content. A
    `cache_control` of the whole message becomes its last part's.
    """
    given = _parts_with_fields(message, at)
    given += [(at, {"type": "refusal", "refusal": message["refusal"]})] if message.get("refusal") else []
    if not given and isinstance(spoken := message.get("audio"), dict) and spoken.get("transcript"):
        given = [(f"{at}.audio", {"type": "text", "text": spoken["transcript"]})]
    parts = [(where, part) for where, part in given if part["type"] not in TEXTS or _words(part, where).strip()]
    if parts and message.get("cache_control"):
        where, part = parts[-1]
        parts[-1] = where, {"cache_control": message["cache_control"], **part}
    return parts


def _words(part: Mapping[str, Any], where: str) -> str:
    field = "refusal" if part["type"] == "refusal" else "text"
    words = part.get(field) or ""
    if not isinstance(words, str):
        raise InvalidRequest("A text must be a string.", param=f"{where}.{field}")
    return words


def _calls(message: Mapping[str, Any], at: str) -> Iterable[ToolUse]:
    legacy = message.get("function_call")
    given = message.get("tool_calls") or ([{"id": f"call_{at}", "function": legacy}] if legacy else [])
    for place, call in enumerate(given):
        where = f"{at}.tool_calls[{place}]"
        function = call.get("function")
        if isinstance(custom := call.get("custom"), dict):  # OpenAI's tools of free text; no other vendor has them
            function = {"name": custom.get("name"), "arguments": {"input": custom.get("input")}}
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not name:
            raise InvalidRequest("A tool call needs a `function` with a `name`.", param=where)
        yield ToolUse(call["id"], name, mended_arguments(function.get("arguments")), where)


def _take_call(message: Mapping[str, Any], at: str, waiting: dict[str, ToolUse]) -> ToolUse:
    """The call of a result, which is removed from the open calls."""
    if message["role"] == "function":
        id_ = next((use.id for use in waiting.values() if use.name == message.get("name")), "")
    else:
        id_ = message.get("tool_call_id") or ""
    if id_ not in waiting:
        raise InvalidRequest("It answers no call of the assistant's message before it.", param=f"{at}.tool_call_id")
    return waiting.pop(id_)


def merge_same_role(turns: Iterable[tuple[str, list[Json]]]) -> list[tuple[str, list[Json]]]:
    """The messages as (role, content), with successive messages of one role merged."""
    together: list[tuple[str, list[Json]]] = []
    for role, content in turns:
        if together and together[-1][0] == role:
            together[-1][1].extend(content)
        else:
            together.append((role, list(content)))
    return together
