"""What a fault is: one way for an upstream to go wrong or to be odd, whichever vendor it plays."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from tests.emulators.connection import Connection
from tests.emulators.reply import Reply, play

SETTLE = 0.02
"""Seconds in which a client reads what it was sent, before the next packet or the reset."""

Play = Callable[[Connection, Reply], None]
Edit = Callable[[Reply], Reply]


class Phase(StrEnum):
    """How far the answer has come when the fault strikes."""

    CONNECT = "connect"
    HEADERS = "headers"
    START = "start"
    """After the status, before the first event."""
    MIDDLE = "middle"
    END = "end"
    """After the finish reason, or in its place."""
    IDLE = "idle"
    """After the answer, while the connection is kept."""
    THROUGHOUT = "throughout"


@dataclass(frozen=True)
class Fault:
    """One way to go wrong.

    `streaming`, `whole`: which answers it applies to. `harmless`: the caller must get the whole answer all the same.
    `silent`: the connection stays open and says nothing of use, so that only a time-out ends it.
    """

    name: str
    description: str
    phase: Phase
    play: Play
    streaming: bool = True
    whole: bool = True
    harmless: bool = False
    silent: bool = False

    def __str__(self) -> str:
        return self.name

    def applies(self, stream: bool) -> bool:
        """Whether it can befall a streamed answer, or a whole one."""
        return self.streaming if stream else self.whole


FAULTS: list[Fault] = []


def fault(phase: Phase, **flags: bool) -> Callable[[Play], Fault]:
    """Enter into the table a function that sends the reply its own way; its docstring is the description."""

    def enter(send: Play) -> Fault:
        made = Fault(send.__name__, send.__doc__ or "", phase, send, **flags)
        FAULTS.append(made)
        return made

    return enter


def edit(phase: Phase, **flags: bool) -> Callable[[Edit], Fault]:
    """The same with a function that changes the reply, which is then sent as usual."""

    def enter(change: Edit) -> Fault:
        made = Fault(change.__name__, change.__doc__ or "", phase, lambda c, r: play(c, change(r)), **flags)
        FAULTS.append(made)
        return made

    return enter
