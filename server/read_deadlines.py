"""Deadlines for request bodies, so that a caller that sends a byte at a time cannot hold a thread."""

import socket
from math import inf
from time import monotonic
from typing import Self

BODY_SECONDS = 30.0
"""How long a body may take to arrive."""
PRESSED_SECONDS = 2.0
"""The same while more than `slow` bodies are awaited, so that other callers get a thread."""


class ReadDeadline:
    """A deadline for reading from a caller; `late` once it has passed. The time runs within its `with` block."""

    __slots__ = ("_open", "by", "late", "seconds", "socket")

    def __init__(self, sock: socket.socket | None, seconds: float, running: "set[ReadDeadline]") -> None:
        self.socket = sock
        self.seconds = seconds
        self.by = inf
        self.late = False
        self._open = running

    def __enter__(self) -> Self:
        if self.socket is not None:
            self.by = monotonic() + self.seconds
            self._open.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.discard(self)


class ReadDeadlines:
    """All deadlines that run. `slow` callers may use their whole time. Safe for all threads."""

    def __init__(self, slow: int) -> None:
        self._slow = slow
        self._due: set[ReadDeadline] = set()

    def within(self, sock: socket.socket | None, seconds: float) -> ReadDeadline:
        """A context within which the caller is to send its body."""
        return ReadDeadline(sock, seconds, self._due)

    def cut_off_late(self) -> None:
        """Shut the sockets whose deadlines have passed for reading."""
        now = monotonic()
        running = sorted((due for due in list(self._due) if due.by < inf), key=lambda due: due.by)
        pressed = len(running) - self._slow
        for at, due in enumerate(running):
            by = due.by - due.seconds + PRESSED_SECONDS if at < pressed else due.by
            if now >= by and not due.late and due.socket is not None:
                due.late = True
                try:
                    due.socket.shutdown(socket.SHUT_RD)
                except OSError:
                    pass  # the caller has left
