"""Sends a response's frames to the caller, unchanged or decoded and encoded. The thread of server/lines.py does it."""

import socket
from collections.abc import Callable, Iterable
from typing import Protocol

from core.context import CallContext
from core.events import Event
from providers.transport.client import Response
from providers.transport.sse import FRAME_END, Frame, Splitter, parse_frame, parse_frames


class Forwarding(Protocol):
    """A way to forward frames. Its methods do not wait."""

    def may_begin(self, block: bytes) -> bool:
        """Whether the frames after this block, which the request's thread has read, may be forwarded."""

    def take(self, block: bytes) -> tuple[bytes, bytes]:
        """The caller's bytes for a block of frames, and the rest of it, which the request's thread is to read."""

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, so that the request's thread is to go on."""


class UnreadFrames:
    """Forwards the blocks that `may_pass` unchanged."""

    finished = False

    def __init__(self, may_pass: Callable[[bytes], bool], call: CallContext) -> None:
        self._call = call
        self.may_begin = may_pass

    def take(self, block: bytes) -> tuple[bytes, bytes]:
        """The block, if it may pass."""
        if not self.may_begin(block):
            return b"", block
        self._call.frames += block.count(b"\n\n")
        return block, b""


class DecodedFrames:
    """Forwards frames by `decode`, and by the forwarder's `encode`, once the answer has begun.

    `never_waits` says of a frame that decoding it waits for nothing, such as a store. A frame that cannot be decoded is
    left to the request's thread, which decodes it again and meets the same failure.
    """

    def __init__(
        self,
        decode: Callable[[Frame], Iterable[Event]],
        never_waits: Callable[[Frame], bool],
        finished: Callable[[], bool],
        call: CallContext,
    ) -> None:
        self._decode = decode
        self._never_waits = never_waits
        self._finished = finished
        self._call = call

    @property
    def finished(self) -> bool:
        """Whether the answer is complete."""
        return self._finished()

    def may_begin(self, block: bytes) -> bool:
        """Whether the caller has its first event, and no frame of the block can make a thread wait."""
        call = self._call
        if call.forwarder is None or call.forwarder.encode is None or call.awaits_first_event or self._finished():
            return False
        return all(map(self._never_waits, parse_frames(block)))

    def take(self, block: bytes) -> tuple[bytes, bytes]:
        """The caller's bytes, and the frames from the first one that may wait, is wrong, or follows the end."""
        encode = self._call.forwarder and self._call.forwarder.encode
        made: list[bytes] = []
        taken = 0
        for piece in block.split(FRAME_END)[:-1] if encode else ():
            if (frame := parse_frame(piece)) is not None:
                if self._finished() or not self._never_waits(frame):
                    break
                try:
                    events = list(self._decode(frame))
                except Exception:  # noqa: BLE001 - the request's thread meets it
                    break
                made += map(encode, events)  # type: ignore[arg-type]
            taken += len(piece) + len(FRAME_END)
        return b"".join(made), block[taken:]


class ForwardedResponse:
    """The Source of a response. `rest` is the block at which it ended; `failure` is what our own encoding raised."""

    def __init__(self, reply: Response, splitter: Splitter, forwarding: Forwarding) -> None:
        self.socket: socket.socket = reply.socket
        self.over = False
        self.rest = b""
        self.failure: Exception | None = None
        self._reply = reply
        self._splitter = splitter
        self._forwarding = forwarding

    @property
    def give_up_by(self) -> float:
        """The response's own deadline."""
        return self._reply.give_up_by

    @property
    def has_more(self) -> bool:
        """Whether TLS has decrypted bytes that the socket does not show."""
        return not self.over and self._reply.has_more

    def read(self) -> bytes:
        """The caller's bytes for the complete frames that have arrived."""
        data, self.over = self._reply.read_now()
        try:
            block = self._splitter.feed(data)
        except ValueError:  # a frame without an end: iterating the body raises the same
            self.over = True
            return b""
        try:
            made, self.rest = self._forwarding.take(block)
        except Exception as error:  # noqa: BLE001 - raised again in the request's thread
            self.over, self.failure = True, error
            return b""
        self.over = self.over or bool(self.rest) or self._forwarding.finished
        return made

    def pause(self) -> None:
        """Stop the upstream's idle time-out, since the caller's socket is full and nothing is read meanwhile."""
        self._reply.hold_up()

    def resume(self) -> None:
        """Continue the idle time-out, since the caller reads again."""
        self._reply.go_on()


def forward(reply: Response, splitter: Splitter, forwarding: Forwarding, call: CallContext) -> bytes:
    """Forward frames while they may be; returns the block that the request's thread is to read, b"" if it is to iterate
    the body again. Only for a call with a forwarder.
    """
    reply.hold_up()
    call.flush()  # the frames that were read before are sent first
    reply.go_on()
    source = ForwardedResponse(reply, splitter, forwarding)
    if call.forwarder is not None and call.forwarder.forward(source):
        reply.go_on()
    if source.failure is not None:
        raise source.failure
    return source.rest
