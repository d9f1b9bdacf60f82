"""Races and deadlines, without sockets, by a clock that the test moves."""

import gc
import logging
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.clock import SYSTEM_CLOCK, Clock
from core.context import CallContext
from core.errors import Cancelled, UpstreamDown
from core.events import Event, Events, Finish, Text
from core.requests import ChatRequest
from dispatch.relay import AnswerStream, Relay
from dispatch.resilience.breaker import Breakers
from dispatch.resilience.retry import RetryPolicy
from dispatch.routing.config import Deployment, ModelConfig
from dispatch.routing.route import Route
from providers.base import Provider, Target
from providers.transport.dial import Origin, connect
from tests.conftest import EVER, until
from tests.support.clock import ManualClock

ROW = ModelConfig("model", (Deployment("first", "m"),))


class Scripted(Provider):
    """Does something, then says its own name; `ended` once its answer is closed."""

    def __init__(self, name: str, do: Callable[[], object] = lambda: None, *, acts: bool = False) -> None:
        self.name = name
        self.acts = acts
        self.ended = threading.Event()
        self.call: CallContext
        self._do = do

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        self.call = call
        try:
            self._do()
            yield Text(self.name)
            yield Finish("stop")
        finally:
            self.ended.set()


def fail() -> None:
    raise UpstreamDown("It is down.")


def relay_without_retries(clock: Clock = SYSTEM_CLOCK) -> Relay:
    return Relay(Breakers(1, 30.0, clock.now), RetryPolicy(retries=0), clock=clock)


def answer(
    *providers: Provider,
    hedge: float | None = None,
    ttft: float | None = None,
    relay: Relay | None = None,
    streams: bool = True,
) -> AnswerStream:
    relay = relay or relay_without_retries()
    targets = tuple(Target(each, "m", "m", ttft_timeout=ttft) for each in providers)
    row = ModelConfig("model", ROW.upstreams, hedge_after=hedge)
    call = relay.call("id", streams=streams)
    return relay.answer(
        Route(targets, row), lambda target, call: target.provider.chat(None, target, call), call, streams=streams
    )


def texts(events: Iterator[Event] | AnswerStream) -> list[str]:
    return [event.text for event in events if isinstance(event, Text)]


def test_both_speak_at_the_same_time_and_one_is_heard() -> None:
    for _ in range(20):
        both = threading.Barrier(2)
        one, two = Scripted("one", both.wait), Scripted("two", both.wait)
        assert texts(answer(one, two, hedge=0.0)) in (["one"], ["two"])
        assert one.ended.wait(10)
        assert two.ended.wait(10)


def test_who_leaves_as_one_has_won_frees_both_at_once() -> None:
    """Not when the collector comes by."""
    gate = threading.Event()
    one, two = Scripted("one", gate.wait), Scripted("two")
    given = answer(one, two, hedge=0.0)
    events = iter(given)
    next(events)  # the second has won
    gc.disable()
    try:
        given.close()
        assert two.ended.is_set()
        gate.set()
        assert one.ended.wait(10)
    finally:
        gc.enable()


@pytest.mark.parametrize("hedge", [None, 5.0])
def test_a_deadline_holds_whatever_the_target_is_about(hedge: float | None) -> None:
    """Fetching a credential, say: nothing that the end of a socket would end. It counts as a failure."""
    clock, gate = ManualClock(), threading.Event()
    relay = relay_without_retries(clock)

    def block() -> None:
        clock.advance(1)
        clock.advance(1)
        gate.wait(EVER)

    deaf = Scripted("deaf", block)
    given = answer(deaf, Scripted("two"), hedge=hedge, ttft=2, relay=relay)
    assert texts(given) == ["two"]
    assert [each.started for each in given.attempts] == [0, 2]
    assert given.first_event == 2
    gate.set()
    assert deaf.ended.wait(10)
    until(lambda: relay.breakers["deaf/m"].state == "open", "the failure to be counted")


@pytest.mark.parametrize("more", [{}, {"hedge": 0.0}, {"ttft": 5.0}], ids=["in turn", "a race", "a deadline"])
def test_failures_leave_nothing_to_the_collector(more: dict[str, Any]) -> None:
    """What went wrong is gone when the request is, with all it knew. Else memory grows until a full collection,
    which then holds up every line.
    """
    gc.collect()
    gc.disable()
    try:
        given = answer(Scripted("one", fail), Scripted("two", fail), **more)
        gone = weakref.ref(given)
        with pytest.raises(UpstreamDown):
            list(given)
        del given
        until(lambda: gone() is None, "the answer to be gone", 5)
    finally:
        gc.enable()


