"""Races and deadlines, without sockets: providers here are as slow, as late and as deaf as the test says (D5)."""

import gc
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from dispatch.attempts import Patience
from dispatch.breaker import Breakers
from dispatch.catalogue import Route
from dispatch.entries import Row, Upstream
from dispatch.race import Race
from dispatch.relay import Answer, Relay
from errors import HungUp, UpstreamDown
from events import ChatRequest, Event, Events, Finish, Text
from providers.base import Call, Provider, Target
from providers.connect import Peer, connect
from tests.conftest import until

ROW = Row("model", (Upstream("first", "m"),))


class Scripted(Provider):
    """Does something, then says its own name; `ended` once its answer is closed."""

    def __init__(self, name: str, do: Callable[[], object] = lambda: None) -> None:
        self.name = name
        self.ended = threading.Event()
        self._do = do

    def chat(self, request: ChatRequest, target: Target, call: Call) -> Events:
        try:
            self._do()
            yield Text(self.name)
            yield Finish("stop")
        finally:
            self.ended.set()


def fail() -> None:
    raise UpstreamDown("It is down.")


def answer(*providers: Provider, hedge: float | None = None, ttft: float | None = None, **more: Any) -> Answer:
    relay = more.pop("relay", None) or Relay(Breakers(1, 30.0), Patience(retries=0))
    targets = tuple(Target(each, "m", "m", ttft_timeout=ttft) for each in providers)
    row = Row("model", ROW.upstreams, hedge_after=hedge)
    call = relay.call("id", streams=True)
    return relay.answer(
        Route(targets, row), lambda target, call: target.provider.chat(None, target, call), call, streams=True
    )


def texts(events: Iterator[Event] | Answer) -> list[str]:
    return [event.text for event in events if isinstance(event, Text)]


class LoserFirst(SimpleQueue):  # type: ignore[type-arg]
    """The winner's thread is late to tell that it has won."""

    def __init__(self, race: Race) -> None:
        super().__init__()
        self._race = race
        self._told = threading.Event()

    def put(self, lane: Any, *_: Any) -> None:  # type: ignore[override]
        if lane is self._race._winner:
            assert self._told.wait(10)
        super().put(lane)
        self._told.set()


def test_both_speak_at_the_same_time_and_the_loser_is_heard_of_first(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)
    started = Race.run

    def run(race: Race) -> Events:
        race._ended = LoserFirst(race)
        return started(race)

    monkeypatch.setattr(Race, "run", run)
    one, two = Scripted("one", both.wait), Scripted("two", both.wait)
    assert texts(answer(one, two, hedge=0.0)) in (["one"], ["two"])
    assert one.ended.wait(10)
    assert two.ended.wait(10)


def test_who_leaves_as_one_has_won_frees_both_at_once() -> None:
    """N27: not when the collector comes by."""
    gate = threading.Event()
    one, two = Scripted("one", gate.wait), Scripted("two", lambda: time.sleep(0.01))
    given = answer(one, two, hedge=0.0)
    given._call.beat_by = 0.0
    events = iter(given)
    next(events)  # a sign of life, while the second wins
    until(lambda: given._turns[0].answered, "the second to win")
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
    gate = threading.Event()
    relay = Relay(Breakers(1, 30.0), Patience(retries=0))
    deaf = Scripted("deaf", gate.wait)
    began = time.monotonic()
    assert texts(answer(deaf, Scripted("two"), hedge=hedge, ttft=0.2, relay=relay)) == ["two"]
    assert 0.2 <= time.monotonic() - began < 1.2
    gate.set()
    assert deaf.ended.wait(10)
    until(lambda: relay.breakers["deaf/m"].state == "open", "the failure to be counted")


@pytest.mark.parametrize("more", [{}, {"hedge": 0.0}, {"ttft": 5.0}], ids=["in turn", "a race", "a deadline"])
def test_failures_leave_nothing_to_the_collector(more: dict[str, Any]) -> None:
    """N28: what went wrong is gone when the request is, with all it knew. Else memory grows until a full collection,
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


def test_a_name_that_is_not_resolved_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """D6, D7: CONNECT_TIMEOUT holds, a caller who leaves is not kept, and the resolver is asked once."""
    gate, asked, real = threading.Event(), [], socket.getaddrinfo

    def slow(host: str, *arguments: Any, **options: Any) -> Any:
        if host != "slow.example" or options.get("flags"):
            return real(host, *arguments, **options)
        asked.append(host)
        gate.wait(20)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    peer = Peer("slow.example", 80, secure=False)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        connect(peer, Call(), 0.1)
    assert 0.1 <= time.monotonic() - began < 1.1
    call = Call()
    threading.Timer(0.1, call.hang_up).start()
    with pytest.raises(HungUp):
        connect(peer, call, 10)
    assert time.monotonic() - began < 2.2
    threading.Timer(0.1, gate.set).start()
    with pytest.raises(socket.gaierror):
        connect(peer, Call(), 10)
    assert asked == ["slow.example"]
