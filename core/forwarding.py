"""How frames that may pass as they came get from an upstream's socket to the caller's without the request's thread.

A provider that reads such frames asks the call's Forwarder to take over; its own thread waits until the source is over:
at the end of the response, at a frame that may not pass, at a failure, a deadline or a cancellation.
"""

import socket
from typing import Protocol


class Source(Protocol):
    """An upstream's response, read without waiting by the thread that has taken it over.

    socket      what becomes readable when more comes; non-blocking
    over        whether the thread that gave it away is to go on
    give_up_by  when that thread is to go on in any case, by the monotonic clock
    """

    socket: socket.socket
    over: bool

    @property
    def give_up_by(self) -> float:
        """It moves with each byte that arrives."""

    @property
    def has_more(self) -> bool:
        """Whether bytes wait that the socket does not show: those that TLS has decrypted."""

    def read(self) -> bytes:
        """Whole frames that have come and may pass; b"" for none. Does not wait, and does not raise."""

    def pause(self) -> None:
        """The caller does not take what was read: the source is not read until `resume`."""

    def resume(self) -> None:
        """It is read on: the time since `pause` is no silence of the upstream's."""


class Forwarder(Protocol):
    """The caller's side."""

    def forward(self, source: Source) -> bool:
        """Pass the source's frames on, and return when it is over. False, at once, where that cannot be done."""
