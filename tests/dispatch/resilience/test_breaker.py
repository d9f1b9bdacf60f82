"""The states of a circuit breaker, by a clock that the test moves."""

import pytest

from core.errors import CircuitOpen
from dispatch.resilience.breaker import Breaker, Breakers
from tests.support.clock import ManualClock


def open_breaker(clock: ManualClock) -> Breaker:
    breaker = Breaker("openai/gpt", 3, 30, clock.now)
    for _ in range(3):
        breaker.record_failure(breaker.admit())
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_does_not() -> None:
    breaker = Breaker("x", 3, 30, ManualClock().now)
    for _ in range(5):
        breaker.record_failure(breaker.admit())
        breaker.record_failure(breaker.admit())
        breaker.record_success(breaker.admit())
    assert breaker.state == "closed"


def test_open_it_refuses_and_says_when_to_come_back() -> None:
    clock = ManualClock()
    breaker = open_breaker(clock)
    clock.advance(20)
    with pytest.raises(CircuitOpen) as refused:
        breaker.admit()
    assert refused.value.retry_after == 10
    assert breaker.state == "open"


def test_half_open_lets_one_probe_through() -> None:
    clock = ManualClock()
    breaker = open_breaker(clock)
    clock.advance(30)
    assert breaker.state == "half-open"
    probe = breaker.admit()
    with pytest.raises(CircuitOpen):
        breaker.admit()
    breaker.record_success(probe)
    assert breaker.state == "closed"


def test_a_failed_probe_opens_it_again() -> None:
    clock = ManualClock()
    breaker = open_breaker(clock)
    clock.advance(30)
    breaker.record_failure(breaker.admit())
    assert breaker.state == "open"
    clock.advance(29)
    assert breaker.state == "open"
    clock.advance(1)
    assert breaker.state == "half-open"


def test_a_probe_whose_caller_left_proves_nothing() -> None:
    clock = ManualClock()
    breaker = open_breaker(clock)
    clock.advance(30)
    breaker.release(breaker.admit())
    assert breaker.state == "half-open"
    breaker.record_success(breaker.admit())
    assert breaker.state == "closed"


def test_an_attempt_from_before_does_not_end_the_probe() -> None:
    clock = ManualClock()
    breaker = Breaker("x", 1, 30, clock.now)
    earlier = breaker.admit()
    breaker.record_failure(breaker.admit())
    clock.advance(30)
    breaker.admit()
    breaker.release(earlier)
    with pytest.raises(CircuitOpen):
        breaker.admit()


def test_states_are_told_by_provider_and_model() -> None:
    breakers = Breakers(1, 30)
    breakers["groq/a"].record_failure(breakers["groq/a"].admit())
    breakers["groq/b"].record_success(breakers["groq/b"].admit())
    assert breakers.states("groq") == {"a": "open"}
    assert breakers.states("openai") == {}


def test_names_without_number_fill_no_memory() -> None:
    """A caller who makes up names of models leaves no breaker for each."""
    breakers = Breakers(1, 30)
    breakers["groq/broken"].record_failure(breakers["groq/broken"].admit())
    for number in range(3000):
        breakers[f"groq/{number}"].record_success(breakers[f"groq/{number}"].admit())
    assert len(breakers) <= 1001
    assert breakers.states("groq") == {"broken": "open"}
