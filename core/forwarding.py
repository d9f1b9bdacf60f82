"""The interfaces by which one thread forwards the frames of upstreams to the callers, for all requests.

A provider passes the rest of a response, as a Source, to the request's Forwarder. Its own thread waits until the source
is over: at the end of the response, at a frame that this thread must read itself, at a failure, a deadline or a
cancellation.
"""

import socket
from collections.abc import Callable
from typing import Protocol

from core.events import Event


class EncodingFailed(Exception):
    """An event cannot be encoded for the caller. The cause is no failure of the upstream's."""


class Source(Protocol):
    """An upstream's response, which the forwarding thread reads without blocking.

    socket      the upstream's socket, to be polled; non-blocking
    over        whether the request's thread is to continue
    give_up_by  when the request's thread is to continue at the latest, by the monotonic clock
    """

    socket: socket.socket
    over: bool

    @property
    def give_up_by(self) -> float:
        """The next deadline. The idle time-out is part of it, so each byte that arrives moves it."""

    @property
    def has_more(self) -> bool:
        """Whether TLS has decrypted bytes that are not read yet: a poll of the socket does not report them."""

    def read(self) -> bytes:
        """The caller's bytes for the complete frames that have arrived; b"" for none. Neither blocks nor raises."""

    def pause(self) -> None:
        """Stop reading until `resume`, since the caller does not read: the idle time-out is suspended."""

    def resume(self) -> None:
        """Read again. The time since `pause` does not count as the upstream's silence."""


class Forwarder(Protocol):
    """The connection to the caller, as a provider sees it. `encode` encodes an event in the caller's dialect, and notes
    it for the request's record; None if only unchanged frames can be forwarded.
    """

    encode: Callable[[Event], bytes] | None

    def forward(self, source: Source) -> bool:
        """Forward the source's bytes, and return True when the source is over. Returns False at once if nothing can be
        forwarded to this caller.
        """
