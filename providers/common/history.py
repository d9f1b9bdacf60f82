"""Mends the past part of a conversation so that every vendor accepts it. Pure.

The caller cannot change what is past, so a fault there would end a phone call for good (decision 5). New messages are
validated: the results at the end of the conversation, and the calls of the assistant's message before them. Faults in
those are left, and the code that reads the conversation refuses them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from core.json_values import Json

Message = Mapping[str, Any]

INTERRUPTED = "(The call was interrupted: it has no result.)"
"""The result of a past call without one: voice frameworks leave such calls when the user interrupts."""
UNREADABLE = "_raw"
"""The key for the arguments of a past call that are no JSON object."""
RESULTS = ("tool", "function")


@dataclass(slots=True)
class _Call:
    """A call of `message`: its original id and name, and its id now."""

    message: int
    given: str
    name: str
    id: str
    legacy: bool


def mend_history(messages: Sequence[Message]) -> list[Message]:
    """The messages as every vendor accepts them; unchanged ones are the same objects, and none is modified.

    Past calls have unique ids, the JSON text of an object as arguments, and their results directly behind them, with
    a placeholder for a missing one. Past results without a call are left out.
    """
    return [message for _, message in mend_with_indices(messages)]


def mend_with_indices(messages: Sequence[Message]) -> list[tuple[int, Message]]:
    """The mended messages, each with its index in `messages`; a placeholder has its call's index."""
    if not any(message["role"] in RESULTS or _has_calls(message) for message in messages):
        return list(enumerate(messages))
    newest = max((at for at, message in enumerate(messages) if message["role"] not in RESULTS), default=-1)
    waiting: list[_Call] = []
    seen: set[str] = set()
    results: dict[int, list[tuple[int, Message]]] = {}
    kept: list[tuple[int, Message]] = []
    for at, message in enumerate(messages):
        if message["role"] in RESULTS:
            if call := _call_of(message, waiting):
                waiting.remove(call)
                results.setdefault(call.message, []).append((at, _result(message, call)))
            elif at > newest:
                kept.append((at, message))
        elif message["role"] == "assistant" and _has_calls(message):
            made = list(_calls(message, at, seen))
            waiting += made
            kept.append((at, _mend_message(message, made)))
        else:
            kept.append((at, message))
    for call in waiting:
        if call.message != newest:
            results.setdefault(call.message, []).append((call.message, _stand_in(call)))
    return [each for at, message in kept for each in ((at, message), *results.pop(at, ()))]


def mended_arguments(given: Any) -> Json:
    """A call's arguments as an object, in whichever form; {} for nothing, `UNREADABLE` for what is no object."""
    value = given
    for _ in range(2):  # some clients encode the text twice
        if isinstance(value, str):
            value = _parse(value)
    if isinstance(value, dict):
        return value
    return {UNREADABLE: given if isinstance(given, str) else value} if value else {}


def _has_calls(message: Message) -> bool:
    return "tool_calls" in message or bool(message.get("function_call"))


def _calls(message: Message, at: int, seen: set[str]) -> Iterator[_Call]:
    """The message's calls, each with an id that no earlier call has: its own, or one made from its index."""
    legacy = message.get("function_call")
    if not message.get("tool_calls") and isinstance(legacy, dict):
        yield _Call(at, "", str(legacy.get("name")), "", legacy=True)
    for place, call in enumerate(message.get("tool_calls") or ()):
        given = "" if call.get("id") is None else str(call["id"])
        fresh = given if given and given not in seen else f"call_{at}_{place}"
        while fresh in seen:
            fresh += "_"
        seen.add(fresh)
        function = call.get("function")
        yield _Call(at, given, str(function.get("name")) if isinstance(function, dict) else "", fresh, legacy=False)


def _mend_message(message: Message, made: Sequence[_Call]) -> Message:
    """The message with mended calls; the same object if nothing changed."""
    if not message.get("tool_calls"):
        legacy = message.get("function_call")
        kept = {key: each for key, each in message.items() if key != "tool_calls"}
        return {**kept, "function_call": _function(legacy)} if isinstance(legacy, dict) else kept
    given = message["tool_calls"]
    calls = [_call(each, call.id) for each, call in zip(given, made, strict=True)]
    unchanged = all(after is before for after, before in zip(calls, given, strict=True))
    return message if unchanged else {**message, "tool_calls": calls}


def _call(call: Message, identifier: str) -> Message:
    function = call.get("function")
    fit = _function(function) if isinstance(function, dict) else function
    if fit is function and call.get("id") == identifier and "type" in call:
        return call
    return {"type": "function", **call, "id": identifier, **({} if fit is None else {"function": fit})}


def _function(function: Message) -> Message:
    """A call's name and its arguments as the text of an object; unchanged text if it is valid."""
    given = function.get("arguments")
    try:
        if isinstance(given, str) and isinstance(orjson.loads(given), dict):
            return function
    except orjson.JSONDecodeError:
        pass
    return {**function, "arguments": orjson.dumps(mended_arguments(given)).decode()}


def _call_of(message: Message, waiting: Sequence[_Call]) -> _Call | None:
    """The call of a result: of the latest message's, one without a result. Without an id the function's name decides,
    and without a name the order.
    """
    identifier, name = message.get("tool_call_id"), message.get("name")
    if identifier:
        waiting = [call for call in waiting if call.given == identifier]
    elif name:
        waiting = [call for call in waiting if call.name == name]
    latest = max((call.message for call in waiting), default=-1)
    return next((call for call in waiting if call.message == latest), None)


def _result(message: Message, call: _Call) -> Message:
    if call.legacy or message.get("tool_call_id") == call.id:
        return message
    return {**message, "tool_call_id": call.id}


def _stand_in(call: _Call) -> Json:
    if call.legacy:
        return {"role": "function", "name": call.name, "content": INTERRUPTED}
    return {"role": "tool", "tool_call_id": call.id, "content": INTERRUPTED}


def _parse(text: str) -> Any:
    """The value of a JSON text, also with NaN or half a surrogate pair, which some clients send. The text itself if it
    is no JSON, None if it is blank.
    """
    if not text.strip():
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        value = json.loads(text, parse_constant=lambda _: None)
        plain = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return orjson.loads(plain)
    except (ValueError, RecursionError):
        return text
