"""Where providers keep what a later request needs."""

from typing import Protocol


class KeyValueStore(Protocol):
    """A small store that outlives a restart, and that all workers (and replicas) share; see storage/key_value.py.

    Keys and values are text; what is kept is gone after `seconds`. Safe for all threads. Never raises: a store that is
    out of reach forgets.
    """

    def put(self, key: str, value: str, seconds: float) -> None:
        """Keep a value."""

    def get(self, key: str) -> str | None:
        """The value, and leave it."""

    def pop(self, key: str) -> str | None:
        """The value, and take it away: of all who ask at the same time, one gets it."""
