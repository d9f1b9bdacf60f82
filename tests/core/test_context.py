"""Waiting for what cannot be woken: another thread does it, and who waits for it can be."""

import threading
import time

import pytest

from core.context import CallContext, Timeouts
from core.errors import Cancelled


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
    call, gate = CallContext(), threading.Event()
    call.begin(Timeouts(first_event=0.1))
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        call.run(gate.wait)
    assert 0.1 <= time.monotonic() - began < 1.1
    gate.set()


def test_a_child_ends_with_its_parent_and_not_the_other_way_round() -> None:
    parent = CallContext()
    one, two = parent.child(), parent.child()
    one.cancel()
    assert (one.gone, two.gone, parent.gone) == (True, False, False)
    parent.cancel()
    assert two.gone
