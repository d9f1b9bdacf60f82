"""The store for values that a provider needs in a later request."""

from typing import Protocol


class KeyValueStore(Protocol):
    """A store of small values that all workers (and replicas) share, and that survives a restart; see
    storage/key_value.py.

    Keys and values are text; a value expires after `seconds`. Safe for all threads. Never raises: while the store
    cannot be reached, it behaves as if it were empty.
    """

    def put(self, key: str, value: str, seconds: float) -> None:
        """Store a value."""

    def get(self, key: str) -> str | None:
        """Return the value, which stays in the store; None if there is none."""

    def pop(self, key: str) -> str | None:
        """Remove and return the value; None if there is none. Of simultaneous calls only one gets the value."""
