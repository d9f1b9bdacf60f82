"""Which contenders of a race start, win and are cancelled, and when: its rules at given times, without threads."""

from math import inf
from unittest.mock import Mock

import pytest

from core.context import CallContext
from core.errors import GatewayError, UpstreamDown
from dispatch.resilience.breaker import Breakers
from dispatch.resilience.hedge import Contender, Race
from dispatch.resilience.retry import Failures, RetryingTarget, RetryPolicy
from providers.base import Target

DEADLINE = 1.0


class Clocked(Race):
    """Is told who speaks and who fails, instead of asking anybody."""

    def _start(self, contender: Contender) -> None:
        pass


def race(targets: str, **options: float | bool) -> Clocked:
    """`targets` has a letter for each: t for one that talks, a for an agent, which acts, and x for one whose breaker is
    open. All but the last have a deadline.
    """
    breakers = Breakers(1, 30.0)
    contenders = []
    for at, letter in enumerate(targets):
        provider = Mock(acts=letter == "a")
        provider.name = f"{letter}{at}"
        target = Target(provider, "m")
        if letter == "x":
            breakers[target.name].record_failure(probe=False)
        attempts = RetryingTarget(
            target, Mock(), CallContext(), breakers[target.name], RetryPolicy(), Failures(()), unheard=()
        )
        contenders.append(Contender(attempts, DEADLINE if at < len(targets) - 1 else inf))
    return Clocked(contenders, CallContext(), **options)


def states_after(race: Clocked, *steps: str) -> str:
    """The states after steps such as `1.5` (time passes to then), `+0` (that one speaks) and `-1` (that one fails)."""
    now = 0.0
    race._advance(now)
    for step in steps:
        at = race._contenders[int(step[1:])] if step[0] in "+-" else None
        if step[0] == "+":
            race._set_winner(at)
        elif step[0] == "-":
            race._set_failed(at, UpstreamDown(f"{step[1:]} is down."))
            race._advance(now)
        else:
            now = float(step)
            race._advance(now)
    return " ".join(each.state.name for each in race._contenders)


@pytest.mark.parametrize(
    ("targets", "steps", "states"),
    [
        # a deadline
        ("tt", "0.9", "RUNNING WAITING"),
        ("tt", "1", "LATE RUNNING"),
        ("tt", "1 +1", "LOST WON"),
        ("tt", "1 +0", "WON LOST"),
        ("tt", "1 99", "LATE RUNNING"),
        ("tt", "1 -1", "LATE FAILED"),
        ("tt", "1 -1 99 +0", "WON FAILED"),
        ("tt", "1 -0", "FAILED RUNNING"),
        ("tt", "-0", "FAILED RUNNING"),
        ("tt", "-0 99", "FAILED RUNNING"),
        # a breaker that is open
        ("tx", "1", "LATE FAILED"),
        ("tx", "1 99 +0", "WON FAILED"),
        ("xt", "", "FAILED RUNNING"),
        ("txt", "1", "LATE FAILED RUNNING"),
        ("txx", "1 +0", "WON FAILED FAILED"),
        # three: two at a time
        ("ttt", "1", "LATE RUNNING WAITING"),
        ("ttt", "1 2", "LOST LATE RUNNING"),
        ("ttt", "1 2 -2", "LOST LATE FAILED"),
        ("ttt", "1 2 -2 99 +1", "LOST WON FAILED"),
        ("ttt", "1 1.5 -1", "LATE FAILED RUNNING"),
        ("ttt", "1 -0", "FAILED RUNNING WAITING"),
        ("ttt", "1 -0 2", "FAILED LATE RUNNING"),
        ("ttx", "1 2", "LATE LATE FAILED"),
        ("ttx", "1 2 +0", "WON LOST FAILED"),
        ("ttt", "-0 -1", "FAILED FAILED RUNNING"),
        # agents: never beside another, and cut off only for one that can be asked
        ("at", "1", "LOST RUNNING"),
        ("ta", "1", "LOST RUNNING"),
        ("ax", "1 99 +0", "WON FAILED"),
        ("axt", "1", "LOST FAILED RUNNING"),
        ("tat", "1 2", "LOST LOST RUNNING"),
        ("tta", "1 2", "LOST LOST RUNNING"),
    ],
)
def test_deadlines(targets: str, steps: str, states: str) -> None:
    assert states_after(race(targets), *steps.split()) == states


@pytest.mark.parametrize(
    ("targets", "steps", "states"),
    [
        ("tt", "0.4", "RUNNING WAITING"),
        ("tt", "0.5", "RUNNING RUNNING"),
        ("tt", "0.5 +0", "WON LOST"),
        ("tt", "0.5 +1", "LOST WON"),
        ("tt", "0.5 -1", "RUNNING FAILED"),
        ("tt", "0.5 -1 1 99 +0", "WON FAILED"),
        ("tx", "0.5", "RUNNING FAILED"),
        ("xtt", "0.5", "FAILED RUNNING RUNNING"),
        ("ttt", "0.5 1", "LATE RUNNING WAITING"),
        ("ttt", "0.5 1 1.5", "LOST LATE RUNNING"),
        ("ttt", "0.5 -1 0.9", "RUNNING FAILED WAITING"),
        ("ttt", "0.5 -1 1", "LATE FAILED RUNNING"),
        ("ttt", "-0 0.9", "FAILED RUNNING WAITING"),
        ("at", "0.5", "RUNNING WAITING"),
        ("at", "0.5 1", "LOST RUNNING"),
        ("ta", "0.5", "RUNNING WAITING"),
        ("xta", "0.5", "FAILED RUNNING WAITING"),
    ],
)
def test_hedging(targets: str, steps: str, states: str) -> None:
    """After half a second, beside a deadline of one."""
    assert states_after(race(targets, hedge_after=0.5), *steps.split()) == states


@pytest.mark.parametrize(("steps", "states"), [("0.5", "RUNNING RUNNING"), ("0.5 1", "LATE RUNNING")])
def test_agents_race_when_the_model_says_so(steps: str, states: str) -> None:
    assert states_after(race("aa", hedge_after=0.5, agents_too=True), *steps.split()) == states


@pytest.mark.parametrize(
    ("targets", "steps"), [("tt", "-0 -1"), ("tt", "1 -1 -0"), ("at", "1 -1"), ("xx", ""), ("ttt", "1 2 -1 -2")]
)
def test_when_nobody_is_left_a_failure_is_raised(targets: str, steps: str) -> None:
    with pytest.raises(GatewayError):
        states_after(race(targets), *steps.split())


def test_it_wakes_for_the_next_thing_that_is_due_and_for_nothing_else() -> None:
    given = race("tt", hedge_after=0.5)
    given._advance(0.0)
    assert given._next_deadline() == 0.5
    given._advance(0.5)
    assert given._next_deadline() == DEADLINE
    given._advance(1.0)
    assert given._next_deadline() == inf
