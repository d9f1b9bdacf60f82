"""Which tool call a delta belongs to: ids, indices and names come late, twice or never (see ToolCallTracker)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core import lenient_json

Key = int | str

MOST_CALLS = 4096
"""The largest number of tool calls in an answer."""
NO_VALUE = object()
ENDS = '}]"le'
"""The last characters of JSON values other than objects, null, true and false among them."""


@dataclass(slots=True)
class OpenCall:
    """A call that has begun. Its name is "" until it comes; its id is "" if the upstream gave none; `begun`: some of
    its arguments have come.
    """

    name: str
    id: str
    pieces: list[str] = field(default_factory=list)
    begun: bool = False

    @property
    def arguments(self) -> str:
        """The arguments so far."""
        return "".join(self.pieces)

    @property
    def whole(self) -> bool:
        """Whether its arguments are complete: a JSON value, be it an object or not."""
        return bool(self.pieces) and self.pieces[-1].rstrip()[-1:] in ENDS and _value(self.arguments) is not NO_VALUE

    @property
    def complete(self) -> bool:
        """Whether its arguments are complete and not empty; some upstreams begin with an empty object."""
        return self.whole and self.arguments.strip() not in ("{}", "null")


class ToolCallTracker:
    """The tool calls that one choice has opened, in their order.

    OpenAI sends an index with each delta, and the id and name once, with the first. Of others, and of gateways between:

        What a delta has                          What is decided
        an id that is known                       continues that call, whatever its index
          and another name                        opens a new call: the id is used twice
          and other arguments, of a complete one  opens a new call
          and the same arguments once more        is the same call, repeated: nothing is added
        no name, and an index that is known       continues the latest call at that index
        no name, no id, and an unknown index      continues the latest call of all
        a name, at an index without a name yet    names that call: the arguments so far are passed on now
        the same name at the same index           continues the call while its arguments are incomplete
          and a new id before any arguments       opens a new call: two calls, all at index 0
          and the call is complete                opens a new call: whole calls, all at index 0
        another name at the same index            opens a new call
        arguments `{}` or null, then others       are one call's: the empty object was a placeholder
        arguments as an object, or none           are made text; none at all are `{}` once the answer ends
        no name until the end                     is no call: the answer is invalid
    """

    def __init__(self) -> None:
        self.opened: dict[Key, OpenCall] = {}
        self.by_id: dict[str, Key] = {}
        self._latest: dict[Any, Key] = {}
        self._last: Key | None = None

    @property
    def nameless(self) -> bool:
        """Whether a delta came for a call without a name."""
        return any(not call.name and (call.id or call.pieces) for call in self.opened.values())

    def take(self, delta: Mapping[str, Any]) -> tuple[Key, bool, str]:
        """Note a delta; returns its call's key, whether it names the call, and the arguments that can be passed on."""
        key = self.find(delta)
        if key is None:
            key = self.open(delta)
        call, name, piece = self.opened[key], name_of(delta), arguments_of(delta)
        if is_object(piece) and call.complete:
            piece = ""  # repeated
        if piece:
            call.pieces.append(piece)
            call.begun = call.begun or not piece.isspace()
        opens = bool(name) and not call.name
        call.name = call.name or name
        return key, opens, call.arguments if opens else piece if call.name else ""

    def find(self, delta: Mapping[str, Any]) -> Key | None:
        """The key of the call that this delta continues, by the table above; None when it opens a new one."""
        index, name, identifier = delta.get("index"), name_of(delta), _id(delta)
        known = self.by_id.get(identifier)
        if known is not None:
            return known if _is_same(self.opened[known], name, arguments_of(delta)) else None
        key = self._latest.get(index)
        if not name:
            return self._last if key is None and not identifier else key
        if key is None or not (current := self.opened[key]).name:
            return key
        begun = current.arguments.lstrip().startswith("{")
        goes_on = current.name == name and (begun or not identifier) and not current.whole
        return key if goes_on else None

    def open(self, delta: Mapping[str, Any]) -> Key:
        """A new call; an id that another call has counts as none. Raises ValueError for one call too many."""
        if len(self.opened) >= MOST_CALLS:
            raise ValueError(f"more than {MOST_CALLS} tool calls")
        index, identifier = delta.get("index"), _id(delta)
        key: Key = index if type(index) is int and index not in self.opened else f"call {len(self.opened)}"
        if identifier and self.by_id.setdefault(identifier, key) != key:
            identifier = ""
        self.opened[key] = OpenCall("", identifier)
        self._latest[index] = self._last = key
        return key


def _is_same(call: OpenCall, name: str, piece: str) -> bool:
    if name and call.name and name != call.name:
        return False
    return not (is_object(piece) and call.complete) or call.arguments.strip() == piece.strip()


def _id(delta: Mapping[str, Any]) -> str:
    identifier = delta.get("id")
    return identifier if isinstance(identifier, str) else ""


def name_of(delta: Mapping[str, Any]) -> str:
    """The name in a call, or in a delta of one; "" for none. Raises ValueError for what is no text."""
    name = (delta.get("function") or {}).get("name") or ""
    if not isinstance(name, str):
        raise ValueError(f"a tool whose name is a {type(name).__name__}")
    return name


def arguments_of(delta: Mapping[str, Any]) -> str:
    """The text of the arguments in it."""
    arguments = (delta.get("function") or {}).get("arguments")
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else lenient_json.dumps(arguments).decode()


def is_object(text: str) -> bool:
    """Whether it is the JSON text of an object."""
    return text.lstrip().startswith("{") and text.rstrip().endswith("}") and isinstance(_value(text), dict)


def _value(text: str) -> Any:
    try:
        return lenient_json.loads(lenient_json.join_surrogates(text).encode())
    except ValueError:
        return NO_VALUE
