"""The context of a request under way: its deadlines and its cancellation."""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
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
from core.trace_context import AnswerFacts, TraceContext, new_span_id

T = TypeVar("T")

GRACE_SECONDS = 1.0
"""How long the usage and the end mark may take to arrive after the answer's finish."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect, to the first event, between upstream bytes once begun, and for the whole answer."""

    connect: float = 3.0
    first_event: float = 15.0
    idle: float = 30.0
    total: float = 300.0


class CallContext:
    """A request while it is answered: its deadlines, and whether it is cancelled. Go calls this a context, trio a
    cancel scope. All times are of `clock`.

    Any thread may call `cancel`. It shuts all sockets that the transport has attached, so that a blocked read returns
    at once; from then on `attach` and each wait raise Cancelled. A `child` is the context of one of several targets
    that are asked at the same time: cancelling the parent cancels the child too, but not the reverse.

    Pieces of an answer are gathered and sent to the caller together. `flush` sends those gathered so far, and must be
    called before any wait, since the caller would wait too.

    first_event_factor   factor for FIRST_EVENT_TIMEOUT: an answer that is not streamed has its only event at its end
    finish_by   deadline for what may follow a finished answer: its usage and its end mark
    caller      name of the request's key, "" without keys
    state       store for values that a provider needs in the conversation's next request; None if there is no store
    forwarder   sends an upstream's frames to the caller from the thread of all lines; None if that is not possible
    trace       the request's trace; `span_id` is the span of the running attempt
    traced      whether the bytes sent to and received from upstreams are logged
    gone        whether it is cancelled, and `gone_at` since when
    reason      the error for the caller, if another cause than a hang-up cancelled it
    headers_at  when the head of the running attempt's response came
    frames      how many frames of the running attempt were forwarded unread
    """

    def __init__(
        self,
        request_id: str = "",
        first_event_factor: float = 1.0,
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
        self.first_event_factor = first_event_factor
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
        """A context within this one, with deadlines of its own. Raises Cancelled if this one is cancelled."""
        child = CallContext(
            self.request_id,
            self.first_event_factor,
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
        """Give the attempt that starts a span of its own, if the request is traced."""
        if self.trace is not None:
            self.span_id = new_span_id()

    @property
    def trace_headers(self) -> dict[str, str]:
        """The headers that make the upstream's span a child of the attempt's."""
        return self.trace.headers(self.span_id or self.trace.span_id) if self.trace is not None else {}

    def note_answer(self, id: str = "", model: str = "", reasons: Iterable[tuple[int, str]] = ()) -> None:  # noqa: A002
        """Note for the trace what the upstream has said of an answer whose bytes pass as they came; "" for nothing."""
        if self.trace is not None:
            facts = self.trace.answers.setdefault(self.span_id, AnswerFacts())
            facts.id, facts.model, facts.reasons = id or facts.id, model or facts.model, list(reasons)

    def begin(self, timeouts: Timeouts) -> None:
        """Set the deadlines of the attempt that starts. The total time-out counts from the start of the request."""
        self.first_event_by = self.clock.now() + timeouts.first_event * self.first_event_factor
        self.total_by = self.started + timeouts.total
        self.finish_by = inf
        self.headers_at = None

    def mark_headers(self) -> None:
        """Note that the head of the upstream's response has come."""
        self.headers_at = self.clock.now()

    def mark_first_event(self) -> None:
        """Note the first event: from now on only the idle and the total time-outs apply."""
        self.first_event_by = inf

    @property
    def awaits_first_event(self) -> bool:
        """Whether the first event of the attempt under way is still to come."""
        return self.first_event_by != inf

    def mark_finished(self) -> None:
        """Note that the answer is complete: the rest of the response may take GRACE_SECONDS at most."""
        if self.finish_by == inf:
            self.finish_by = self.clock.now() + GRACE_SECONDS

    def attach(self, sock: socket.socket) -> None:
        """Add a socket, which `cancel` will shut. Raises Cancelled if the request is cancelled already."""
        with self._lock:
            if self.gone:
                raise Cancelled
            self._sockets.add(sock)

    def detach(self, sock: socket.socket) -> None:
        """Remove a socket: another request may use it from now on."""
        with self._lock:
            self._sockets.discard(sock)

    def cancel(self, reason: GatewayError | None = None) -> None:
        """Cancel the request: wake each thread that works for it. The caller gets `reason` as its error; None means
        that the caller has hung up.
        """
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

    def end(self) -> None:
        """Release what is of no use after the request's end, and would form reference cycles: memory is freed at once
        then, and not by the garbage collector.
        """
        self.flush, self.forwarder = _do_nothing, None
        with self._lock:
            self._children.clear()

    @contextmanager
    def on_cancel(self, callback: Callable[[], object]) -> Iterator[None]:
        """A context within which `cancel` calls `callback`, which must not block. Raises Cancelled if the request is
        cancelled already.
        """
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
        """Sleep. Raises Cancelled as soon as the request is cancelled."""
        self.flush()
        cancelled = threading.Event()
        with self.on_cancel(cancelled.set):
            if self.clock.wait(cancelled, self.clock.now() + seconds):
                raise Cancelled

    def wait_for(self, future: "Future[T]", by: float = inf) -> T:
        """Wait for the result of another thread's work. Raises Cancelled, TimeoutError at `by` or at a deadline of the
        request, and the exception of the work.
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
        """Do `work`, which blocks and cannot be woken, in a thread of its own, and wait for it as `wait_for` does."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
                future.set_exception(error)

        threading.Thread(target=copy_context().run, args=(run,), name="blocking", daemon=True).start()
        return self.wait_for(future, by)


def _do_nothing() -> None:
    """The `flush` of an answer whose pieces are not gathered."""
