"""Frames that the keeper's thread decodes and encodes: the same words, in order, and nothing of a frame twice."""

from collections.abc import Iterator

import pytest

from core.context import CallContext, Timeouts
from core.errors import UpstreamDown
from core.events import Event, Text
from core.forwarding import EncodingFailed, Source
from providers.transport.forwarding import LARGEST_FRAME, DecodedFrames
from providers.transport.sse import Frame

WORDS = [b"one", b"two", b"three"]


class Encoder:
    """A forwarder that notes what it encodes."""

    fails_at = ""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def encode(self, event: Event) -> bytes:
        if event.text == self.fails_at:  # type: ignore[union-attr]
            raise KeyError(self.fails_at)
        self.events.append(event)
        return f"<{event.text}>".encode()  # type: ignore[union-attr]

    def forward(self, source: Source) -> bool:
        raise NotImplementedError


class Upstream:
    """Decodes a frame to the text in it. `end` finishes, `bad` cannot be decoded, and `store` waits for a store."""

    def __init__(self) -> None:
        self.finished = False

    def decode(self, frame: Frame) -> Iterator[Event]:
        yield Text(frame.data.decode())
        if frame.data == b"bad":
            raise UpstreamDown("It broke.")
        self.finished = frame.data == b"end"

    def never_waits(self, frame: Frame) -> bool:
        return frame.data != b"store"


def block(*words: bytes) -> bytes:
    return b"".join(b"data: %b\n\n" % word for word in words)


@pytest.fixture
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture
def call(encoder: Encoder) -> CallContext:
    call = CallContext()
    call.forwarder = encoder
    return call


@pytest.fixture
def frames(call: CallContext) -> DecodedFrames:
    upstream = Upstream()
    return DecodedFrames(upstream.decode, upstream.never_waits, lambda: upstream.finished, call)


def test_frames_that_have_come_together_leave_together(frames: DecodedFrames) -> None:
    assert frames.take(block(*WORDS)) == (b"<one><two><three>", b"")
    assert not frames.finished


@pytest.mark.parametrize("word", [b"store", b"x" * (LARGEST_FRAME + 1)], ids=["stores", "is large"])
def test_a_frame_that_the_requests_thread_must_read_is_left_whole(
    frames: DecodedFrames, encoder: Encoder, word: bytes
) -> None:
    assert frames.take(block(b"one", word, b"two")) == (b"<one>", block(word, b"two"))
    assert encoder.events == [Text("one")]


def test_a_frame_that_fails_halfway_is_decoded_once(frames: DecodedFrames, encoder: Encoder) -> None:
    assert frames.take(block(b"one", b"bad", b"two")) == (b"<one><bad>", block(b"two"))
    assert frames.finished
    with pytest.raises(UpstreamDown, match="It broke"):
        frames.raise_failure()
    assert encoder.events == [Text("one"), Text("bad")]


def test_a_fault_of_the_encoding_is_not_the_upstreams(frames: DecodedFrames, encoder: Encoder) -> None:
    encoder.fails_at = "two"
    assert frames.take(block(*WORDS)) == (b"<one>", block(b"three"))
    with pytest.raises(EncodingFailed) as failed:
        frames.raise_failure()
    assert isinstance(failed.value.__cause__, KeyError)


def test_blank_lines_between_frames_are_no_frames(frames: DecodedFrames) -> None:
    assert frames.take(b"data: one\n\n\ndata: two\n\n\n") == (b"<one><two>", b"")


def test_what_follows_the_end_is_left(frames: DecodedFrames) -> None:
    assert frames.take(block(b"one", b"end", b"usage")) == (b"<one><end>", block(b"usage"))
    assert frames.finished
    assert not frames.may_begin(block(b"end"))


def test_nothing_is_forwarded_before_the_first_event(frames: DecodedFrames, call: CallContext) -> None:
    call.begin(Timeouts())
    assert not frames.may_begin(block(b"one"))
    call.mark_first_event()
    assert frames.may_begin(block(b"one"))
    assert not frames.may_begin(block(b"one", b"store"))


def test_nothing_is_forwarded_where_nothing_is_encoded(frames: DecodedFrames, call: CallContext) -> None:
    call.forwarder.encode = None  # type: ignore[union-attr, method-assign, assignment]
    assert not frames.may_begin(block(b"one"))
    call.forwarder = None
    assert not frames.may_begin(block(b"one"))
