"""A tool call's arguments on OpenAI's wire: always the JSON text of an object, whatever an upstream makes of them."""

import re

import orjson

from core import lenient_json

BEGUN = re.compile(r'\s*(?:null|None|\{\s*\})?\s*(?=\{\s*")')
"""What may stand before an object that has something in it: some upstreams begin with the empty one, or with null."""
HEAD_CHARACTERS = 64
"""An object begins within so many."""
NOTHING = frozenset({"", "null", "none", "nil", "undefined", "[]"})


class Arguments:
    """One call's arguments as they come. What begins as an object is told as it comes; the rest waits for its end.

    `begun`: the caller has some of them already, as they came.
    """

    def __init__(self, *, begun: bool = False) -> None:
        self._flows = begun
        self._head = ""
        self._held: list[str] = []

    def feed(self, piece: str) -> str:
        """What of them may be told by now."""
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
        """What is left to tell at the end of the call."""
        return "" if self._flows else object_text("".join(self._held))


def object_text(text: str) -> str:
    """The arguments as the text of an object: nothing is {}, an object in quotes is that object, and what cannot be
    read is told under `_raw`.
    """
    value = _read(text)
    if isinstance(value, str):
        text = value
        value = _read(text)
    if isinstance(value, dict):
        return text
    if text.strip().lower() in NOTHING:
        return "{}"
    return orjson.dumps({"_raw": lenient_json.joined(text)}).decode()


def _read(text: str) -> object:
    """The JSON value; None for what is none."""
    try:
        return lenient_json.loads(lenient_json.joined(text).encode())
    except orjson.JSONDecodeError:
        return None
