"""The store for values that a provider needs in a later request."""

from typing import Protocol


class KeyValueStore(Protocol):
    """A small store that survives a restart and is shared by all workers (and replicas); see storage/key_value.py.

    Keys and values are text; a value expires after `seconds`. Safe for all threads. Never raises: a store that cannot
    be reached finds nothing and keeps nothing.
    """

    def put(self, key: str, value: str, seconds: float) -> None:
        """Store a value."""

    def get(self, key: str) -> str | None:
        """The value; it stays in the store."""

    def pop(self, key: str) -> str | None:
        """The value; it is removed. Of simultaneous calls only one gets it."""
