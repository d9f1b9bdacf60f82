"""The arguments of a tool call on OpenAI's wire: always the JSON text of an object, whatever the upstream sends."""

import re

import orjson

from core import lenient_json

BEGUN = re.compile(r'\s*(?:null|None|\{\s*\})?\s*(?=\{\s*")')
"""Some upstreams send an empty object or null before the object itself."""
HEAD_CHARACTERS = 64
"""Characters within which an object begins."""
NOTHING = frozenset({"", "null", "none", "nil", "undefined", "[]"})


class Arguments:
    """One call's arguments while they stream. An object is passed on as it comes; anything else waits for its end.

    `begun`: the caller already has a part of them, unchanged.
    """

    def __init__(self, *, begun: bool = False) -> None:
        self._flows = begun
        self._head = ""
        self._held: list[str] = []

    def feed(self, piece: str) -> str:
        """The part of the arguments that can be passed on by now."""
        if self._flows:
            return piece
        self._held.append(piece)
        if len(self._head) < HEAD_CHARACTERS:
            self._head += piece
            if found := BEGUN.match(self._head):
                self._flows = True
                return "".join(self._held)[found.end() :]
        return ""

    def close(self) -> str:
        """The part that remains at the end of the call."""
        return "" if self._flows else object_text("".join(self._held))


def object_text(text: str) -> str:
    """The arguments as the text of an object: nothing becomes {}, an object inside a string becomes itself, and text
    that cannot be parsed is put under `_raw`.
    """
    value = _read(text)
    if isinstance(value, str):
        text = value
        value = _read(text)
    if isinstance(value, dict):
        return text
    if text.strip().lower() in NOTHING:
        return "{}"
    return orjson.dumps({"_raw": lenient_json.join_surrogates(text)}).decode()


def _read(text: str) -> object:
    """The JSON value; None for text that is not JSON."""
    try:
        return lenient_json.loads(lenient_json.join_surrogates(text).encode())
    except orjson.JSONDecodeError:
        return None