DEADLINE = 2.0


def late(
    name: str, clock: ManualClock, condition: Callable[[], object], *, seconds: float = DEADLINE, acts: bool = False
) -> Scripted:
    """A target that takes `seconds`, waits for the condition, lets its deadline pass, and then says its name."""

    def do() -> None:
        clock.advance(seconds)
        until(condition, "what the late target waits for")
        clock.advance(DEADLINE)

    return Scripted(name, do, acts=acts)


@pytest.mark.parametrize("hedge", [None, 1.0], ids=["deadline", "hedge that fails"])
def test_a_late_first_is_heard_when_the_next_one_fails(hedge: float | None) -> None:
    given: AnswerStream
    relay = relay_without_retries(clock := ManualClock())
    one = late("one", clock, lambda: given.tried, seconds=hedge or DEADLINE)
    given = answer(one, Scripted("two", fail), ttft=DEADLINE, hedge=hedge, relay=relay)
    assert texts(given) == ["one"]
    assert given.target.name == "one/m"
    assert given.tried == {"two/m": "It is down."}
    assert [each.started for each in given.attempts] == [0, hedge or DEADLINE]
    until(lambda: relay.breakers["one/m"].state == "closed", "the first to be as good as before")


def test_a_late_first_is_heard_when_the_next_ones_breaker_is_open() -> None:
    given: AnswerStream
    relay = relay_without_retries(clock := ManualClock())
    relay.breakers["two/m"].record_failure(relay.breakers["two/m"].admit())
    asked = threading.Event()
    one, two = late("one", clock, lambda: given.tried), Scripted("two", asked.set)
    for _ in range(3):
        given = answer(one, two, ttft=DEADLINE, relay=relay)
        assert texts(given) == ["one"]
    assert not asked.is_set()


def test_a_late_first_is_cut_off_when_the_next_one_speaks_and_that_counts() -> None:
    relay = relay_without_retries(clock := ManualClock())
    one = late("one", clock, lambda: one.call.gone)
    given = answer(one, Scripted("two"), ttft=DEADLINE, relay=relay)
    assert texts(given) == ["two"]
    assert given.tried == {"one/m": "one did not answer in time. (nothing within 2.0 s (ttft_timeout_ms))"}
    assert one.ended.wait(10)
    until(lambda: relay.breakers["one/m"].state == "open", "the missed deadline to be counted")


def test_an_agent_is_cut_off_before_another_is_asked() -> None:
    order = []
    relay = relay_without_retries(clock := ManualClock())
    agent = late("agent", clock, lambda: agent.call.gone, acts=True)
    two = Scripted("two", lambda: order.append(given._started[0]._contenders[0].state.name))
    given = answer(agent, two, ttft=DEADLINE, relay=relay)
    assert texts(given) == ["two"]
    assert order == ["LOST"]
    assert not given.hedged


def test_an_agent_is_heard_when_nobody_else_can_be_asked() -> None:
    given: AnswerStream
    relay = relay_without_retries(clock := ManualClock())
    relay.breakers["two/m"].record_failure(relay.breakers["two/m"].admit())
    agent = late("agent", clock, lambda: given.tried, acts=True)
    given = answer(agent, Scripted("two"), ttft=DEADLINE, relay=relay)
    assert texts(given) == ["agent"]


def test_a_whole_answer_has_no_first_word_and_no_deadline() -> None:
    asked = threading.Event()
    relay = relay_without_retries(clock := ManualClock())
    one = Scripted("one", lambda: clock.advance(10 * DEADLINE))
    assert texts(answer(one, Scripted("two", asked.set), ttft=DEADLINE, streams=False, relay=relay)) == ["one"]
    assert not asked.is_set()


def test_when_all_have_failed_each_is_told_with_what_it_failed_with(caplog: pytest.LogCaptureFixture) -> None:
    given: AnswerStream
    relay = relay_without_retries(clock := ManualClock())

    def fail_later() -> None:
        clock.advance(DEADLINE)
        until(lambda: given.tried, "the second to fail")
        raise UpstreamDown("It is gone.", log="RST")

    caplog.set_level("INFO", "thinkline.relay")
    given = answer(Scripted("one", fail_later), Scripted("two", fail), ttft=DEADLINE, relay=relay)
    with pytest.raises(UpstreamDown, match="It is gone"):
        list(given)
    assert list(given.tried.items()) == [("two/m", "It is down."), ("one/m", "It is gone. (RST)")]
    assert given.target.name == "one/m"
    failures: list[Any] = [record for record in caplog.records if record.name == "thinkline.relay"]
    assert [record.facts["target"] for record in failures] == ["two/m", "one/m"]


