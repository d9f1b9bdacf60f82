"""Guardrails: the rules by which a conversation is checked, and the verdict."""

from dataclasses import dataclass
from typing import Literal

Side = Literal["input", "output"]
"""The user's text, or the model's answer."""


@dataclass(frozen=True, slots=True)
class GuardrailRules:
    """The rules of a guardrail: either `id` and `version`, or the other fields. All names are the provider's own.

    id, version  of a guardrail that is stored at the provider
    content      kinds of content to block
    attacks      kinds of attacks on the prompt; only the input is checked for them
    sensitive    kinds of personal data to block
    threshold    the score, from 0 to 1, from which a text is blocked
    """

    id: str = ""
    version: str = ""
    content: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    threshold: float = 0.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a check. `text` is the checked text, parts of which may be masked; for a `blocked` text it is the
    guardrail's own phrase, "" for none. `reasons` are for the log.
    """

    text: str
    blocked: bool = False
    reasons: tuple[str, ...] = ()
