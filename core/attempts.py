"""The record of one attempt: one request to a target."""

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
    """One request to a target. Times are in seconds since the caller's request began.

    target       `provider/model`; `model` is the provider's own name of the model
    why          "retry": the same target again; "hedge": beside a silent one; "fallback": in place of another
    headers      when the head of the upstream's response came, None if none came
    first_event  when the first event came, None if none came
    ended        when the attempt ended, None if it is still under way
    outcome      "late": cut off after its `deadline`; "lost": another was faster; "cancelled": the caller hung up
    code, error, status   the failure; `status` is the upstream's, None if the upstream sent none
    unheard      characters that were generated before the first event, such as thinking
    price        the model's price, None if it is not known
    span_id      the id of its span, "" if the request is not traced
    usage, cost  None if they are not known, or if nothing is charged
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
    """This server's share of the seconds until the first event: those before the first attempt, and those after the
    event came from its target. None if no target has sent an event. Failed attempts are the upstreams' share.
    """
    started = spoken = inf
    for each in attempts:
        started = min(started, each.started)
        spoken = spoken if each.first_event is None else min(spoken, each.first_event)
    return None if spoken == inf else max(0.0, started + first_event - spoken)
