"""Stores Gemini's thought signatures by call id, for the next turn."""

from hashlib import sha256
from uuid import uuid4

import orjson

from core.context import CallContext

CARRIED = "~thought~"
"""The separator between a call's id and the signature that it carries."""
KEPT_SECONDS = 24 * 3600.0


class ThoughtSignatures:
    """The store of thought signatures between two requests of a conversation."""

    def __init__(self, call: CallContext) -> None:
        self._state = call.state
        self._caller = call.caller

    def keep(self, identifier: str, signature: str) -> str:
        """Store a call's signature; returns the id of the call for the caller's client.

        The id is a new one if something is stored under it: Gemini's own ids may repeat in other conversations.
        """
        if self._state is None:
            return f"{identifier}{CARRIED}{signature}"
        known = f"call_{uuid4().hex[:24]}"
        self._state.put(self._key(known), f"{identifier}{CARRIED}{signature}", KEPT_SECONDS)
        return known

    def recall(self, identifier: str) -> tuple[str, str]:
        """A call's id at Gemini, and its signature; the id itself and "" for an unknown call."""
        kept = None if CARRIED in identifier or self._state is None else self._state.get(self._key(identifier))
        plain, _, signature = (kept or identifier).partition(CARRIED)
        return plain, signature

    def _key(self, identifier: str) -> str:
        return f"gemini-thought:{sha256(orjson.dumps([self._caller, identifier])).hexdigest()}"
