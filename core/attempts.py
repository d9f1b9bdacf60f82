"""The record of one attempt: a target that was asked once."""

from dataclasses import dataclass
from typing import Literal

AttemptOutcome = Literal["running", "answered", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One time that a target was asked. Times are in seconds since the request began.

    `first_event` is None where none came, `ended` where the attempt is still under way. `code` and `error` are what
    it failed with; an attempt whose caller left, or that another target outran, is cancelled.
    """

    target: str
    provider: str
    started: float
    first_event: float | None = None
    ended: float | None = None
    outcome: AttemptOutcome = "running"
    code: str | None = None
    error: str = ""
