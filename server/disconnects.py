"""Who has left, and who does not come? One thread per worker watches the callers' sockets: it ends the work for those
who hang up, and cuts off those who hold a thread by sending their request a byte at a time.

A WSGI server learns that a caller has left only when it next writes. The kernel knows at once: an epoll on the
caller's socket says so within a millisecond, at no cost while the caller stays. Where there is no such socket (the
development server) or no epoll (macOS), the next heartbeat's write finds out.
"""

import select
import socket
import threading
from collections.abc import Mapping
from math import inf
from time import monotonic
from typing import Any, Self

from core.context import CallContext

HAS_EPOLL = hasattr(select, "epoll")
LEFT = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
LEFT_ONCE = getattr(select, "EPOLLRDHUP", 0) | getattr(select, "EPOLLONESHOT", 0)


BODY_SECONDS = 30.0
"""How long a body may take to come."""
PRESSED_SECONDS = 2.0
"""The same where too many take their time, so that others are served."""
LOOK_SECONDS = 1.0
"""How often it is looked for those who are late."""


class ReadDeadline:
    """What a caller is to send, by when; `late` once they were cut off. A context: within it, the time runs."""

    __slots__ = ("_open", "by", "late", "seconds", "socket")

    def __init__(self, sock: socket.socket | None, seconds: float, waiting: "set[ReadDeadline]") -> None:
        self.socket = sock
        self.seconds = seconds
        self.by = inf
        self.late = False
        self._open = waiting

    def __enter__(self) -> Self:
        if self.socket is not None:
            self.by = monotonic() + self.seconds
            self._open.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.discard(self)


class DisconnectWatcher:
    """Watches sockets until told otherwise. Its thread starts with the first, so it may be made before a fork.

    A kept connection stays in the epoll between its requests: it leaves it when it is closed, and what is reported of
    a socket without a call is nobody's business. So there is one system call a request, and no lock.

    `slow` is how many callers may take all their time to send a request.
    """

    def __init__(self, slow: int = 64) -> None:
        self._slow = slow
        self._starting = threading.Lock()
        self._calls: dict[int, CallContext] = {}
        self._due: set[ReadDeadline] = set()
        self._epoll: select.epoll | None = None

    def watch(self, environ: Mapping[str, Any], call: CallContext) -> int | None:
        """Hang the call up when its caller leaves. Returns what `unwatch` takes."""
        sock = environ.get("gunicorn.socket")
        if sock is None or not HAS_EPOLL:
            return None
        descriptor: int = sock.fileno()
        epoll = self._epoll or self._start()
        self._calls[descriptor] = call
        try:
            epoll.modify(descriptor, LEFT_ONCE)
        except FileNotFoundError:
            epoll.register(descriptor, LEFT_ONCE)
        return descriptor

    def unwatch(self, descriptor: int | None) -> None:
        """The call is over. To be called before its socket is closed; may be called twice."""
        if descriptor is not None:
            self._calls.pop(descriptor, None)

    def due(self, sock: socket.socket | None, seconds: float) -> ReadDeadline:
        """Within this block the caller is to send something; who takes longer is heard no further."""
        if self._epoll is None and sock is not None and HAS_EPOLL:
            self._start()
        return ReadDeadline(sock, seconds, self._due)

    def _cut_off_the_late(self) -> None:
        now = monotonic()
        waiting = sorted((due for due in list(self._due) if due.by < inf), key=lambda due: due.by)
        pressed = len(waiting) - self._slow
        for at, due in enumerate(waiting):
            by = due.by - due.seconds + PRESSED_SECONDS if at < pressed else due.by
            if now >= by and not due.late and due.socket is not None:
                due.late = True
                try:
                    due.socket.shutdown(socket.SHUT_RD)
                except OSError:
                    pass  # they have left

    def _start(self) -> select.epoll:
        with self._starting:
            if self._epoll is None:
                epoll = select.epoll()
                threading.Thread(target=self._run, args=(epoll,), name="hangup", daemon=True).start()
                self._epoll = epoll
            return self._epoll

    def _run(self, epoll: select.epoll) -> None:
        while True:
            events = epoll.poll(LOOK_SECONDS)
            self._cut_off_the_late()
            for descriptor, _ in events:
                call = self._calls.get(descriptor)
                # The descriptor may be another caller's by now: the event is a hint, the socket is the proof.
                if call is not None and _has_left(descriptor):
                    call.cancel()


def _has_left(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return any(event & LEFT for _, event in poll.poll(0))
