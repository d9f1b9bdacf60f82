"""The callers' lines: one thread per worker does what is about time and about their sockets.

It ends the work for callers who hang up, opens a stream whose first event is late, writes a heartbeat after each
silence and a filler when it is due, forwards streams that pass as bytes, and ends lines whose callers read nothing. It
never waits for any of them: what a caller does not take stays in the response, and goes out first the next time.

A WSGI server learns that a caller has left only when it next writes; an epoll on the caller's socket says so within a
millisecond, at no cost while the caller stays. Where there is no epoll (macOS), the next write finds out, and nothing
is forwarded. Werkzeug's development server has no response that others may write to: no heartbeats and no fillers.
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
LEFT = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
LEFT_ONCE = getattr(select, "EPOLLRDHUP", 0) | getattr(select, "EPOLLONESHOT", 0)
TAKES = getattr(select, "EPOLLOUT", 0)
COMES = getattr(select, "EPOLLIN", 0)
LOOK_SECONDS = 1.0
"""How often it is looked for callers who are late with their requests."""


class LineKeeper:
    """Keeps lines. Its thread starts with the first, so it may be made before a fork.

    A kept connection stays in the epoll between its requests, and leaves it when it is closed. So there is one system
    call a request, and no lock.

    `heartbeat` and `headers_after` in seconds; `slow` is how many callers may take all their time to send a request.
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
        """The line of a request that is to be answered. The call is cancelled when its caller leaves."""
        sock = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
        line = Line(self, call, sock, environ.get(RESPONSE))
        if sock is not None:
            poller = self._poller or self._start()
            if HAS_EPOLL:
                descriptor: int = sock.fileno()
                line.descriptor = descriptor
                self._lines[descriptor] = line
                try:
                    poller.modify(descriptor, LEFT_ONCE)
                except FileNotFoundError:
                    poller.register(descriptor, LEFT_ONCE)
        return line

    def forget(self, line: Line) -> None:
        """A line has ended."""
        line.ended = True
        if line.descriptor is not None and self._lines.get(line.descriptor) is line:
            del self._lines[line.descriptor]

    def request_within(self, environ: Mapping[str, Any], seconds: float) -> ReadDeadline:
        """Within this block the caller is to send something; who takes longer is heard no further."""
        sock = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
        if self._poller is None and sock is not None:
            self._start()
        return self._requests.within(sock, seconds)

    def look_by(self, line: Line, due: float) -> None:
        """Have the thread look at a line by then at the latest; at once, if that is past."""
        if self._schedule.ask(line, due):
            self._wake()

    def take_over(self, line: Line, source: Source) -> None:
        """Read a source, and write what it gives to the line, until it is over."""
        descriptor = source.socket.fileno()
        has_more = source.has_more
        self._sources[descriptor] = line
        self._poller.register(descriptor, COMES)
        line.source = source  # last: from here on it may be given back
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
            pass  # it has more than enough reasons to wake

    def _run(self, poller: Any) -> None:
        while True:
            try:
                self._turn(poller)
            except Exception:  # whatever it was: all the worker's streams need this thread
                log.exception("a turn of the lines' thread failed")

    def _turn(self, poller: Any) -> None:
        seconds = self._schedule.seconds(LOOK_SECONDS)
        for descriptor, event in poller.poll(seconds if HAS_EPOLL else seconds * 1000):
            if (line := self._sources.get(descriptor)) is not None:
                self._do(line, self._pass_on)
            elif descriptor == self._woken:
                os.read(descriptor, 4096)
            elif (line := self._lines.get(descriptor)) is not None:
                self._do(line, self._heed_caller, descriptor, event)
        now = monotonic()
        for line in self._schedule.take_due(now):
            self._do(line, self._look, now)
        if now >= self._looks_at:
            self._looks_at = now + LOOK_SECONDS
            self._requests.cut_off_late()

    def _do(self, line: Line, step: Callable[..., object], *arguments: Any) -> None:
        """Whatever fails for one line ends that line alone."""
        try:
            step(line, *arguments)
        except Exception:
            log.exception("a line cannot be kept")
            line.call.cancel()
            self._give_back(line)

    def _look(self, line: Line, now: float) -> None:
        """Do what is due for a line, and find out when it is to be looked at next."""
        line.due = inf
        if line.ended or line.response is None:
            return
        if (source := line.source) is not None:
            if line.call.gone or now >= source.give_up_by:
                self._give_back(line)
            elif source.has_more and not line.is_paused:
                self._pass_on(line)
        due = self._keep(line, line.response, now)
        if (source := line.source) is not None:
            due = 0 if source.has_more and not line.is_paused else min(due, source.give_up_by)
        self._schedule.set(line, due)

    def _keep(self, line: Line, response: Response, now: float) -> float:
        """Write what is due; returns when the next is."""
        if not response.lock.acquire(blocking=False):
            return now + self.heartbeat  # bytes are going out
        try:
            if response.closed or (line.start is None and not response.headers_sent):
                return inf if response.closed else now + self.heartbeat
            if response.unsent:
                if now < (ends_by := response.unsent_since + STALLED_SECONDS):
                    return ends_by
                self._cut(line)
            elif now >= line.filler_by and line.filler is not None:
                line.filler_by = inf
                self._write(line, response, line.filler())
            elif now >= (line.opens_by if line.start else response.written_at + self.heartbeat):
                self._write(line, response, line.next_heartbeat())
            if line.start is not None:  # which may end any moment
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

    def _cut(self, line: Line) -> None:
        """End a line whose caller reads nothing."""
        line.call.cancel()
        if line.socket is not None:
            line.socket.shutdown(socket.SHUT_RDWR)

    def _heed_caller(self, line: Line, descriptor: int, event: int) -> None:
        # The descriptor may be another caller's by now: the event is a hint, the socket is the proof.
        if event & LEFT and _has_left(descriptor):
            line.call.cancel()
        elif line.is_paused and line.source is not None:
            self._resume(line, line.source)
        else:
            self._poller.modify(descriptor, LEFT_ONCE)

    def _pass_on(self, line: Line) -> None:
        """Write what has come for a line."""
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
            self._poller.modify(line.descriptor, LEFT_ONCE | TAKES)
            self._schedule.set(line, min(line.due, response.unsent_since + STALLED_SECONDS))
        elif source.has_more:
            self._schedule.set(line, 0)

    def _resume(self, line: Line, source: Source) -> None:
        """The caller takes something again."""
        response: Any = line.response
        try:
            with response.lock:
                is_flushed = response.flush_now()
        except OSError:
            line.call.cancel()
            self._give_back(line)
            return
        self._poller.modify(line.descriptor, LEFT_ONCE if is_flushed else LEFT_ONCE | TAKES)
        if is_flushed:
            line.is_paused = False
            source.resume()
            self._poller.register(source.socket, COMES)
            self._schedule.set(line, 0)  # TLS may hold more, and its deadline has moved

    def _give_back(self, line: Line) -> None:
        source = line.source
        if source is not None:
            if not line.is_paused:
                self._poller.unregister(source.socket)
            del self._sources[source.socket.fileno()]
            line.give_back()


def _has_left(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return any(event & LEFT for _, event in poll.poll(0))
