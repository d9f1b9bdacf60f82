"""What counts limits: exact for threads, processes and machines, and over windows."""

import multiprocessing
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from core.rate_limits import LEASE_SECONDS, WINDOW, LimitStore, Quota
from storage import rate_limits as store
from storage.rate_limits import MemoryLimits, SqliteLimits, open_limits
from tests.conftest import EVER, until
from tests.support.clock import ManualClock

Open = Callable[[], LimitStore]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock(10 * WINDOW)
    monkeypatch.setattr(store, "monotonic", clock.now)
    return clock


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.services)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the store once more, as another process would."""
    if request.param == "memory":
        only = MemoryLimits()
        yield lambda: only
    else:
        url = request.getfixturevalue("redis_url") if request.param == "redis" else ""
        yield lambda: open_limits(url, tmp_path, processes=4)


def test_one_too_many_is_refused_and_not_counted(opened: Open) -> None:
    one, other, quota = opened(), opened(), Quota(requests=3)
    found = [each.take("a", quota, f"lease{at}") for at, each in enumerate((one, other, one, other, one))]
    assert [each.refused for each in found] == [None, None, None, "requests", "requests"]
    assert [each.requests for each in found] == [1, 2, 3, 3, 3]
    assert 0 <= found[-1].newest <= found[-1].oldest < WINDOW
    assert other.take("b", quota, "lease").refused is None


def test_many_at_once_are_counted_exactly(opened: Open) -> None:
    stores, quota = [opened(), opened()], Quota(requests=200, concurrent=1000)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda at: stores[at % 2].take("a", quota, f"lease{at}").refused, range(600)))
    assert found.count(None) == 200


def test_concurrent_requests_give_their_places_back(opened: Open) -> None:
    one, other, quota = opened(), opened(), Quota(concurrent=2)
    assert [each.take("a", quota, name).refused for each, name in ((one, "x"), (other, "y"))] == [None, None]
    assert one.take("a", quota, "z").refused == "concurrent"
    one.settle("a", "x", 0)
    one.settle("a", "x", 0)
    assert other.take("a", quota, "z").refused is None
    assert one.take("a", quota, "w").refused == "concurrent"


def test_tokens_are_estimated_and_corrected(opened: Open) -> None:
    one, other, quota = opened(), opened(), Quota(tokens=100)
    assert one.take("a", quota, "x").refused is None
    assert one.spend("a", quota, 60).refused is None
    assert other.spend("a", quota, 41).refused == "tokens"
    one.settle("a", "x", -50)
    assert other.spend("a", quota, 60).refused is None
    other.settle("a", "y", 40)
    assert one.take("a", quota, "z").refused == "tokens"


def test_a_lease_of_a_worker_that_died_ends(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(opened(), (MemoryLimits, SqliteLimits)):
        monkeypatch.setattr(store, "LEASE_SECONDS", 0.5)
    else:
        from storage import redis_limits  # noqa: PLC0415 - loads redis

        short = redis_limits.SCRIPT.replace(f"lease = {WINDOW}, {LEASE_SECONDS}", f"lease = {WINDOW}, 0.5")
        monkeypatch.setattr(redis_limits, "SCRIPT", short.replace("'EXPIRE', leases, lease", "'EXPIRE', leases, 1"))
    one, quota = opened(), Quota(concurrent=1)
    assert one.take("a", quota, "of the dead").refused is None
    assert one.take("a", quota, "x").refused == "concurrent"
    until(lambda: opened().take("a", quota, "y").refused is None, "the lease to end")


def test_a_window_moves(tmp_path: Path, clock: ManualClock) -> None:
    one, quota = SqliteLimits(tmp_path / "limits.sqlite3"), Quota(requests=2)
    for seconds, refused in ((0, None), (30, None), (29.9, "requests"), (0.2, None), (29, "requests"), (1, None)):
        clock.advance(seconds)
        assert one.take("a", quota, "x").refused == refused


def test_tokens_fade_with_the_window(clock: ManualClock) -> None:
    one, quota = MemoryLimits(clock.now), Quota(tokens=100)
    assert one.spend("a", quota, 100).refused is None
    clock.advance(WINDOW)
    assert one.spend("a", quota, 1).refused == "tokens"
    clock.advance(WINDOW / 2)
    assert one.spend("a", quota, 51).refused == "tokens"
    assert one.spend("a", quota, 50).refused is None
    clock.advance(2 * WINDOW)
    assert one.spend("a", quota, 100).refused is None


def test_a_renewed_lease_lasts_and_one_that_ended_does_not_come_back(clock: ManualClock) -> None:
    one, quota = MemoryLimits(clock.now), Quota(concurrent=1)
    one.take("a", quota, "x")
    for _ in range(3):
        clock.advance(LEASE_SECONDS * 0.9)
        one.renew([("a", "x")])
    assert one.take("a", quota, "y").refused == "concurrent"
    one.settle("a", "x", 0)
    one.renew([("a", "x")])
    assert one.take("a", quota, "y").refused is None


def test_what_was_counted_before_the_machine_was_started_again_is_forgotten(tmp_path: Path, clock: ManualClock) -> None:
    """Its clock begins anew."""
    one, quota = SqliteLimits(tmp_path / "limits.sqlite3"), Quota(requests=1, tokens=10, concurrent=1)
    one.take("a", quota, "x")
    one.spend("a", quota, 10)
    clock.advance(3.0 - clock.now())
    assert one.take("a", quota, "y").refused is None


def _take_many(path: Path, results: Any) -> None:
    one = SqliteLimits(path)
    results.put(sum(one.take("a", Quota(requests=50), f"{at}").refused is None for at in range(40)))


@pytest.mark.thorough
def test_processes_share_a_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=_take_many, args=(tmp_path / "limits.sqlite3", results), daemon=True) for _ in range(3)
    ]
    for process in processes:
        process.start()
    assert sum(results.get(timeout=2 * EVER) for _ in processes) == 50


def test_a_file_that_another_holds_is_waited_for_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_SECONDS", 0.05)
    one = SqliteLimits(tmp_path / "limits.sqlite3")
    one.take("a", Quota(requests=5), "x")
    with sqlite3.connect(tmp_path / "limits.sqlite3", isolation_level=None) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(one.failures):
            one.take("a", Quota(requests=5), "x")
        holder.execute("ROLLBACK")
    holder.close()
    assert one.take("a", Quota(requests=5), "x").requests == 2


def test_the_store_follows_from_the_settings(tmp_path: Path) -> None:
    assert isinstance(open_limits("", tmp_path, processes=1), MemoryLimits)
    assert isinstance(open_limits("sqlite:///x.db", tmp_path, processes=2), SqliteLimits)
    assert open_limits("redis://:secret@127.0.0.1:1/0", tmp_path, processes=1).where == "redis"
