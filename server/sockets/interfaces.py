"""The interfaces of a connection's keeper and of its handler."""

from collections.abc import Callable
from typing import Any, Protocol


class Keeper(Protocol):
    """The methods of the keeper that a connection calls."""

    def watch(self, connection: Any) -> None:
        """Poll for the events that the connection waits for now."""

    def handle(self, connection: Any) -> None:
        """Have a thread call `handle_next`."""

    def do(self, job: Callable[[], None]) -> None:
        """Have a thread of the pool do the job."""

    def call_at(self, due: float, job: Callable[[], None]) -> Callable[[], None]:
        """Have the keeper's thread do the job at `due`; returns a function that cancels it."""

    def enter(self) -> None:
        """Count a turn that begins. Raises Overloaded."""

    def leave(self) -> None:
        """Count a turn that has ended."""


class SocketHandler(Protocol):
    """Handles one connection. Its methods are called in threads of the pool, one at a time and in order. They never
    block.
    """

    def opened(self, socket: Any) -> None:
        """The connection is open. The first call."""

    def receive(self, message: str | bytes) -> None:
        """A complete message has arrived: text, or bytes."""

    def closed(self) -> None:
        """The peer has left, or we have closed: cancel running turns. The last call."""
