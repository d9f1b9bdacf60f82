"""Responses that can be followed (`previous_response_id`), each with the items of its whole conversation.

Each is stored with all its items, and not as a chain, so that one read is enough, and no earlier part can expire first.
"""

from dataclasses import dataclass
from hashlib import sha256

import orjson

from core.json_values import BAD_SHAPE, Json
from core.store import KeyValueStore

MOST_BYTES = 8 * 1024 * 1024
"""A larger conversation is not stored: a request that follows it fails, and its caller sends all items again."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response, and all items of its conversation. The last `said` of them are its output. `provider` is the
    name of the provider that has stored it too, "" for none.
    """

    response: Json
    items: list[Json]
    provider: str = ""
    said: int = 0

    @property
    def input_items(self) -> list[Json]:
        """The items that the response answers."""
        return self.items[: len(self.items) - self.said]


class ResponseStore:
    """Stores responses in `state` for `seconds`, 0 for none. Each caller finds only their own."""

    def __init__(self, state: KeyValueStore | None, seconds: float) -> None:
        self._state = state if seconds else None
        self._seconds = seconds

    def put(self, caller: str, stored: StoredResponse) -> None:
        """Store a response, unless it is too large."""
        if self._state is not None:
            value = orjson.dumps(stored)
            if len(value) <= MOST_BYTES:
                self._state.put(_key(caller, stored.response["id"]), value.decode(), self._seconds)

    def get(self, caller: str, identifier: str) -> StoredResponse | None:
        """The caller's response; None if it is unknown, expired, or another caller's."""
        kept = self._state.get(_key(caller, identifier)) if self._state is not None else None
        try:
            return StoredResponse(**orjson.loads(kept)) if kept is not None else None
        except BAD_SHAPE:
            return None

    def delete(self, caller: str, identifier: str) -> bool:
        """Delete the caller's response; returns whether it was there."""
        return self._state is not None and self._state.pop(_key(caller, identifier)) is not None


def _key(caller: str, identifier: str) -> str:
    return f"response:{sha256(orjson.dumps([caller, identifier])).hexdigest()}"
