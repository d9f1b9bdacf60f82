"""One caller's line, as the request's thread and the keeper of lines (server/lines.py) share it."""

import socket
import threading
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Protocol

from core.context import CallContext
from core.forwarding import Source
from server.response import Response

KEPT_HEARTBEATS = 100

GATHERED = 16_384
"""Bytes of a stream that are written whatever follows them."""


class Keeper(Protocol):
    """What a line needs of its keeper."""

    heartbeat: float
    headers_after: float
    can_forward: bool

    def look_by(self, line: "Line", due: float) -> None:
        """Look at the line by then at the latest."""

    def take_over(self, line: "Line", source: Source) -> None:
        """Write what the source gives to the line, until it is over."""

    def forget(self, line: "Line") -> None:
        """The line has ended."""


class Line:
    """A caller's connection while one request is answered. It is the call's Forwarder, where it can be one.

    due      when the keeper looks at it next
    opened_at, heartbeats   when the head went out before the first event, and the first of the heartbeats
    source   what is forwarded to it; `is_paused` while the caller does not take it
    """

    __slots__ = (
        "_gathered", "_gathered_size", "_keeper", "_parked", "call", "descriptor", "due", "ended", "filler",
        "filler_by", "heartbeat", "heartbeats", "is_paused", "opened_at", "opens_by", "response", "socket",
        "source", "start",
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
        """A stream will be written, whose head `start` makes. Until `begin` it is opened when its first event is late,
        and what `filler` gives is written at `filler_by`; until the end each silence is broken by a heartbeat.
        """
        if self.response is not None:
            self.call.flush = self.flush
            self.start, self.heartbeat, self.filler, self.filler_by = start, heartbeat, filler, filler_by
            self.opens_by = self.call.started + self._keeper.headers_after
            self._keeper.look_by(self, min(self.opens_by, filler_by, monotonic() + self._keeper.heartbeat))

    def begin(self) -> bool:
        """The first event has come. Whether the stream is open already; if not, who calls makes its head."""
        if self.response is None:
            return False
        with self.response.lock:
            is_open = self.start is None
            self.start, self.filler_by = None, inf
            self.response.written_at = self.response.written_at or monotonic()
            return is_open

    def gather(self, data: bytes) -> bool:
        """Write a piece of a stream at the next `flush`, together with others. False where it cannot be done."""
        if self.response is None:
            return False
        self._gathered.append(data)
        self._gathered_size += len(data)
        if self._gathered_size > GATHERED:
            self.flush()
        return True

    def flush(self) -> None:
        """Write what was gathered, and wait until the caller has taken it. Who does not take it ends the call."""
        if self._gathered and self.response is not None:
            data = b"".join(self._gathered)
            self._gathered.clear()
            self._gathered_size = 0
            try:
                self.response.write(data)
            except OSError:
                self.call.cancel()

    def forward(self, source: Source) -> bool:
        """Pass a source's frames on until it is over; this thread waits for that. False where it cannot be done.
        Raises Cancelled.
        """
        if self.response is None or not self._keeper.can_forward:
            return False
        self.flush()
        self._parked = threading.Lock()
        self._parked.acquire()
        self.is_paused = False
        with self.call.on_cancel(lambda: self._keeper.look_by(self, 0)):
            self._keeper.take_over(self, source)
            self._parked.acquire()
        return True

    def give_back(self) -> None:
        """Let the thread go on that waits in `forward`. For the keeper."""
        self.source = None
        self._parked.release()

    def next_heartbeat(self) -> bytes:
        """The bytes of one, whose time is noted."""
        if len(self.heartbeats) < KEPT_HEARTBEATS:
            self.heartbeats = (*self.heartbeats, monotonic())
        return self.heartbeat

    def end(self) -> None:
        """The request is over. To be called before its socket is closed; may be called twice."""
        self._keeper.forget(self)
