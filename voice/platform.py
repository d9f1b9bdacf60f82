"""The commands and outputs between an adapter and the session, as pure values.

a platform's frame  -> Platform.read  -> Command -> session
session             -> Output         -> Platform.write -> the platform's frames
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from core.json_values import Json
from voice.tools import Action

MOST_FACTS = 100
LONGEST_FACT = 2000
"""Characters."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The call begins, with its id and its facts, which the instructions may name."""

    call_id: str
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Describe:
    """Further facts of the call."""

    variables: dict[str, str]


@dataclass(frozen=True, slots=True)
class Transcript:
    """A turn with the platform's number for it, and the whole conversation as a chat's messages."""

    turn: int | None
    messages: list[Json]


@dataclass(frozen=True, slots=True)
class Utterance:
    """An utterance of the caller. The session has the conversation so far."""

    text: str


@dataclass(frozen=True, slots=True)
class KeyPress:
    """The caller has pressed a key of the phone."""

    digit: str


@dataclass(frozen=True, slots=True)
class Interruption:
    """The caller has interrupted the answer. `heard` is the part that was heard, None if it is not known."""

    heard: str | None


@dataclass(frozen=True, slots=True)
class Reply:
    """Frames that need no turn, such as a pong."""

    frames: Sequence[Json]


@dataclass(frozen=True, slots=True)
class HangUp:
    """The call is over."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error at the platform, or in one of our frames."""

    text: str


Command = Begin | Describe | Transcript | Utterance | KeyPress | Interruption | Reply | HangUp | Complaint


@dataclass(frozen=True, slots=True)
class Speech:
    """A piece of the answer, to be spoken."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool is called."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """A tool has answered or failed."""

    id: str
    content: str
    succeeded: bool


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The answer has ended; then the platform is to do `action`, None for nothing."""

    action: Action | None = None


Output = Speech | ToolStarted | ToolEnded | TurnEnded | Action


class Platform(Protocol):
    """An adapter: a platform's frames as commands, and outputs as its frames. Pure.

    name           what webhooks call it
    call_id        the call's id, "" where a Begin has it
    actions        names of the tools that it can carry out (voice/tools.py)
    remembers      whether it sends its own transcript of the conversation with each turn
    """

    name: str
    call_id: str
    actions: frozenset[str]
    remembers: bool

    def open(self) -> list[Json]:
        """The frames that are sent first."""

    def greet(self, text: str) -> list[Json]:
        """The frames that begin the call; the text may be ""."""

    def read(self, frame: Json) -> Command | None:
        """Decode a frame; None if it means nothing. Raises one of BAD_SHAPE for a broken frame."""

    def write(self, turn: int | None, output: Output) -> list[Json]:
        """Encode an output of this turn as frames."""


def facts_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts of a call that are texts."""
    texts = [(name, value[:LONGEST_FACT]) for name, value in facts.items() if isinstance(value, str)]
    return dict(texts[:MOST_FACTS])


def string_of(value: Any) -> str:
    """A value that must be a string. Raises TypeError."""
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def number_of(value: Any) -> int:
    """A value that must be a whole number. Raises TypeError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(value)
    return value
