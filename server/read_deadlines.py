"""Callers who hold a thread by sending their request a byte at a time are cut off."""

import socket
from math import inf
from time import monotonic
from typing import Self

BODY_SECONDS = 30.0
"""How long a body may take to come."""
PRESSED_SECONDS = 2.0
"""The same where too many take their time, so that others are served."""


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


class ReadDeadlines:
    """All that are waited for; `slow` callers may take all their time. Safe for all threads."""

    def __init__(self, slow: int) -> None:
        self._slow = slow
        self._due: set[ReadDeadline] = set()

    def within(self, sock: socket.socket | None, seconds: float) -> ReadDeadline:
        """Within this block the caller is to send something."""
        return ReadDeadline(sock, seconds, self._due)

    def cut_off_late(self) -> None:
        """Who takes longer is heard no further."""
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
