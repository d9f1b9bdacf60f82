"""Sends a response's frames to the caller unchanged. The thread of server/lines.py reads and writes them."""

import socket
from collections.abc import Callable

from core.context import CallContext
from providers.transport.client import Response
from providers.transport.sse import Splitter


class ForwardedResponse:
    """The Source of a response's bytes. It ends at the first block of frames that may not pass, which becomes `rest`;
    `frames` counts those that have passed.
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
        """The response's own deadline."""
        return self._reply.give_up_by

    @property
    def has_more(self) -> bool:
        """Whether TLS has decrypted bytes that the socket does not show."""
        return not self.over and self._reply.has_more

    def read(self) -> bytes:
        """The complete frames that have arrived, if they may pass."""
        data, self.over = self._reply.read_now()
        try:
            block = self._splitter.feed(data)
        except ValueError:  # a frame without an end: iterating the body raises the same
            self.over = True
            return b""
        if not block or self._may_pass(block):
            self.frames += block.count(b"\n\n")
            return block
        self.over, self.rest = True, block
        return b""

    def pause(self) -> None:
        """Stop the upstream's idle time-out, since the caller's socket is full and nothing is read meanwhile."""
        self._reply.hold_up()

    def resume(self) -> None:
        """Continue the idle time-out, since the caller reads again."""
        self._reply.go_on()


def forward(reply: Response, splitter: Splitter, may_pass: Callable[[bytes], bool], call: CallContext) -> bytes:
    """Forward blocks while they may pass. Returns the first block that may not pass, b"" if the body ended or failed:
    then iterating it says how. Only for a call with a forwarder.
    """
    reply.hold_up()
    call.flush()  # the frames that were read before are sent first
    reply.go_on()
    source = ForwardedResponse(reply, splitter, may_pass)
    try:
        if call.forwarder is not None and call.forwarder.forward(source):
            reply.go_on()
    finally:
        call.frames += source.frames
    return source.rest
