"""The callers' lines: one thread per worker does what depends on time and on their sockets.

It cancels the call when its caller hangs up, opens a stream whose first event is late, writes a heartbeat in each
silence and a filler when it is due, forwards the frames of streams, and ends lines whose callers read nothing. It never
blocks on a socket: the bytes that a caller does not read stay in the response, and are sent first the next time.

A WSGI server learns that a caller has left only when it next writes; an epoll on the caller's socket says so within a
millisecond, at no cost while the caller stays. Where there is no epoll (macOS), the next write finds out, and nothing
is forwarded. Werkzeug's development server has no response that another thread can write to: no heartbeats, no fillers.
"""

import os
import select
import socket
import threading
from collections.abc import Callable, Mapping
from logging import getLogger
from math import inf
from time import monotonic
from typing import Any

from core.context import CallContext
from core.forwarding import Source
from server.line import Line
from server.read_deadlines import ReadDeadline, ReadDeadlines
from server.response import RESPONSE, STALLED_SECONDS, Response
from server.schedule import Schedule

log = getLogger("thinkline.errors")

HAS_EPOLL = hasattr(select, "epoll")
HANGUP = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
HANGUP_ONCE = getattr(select, "EPOLLRDHUP", 0) | getattr(select, "EPOLLONESHOT", 0)
WRITABLE = getattr(select, "EPOLLOUT", 0)
READABLE = getattr(select, "EPOLLIN", 0)
LOOK_SECONDS = 1.0
"""How often overdue requests are looked for."""


