"""Guardrails: what is checked of a conversation, and what comes of it."""

from dataclasses import dataclass
from typing import Literal

Side = Literal["input", "output"]
"""What the user says, and what the model answers."""


@dataclass(frozen=True, slots=True)
class GuardrailRules:
    """What is checked, by the names that the provider has for it.

    id, version  a guardrail that is kept at the provider; without an `id`, what is checked is named here
    content      kinds of content that must not be said
    attacks      kinds of attacks on the prompt, looked for in the input alone
    sensitive    kinds of personal data
    threshold    the score from 0 to 1 from which a finding counts
    """

    id: str = ""
    version: str = ""
    content: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    threshold: float = 0.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes of a check. `text` may be passed on, with parts of it masked perhaps; of a `blocked` one it is the
    guardrail's own phrase, "" for none. `reasons` are for the log.
    """

    text: str
    blocked: bool = False
    reasons: tuple[str, ...] = ()
