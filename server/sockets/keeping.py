"""The keeper, as its connections see it."""

from collections.abc import Callable
from typing import Any, Protocol


class Keeper(Protocol):
    """What a connection needs of its keeper."""

    def watch(self, connection: Any) -> None:
        """Wait for what the connection waits for now."""

    def handle(self, connection: Any) -> None:
        """Have a thread call `handle_next`."""

    def do(self, job: Callable[[], None]) -> None:
        """Have a thread of the pool do it."""

    def call_at(self, due: float, job: Callable[[], None]) -> Callable[[], None]:
        """Have it done then, by the keeper's thread; returns what takes that back."""

    def enter(self) -> None:
        """A turn begins. Raises Overloaded."""

    def leave(self) -> None:
        """A turn has ended."""
