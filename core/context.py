"""The context of a request under way: its deadlines, its cancellation, its state."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from core.clock import SYSTEM_CLOCK, Clock
from core.errors import Cancelled, GatewayError
from core.forwarding import Forwarder
from core.store import KeyValueStore
from core.trace_context import TraceContext, new_span_id

T = TypeVar("T")

GRACE_SECONDS = 1.0
"""How long after its finish an answer may still bring its usage and its end mark."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect, to the first event, between upstream bytes once begun, and for the whole answer."""

    connect: float = 3.0
    first_event: float = 15.0
    idle: float = 30.0
    total: float = 300.0


class CallContext:
    """One caller's request while it is answered: how long it may take, and whether the caller is still there.

    `patience` is how many times its FIRST_EVENT_TIMEOUT an upstream may take: an answer that is not streamed has one
    event, at its end. `finish_by` is when nothing more of a finished answer is waited for. All times are of `clock`.

    `flush` lets what has been said so far reach the caller: to be called before whatever waits, as what comes together
    is sent together.

    `caller` is the name of the key that came with it, "" without keys; `state` is where a provider may keep what the
    next request needs, None where nothing is kept. `forwarder` sends frames that may pass as they came to the caller,
    None where nothing is sent by it.

    `trace` is the trace that it belongs to, and `span_id` the attempt under way in it. What is sent to upstreams, and
    comes back, is logged where it is `traced`.

    The transport tells it every socket it uses (`attach`, `detach`); `cancel`, from any thread and in any phase,
    shuts them at once, so that a blocked read returns. After that, `attach` and each wait raise Cancelled. `reason` is
    the error, where another cause than a hang-up ended it, and `gone_at` when it ended. A `child` is the same request
    asked of another target: it ends with it, or alone.

    `headers_at` is when the running attempt's upstream began to answer, `frames` how many of its frames were forwarded
    unread.
    """

    def __init__(
        self,
        request_id: str = "",
        patience: float = 1.0,
        *,
        caller: str = "",
        state: KeyValueStore | None = None,
        forwarder: Forwarder | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.clock = clock
        self.request_id = request_id
        self.caller = caller
        self.state = state
        self.patience = patience
        self.forwarder = forwarder
        self.flush: Callable[[], object] = _do_nothing
        self.trace: TraceContext | None = None
        self.span_id = ""
        self.traced = False
        self.started = self.clock.now()
        self.first_event_by = inf
        self.total_by = inf
        self.finish_by = inf
        self.headers_at: float | None = None
        self.frames = 0
        self.gone = False
        self.gone_at: float | None = None
        self.reason: GatewayError | None = None
        self._children: list[CallContext] = []
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._callbacks: set[Callable[[], object]] = set()

    def child(self) -> "CallContext":
        """A call within this one, with deadlines of its own. Raises Cancelled when this one has ended."""
        child = CallContext(
            self.request_id,
            self.patience,
            caller=self.caller,
            state=self.state,
            forwarder=self.forwarder,
            clock=self.clock,
        )
        child.started = self.started
        child.flush = self.flush
        child.trace, child.traced = self.trace, self.traced
        with self._lock:
            if self.gone:
                raise Cancelled
            self._children.append(child)
        return child

    def begin_span(self) -> None:
        """An attempt starts: it has a span of its own, where something is traced."""
        if self.trace is not None:
            self.span_id = new_span_id()

    @property
    def trace_headers(self) -> dict[str, str]:
        """What makes the upstream's span a child of the attempt's."""
        return self.trace.headers(self.span_id or self.trace.span_id) if self.trace is not None else {}

    def begin(self, timeouts: Timeouts) -> None:
        """An attempt starts: its deadlines count from now, the total from the call's own start."""
        self.first_event_by = self.clock.now() + timeouts.first_event * self.patience
        self.total_by = self.started + timeouts.total
        self.finish_by = inf
        self.headers_at = None

    def mark_headers(self) -> None:
        """The head of the upstream's answer has come."""
        self.headers_at = self.clock.now()

    def mark_first_event(self) -> None:
        """From here on only the idle and the total time-outs apply."""
        self.first_event_by = inf

    def mark_finished(self) -> None:
        """The answer is whole: what may still follow is waited for no longer than GRACE_SECONDS."""
        if self.finish_by == inf:
            self.finish_by = self.clock.now() + GRACE_SECONDS

    def attach(self, sock: socket.socket) -> None:
        """The transport talks on this socket from now on. Raises Cancelled when the call has ended."""
        with self._lock:
            if self.gone:
                raise Cancelled
            self._sockets.add(sock)

    def detach(self, sock: socket.socket) -> None:
        """The socket is no longer this call's; it may serve another from now on."""
        with self._lock:
            self._sockets.discard(sock)

    def cancel(self, reason: GatewayError | None = None) -> None:
        """The caller has left, or gets `reason` as its error: wake each thread that works for the request."""
        with self._lock:
            self.gone = True
            self.gone_at = self.gone_at or self.clock.now()
            self.reason = self.reason or reason
            for child in self._children:
                child.cancel()
            for sock in self._sockets:
                try:
                    # Not SSLSocket.shutdown, which drops the TLS object while another thread reads through it.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
                except OSError:
                    pass  # closed by the other side first
            for callback in self._callbacks:
                callback()

    @contextmanager
    def on_cancel(self, callback: Callable[[], object]) -> Iterator[None]:
        """Within this block a cancellation calls `callback`, which must not block. Raises Cancelled at its begin."""
        with self._lock:
            if self.gone:
                raise Cancelled
            self._callbacks.add(callback)
        try:
            yield
        finally:
            with self._lock:
                self._callbacks.discard(callback)

    def wait(self, seconds: float) -> None:
        """Sleep, unless the call is cancelled meanwhile. Raises Cancelled."""
        self.flush()
        cancelled = threading.Event()
        with self.on_cancel(cancelled.set):
            if self.clock.wait(cancelled, self.clock.now() + seconds):
                raise Cancelled

    def wait_for(self, future: "Future[T]", by: float = inf) -> T:
        """What another thread is to find out. Raises Cancelled, TimeoutError at `by` or when the call's own deadlines
        are over, and what the other thread raised.
        """
        self.flush()
        woken = threading.Event()
        future.add_done_callback(lambda _: woken.set())
        by = min(by, self.first_event_by, self.total_by)
        with self.on_cancel(woken.set):
            self.clock.wait(woken, by)
        if self.gone:
            raise Cancelled
        return future.result(0)

    def run(self, work: Callable[[], T], by: float = inf) -> T:
        """Do what blocks and cannot be woken, on a thread of its own; wait as `wait_for` does."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
                future.set_exception(error)

        threading.Thread(target=copy_context().run, args=(run,), name="blocking", daemon=True).start()
        return self.wait_for(future, by)


def _do_nothing() -> None:
    """Nothing is kept back."""
