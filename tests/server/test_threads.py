"""The worker's threads: which of them works, and that all of them last."""

import os
import threading
from collections import Counter
from pathlib import Path

import pytest

from server import thread_pool
from server.thread_pool import SPARE, LifoThreadPool, check_threads
from tests.conftest import until

TASKS = Path("/proc/self/task")


def test_one_after_another_needs_one_thread() -> None:
    threads = LifoThreadPool(8)
    used: Counter[str] = Counter()
    for number in range(1, 101):
        done = threading.Event()
        threads.do(lambda done=done: (used.update([threading.current_thread().name]), done.set()))
        assert done.wait(5)
        until(lambda: threads.free == 8, "the thread to be free again")
        assert used.total() == number
    assert len(used) == 1


def test_as_many_as_there_are_work_at_once_and_the_rest_wait_their_turn() -> None:
    threads = LifoThreadPool(3)
    gate, began, ended = threading.Event(), [], []
    lock = threading.Lock()

    def job(number: int) -> None:
        with lock:
            began.append(number)
        gate.wait(10)
        with lock:
            ended.append(number)

    for number in range(10):
        threads.do(lambda number=number: job(number))
    until(lambda: len(began) == 3, "three to begin")
    assert (sorted(began), ended, threads.free) == ([0, 1, 2], [], 0)
    gate.set()
    until(lambda: len(ended) == 10, "all to end")
    assert sorted(began) == sorted(ended) == list(range(10))
    until(lambda: threads.free == 3, "all to be free")


def test_a_job_that_fails_costs_no_thread() -> None:
    threads = LifoThreadPool(2)
    for failure in (ValueError, SystemExit, KeyboardInterrupt) * 3:

        def fail(failure: type[BaseException] = failure) -> None:
            raise failure

        threads.do(fail)
    done = threading.Event()
    threads.do(done.set)
    assert done.wait(5)
    until(lambda: threads.free == 2, "both to be free")


def run_crowd(threads: LifoThreadPool) -> None:
    """Have SPARE + 100 jobs run at the same time, and end."""
    gate, began = threading.Event(), threading.Semaphore(0)

    def job() -> None:
        began.release()
        gate.wait(10)

    for _ in range(SPARE + 100):
        threads.do(job)
    for _ in range(SPARE + 100):
        assert began.acquire(timeout=10)
    gate.set()


def test_more_threads_are_started_when_they_are_needed() -> None:
    threads = LifoThreadPool(SPARE + 100)
    assert threads.free <= SPARE
    run_crowd(threads)
    until(lambda: threads.free == SPARE + 100, "all to be free")


def test_after_a_crowd_the_threads_end_and_the_next_crowd_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_pool, "IDLE_SECONDS", 0.1)
    before = threading.active_count()
    threads = LifoThreadPool(SPARE + 100)
    for _ in range(3):
        run_crowd(threads)
        until(lambda: threads.free == SPARE, "the threads that are not needed to end")
        until(lambda: threading.active_count() == before + SPARE + 1, "their memory to be free")  # and one that starts


def test_jobs_that_come_as_threads_end_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_pool, "IDLE_SECONDS", 0.005)
    threads = LifoThreadPool(SPARE * 3)
    done = threading.Semaphore(0)
    for _ in range(50):
        for _ in range(SPARE * 3):
            threads.do(done.release)
        for _ in range(SPARE * 3):
            assert done.acquire(timeout=10)


def test_the_check_at_the_start_leaves_no_thread_behind(capfd: pytest.CaptureFixture[str]) -> None:
    """A thread that is late must not act on what the process has opened since."""
    before = len(list(TASKS.iterdir()))
    for count in (1, 8, 64, 200) * 5:
        check_threads(count)
        reader, writer = os.pipe()
        os.write(writer, b"ours")
        assert os.read(reader, 10) == b"ours"
        os.close(reader)
        os.close(writer)
    until(lambda: len(list(TASKS.iterdir())) <= before, "all to end")
    assert capfd.readouterr().err == ""
