"""CallContext: its deadlines, its cancellation, and work on another thread that a cancellation need not wait for."""

import threading
import time
from math import inf

import pytest

from core.clock import SYSTEM_CLOCK
from core.context import CallContext, Timeouts
from core.errors import Cancelled
from tests.support.clock import ManualClock


def test_what_another_thread_finds_out_comes_back() -> None:
    call = CallContext()
    assert call.run(lambda: 42) == 42
    with pytest.raises(KeyError):
        call.run(lambda: {}["missing"])


@pytest.mark.parametrize("wait", [lambda call, gate: call.run(gate.wait), lambda call, _: call.wait(20)])
def test_a_cancellation_wakes_who_waits(wait) -> None:
    call, gate = CallContext(), threading.Event()
    began = time.monotonic()
    threading.Timer(0.1, call.cancel).start()
    with pytest.raises(Cancelled):
        wait(call, gate)
    assert 0.1 <= time.monotonic() - began < 1.1
    with pytest.raises(Cancelled):
        wait(call, gate)
    gate.set()


def test_the_calls_own_deadlines_hold() -> None:
    clock, gate = ManualClock(), threading.Event()
    call = CallContext(clock=clock)
    call.begin(Timeouts(first_event=3))
    with pytest.raises(TimeoutError):
        call.run(gate.wait)
    assert clock.now() == 3
    gate.set()


def test_the_clock_of_the_system_keeps_deadlines_too() -> None:
    event, condition, began = threading.Event(), threading.Condition(), time.monotonic()
    assert not SYSTEM_CLOCK.wait(event, began + 0.05)
    with condition:
        assert not SYSTEM_CLOCK.wait(condition, began + 0.1)
    assert 0.1 <= time.monotonic() - began < 1.1
    assert not SYSTEM_CLOCK.wait(event, began), "a deadline that is over"
    event.set()
    assert SYSTEM_CLOCK.wait(event, inf)


def test_a_child_ends_with_its_parent_and_not_the_other_way_round() -> None:
    parent = CallContext()
    one, two = parent.child(), parent.child()
    one.cancel()
    assert (one.gone, two.gone, parent.gone) == (True, False, False)
    parent.cancel()
    assert two.gone