@pytest.mark.parametrize("seconds", [0.5, 1.0])
def test_the_next_one_is_asked_beside_a_silent_first_at_hedge_after(seconds: float) -> None:
    """And not before."""
    relay = relay_without_retries(clock := ManualClock())
    one = Scripted("one", lambda: (clock.advance(seconds), seconds == 1.0 and until(lambda: one.call.gone, "its end")))
    given = answer(one, Scripted("two"), hedge=1.0, relay=relay)
    assert texts(given) == (["two"] if seconds == 1.0 else ["one"])
    assert given.hedged == (seconds == 1.0)
    assert given.first_event == seconds


def test_a_fault_of_our_own_is_in_the_log_when_another_one_answers(caplog: pytest.LogCaptureFixture) -> None:
    relay = logging.getLogger("thinkline.relay")  # an app of another test may have set where its loggers write
    caplog.set_level(logging.INFO, relay.name)
    relay.addHandler(caplog.handler)
    try:
        given = answer(Scripted("one", lambda: {}["missing"]), Scripted("two"), ttft=5.0)
        assert texts(given) == ["two"]
    finally:
        relay.removeHandler(caplog.handler)
    assert "KeyError" in caplog.text
    assert "one/m" in caplog.text


def test_a_caller_who_leaves_while_one_fails_is_not_told_of_it() -> None:
    given: AnswerStream

    def leave_and_fail() -> None:
        given._call.cancel()
        fail()

    given = answer(Scripted("one", leave_and_fail))
    with pytest.raises(Cancelled):
        list(given)


class Talkative(Provider):
    """Says word after word, and how many it has said; then fails, if it is to."""

    def __init__(self, words: int, failure: Exception | None = None) -> None:
        self.name = "talkative"
        self.said = 0
        self._words = words
        self._failure = failure

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        for number in range(self._words):
            self.said += 1
            yield Text(f"{number} ")
        if self._failure:
            raise self._failure
        yield Finish("stop")


def test_the_winner_is_heard_to_its_end_in_order() -> None:
    assert texts(answer(Talkative(500), Scripted("two"), ttft=5.0)) == [f"{number} " for number in range(500)]


def test_the_winners_failure_is_told_after_what_it_said() -> None:
    heard = []
    given = answer(Talkative(5, UpstreamDown("It broke off.")), Scripted("two"), ttft=5.0)
    with pytest.raises(UpstreamDown, match="broke off"):
        heard.extend(event.text for event in given if isinstance(event, Text))
    assert given.tried == {"talkative/m": "It broke off."}


def test_a_winner_is_read_no_faster_than_its_caller_reads() -> None:
    """What nobody has read yet does not pile up."""
    talkative = Talkative(10_000)
    events = iter(answer(talkative, Scripted("two"), ttft=5.0))
    heard = [next(events) for _ in range(100)]
    time.sleep(0.05)
    assert talkative.said <= len(heard) + 1


def test_a_caller_who_leaves_ends_a_race_at_once() -> None:
    """Also while its targets are about something that cannot be woken."""
    gate, all_run = threading.Event(), threading.Barrier(3)
    one, two = [Scripted(name, lambda: (all_run.wait(), gate.wait())) for name in ("one", "two")]
    given = answer(one, two, hedge=0.0)
    threading.Thread(target=lambda: (all_run.wait(), given._call.cancel())).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        list(given)
    assert time.monotonic() - began < 1
    gate.set()
    assert one.ended.wait(10)
    assert two.ended.wait(10)


def test_a_name_that_is_not_resolved_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """CONNECT_TIMEOUT holds, a caller who leaves is not kept, and the resolver is asked once."""
    gate, asked, real = threading.Event(), [], socket.getaddrinfo

    def slow(host: str, *arguments: Any, **options: Any) -> Any:
        if host != "slow.example" or options.get("flags"):
            return real(host, *arguments, **options)
        asked.append(host)
        gate.wait(20)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    peer = Origin("slow.example", 80, secure=False)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        connect(peer, CallContext(), 0.1)
    assert 0.1 <= time.monotonic() - began < 1.1
    call = CallContext()
    threading.Timer(0.1, call.cancel).start()
    with pytest.raises(Cancelled):
        connect(peer, call, 10)
    assert time.monotonic() - began < 2.2
    threading.Timer(0.1, gate.set).start()
    with pytest.raises(socket.gaierror):
        connect(peer, CallContext(), 10)
    assert asked == ["slow.example"]
