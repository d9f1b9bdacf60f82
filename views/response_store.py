"""Responses that can be followed (`previous_response_id`), each with the items of its whole conversation.

Each is kept whole, and not as a chain, so that following one takes one look, and no link of it can expire before it.
"""

from dataclasses import dataclass
from hashlib import sha256

import orjson

from core.json_values import BAD_SHAPE, Json
from core.store import KeyValueStore

MOST_BYTES = 8 * 1024 * 1024
"""A larger conversation is not kept: its caller is told so when they follow it, and sends it again."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response, and the items of the conversation up to and with its own, of which the last `said` are its output.
    `provider` is the name of the provider that has them too, "" for none.
    """

    response: Json
    items: list[Json]
    provider: str = ""
    said: int = 0

    @property
    def input_items(self) -> list[Json]:
        """What it answered."""
        return self.items[: len(self.items) - self.said]


class ResponseStore:
    """Keeps them in `state` for so many seconds, 0 for none, by the key of who asked: to others they are not there."""

    def __init__(self, state: KeyValueStore | None, seconds: float) -> None:
        self._state = state if seconds else None
        self._seconds = seconds

    def put(self, caller: str, stored: StoredResponse) -> None:
        """Keep one, unless it is too large."""
        if self._state is not None:
            value = orjson.dumps(stored)
            if len(value) <= MOST_BYTES:
                self._state.put(_key(caller, stored.response["id"]), value.decode(), self._seconds)

    def get(self, caller: str, identifier: str) -> StoredResponse | None:
        """One of the caller's; None where it is unknown, expired, or of another."""
        kept = self._state.get(_key(caller, identifier)) if self._state is not None else None
        try:
            return StoredResponse(**orjson.loads(kept)) if kept is not None else None
        except BAD_SHAPE:
            return None

    def delete(self, caller: str, identifier: str) -> bool:
        """Forget one of the caller's; whether it was there."""
        return self._state is not None and self._state.pop(_key(caller, identifier)) is not None


def _key(caller: str, identifier: str) -> str:
    return f"response:{sha256(orjson.dumps([caller, identifier])).hexdigest()}"
