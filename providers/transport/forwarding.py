"""Sends a response's frames to the caller, unchanged or decoded and encoded. The thread of server/lines.py does it."""

import socket
from collections.abc import Callable, Iterable
from typing import Protocol

from core.context import CallContext
from core.events import Event
from core.forwarding import EncodingFailed
from providers.transport.client import Response
from providers.transport.sse import FRAME_END, Frame, Splitter, parse_frame, parse_frames

LARGEST_FRAME = 65_536
"""Bytes. Larger frames, such as pictures, are left to the request's thread: decoding them takes long."""


class Forwarding(Protocol):
    """A way to forward frames. Its methods do not wait."""

    def may_begin(self, block: bytes) -> bool:
        """Whether the frames after this block, which the request's thread has read, may be forwarded."""

    def take(self, block: bytes) -> tuple[bytes, bytes]:
        """The caller's bytes for a block of frames, and the rest of it, which the request's thread is to read."""

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, or has failed, so that the request's thread is to go on."""

    def raise_failure(self) -> None:
        """Raise what has failed, in the request's thread."""


class UnreadFrames:
    """Forwards the blocks that `may_pass` unchanged."""

    finished = False

    def __init__(self, may_pass: Callable[[bytes], bool], call: CallContext) -> None:
        self._may_pass = may_pass
        self._call = call

    def may_begin(self, block: bytes) -> bool:
        """Whether the block itself may pass."""
        return self._may_pass(block)

    def take(self, block: bytes) -> tuple[bytes, bytes]:
        """The block, if it may pass."""
        if not self._may_pass(block):
            return b"", block
        self._call.frames += block.count(FRAME_END)
        return block, b""

    def raise_failure(self) -> None:
        """Do nothing: nothing is decoded."""


class DecodedFrames:
    """Forwards frames by `decode`, and by the forwarder's `encode`, once the answer has begun.

    `never_waits` says of a frame that decoding it waits for nothing, such as a store. `finished` says that the rest is
    for the request's thread. `failure` is what `decode` or `encode` has raised: no frame is decoded twice.
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
        self.failure: Exception | None = None

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, or has failed."""
        return self.failure is not None or self._finished()

    def may_begin(self, block: bytes) -> bool:
        """Whether the caller has its first event, and no frame of the block can make a thread wait."""
        call = self._call
        if call.forwarder is None or call.forwarder.encode is None or call.awaits_first_event or self.finished:
            return False
        return all(map(self._never_waits, parse_frames(block)))

    def take(self, block: bytes) -> tuple[bytes, bytes]:
        """The caller's bytes, and the frames from the first one that may wait, is large, or follows the end."""
        made: list[bytes] = []
        taken = 0
        for piece in block.split(FRAME_END)[:-1]:
            if self.finished or len(piece) > LARGEST_FRAME:
                break
            frame = parse_frame(piece)
            if frame is not None and not self._never_waits(frame):
                break
            taken += len(piece) + len(FRAME_END)
            if frame is not None:
                self._translate(frame, made)
        rest = block[taken:]
        return b"".join(made), rest if rest.strip() else b""

    def _translate(self, frame: Frame, made: list[bytes]) -> None:
        forwarder = self._call.forwarder
        assert forwarder is not None and forwarder.encode is not None  # noqa: S101, PT018 - see may_begin
        encode = forwarder.encode
        try:
            for event in self._decode(frame):
                try:
                    made.append(encode(event))
                except Exception as error:  # noqa: BLE001 - raised in the request's thread
                    self.failure = EncodingFailed()
                    self.failure.__cause__ = error
                    return
        except Exception as error:  # noqa: BLE001 - raised in the request's thread
            self.failure = error

    def raise_failure(self) -> None:
        """Raise what `decode` has raised, or EncodingFailed."""
        failure, self.failure = self.failure, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # it holds on to this frame


class ForwardedResponse:
    """The Source of a response. `rest` is the block at which it ended."""

    def __init__(self, reply: Response, splitter: Splitter, forwarding: Forwarding) -> None:
        self.socket: socket.socket = reply.socket
        self.over = False
        self.rest = b""
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
        made, self.rest = self._forwarding.take(block)
        self.over = self.over or bool(self.rest) or self._forwarding.finished
        return made

    def pause(self) -> None:
        """Stop the upstream's idle time-out, since the caller's socket is full and nothing is read meanwhile."""
        self._reply.hold_up()

    def resume(self) -> None:
        """The caller reads again."""
        self._reply.go_on()


def forward(reply: Response, splitter: Splitter, forwarding: Forwarding, call: CallContext) -> bytes:
    """Forward frames while they may be; returns the block that the request's thread is to read, b"" if it is to iterate
    the body again. Only for a call with a forwarder. Raises what decoding has raised, and EncodingFailed.
    """
    if reply.has_ended:  # nothing more makes its socket readable
        return b""
    reply.hold_up()
    call.flush()  # what was taken from the body before goes first
    reply.go_on()
    source = ForwardedResponse(reply, splitter, forwarding)
    if call.forwarder is not None and call.forwarder.forward(source):
        reply.go_on()
    forwarding.raise_failure()
    return source.rest
