"""A response whose frames pass to the caller as they came, read by the thread that keeps the callers' lines."""

import socket
from collections.abc import Callable

from core.context import CallContext
from providers.transport.client import Response
from providers.transport.sse import Splitter


class ForwardedResponse:
    """The Source of a response. It is over at the first block of whole frames that may not pass, its `rest`; `frames`
    have passed.
    """

    def __init__(self, reply: Response, splitter: Splitter, may_pass: Callable[[bytes], bool]) -> None:
        self.socket: socket.socket = reply.socket
        self.over = False
        self.rest = b""
        self.frames = 0
        self._reply = reply
        self._splitter = splitter
        self._may_pass = may_pass

    @property
    def give_up_by(self) -> float:
        """As the time-outs say."""
        return self._reply.give_up_by

    @property
    def has_more(self) -> bool:
        """Whether TLS has more."""
        return not self.over and self._reply.has_more

    def read(self) -> bytes:
        """The frames that are whole by now, if they may pass."""
        data, self.over = self._reply.read_now()
        try:
            block = self._splitter.feed(data)
        except ValueError:  # a frame without an end: who iterates the body finds that out too
            self.over = True
            return b""
        if not block or self._may_pass(block):
            self.frames += block.count(b"\n\n")
            return block
        self.over, self.rest = True, block
        return b""

    def pause(self) -> None:
        """The caller does not take what has come."""
        self._reply.hold_up()

    def resume(self) -> None:
        """The caller takes it."""
        self._reply.go_on()


def forward(reply: Response, splitter: Splitter, may_pass: Callable[[bytes], bool], call: CallContext) -> bytes:
    """Have blocks passed on while they may; returns the first that may not, b"" for none: then the body is iterated
    again. For a call with a forwarder.
    """
    reply.hold_up()
    call.flush()  # what was taken from the body before goes first
    reply.go_on()
    source = ForwardedResponse(reply, splitter, may_pass)
    try:
        if call.forwarder is not None and call.forwarder.forward(source):
            reply.go_on()
    finally:
        call.frames += source.frames
    return source.rest
