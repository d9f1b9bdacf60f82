"""How often a target is tried, and how long each attempt waits, by a clock that the test moves."""

from collections.abc import Sequence
from typing import Any

import pytest

from core.context import CallContext
from core.errors import GatewayError, UpstreamDown, UpstreamRateLimited, UpstreamRejected
from core.events import Events, Text
from dispatch.resilience.breaker import Breakers
from dispatch.resilience.retry import Failures, RetryingTarget, RetryPolicy
from providers.base import Provider, Target
from tests.support.clock import ManualClock

DOWN = UpstreamDown("It is down.")
IN_A_SECOND, IN_THREE = [UpstreamRateLimited("Too many.", retry_after=seconds) for seconds in (1.0, 3.0)]
POLICY = RetryPolicy(retries=2, budget=100, first_wait=1)
MANY_RETRIES = RetryPolicy(retries=20, budget=4, first_wait=1)


@pytest.fixture(autouse=True)
def longest_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jitter is at its most."""
    monkeypatch.setattr("random.uniform", max)


def attempts(
    policy: RetryPolicy, failures: Sequence[GatewayError], *, seconds: float = 0, opens_after: int = 100, **options: Any
) -> tuple[list[float], GatewayError | None]:
    """When each attempt starts at a target that fails so, each time after `seconds`, and then answers; and the failure
    that is raised. The target's breaker opens after `opens_after` failures.
    """
    clock, started, left = ManualClock(), [], iter(failures)

    def ask(target: Target, call: CallContext) -> Events:
        started.append(clock.now())
        clock.advance(seconds)
        failure = next(left, None)
        if failure is not None:
            raise failure
        yield Text("hello")

    target = Target(Provider(), "m")
    target.provider.name = "one"
    breaker = Breakers(opens_after, 30.0, clock.now)[target.name]
    call = CallContext(clock=clock)
    runner = RetryingTarget(target, ask, call, breaker, policy, Failures([target]), unheard=(), **options)
    try:
        assert list(runner.run()) == [Text("hello")]
    except GatewayError as error:
        return started, error
    return started, None


def test_a_wait_is_twice_the_one_before() -> None:
    assert attempts(POLICY, [DOWN, DOWN]) == ([0, 1, 3], None)


def test_waits_have_full_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that failed together do not come back together."""
    monkeypatch.setattr("random.uniform", min)
    assert attempts(POLICY, [DOWN, DOWN]) == ([0, 0, 0], None)


def test_after_so_many_retries_the_failure_is_raised() -> None:
    assert attempts(POLICY, [DOWN] * 3) == ([0, 1, 3], DOWN)


def test_a_wait_that_does_not_fit_the_budget_is_not_begun() -> None:
    """The third would be four seconds."""
    assert attempts(MANY_RETRIES, [DOWN] * 20) == ([0, 1, 3], DOWN)


def test_failed_attempts_use_up_the_budget_too() -> None:
    assert attempts(MANY_RETRIES, [DOWN] * 20, seconds=3) == ([0], DOWN)
    assert attempts(MANY_RETRIES, [DOWN] * 20, seconds=2) == ([0, 3], DOWN)


def test_retry_after_is_honoured_where_it_fits() -> None:
    """A tenth of the usual jitter is added to it."""
    assert attempts(MANY_RETRIES, [IN_A_SECOND]) == ([0, 1.1], None)
    assert attempts(RetryPolicy(budget=2), [IN_THREE]) == ([0], IN_THREE)


def test_retry_after_is_not_waited_for_while_another_target_is_left() -> None:
    assert attempts(POLICY, [IN_A_SECOND], more=True) == ([0], IN_A_SECOND)
    assert attempts(POLICY, [DOWN], more=True) == ([0, 1], None)


def test_what_would_fail_again_is_not_tried_again() -> None:
    rejected = UpstreamRejected("No.", upstream_status=400)
    assert attempts(POLICY, [rejected]) == ([0], rejected)


def test_a_breaker_that_opens_ends_the_attempts() -> None:
    assert attempts(MANY_RETRIES, [DOWN] * 20, opens_after=2) == ([0, 1], DOWN)
