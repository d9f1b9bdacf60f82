"""What a request took and cost, attempt by attempt: as the upstreams have counted it, else as estimated here."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from core.attempts import Attempt
from core.events import Usage
from core.token_estimate import CHARACTERS_PER_TOKEN

CUT_SHORT = frozenset({"late", "lost", "cancelled"})
"""Outcomes of attempts that an upstream charges for what it had done by then."""
KEPT_TARGETS = 1000
NEWEST_SHARE = 0.1
"""Weight of the newest answer in the usual length of a target's answers."""


@dataclass(frozen=True, slots=True)
class Bill:
    """`usage` is the answer's, `cost` that of all attempts whose prices are known; `unpriced` where one's is not."""

    usage: Usage | None
    cost: float | None
    unpriced: bool


def bill(attempts: Sequence[Attempt], told: Usage | None, generated: int, prompt: int | None, duration: float) -> Bill:
    """The bill of a request that has ended after `duration` seconds; each attempt gets its usage and cost.

    `told` is what the upstream has counted of the answer, and `generated` the estimate of its tokens; `prompt` is that
    of the prompt's, None where an estimate makes no sense, as for pictures.
    """
    answering = next((each for each in attempts if each.first_event is not None), None)
    cost, unpriced = None, False
    for attempt in attempts:
        if attempt.outcome == "running":  # its thread has not noticed yet that the request is over
            attempt.outcome, attempt.ended = "cancelled", duration
        if attempt is answering:
            attempt.usage = told or _estimate(prompt, generated, attempt)
        elif attempt.outcome in CUT_SHORT:
            attempt.usage = _estimate(prompt, 0, attempt)
        else:
            continue
        if attempt.usage is None or attempt.price is None:
            unpriced = unpriced or attempt.usage is not None or attempt is answering
        else:
            attempt.cost = attempt.price.cost(attempt.usage)
            cost = (cost or 0.0) + attempt.cost
    return Bill(told if answering is None else answering.usage, cost, unpriced)


def total(attempts: Sequence[Attempt]) -> Usage | None:
    """The tokens of all attempts together, None where none took any."""
    taken = [each.usage for each in attempts if each.usage is not None]
    if len(taken) <= 1:
        return taken[0] if taken else None
    return Usage(
        sum(each.prompt for each in taken),
        sum(each.completion for each in taken),
        sum(each.cached for each in taken),
        sum(each.reasoning for each in taken),
        sum(each.written for each in taken),
        estimated=any(each.estimated for each in taken),
    )


def _estimate(prompt: int | None, generated: int, attempt: Attempt) -> Usage | None:
    if prompt is None:
        return None
    return Usage(prompt, generated + attempt.unheard // CHARACTERS_PER_TOKEN, estimated=True)


@dataclass(slots=True)
class AnswerLengths:
    """How long the answers of each target usually are, in tokens: what a hang-up spares. Safe for all threads."""

    _usual: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, target: str, tokens: int) -> None:
        """An answer was so long."""
        with self._lock:
            usual = self._usual.pop(target, float(tokens))
            self._usual[target] = usual + (tokens - usual) * NEWEST_SHARE
            if len(self._usual) > KEPT_TARGETS:
                del self._usual[next(iter(self._usual))]

    def left(self, target: str, generated: int) -> int | None:
        """About how many tokens an answer would still have had; None where the target has not answered yet."""
        usual = self._usual.get(target)
        return None if usual is None else max(0, round(usual) - generated)
