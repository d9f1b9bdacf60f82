"""The context of a request under way: its deadlines, its cancellation, its state."""

import socket
import threading
from dataclasses import dataclass
from math import inf
from time import monotonic

from core.errors import Cancelled, GatewayError
from core.store import KeyValueStore


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
    event, at its end. `beat_by` is when the line to the caller must hear something: the transport reports a Silence
    by then at the latest, whether or not bytes trickle in. All times are of the monotonic clock.

    `caller` is the name of the key that came with it, "" without keys; `state` is where a provider may keep what the
    next request needs, None where nothing is kept.

    The transport tells it every socket it uses (`attach`, `detach`); `hang_up`, from any thread and in any phase,
    shuts them at once, so that a blocked read returns. After that, `attach` and `wait` raise HungUp. `reason` is why,
    when it was not the caller who left. A `child` is the same request asked of another target: it ends with it, or
    alone.
    """

    def __init__(
        self,
        request_id: str = "",
        heartbeat: float = 5.0,
        patience: float = 1.0,
        *,
        caller: str = "",
        state: KeyValueStore | None = None,
    ) -> None:
        self.request_id = request_id
        self.caller = caller
        self.state = state
        self.patience = patience
        self.heartbeat = heartbeat
        self.started = monotonic()
        self.first_event_by = inf
        self.total_by = inf
        self.beat_by = self.started + heartbeat
        self.gone = False
        self.reason: GatewayError | None = None
        self._children: list[CallContext] = []
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._left: threading.Event | None = None

    def child(self) -> "CallContext":
        """A call within this one, with deadlines of its own. Raises HungUp when the caller has left already."""
        child = CallContext(self.request_id, self.heartbeat, self.patience, caller=self.caller, state=self.state)
        child.started = self.started
        with self._lock:
            if self.gone:
                raise Cancelled
            self._children.append(child)
        return child

    def begin(self, timeouts: Timeouts) -> None:
        """An attempt starts: its deadlines count from now, the total from the call's own start."""
        self.first_event_by = monotonic() + timeouts.first_event * self.patience
        self.total_by = self.started + timeouts.total

    def mark_first_event(self) -> None:
        """From here on only the idle and the total time-outs apply."""
        self.first_event_by = inf

    def attach(self, sock: socket.socket) -> None:
        """The transport talks on this socket from now on. Raises HungUp when the caller has left already."""
        with self._lock:
            if self.gone:
                raise Cancelled
            self._sockets.add(sock)

    def detach(self, sock: socket.socket) -> None:
        """The socket is no longer this call's; it may serve another from now on."""
        with self._lock:
            self._sockets.discard(sock)

    def cancel(self, reason: GatewayError | None = None) -> None:
        """The caller has left, or is told `reason`: wake whoever works for them."""
        with self._lock:
            self.gone = True
            self.reason = self.reason or reason
            for child in self._children:
                child.cancel()
            for sock in self._sockets:
                try:
                    # Not SSLSocket.shutdown, which drops the TLS object while another thread reads through it.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
                except OSError:
                    pass  # closed by the other side first
            if self._left is not None:
                self._left.set()

    def wait(self, seconds: float) -> None:
        """Sleep, unless the caller leaves meanwhile. Raises HungUp."""
        with self._lock:
            if self.gone:
                raise Cancelled
            if self._left is None:
                self._left = threading.Event()
        if self._left.wait(seconds):
            raise Cancelled
