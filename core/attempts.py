"""The record of one attempt: a target that was asked once."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Literal

from core.events import Usage
from core.prices import Price

AttemptOutcome = Literal["running", "answered", "failed", "late", "lost", "cancelled"]
AttemptReason = Literal["first", "retry", "hedge", "fallback"]


@dataclass(slots=True)
class Attempt:
    """One time that a target was asked. Times are in seconds since the request began.

    target       `provider/model`; `model` as the provider knows it
    why          "retry" for the same target again, "hedge" beside one that is silent, "fallback" in place of another
    headers      when the head of the upstream's answer came, None where none did
    first_event  None where none came; `ended` None where the attempt is still under way
    outcome      "late" where it was cut off after its `deadline`, "lost" where another target was faster, "cancelled"
                 where the caller left
    code, error, status   what it failed with; `status` is the upstream's, None where it sent none
    unheard      characters that were generated before the first event, such as thinking
    price        of its model, None where it is not known
    span_id      of its span, "" where nothing is traced
    usage, cost  what it took, None where that is not known or nothing is charged
    """

    target: str
    provider: str
    started: float
    first_event: float | None = None
    ended: float | None = None
    outcome: AttemptOutcome = "running"
    code: str | None = None
    error: str = ""
    model: str = ""
    why: AttemptReason = "first"
    headers: float | None = None
    status: int | None = None
    deadline: float | None = None
    unheard: int = 0
    price: Price | None = None
    usage: Usage | None = None
    cost: float | None = None
    span_id: str = ""


def own_share(attempts: Iterable[Attempt], first_event: float) -> float | None:
    """Of the seconds until the first event, those before a target was asked, and those after the event had come from
    its target; None where no target has spoken. Attempts that failed before are nobody's share but theirs.
    """
    started = spoken = inf
    for each in attempts:
        started = min(started, each.started)
        spoken = spoken if each.first_event is None else min(spoken, each.first_event)
    return None if spoken == inf else max(0.0, started + first_event - spoken)
