"""Tokens and costs of a request by its attempts: as the upstreams have counted them, else estimated here."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from core.attempts import Attempt
from core.events import Usage
from core.token_estimate import CHARACTERS_PER_TOKEN

CUT_SHORT = frozenset({"late", "lost", "cancelled"})
"""Outcomes of attempts that an upstream charges for, though they were not finished."""
KEPT_TARGETS = 1000
NEWEST_SHARE = 0.1
"""Weight of the newest answer in a target's usual answer length."""


@dataclass(frozen=True, slots=True)
class Bill:
    """`usage` is the answer's; `cost` is that of all attempts with known prices; `unpriced`: a price is missing."""

    usage: Usage | None
    cost: float | None
    unpriced: bool


def bill(
    attempts: Sequence[Attempt], counted: Usage | None, generated: int, prompt: int | None, duration: float
) -> Bill:
    """The bill of a request that has ended after `duration` seconds; each attempt gets its usage and cost.

    `counted` is the upstream's usage of the answer, `generated` the estimate of its tokens. `prompt` is the estimate of
    the prompt's tokens, None if an estimate makes no sense, as for pictures.
    """
    answering = next((each for each in attempts if each.first_event is not None), None)
    cost, unpriced = None, False
    for attempt in attempts:
        if attempt.outcome == "running":  # its thread still has to notice that the request has ended
            attempt.outcome, attempt.ended = "cancelled", duration
        if attempt is answering:
            attempt.usage = counted or _estimate(prompt, generated, attempt)
        elif attempt.outcome in CUT_SHORT:
            attempt.usage = _estimate(prompt, 0, attempt)
        else:
            continue
        if attempt.usage is None or attempt.price is None:
            unpriced = unpriced or attempt.usage is not None or attempt is answering
        else:
            attempt.cost = attempt.price.cost(attempt.usage)
            cost = (cost or 0.0) + attempt.cost
    return Bill(counted if answering is None else answering.usage, cost, unpriced)


def total(attempts: Sequence[Attempt]) -> Usage | None:
    """The tokens of all attempts together; None if none has usage."""
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
    """The usual length of each target's answers, in tokens, to estimate what a hang-up saves. Safe for all threads."""

    _usual: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, target: str, tokens: int) -> None:
        """Note the length of an answer."""
        with self._lock:
            usual = self._usual.pop(target, float(tokens))
            self._usual[target] = usual + (tokens - usual) * NEWEST_SHARE
            if len(self._usual) > KEPT_TARGETS:
                del self._usual[next(iter(self._usual))]

    def left(self, target: str, generated: int) -> int | None:
        """An estimate of the tokens that an answer would still have had; None before the target's first answer."""
        usual = self._usual.get(target)
        return None if usual is None else max(0, round(usual) - generated)
