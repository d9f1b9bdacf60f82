"""The record of one attempt: a target that was asked once."""

from collections.abc import Iterable
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


def own_share(attempts: Iterable[Attempt], first_event: float) -> float | None:
    """Of the seconds until the first event, those before a target was asked, and those after the event had come from
    its target; None where no target has spoken. Attempts that failed before are nobody's share but theirs.
    """
    asked = list(attempts)
    spoken = [each.first_event for each in asked if each.first_event is not None]
    if not spoken:
        return None
    return max(0.0, min(each.started for each in asked) + first_event - min(spoken))
