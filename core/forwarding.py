"""How the frames of a stream get from an upstream's socket to the caller's without waking the request's thread.

A provider asks the call's Forwarder to take over the rest of a response. Its own thread waits until the source is over:
at the end of the response, at a frame that this thread must read itself, at a failure, a deadline or a cancellation.
"""

import socket
from collections.abc import Callable
from typing import Protocol

from core.events import Event


class Source(Protocol):
    """An upstream's response, read without waiting by the thread that has taken it over.

    socket      becomes readable when more arrives; non-blocking
    over        whether the request's thread is to go on
    give_up_by  when the request's thread is to go on in any case, by the monotonic clock
    """

    socket: socket.socket
    over: bool

    @property
    def give_up_by(self) -> float:
        """It moves with each byte that arrives."""

    @property
    def has_more(self) -> bool:
        """Whether bytes are buffered that the socket does not show: those that TLS has decrypted."""

    def read(self) -> bytes:
        """The bytes for the caller of what has arrived; b"" for none. Does not wait, and does not raise."""

    def pause(self) -> None:
        """The caller does not read: the source is not read until `resume`."""

    def resume(self) -> None:
        """The source is read again: the time since `pause` is no silence of the upstream's."""


class Forwarder(Protocol):
    """The caller's side. `encode` gives an event's bytes in the caller's dialect, and notes the event for the request's
    record; None if only bytes that pass unchanged can be forwarded.
    """

    encode: Callable[[Event], bytes] | None

    def forward(self, source: Source) -> bool:
        """Pass the source's bytes on, and return when it is over. False, at once, where that cannot be done."""
