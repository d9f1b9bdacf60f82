"""Keys that an upstream of OpenAI's shape requires back with its calls, and that OpenAI's clients do not send back.

DeepSeek's reasoning_content, OpenRouter's reasoning_details, Google's signatures in extra_content are hidden from the
caller, stored by the id of the tool call, and added when that call comes again.
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from uuid import uuid4

import orjson

from core.context import CallContext
from core.json_values import Json
from providers.base import Target
from providers.dialects import Dialect

KEPT_SECONDS = 24 * 3600.0
PIECES = ("text", "summary")
"""Keys of OpenRouter's reasoning_details whose values come in pieces."""


class Returned:
    """The keys that one request returns, and those that its answer leaves for the next."""

    def __init__(self, dialect: Dialect, call: CallContext, target: Target) -> None:
        self._dialect = dialect
        self._state = call.state
        self._owner = [call.caller, target.provider.name.partition("#")[0]]
        self._thinks = bool(re.fullmatch(dialect.thinking or ".*", target.model))
        self._said: dict[int, Json] = {}
        self._calls: dict[int, dict[Any, Json]] = {}

    @property
    def wanted(self) -> bool:
        """Whether this upstream requires any key back."""
        return bool(self._dialect.returned or self._dialect.returned_in_call)

    def put_back(self, body: Json) -> Json:
        """The body with the stored keys of its calls, and with placeholders for unknown ones."""
        if not self.wanted:
            return body
        messages, lost = [], False
        for message in body["messages"]:
            if message["role"] == "assistant" and message.get("tool_calls"):
                made = self._with_stored_keys(message)
                lost = lost or any(made.get(key) in (None, "") for key in self._dialect.returned)
                messages.append(made)
            else:
                messages.append(message)
        beside = self._dialect.unreturned if lost and self._thinks else {}
        return {**beside, **body, "messages": messages}

    def note(self, answer: Mapping[str, Any]) -> bool:
        """Collect the keys of a chunk, or a whole answer. A call without an id gets one, under which its keys are
        stored. Then this returns true, and the answer may not pass unchanged.
        """
        opened = False
        if self._state is None or not self.wanted:
            return opened
        for position, choice in enumerate(answer["choices"]):
            index = choice.get("index")
            index = index if isinstance(index, int) else position
            message = choice.get("delta") or choice.get("message") or {}
            kept = self._said.setdefault(index, {})
            for key in self._dialect.returned.keys() & message.keys():
                kept[key] = join_values(kept.get(key), message[key])
            for place, call in enumerate(message.get("tool_calls") or ()):
                opened = self._note_call(index, place, call) or opened
            if choice.get("finish_reason"):
                self._keep(index)
        return opened

    def _note_call(self, choice: int, place: int, call: Json) -> bool:
        """Note a call, or a piece of one; returns whether it had to be given an id."""
        calls = self._calls.setdefault(choice, {})
        at = call.get("index", place)
        unnamed = not call.get("id") and at not in calls
        if unnamed:
            call["id"] = f"call_{uuid4().hex[:24]}"
        if call.get("id"):
            if at in calls and calls[at]["id"] != call["id"]:
                at = call["id"]  # several whole calls at one index
            calls.setdefault(at, {"id": call["id"], "keys": {}})
        keys = self._dialect.returned_in_call
        calls[at]["keys"].update({key: call[key] for key in keys if call.get(key) is not None})
        return unnamed

    def _keep(self, choice: int) -> None:
        kept = {key: value for key, value in self._said.get(choice, {}).items() if value is not None}
        for call in self._calls.pop(choice, {}).values():
            if self._state is not None and (kept or call["keys"]):
                value = orjson.dumps({"message": kept, "call": call["keys"]}).decode()
                self._state.put(self._key(call["id"]), value, KEPT_SECONDS)

    def _with_stored_keys(self, message: Mapping[str, Any]) -> Json:
        """An assistant's message with calls, and with the stored keys."""
        made, calls = dict(message), [dict(call) for call in message["tool_calls"]]
        known = [self._recall(str(call.get("id"))) for call in calls]
        for key, stand_in in self._dialect.returned.items():
            if made.get(key) is None:
                kept = [each["message"][key] for each in known if key in each["message"]]
                if kept or (stand_in is not None and self._thinks):
                    made[key] = kept[0] if kept else stand_in
        for key, stand_in in self._dialect.returned_in_call.items():
            for call, each in zip(calls, known, strict=True):
                if call.get(key) is None and key in each["call"]:
                    call[key] = each["call"][key]
            if stand_in is not None and self._thinks and not any(call.get(key) for call in calls):
                calls[0][key] = stand_in
        return {**made, "tool_calls": calls}

    def _recall(self, identifier: str) -> Json:
        kept = self._state.get(self._key(identifier)) if self._state is not None else None
        found: Json = orjson.loads(kept) if kept else {"message": {}, "call": {}}
        return found

    def _key(self, identifier: str) -> str:
        return f"returned:{sha256(orjson.dumps([*self._owner, identifier])).hexdigest()}"


def join_values(before: Any, piece: Any) -> Any:
    """The value so far and its next piece, joined: texts as one, and lists of details detail by detail."""
    if before is None or piece is None:
        return piece if before is None else before
    if isinstance(before, str) and isinstance(piece, str):
        return before + piece
    if not (isinstance(before, list) and isinstance(piece, list)):
        return piece
    details = list(before)
    for each in piece:
        last: Any = details[-1] if details else None
        if _goes_on(last, each):
            pieces = {key: f"{last.get(key) or ''}{each.get(key) or ''}" for key in PIECES if key in each}
            details[-1] = {**last, **{key: value for key, value in each.items() if value is not None}, **pieces}
        else:
            details.append(each)
    return details


def _goes_on(last: Any, detail: Any) -> bool:
    """Whether a detail is the next piece of the one before."""
    return (
        isinstance(last, dict)
        and isinstance(detail, dict)
        and all(last.get(key) == detail.get(key) for key in ("type", "index"))
        and "data" not in detail
    )
