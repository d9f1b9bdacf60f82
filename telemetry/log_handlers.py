"""Log handlers that never block: a line that cannot be written at once waits in a bounded queue for a thread.

A full disk, a lock of another process and a pipe without a reader cost lines, which are counted. They delay no request.
"""

import logging
import os
import select
import socket
import stat
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, sleep

log = logging.getLogger("thinkline.logs")

MOST_BYTES = 4_000_000
"""Bytes of waiting lines, for each handler."""
GATHER_SECONDS = 0.02
"""Seconds that the first line waits for others, so that the thread wakes once for many lines."""
AGAIN_SECONDS = 1.0
"""Seconds until the next attempt after a failure."""
LOCK_SECONDS = 1.0
"""Seconds that a lock of another process is waited for."""
LAST_SECONDS = 1.0
"""Seconds that a shutdown waits for lines that are not written yet."""


class BackgroundHandler(logging.Handler):
    """Passes lines to a thread of its own. The thread starts with the first line, in each process anew."""

    where = ""

    def __init__(self) -> None:
        super().__init__()
        self._begin()
        _handlers.add(self)

    def _begin(self) -> None:
        """Begin with an empty queue; a forked child does so too, because its parent writes the waiting lines."""
        self._guard = threading.Lock()
        self._writing = threading.Lock()
        self._lines: deque[bytes] = deque()
        self._size = self._lost = 0
        self._failing = self._closed = False
        self._has_lines = threading.Event()
        self._thread: threading.Thread | None = None

    def write_at_once(self, data: bytes) -> int:
        """Write as much as is possible without waiting; returns the number of bytes."""
        return 0

    def write(self, data: bytes) -> None:
        """Write all data, without a time limit. Raises OSError; then none of it is written."""
        raise NotImplementedError

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line now, or queue it."""
        try:
            data = f"{self.format(record)}\n".encode("utf-8", "backslashreplace")
        except Exception:  # noqa: BLE001 - as logging's own handlers do: logging must not fail a request
            self.handleError(record)
            return
        with self._guard:
            try:
                done = 0 if self._lines else self.write_at_once(data)
            except OSError:
                done = 0  # the thread meets the same error, and reports it
            if done == len(data):
                return
            if self._size + len(data) > MOST_BYTES or not self._has_thread():
                self._lost += 1
                return
            self._lines.append(data[done:])
            self._size += len(data) - done
        self._has_lines.set()

    def _has_thread(self) -> bool:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="log", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system allows no more threads
                return False
            self._thread = thread
        return True

    def _run(self) -> None:
        while not self._closed:
            self._has_lines.wait()
            sleep(GATHER_SECONDS)
            self._has_lines.clear()
            while self._lines and not self._closed:
                self._write_first()

    def _write_first(self) -> None:
        try:
            with self._writing:
                self.write(self._lines[0])
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: another process holds the lock
            if not self._failing:
                self._failing = True
                what = "%s cannot be written to; lines wait, and are lost when they are too many: %s"
                log.error(what, self.where, error)  # noqa: TRY400 - a traceback says no more
            sleep(AGAIN_SECONDS)
            return
        with self._guard:
            self._size -= len(self._lines.popleft())
            if self._lines or not (self._lost or self._failing):
                return
            lost, self._lost, self._failing = self._lost, 0, False
        log.warning("%s can be written to again", self.where, extra={"facts": {"lost": lost}})

    def flush(self) -> None:
        """Wait until the queue is empty, for a bounded time."""
        by = monotonic() + LAST_SECONDS
        while self._lines and monotonic() < by:
            sleep(GATHER_SECONDS / 4)

    def close(self) -> None:
        """End the thread, once the queue is empty."""
        self.flush()
        self._closed = True
        self._has_lines.set()
        super().close()

    def before_fork(self) -> None:
        """Wait until no line is half written: a forked child would inherit the rest of it."""
        self._has_lock = self._writing.acquire(timeout=LOCK_SECONDS)

    def after_fork(self) -> None:
        """Let the thread write again, in the parent."""
        if self._has_lock:
            self._writing.release()

    def forked(self) -> None:
        """Begin anew in this child process."""
        self._begin()


class StderrHandler(BackgroundHandler):
    """Standard error. Lines are written at once, while the reader keeps up."""

    where = "stderr"

    def __init__(self, descriptor: int = 2) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._at_once = _non_blocking_write(descriptor)

    def write_at_once(self, data: bytes) -> int:
        """Write without blocking; returns the number of bytes."""
        try:
            return self._at_once(data) if self._at_once else 0
        except BlockingIOError:
            return 0

    def write(self, data: bytes) -> None:
        """Write all bytes, and wait while the reader is slow."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while data:
            poll.poll()
            data = data[self.write_at_once(data) if self._at_once else os.write(self._descriptor, data) :]


def _non_blocking_write(descriptor: int) -> Callable[[bytes], int] | None:
    """Return a function that writes without blocking; None if there is none. O_NONBLOCK on the shared descriptor would
    apply to other processes too, such as a shell.
    """
    with suppress(OSError):
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            shared = socket.socket(fileno=os.dup(descriptor))
            return lambda data: shared.send(data, socket.MSG_DONTWAIT)
        if stat.S_ISFIFO(mode) or os.isatty(descriptor):
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            return lambda data: os.write(own, data)
        return lambda data: os.write(descriptor, data)
    return None


_handlers: "weakref.WeakSet[BackgroundHandler]" = weakref.WeakSet()


def _each(name: str) -> Callable[[], None]:
    def call() -> None:
        for handler in list(_handlers):
            getattr(handler, name)()

    return call


os.register_at_fork(before=_each("before_fork"), after_in_parent=_each("after_fork"), after_in_child=_each("forked"))
