"""One caller's line: the object that the request's thread and the keeper of lines (server/lines.py) share."""

import socket
import threading
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Protocol

from core.context import CallContext
from core.events import Event
from core.forwarding import Source
from server.response import Response

KEPT_HEARTBEATS = 100

GATHERED = 16_384
"""Gathered bytes are written as soon as there are more than this."""


class Keeper(Protocol):
    """The methods of the keeper that a line calls."""

    heartbeat: float
    headers_after: float
    can_forward: bool

    def look_by(self, line: "Line", due: float) -> None:
        """Check the line at `due` at the latest."""

    def take_over(self, line: "Line", source: Source) -> None:
        """Write the source's frames to the line until the source is over."""

    def forget(self, line: "Line") -> None:
        """Stop watching a line, which has ended."""


class Line:
    """A caller's connection while one request is answered. It implements the call's Forwarder.

    due         when the keeper checks it next
    opened_at   when the head was sent, if that was before the first event
    heartbeats  when the first KEPT_HEARTBEATS heartbeats were sent
    source      the stream that is forwarded to it
    encode      encodes the events of such a stream, if not only bytes are forwarded
    is_paused   the source is not read, since the caller does not read
    """

    __slots__ = (
        "__weakref__", "_gathered", "_gathered_size", "_keeper", "_parked", "call", "descriptor", "due", "encode",
        "ended", "filler", "filler_by", "heartbeat", "heartbeats", "is_paused", "opened_at", "opens_by", "response",
        "socket", "source", "start",
    )  # fmt: skip

    def __init__(
        self, keeper: Keeper, call: CallContext, sock: socket.socket | None, response: Response | None
    ) -> None:
        self._keeper = keeper
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self.call = call
        self.socket = sock
        self.descriptor: int | None = None
        self.response = response
        self.encode: Callable[[Event], bytes] | None = None
        self.ended = False
        self.due = inf
        self.opened_at: float | None = None
        self.heartbeats: tuple[float, ...] = ()
        self.start: Callable[[], object] | None = None
        self.opens_by = self.filler_by = inf
        self.filler: Callable[[], bytes] | None = None
        self.heartbeat = b""
        self.source: Source | None = None
        self.is_paused = False

    def keep(
        self, start: Callable[[], object], heartbeat: bytes, filler: Callable[[], bytes], filler_by: float
    ) -> None:
        """Have the keeper look after a stream. `start` sends its head. Until `begin`, the keeper opens the stream if
        the first event is late, and writes `filler()` at `filler_by`; until the end it writes a heartbeat in each
        silence.
        """
        if self.response is not None:
            self.call.flush = self.flush
            self.start, self.heartbeat, self.filler, self.filler_by = start, heartbeat, filler, filler_by
            self.opens_by = self.call.started + self._keeper.headers_after
            self._keeper.look_by(self, min(self.opens_by, filler_by, monotonic() + self._keeper.heartbeat))

    def begin(self) -> bool:
        """Note the first event. Returns whether the head is sent; if not, the calling thread sends it."""
        if self.response is None:
            return False
        with self.response.lock:
            is_open = self.start is None
            self.start, self.filler_by = None, inf
            self.response.written_at = self.response.written_at or monotonic()
            return is_open

    def gather(self, data: bytes) -> bool:
        """Keep a piece of a stream for the next `flush`. False if there is no response to write to."""
        if self.response is None:
            return False
        self._gathered.append(data)
        self._gathered_size += len(data)
        if self._gathered_size > GATHERED:
            self.flush()
        return True

    def flush(self) -> None:
        """Write the gathered pieces, and wait until the caller has read them. A failure cancels the call."""
        if self._gathered and self.response is not None:
            data = b"".join(self._gathered)
            self._gathered.clear()
            self._gathered_size = 0
            try:
                self.response.write(data)
            except OSError:
                self.call.cancel()

    def forward(self, source: Source) -> bool:
        """Have the keeper forward a source, and wait until the source is over or the call is cancelled. Returns False
        at once if nothing can be forwarded here. Raises Cancelled if the call is cancelled already.
        """
        if self.response is None or not self._keeper.can_forward:
            return False
        self._parked = threading.Lock()
        self._parked.acquire()
        self.is_paused = False
        with self.call.on_cancel(lambda: self._keeper.look_by(self, 0)):
            self._keeper.take_over(self, source)
            self._parked.acquire()
        return True

    def give_back(self) -> None:
        """Wake the thread that waits in `forward`. Called by the keeper."""
        self.source = None
        self._parked.release()

    def next_heartbeat(self) -> bytes:
        """Return a heartbeat's bytes, and note its time."""
        if len(self.heartbeats) < KEPT_HEARTBEATS:
            self.heartbeats = (*self.heartbeats, monotonic())
        return self.heartbeat

    def end(self) -> None:
        """End the line. Must be called before its socket is closed; may be called twice."""
        self._keeper.forget(self)
        self.encode = self.filler = None  # of the Flask response, which refers to this line
