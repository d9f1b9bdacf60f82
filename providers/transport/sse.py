"""Server-sent events as they arrive (https://html.spec.whatwg.org/multipage/server-sent-events.html), in any pieces.

There are two steps, so that whole frames can be forwarded without being parsed: a Splitter finds the ends of frames,
and `parse_frames` parses them.
"""

from collections.abc import Iterator
from typing import NamedTuple

FRAME_BYTES = 16 * 1024 * 1024
"""The most bytes of a frame."""
FRAME_END = b"\n\n"
BEFORE = b"\xef\xbb\xbf \t\r\n"
"""What may precede the first frame: a byte order mark and blanks."""


class Frame(NamedTuple):
    """One event: its name (b"" for the usual unnamed one) and its data lines, joined."""

    event: bytes
    data: bytes


class Splitter:
    """Joins pieces of a stream to blocks of whole frames, with LF as line ends."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._after_return = False

    def feed(self, data: bytes) -> bytes:
        """Add a piece; returns the complete frames, b"" for none. Raises ValueError for a frame without an end."""
        if data and (self._after_return or b"\r" in data):
            data = self._with_line_feeds(data)
        if not self._rest and data.endswith(b"\n\n"):
            return data
        searched = max(0, len(self._rest) - 1)
        self._rest += data
        end = self._rest.rfind(b"\n\n", searched) + 2
        if end == 1:
            if len(self._rest) > FRAME_BYTES:
                raise ValueError(f"a frame of more than {FRAME_BYTES} bytes")
            return b""
        block = bytes(self._rest[:end])
        del self._rest[:end]
        return block

    def close(self) -> bytes:
        """Return the rest when the stream has ended: some servers send the last frame without its blank line."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest

    def _with_line_feeds(self, data: bytes) -> bytes:
        """The piece with LF as line ends. A CR at the end of a piece ends its line at once. An LF at the beginning of
        the next piece is removed then.
        """
        continued, self._after_return = self._after_return, data.endswith(b"\r")
        if continued:
            data = data.removeprefix(b"\n")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def starts(data: bytes, otherwise: bool) -> bool | None:
    """Whether a body that begins with these bytes is a stream of events (True) or JSON (False); `otherwise` if it is
    neither; None if more bytes are needed to tell.
    """
    first = data.lstrip(BEFORE)[:1]
    if not first:
        return None
    return first in b"dier:" if first in b"dier:{[" else otherwise


def parse_frames(block: bytes) -> Iterator[Frame]:
    """The events of a block whose data are not blank."""
    for piece in block.removeprefix(b"\xef\xbb\xbf").split(FRAME_END):
        if (frame := parse_frame(piece)) is not None:
            yield frame


def parse_frame(piece: bytes) -> Frame | None:
    """The event of one frame, given without its end, with the data stripped; None if these are blank. Comments, ids and
    retry times are ignored.
    """
    event, lines = b"", []
    if piece.startswith(b"data: ") and b"\n" not in piece:
        data = piece[6:]
    elif piece.startswith(b"event: ") and piece.count(b"\n") == 1 and b"\ndata: " in piece:
        event, _, data = piece[7:].partition(b"\ndata: ")
    else:
        for line in piece.split(b"\n"):
            name, _, value = line.partition(b":")
            if name == b"data":
                lines.append(value.removeprefix(b" "))
            elif name == b"event":
                event = value.removeprefix(b" ")
        data = b"\n".join(lines)
    data = data.strip()
    return Frame(event, data) if data else None
