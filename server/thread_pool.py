"""The worker's threads: the free thread that was busy last takes the next job."""

import threading
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable
from itertools import count
from logging import getLogger
from queue import SimpleQueue
from time import monotonic, sleep

log = getLogger("thinkline.errors")

Job = Callable[[], None]


def _nothing() -> None:
    pass


PAUSE_SECONDS = 1.0
"""The pause after the system could not start a thread."""
END_SECONDS = 1.0
"""How long threads that were started for a check may take to end."""
SPARE = 32
"""How many free threads are kept ready, so that a burst of requests need not wait for threads to start."""
IDLE_SECONDS = 30.0
"""How long more free threads than that are kept after a crowd: each has memory of its own."""


class LifoThreadPool:
    """Up to `most` threads. A thread of its own starts them when they are needed, so that the main thread never waits;
    those that are needed no more end.

    An executor's queue wakes the thread that has waited longest, so that all threads are used in turn: the memory of
    each grows, and no cache is warm. Here no more threads are used than jobs run at the same time.
    """

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._free: dict[_Thread, None] = {}  # in the order in which they became free
        self._jobs: deque[Job] = deque()
        self._most = most
        self._started = 0
        self._numbers = count()
        self._wanted = threading.Event()
        for _ in range(min(SPARE, most)):
            self._start()
        if most > SPARE:
            threading.Thread(target=self._start_more, name="starter", daemon=True).start()

    def do(self, job: Job) -> None:
        """Have a thread do the job, now if one is free."""
        with self._lock:
            thread = self._free.popitem()[0] if self._free else None
            if thread is None:
                self._jobs.append(job)
        if thread is not None:
            thread.wake(job)
        if len(self._free) < SPARE and self._started < self._most:
            self._wanted.set()

    def next(self, thread: "_Thread") -> Job | None:
        """The next job for that thread; None if there is none, and the thread counts as free."""
        with self._lock:
            if self._jobs:
                return self._jobs.popleft()
            self._free[thread] = None
            return None

    def may_end(self, thread: "_Thread") -> bool:
        """Whether a thread that has had no job for long is to end. If so, it counts no more."""
        with self._lock:
            if thread not in self._free or len(self._free) <= SPARE:
                return False
            del self._free[thread]
            self._started -= 1
            return True

    @property
    def free(self) -> int:
        """How many started threads have no job."""
        return len(self._free)

    def _start(self) -> None:
        _Thread(self, f"call-{next(self._numbers)}").start()
        with self._lock:
            self._started += 1

    def _start_more(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                while self._started < self._most and (self._jobs or len(self._free) < SPARE):
                    self._start()
            except RuntimeError as error:
                log.error("no more threads can be started: %s", error)  # noqa: TRY400 - the message says it all
                sleep(PAUSE_SECONDS)

    def shutdown(self, *, wait: bool) -> None:
        """Do nothing: the threads are daemons, and end with the process."""


class _Thread(threading.Thread):
    def __init__(self, pool: LifoThreadPool, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._pool = pool
        self._job: Job = _nothing
        self._woken = threading.Lock()
        self._woken.acquire()

    def wake(self, job: Job) -> None:
        self._job = job
        self._woken.release()

    def _wait_for_job(self) -> Job | None:
        while not self._woken.acquire(timeout=IDLE_SECONDS):
            if self._pool.may_end(self):
                return None
        job, self._job = self._job, _nothing
        return job

    def run(self) -> None:
        while job := self._pool.next(self) or self._wait_for_job():
            try:
                job()
            except BaseException:  # any fault: the thread is needed for the next job
                log.exception("a job failed")
            del job


def check_threads(count: int) -> None:
    """Check that the system allows `count` threads. Raises RuntimeError, which says what to change."""
    started = 0
    gate: SimpleQueue[None] = SimpleQueue()
    try:
        for _ in range(count):
            # Thread.start waits until the thread runs, which it never does without memory. `get` is no Python code, for
            # which each of the threads would wait for the others.
            start_new_thread(gate.get, ())
            started += 1
    except RuntimeError:
        raise RuntimeError(
            f"THREADS is {count}, and the system allows {started}: lower it, or raise the limit of processes "
            "(ulimit -u, systemd's TasksMax, a container's pids) or of memory (ulimit -v)."
        ) from None
    finally:
        for _ in range(started):
            gate.put(None)
        ended_by = monotonic() + END_SECONDS
        while not gate.empty() and monotonic() < ended_by:
            sleep(0.001)
