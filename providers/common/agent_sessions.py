"""Finds the session of an agent for a turn (decision 14): by the caller's own id, or by the transcript so far.

A session is stored after each answer, and the next turn takes it out of the store, so of two simultaneous turns only
one gets it. A turn that finds none (a first one, a duplicate, one after an interruption or a long silence) begins a new
session with the whole history. So does a turn with the caller's own id whose history has not grown since the last
answer: it is a repetition, and the session has received it already.

A session's owner is in its id: `nonce.tag`, where the tag is a hash of the name of the caller's key, the agent and the
nonce. So a caller cannot name a session that another key has opened, and no secret is needed for that.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import sha256
from secrets import token_hex
from typing import Any, Self

import orjson

from core.errors import GatewayError, UpstreamTimeout
from core.store import KeyValueStore

READABLE = 24
"""Characters of a caller's own id that are part of a session's id, for searches in Amazon's logs."""
TAG = 24
NOT_FITTING = re.compile(r"[^0-9a-zA-Z_:-]+")
"""Amazon allows [0-9a-zA-Z._:-]{2,100}; the dot is our separator. (service model bedrock-agent-runtime, SessionId)"""
OPENED_SECONDS = 28_800.0
"""The longest time that an agent keeps an idle session."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SessionOwner:
    """The owner of sessions: the name of a caller's key ("" without keys), and the agent with its alias.

    `about` is what a session received besides the messages: transcripts only match if it is the same.
    """

    caller: str
    agent: str
    about: Any = None


@dataclass(frozen=True, slots=True)
class Session:
    """An agent's session. `known`: it has received the history."""

    id: str
    known: bool


class LeaseState(Enum):
    """See SessionLease."""

    HELD = auto()
    BEGUN = auto()
    SAVED = auto()
    RELEASED = auto()


