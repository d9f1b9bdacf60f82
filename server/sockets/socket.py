"""One WebSocket connection, as its handler and the thread that keeps it (server/sockets/keeper.py) share it.

state     what may happen
open      messages are sent and received; turns begin
retired   no new turn begins; the connection is closed after the running turns, at once if there are none
closing   a close frame was sent; the peer's, or the end of its stream, is awaited for CLOSING_SECONDS
closed    nothing is sent or received; the handler's `closed` was called, or is queued
"""

import errno
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from logging import getLogger
from math import inf
from threading import get_ident
from time import monotonic

from websockets.frames import CloseCode

from core.errors import Cancelled, Overloaded
from server.response import STALLED_SECONDS, send_now
from server.sockets.framing import Framing
from server.sockets.interfaces import Keeper, SocketHandler

log = getLogger("thinkline.errors")

MOST_UNSENT = 262_144
"""Unsent bytes from which on a turn that sends more has to wait."""
MOST_WAITING = 16
"""Messages that may wait for the handler; then reading pauses."""
CLOSING_SECONDS = 2.0
"""How long the peer may take to answer a close frame, once all earlier bytes are sent."""
INTERNAL_FAULT = "Something went wrong here."


class Socket:
    """An upgraded connection. Any thread may call `send`, `close`, `run_turn` and `call_later`.

    owner      the key that it belongs to; None until that is known
    closing    no new turn begins
    heard_at   when the last byte arrived, by the monotonic clock
    begun_at   when the incomplete message began; inf if there is none
    counted    how many of its buffered bytes its keeper has counted
    """

    def __init__(self, keeper: Keeper, handler: SocketHandler, owner: object, most_bytes: int) -> None:
        self._keeper = keeper
        self._handler = handler
        self.owner = owner
        self.framing = Framing(most_bytes)
        self._changed = threading.Condition()
        self._opened = partial(handler.opened, self)
        self._jobs: deque[Callable[[], None]] = deque([self._opened])
        self._handled_by = 0
        self._is_handled = False
        self._is_closed = False
        self._turns = 0
        self._timers: dict[object, Callable[[], None]] = {}
        self._retired: tuple[int, str] | None = None
        self.unsent_since = inf
        self.sock: socket.socket | None = None
        self.heard_at = self.pinged_at = monotonic()
        self.closes_by = self.begun_at = self._closed_at = inf
        self.counted = 0

    # for handlers

    @property
    def closing(self) -> bool:
        """Whether new turns are refused: a shutdown or a reload has begun, or its key was revoked."""
        return self._retired is not None

    def send(self, text: str) -> None:
        """Send one text message. A turn blocks while too much is unsent, up to STALLED_SECONDS. Raises Cancelled when
        the peer has left or reads nothing, or the connection is closed.
        """
        with self._changed:
            if get_ident() != self._handled_by and not self._changed.wait_for(self._takes_more, STALLED_SECONDS):
                self.cut()
            if self._is_closed:
                raise Cancelled
            self.framing.send_text(text)
            self.flush()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close with a close frame. Earlier messages are sent first."""
        with self._changed:
            if not self._is_closed:
                self.framing.close(code, reason)
                self._end()
                self.flush()

    def run_turn(self, work: Callable[[], None]) -> None:
        """Do `work` in a thread of the pool, as one of MAX_IN_FLIGHT. Raises Overloaded when there are too many, or
        when the connection is retired; Cancelled when it is closed.
        """
        with self._changed:
            if self._is_closed:
                raise Cancelled
            if self._retired is not None:
                raise Overloaded(self._retired[1])
            self._keeper.enter()
            self._turns += 1
        self._keeper.do(partial(self._run_turn, work))

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Have the handler's thread call back, in order with its messages, unless the connection is closed before.
        Returns a function that cancels it.
        """
        timer = object()
        with self._changed:
            job = partial(self._add_job, callback, timer)
            self._timers[timer] = self._keeper.call_at(monotonic() + seconds, job)
        return partial(self._withdraw, timer)

    # for the keeper

    def begin(self, sock: socket.socket, unsent: bytes | memoryview, received: bytes) -> None:
        """Begin on a socket. `unsent` is the unsent rest of the 101; the client sent `received` after its handshake."""
        with self._changed:
            self.sock = sock
            self.framing.output[:0] = unsent
            if not self._is_handled:  # else it was closed before it began
                self._is_handled = True
                self._keeper.handle(self)
            if received:
                self._feed(received)
            self.flush()

    def retire(self, code: int, reason: str) -> None:
        """Refuse new turns, and close when none runs."""
        with self._changed:
            self._retired = self._retired or (code, reason)
            if not self._turns:
                self.close(*self._retired)

    def read(self, data: bytes) -> None:
        """Decode bytes from the peer; no bytes mean the end of its stream."""
        self.heard_at = monotonic()
        with self._changed:
            self._feed(data)
            self.flush()

    def ping(self) -> None:
        """Send a ping, which a living peer answers."""
        with self._changed:
            self.pinged_at = monotonic()
            if not self._is_closed:
                self.framing.ping()
                self.flush()

    def flush(self) -> None:
        """Send without blocking."""
        with self._changed:
            sock, output = self.sock, self.framing.output
            if sock is None:
                return
            try:
                if output and (sent := send_now(sock, output)):
                    del output[:sent]
                    self.unsent_since = monotonic()
                    if self._is_closed:
                        self.closes_by = min(monotonic(), self._closed_at + STALLED_SECONDS) + CLOSING_SECONDS
                    self._changed.notify_all()
                self.unsent_since = min(self.unsent_since, monotonic()) if output else inf
                if self.framing.ends and not output:
                    sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                if error.errno != errno.ENOTCONN:
                    self.cut()
            self._keeper.watch(self)

    def cut(self) -> None:
        """End the connection without a close frame: the peer reads nothing, or is gone."""
        with self._changed:
            self._end()
            self.framing.output.clear()
            self.closes_by = 0.0
            if self.sock is not None:
                with suppress(OSError):
                    self.sock.shutdown(socket.SHUT_RDWR)

    def forget(self) -> socket.socket | None:
        """Give up the socket and return it, so that the keeper can close it; None if that was done before."""
        with self._changed:
            self._end()
            sock, self.sock = self.sock, None
            return sock

    @property
    def wants(self) -> tuple[bool, bool]:
        """Whether it waits to read, and to write."""
        is_free = monotonic() >= self.framing.reads_from and len(self._jobs) < MOST_WAITING
        unsent = len(self.framing.output)
        return (is_free or self._is_closed) and unsent <= MOST_UNSENT, bool(unsent)

    def handle_next(self) -> None:
        """Call the handler for the next message or timer."""
        with self._changed:
            job = self._jobs.popleft()
            self._handled_by = get_ident()
        try:
            job()
        except Cancelled:
            pass
        except Exception:  # any fault: the peer gets 1011, and the thread is needed for others
            log.exception("a message cannot be handled")
            self.close(CloseCode.INTERNAL_ERROR, INTERNAL_FAULT)
        with self._changed:
            self._handled_by = 0
            self._is_handled = bool(self._jobs)
            if self._is_handled:
                self._keeper.handle(self)
            self._keeper.watch(self)

    # with the lock

    def _withdraw(self, timer: object) -> None:
        with self._changed:
            if (cancel := self._timers.pop(timer, None)) is not None:
                cancel()

    def _takes_more(self) -> bool:
        return self._is_closed or len(self.framing.output) <= MOST_UNSENT

    def _add_job(self, job: Callable[[], None], timer: object = None) -> None:
        with self._changed:
            self._timers.pop(timer, None)
            if self._is_closed:
                return
            self._jobs.append(job)
            if not self._is_handled:
                self._is_handled = True
                self._keeper.handle(self)

    def _feed(self, data: bytes) -> None:
        framing = self.framing
        messages = framing.feed(data)
        for message in messages:
            self._add_job(partial(self._handler.receive, message))
        if not framing.buffered:
            self.begun_at = inf
        elif messages or self.begun_at == inf:
            self.begun_at = self.heard_at
        if not framing.is_open:
            self._end()
        elif framing.reads_from > monotonic():
            self._keeper.call_at(framing.reads_from, self.flush)

    def _end(self) -> None:
        """Stop handling messages, and queue the handler's `closed`, once."""
        if self._is_closed:
            return
        for cancel in self._timers.values():
            cancel()  # it would keep the connection in memory until it is due
        self._timers.clear()
        self._jobs = deque(job for job in self._jobs if job is self._opened)
        self._add_job(self._handler.closed)
        self._is_closed = True
        self._closed_at = monotonic()
        self.closes_by = self._closed_at + CLOSING_SECONDS
        self._changed.notify_all()

    def _run_turn(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Cancelled:
            pass
        except Exception:  # any fault: the turn must be counted off
            log.exception("a turn failed")
            self.close(CloseCode.INTERNAL_ERROR, INTERNAL_FAULT)
        finally:
            self._keeper.leave()
            with self._changed:
                self._turns -= 1
                if not self._turns and self._retired is not None:
                    self.close(*self._retired)