class LineKeeper:
    """Keeps lines. Its thread starts with the first line, so the keeper may be made before a fork.

    A kept connection stays in the epoll between its requests, and leaves it when it is closed. So there is one system
    call a request, and no lock.

    `heartbeat` and `headers_after` in seconds; `slow` is how many callers may use the whole time limit for a request.
    """

    def __init__(self, heartbeat: float, headers_after: float, *, slow: int = 64) -> None:
        self.headers_after = headers_after
        self.can_forward = HAS_EPOLL
        self.heartbeat = heartbeat
        self._requests = ReadDeadlines(slow)
        self._starting = threading.Lock()
        self._lines: dict[int, Line] = {}
        self._sources: dict[int, Line] = {}
        self._schedule = Schedule()
        self._looks_at = 0.0
        self._poller: Any = None

    def watch(self, environ: Mapping[str, Any], call: CallContext) -> Line:
        """Return the line of a request. The call is cancelled when its caller hangs up."""
        sock = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
        line = Line(self, call, sock, environ.get(RESPONSE))
        if sock is not None:
            poller = self._poller or self._start()
            if HAS_EPOLL:
                descriptor: int = sock.fileno()
                line.descriptor = descriptor
                self._lines[descriptor] = line
                try:
                    poller.modify(descriptor, HANGUP_ONCE)
                except FileNotFoundError:
                    poller.register(descriptor, HANGUP_ONCE)
        return line

    def forget(self, line: Line) -> None:
        """Stop watching a line, which has ended."""
        line.ended = True
        if line.descriptor is not None and self._lines.get(line.descriptor) is line:
            del self._lines[line.descriptor]

    def request_within(self, environ: Mapping[str, Any], seconds: float) -> ReadDeadline:
        """A context within which the caller is to send its body; at the deadline its socket is shut for reading."""
        sock = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
        if self._poller is None and sock is not None:
            self._start()
        return self._requests.within(sock, seconds)

    def look_by(self, line: Line, due: float) -> None:
        """Have the keeper's thread check a line at `due` at the latest; at once, if that is past."""
        if self._schedule.request(line, due):
            self._wake()

    def take_over(self, line: Line, source: Source) -> None:
        """Write the source's frames to the line until the source is over."""
        descriptor = source.socket.fileno()
        has_more = source.has_more
        self._sources[descriptor] = line
        self._poller.register(descriptor, READABLE)
        line.source = source  # last: from now on the keeper's thread may give it back
        if has_more or line.call.gone:
            self.look_by(line, 0)
        elif source.give_up_by < line.due:
            self.look_by(line, source.give_up_by)

    def _start(self) -> Any:
        with self._starting:
            if self._poller is None:
                poller: Any = select.epoll() if HAS_EPOLL else select.poll()
                self._woken, self._waker = os.pipe()
                os.set_blocking(self._woken, False)
                os.set_blocking(self._waker, False)
                poller.register(self._woken, select.POLLIN)
                threading.Thread(target=self._run, args=(poller,), name="lines", daemon=True).start()
                self._poller = poller
            return self._poller

    def _wake(self) -> None:
        try:
            os.write(self._waker, b"\0")
        except BlockingIOError:
            pass  # the pipe is full, so the thread will wake

    def _run(self, poller: Any) -> None:
        while True:
            try:
                self._turn(poller)
            except Exception:  # any fault: all the worker's streams need this thread
                log.exception("a turn of the lines' thread failed")

    def _turn(self, poller: Any) -> None:
        seconds = self._schedule.seconds(LOOK_SECONDS)
        for descriptor, event in poller.poll(seconds if HAS_EPOLL else seconds * 1000):
            if (line := self._sources.get(descriptor)) is not None:
                self._run_step(line, self._forward)
            elif descriptor == self._woken:
                os.read(descriptor, 4096)
            elif (line := self._lines.get(descriptor)) is not None:
                self._run_step(line, self._handle_caller_event, descriptor, event)
        now = monotonic()
        for line in self._schedule.take_due(now):
            self._run_step(line, self._check, now)
        if now >= self._looks_at:
            self._looks_at = now + LOOK_SECONDS
            self._requests.cut_off_late()

    def _run_step(self, line: Line, step: Callable[..., object], *arguments: Any) -> None:
        """Do a step for a line. A failure ends that line alone."""
        try:
            step(line, *arguments)
        except Exception:  # any fault: the thread keeps the other lines
            log.exception("a line cannot be kept")
            line.call.cancel()
            self._give_back(line)

    def _check(self, line: Line, now: float) -> None:
        """Do what is due for a line, and schedule its next check."""
        line.due = inf
        if line.ended or line.response is None:
            return
        if (source := line.source) is not None:
            if line.call.gone or now >= source.give_up_by:
                self._give_back(line)
            elif source.has_more and not line.is_paused:
                self._forward(line)
        due = self._keep(line, line.response, now)
        if (source := line.source) is not None:
            due = 0 if source.has_more and not line.is_paused else min(due, source.give_up_by)
        self._schedule.set(line, due)

    def _keep(self, line: Line, response: Response, now: float) -> float:
        """Write a filler or a heartbeat if one is due; returns when the next check is due."""
        if not response.lock.acquire(blocking=False):
            return now + self.heartbeat  # the request's thread is writing
        try:
            if response.closed or (line.start is None and not response.headers_sent):
                return inf if response.closed else now + self.heartbeat
            if response.unsent and not response.flush_now():
                if now < (ends_by := response.unsent_since + STALLED_SECONDS):
                    return ends_by
                self._abort(line)
            elif now >= line.filler_by and line.filler is not None:
                line.filler_by = inf
                self._write(line, response, line.filler())
            elif now >= (line.opens_by if line.start else response.written_at + self.heartbeat):
                self._write(line, response, line.next_heartbeat())
            if line.start is not None:  # the first event may arrive at any moment
                return min(line.filler_by, line.opens_by, now + self.heartbeat)
            return min(line.filler_by, response.written_at + self.heartbeat)
        except OSError:
            line.call.cancel()
            return inf
        finally:
            response.lock.release()

    def _write(self, line: Line, response: Response, data: bytes) -> None:
        if line.start is not None:
            line.start()
            line.start, line.opened_at = None, monotonic()
        response.write_now(data)
        if response.unsent:
            self._rearm(line, writable=True)

    def _rearm(self, line: Line, *, writable: bool = False) -> None:
        """Have the caller's hang-up noticed, and, if `writable`, that the caller reads again."""
        if line.descriptor is not None:
            try:
                self._poller.modify(line.descriptor, HANGUP_ONCE | WRITABLE if writable else HANGUP_ONCE)
            except FileNotFoundError:
                pass  # an old connection's event: its number is a new one's, which `watch` is about to register

    def _abort(self, line: Line) -> None:
        """End a line whose caller reads nothing."""
        line.call.cancel()
        if line.socket is not None:
            line.socket.shutdown(socket.SHUT_RDWR)

    def _handle_caller_event(self, line: Line, descriptor: int, event: int) -> None:
        # The descriptor may have been closed and reused for another caller since, so the socket is asked again.
        if event & HANGUP and _has_hung_up(descriptor):
            line.call.cancel()
        elif line.is_paused and line.source is not None:
            self._resume(line, line.source)
        elif self._flush(line):
            self._rearm(line)
        else:
            self._rearm(line, writable=True)

    def _flush(self, line: Line) -> bool:
        """Send what is unsent, and say whether all of it is sent, or the line's own thread sends it."""
        response = line.response
        if response is None or not response.unsent or not response.lock.acquire(blocking=False):
            return True
        try:
            return response.flush_now()
        except OSError:
            line.call.cancel()
            return True
        finally:
            response.lock.release()

    def _forward(self, line: Line) -> None:
        """Forward what the source has read."""
        source, response = line.source, line.response
        if source is None or response is None:
            return
        if data := source.read():
            try:
                with response.lock:  # free: the request's thread is parked
                    response.write_now(data)
            except OSError:
                line.call.cancel()
                self._give_back(line)
                return
        if source.over:
            self._give_back(line)
        elif response.unsent:
            line.is_paused = True
            source.pause()
            self._poller.unregister(source.socket)
            self._rearm(line, writable=True)
            self._schedule.set(line, min(line.due, response.unsent_since + STALLED_SECONDS))
        elif source.has_more:
            self._schedule.set(line, 0)

    def _resume(self, line: Line, source: Source) -> None:
        """Send what is unsent, since the caller reads again; then read the source again."""
        response: Any = line.response
        try:
            with response.lock:
                is_flushed = response.flush_now()
        except OSError:
            line.call.cancel()
            self._give_back(line)
            return
        self._rearm(line, writable=not is_flushed)
        if is_flushed:
            line.is_paused = False
            source.resume()
            self._poller.register(source.socket, READABLE)
            self._schedule.set(line, 0)  # TLS may have decrypted more, and the source's deadline has moved

    def _give_back(self, line: Line) -> None:
        source = line.source
        if source is not None:
            if not line.is_paused:
                self._poller.unregister(source.socket)
            del self._sources[source.socket.fileno()]
            if line.response is not None and line.response.unsent:
                self._rearm(line, writable=True)
            line.give_back()


def _has_hung_up(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return any(event & HANGUP for _, event in poll.poll(0))