@dataclass(slots=True)
class SessionLease:
    """The lease of a session for one turn, as a context manager; afterwards the session is stored for the next turn.
    With `state` None nothing is stored.

        HELD      no other turn can take the session           -> BEGUN, RELEASED
        BEGUN     the agent has sent an event                  -> SAVED; after a failure the session expires unused
        SAVED     the session is stored for the next turn
        RELEASED  the turn failed before BEGUN: the session is stored again, for a repetition of the turn

    A turn that timed out, or whose caller disconnected, releases nothing: the agent may still be running.

    `explicit` is the caller's own id, `received` the messages that a session must have received, `seconds` how long the
    agent is expected to keep a session.
    """

    state: KeyValueStore | None
    owner: SessionOwner
    explicit: str
    received: Sequence[Json]
    seconds: float
    _key: str = field(default="", init=False)
    _claimed: str = field(default="", init=False)
    lease_state: LeaseState = field(default=LeaseState.HELD, init=False)

    def __post_init__(self) -> None:
        self._key = self._own_key() if self.explicit else transcript_key(self.owner, self.received)

    def open(self, *, anything_before: bool) -> Session:
        """The stored session, else a new one."""
        found = self.state.pop(self._key) if self.state is not None else None
        session, _, digest = (found or "").partition(" ")
        if found and belongs(session, self.owner):
            self._claimed = found
            again = anything_before and digest == _hash(transcript(self.received))
            return self.fresh() if again else Session(session, known=True)
        if self.explicit and not anything_before:
            return Session(lasting_id(self.owner, self.explicit), known=True)
        return self.fresh()

    def fresh(self) -> Session:
        """A session that has not been used."""
        return Session(_add_tag(self.owner, "-".join(filter(None, (_readable(self.explicit), token_hex(10))))), False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        fails = isinstance(error, GatewayError) and not isinstance(error, UpstreamTimeout)
        if fails and self.lease_state is LeaseState.HELD:
            self.lease_state = LeaseState.RELEASED
            if self._claimed:
                self._put(self._key, self._claimed)

    def begin(self) -> None:
        """Note that the agent has sent an event."""
        if self.lease_state is LeaseState.HELD:
            self.lease_state = LeaseState.BEGUN

    @property
    def begun(self) -> bool:
        """Whether the agent has sent an event."""
        return self.lease_state is not LeaseState.HELD

    def save(self, session: Session, messages: Sequence[Json], answer: str, calls: Sequence[Json] = ()) -> None:
        """Store the session after the turn. `messages` are the conversation, `answer` is the agent's text, `calls` its
        tool calls in OpenAI's form if the session continues with their results.
        """
        self.lease_state = LeaseState.SAVED
        if self.explicit:
            self._put(self._key, f"{session.id} {_hash(transcript(self.received))}")
            self._put(self._opened_key(), "yes", OPENED_SECONDS)
        else:
            whole = [*messages, {"role": "assistant", "content": answer, "tool_calls": calls}]
            self._put(transcript_key(self.owner, whole), session.id)

    def is_replaceable(self) -> bool:
        """Whether a lost session loses nothing: not if the caller does not send the history."""
        return not self.explicit or self.state is None or self.state.get(self._opened_key()) is None

    def invocation_key(self, messages: Sequence[Json]) -> str:
        """The key of the invocation that a session waits for; `messages` are the conversation before it."""
        return f"invocation:{self._own_key() if self.explicit else transcript_key(self.owner, messages)}"

    def _put(self, key: str, value: str, seconds: float = 0.0) -> None:
        if self.state is not None:
            self.state.put(key, value, seconds or self.seconds)

    def _own_key(self) -> str:
        return f"session:{_hash([self.owner.caller, self.owner.agent, 'id', self.explicit])}"

    def _opened_key(self) -> str:
        return f"{self._key}:opened"


def lasting_id(owner: SessionOwner, explicit: str) -> str:
    """The fixed session id for a caller's own id, so that the session is found after the store has lost it."""
    return _add_tag(owner, f"{_readable(explicit)}-{_hash(explicit)[:16]}".lstrip("-"))


def belongs(session: str, owner: SessionOwner) -> bool:
    """Whether the session was opened by this key, at this agent."""
    return session == _add_tag(owner, session.rpartition(".")[0])


def transcript_key(owner: SessionOwner, messages: Sequence[Json]) -> str:
    """The key of the session of this conversation."""
    return f"transcript:{_hash([owner.caller, owner.agent, owner.about, transcript(messages)])}"


def transcript(messages: Sequence[Json]) -> list[list[str]]:
    """The conversation in a form that does not depend on white space, on its division into messages and parts, or on
    the system prompt, which some platforms change each turn.
    """
    lines: list[list[str]] = []
    for message in messages:
        role = message["role"]
        if role in ("system", "developer"):
            continue
        if role == "function":
            role = "tool"
        words = " ".join(_words(message.get("content")).split())
        if words and lines and role != "tool" and lines[-1][0] == role:
            lines[-1][1] += f" {words}"
        elif words or role == "tool":
            lines.append([role, words])
        for call in message.get("tool_calls") or ():
            function = _object(call.get("function"))
            lines.append(["call", str(function.get("name")), _canonical(function.get("arguments"))])
    return lines


def _words(content: Any) -> str:
    if not isinstance(content, list):
        return content or ""
    pieces = []
    for part in content:
        text = part.get("text")
        # Anything but text (a file) must be identical.
        pieces.append(text if isinstance(text, str) else _hash(part))
    return "".join(pieces)


def _canonical(arguments: Any) -> str:
    try:
        value = orjson.loads(arguments)
    except (orjson.JSONDecodeError, TypeError):
        value = arguments
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def tag(owner: SessionOwner, nonce: str) -> str:
    """The tag that shows that an id with this nonce was made for this key and this agent."""
    return _hash([owner.caller, owner.agent, nonce])[:TAG]


def _add_tag(owner: SessionOwner, nonce: str) -> str:
    return f"{nonce}.{tag(owner, nonce)}"


def _readable(explicit: str) -> str:
    return NOT_FITTING.sub("-", explicit)[:READABLE].strip("-")


def _hash(value: Any) -> str:
    return sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
