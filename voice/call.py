"""The state of a phone call. Two threads use it: one handles the platform's frames, another answers the turn.

Both use the shared values only with `lock`, which no thread holds while it waits. The answering thread writes frames
with a second lock, `writing`, so that the frames of two turns never mix. So a platform that reads slowly delays the
turn, but not the thread that handles the platform's frames.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from core import lenient_json
from core.context import CallContext
from core.errors import Cancelled
from core.json_values import Json
from voice.conversation import Conversation
from voice.platform import Output, Platform


class State(Enum):
    """The states of a call; voice/session.py has the table."""

    IDLE = "idle"
    ASKING = "asking"
    SPEAKING = "speaking"
    CALLING = "calling"
    CLOSED = "closed"


class Framing(Protocol):
    """The state of a connection's protocol."""

    @property
    def is_finished(self) -> bool:
        """Whether the platform has closed the connection properly, so that it was not lost."""


class Socket(Protocol):
    """The methods of the connection (server/sockets) that a call uses."""

    @property
    def closing(self) -> bool:
        """Whether the server closes the connection, so that the platform has to dial again."""

    @property
    def framing(self) -> Framing:
        """The state of its protocol."""

    def send(self, text: str) -> None:
        """Send a text frame. Raises Cancelled."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection."""

    def run_turn(self, work: Callable[[], None]) -> None:
        """Do the work in another thread. Raises Overloaded."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Have the thread that handles frames call back; returns a function that cancels that."""


@dataclass(eq=False, slots=True)
class Turn:
    """A turn under way. `asked` is the conversation including its question; cancelling `upstream` ends the turn."""

    number: int | None
    asked: list[Json]
    upstream: CallContext | None = None
    has_begun: bool = False
    has_spoken: bool = False


class Call:
    """A phone call: its platform, its conversation and the turn under way. `threads` counts the threads that answer
    turns: one for the newest turn, and perhaps one for a cancelled turn that has not ended yet.
    """

    def __init__(self, platform: Platform, conversation: Conversation) -> None:
        self.platform = platform
        self.conversation = conversation
        self.id = platform.call_id
        self.state = State.IDLE
        self.lock = threading.Lock()
        self.writing = threading.Lock()
        self.socket: Socket
        self.turn: Turn | None = None
        self.threads = 0

    @contextmanager
    def current(self, turn: Turn) -> Iterator[None]:
        """A context that holds the lock while the turn is the one under way. Raises Cancelled."""
        with self.lock:
            if self.turn is not turn:
                raise Cancelled
            yield

    def attach(self, turn: Turn, upstream: CallContext, state: State) -> None:
        """Have `upstream` cancelled with the turn. Raises Cancelled if the turn is cancelled already."""
        with self.current(turn):
            turn.upstream, self.state = upstream, state

    def emit(self, turn: Turn, output: Output, note: Callable[[], object] = lambda: None) -> None:
        """Call `note`, then send an output of a turn, with the lock held. Raises Cancelled."""
        with self.writing:
            with self.current(turn):
                note()
            self.send(self.platform.write(turn.number, output))

    def drop_turn(self) -> None:
        """Cancel the turn under way. The sent part of its answer stays in the conversation. The lock must be held."""
        turn, self.turn = self.turn, None
        if turn is None:
            return
        self.state = State.IDLE
        self.conversation.end_answer()
        if turn.upstream is not None:
            turn.upstream.cancel()

    def send(self, frames: Iterable[Json]) -> None:
        """Send frames. Raises Cancelled."""
        for frame in frames:
            self.socket.send(lenient_json.dumps(frame).decode())
