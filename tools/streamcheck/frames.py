"""A body, cut into server-sent events as they stand: nothing is forgiven, so that checks can tell what is wrong.

Format: https://html.spec.whatwg.org/multipage/server-sent-core.events.html#parsing-an-event-stream
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from tools.streamcheck.capture import Arrival

Kind = Literal["event", "comment", "mixed", "blank"]
LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True)
class Frame:
    """The lines up to an empty one, and when the last byte of it came.

    `mixed` has a comment among its other lines; `blank` is an empty line that ends nothing. An incomplete frame is
    what stood at the end without an empty line after it.
    """

    at: float
    lines: tuple[bytes, ...]
    ends: tuple[bytes, ...]
    complete: bool = True

    @property
    def kind(self) -> Kind:
        """What the lines are."""
        if not self.lines:
            return "blank"
        comments = sum(line.startswith(b":") for line in self.lines)
        if comments == len(self.lines):
            return "comment"
        return "mixed" if comments else "event"

    @property
    def data(self) -> bytes:
        """The data lines, joined as a client joins them."""
        values = (line[5:] for line in self.lines if line.startswith(b"data:"))
        return b"\n".join(value.removeprefix(b" ") for value in values)

    def __str__(self) -> str:
        return b"\n".join(self.lines).decode(errors="backslashreplace")


def frames(arrivals: Sequence[Arrival]) -> Iterator[Frame]:
    """The frames of a body."""
    body = b"".join(arrival.data for arrival in arrivals)
    borders = list(accumulate(len(arrival.data) for arrival in arrivals))
    lines: list[bytes] = []
    ends: list[bytes] = []
    start = 0
    for end in LINE_END.finditer(body):
        line = body[start : end.start()]
        start = end.end()
        ends.append(end[0])
        if line:
            lines.append(line)
            continue
        yield Frame(arrivals[bisect_left(borders, start)].at, tuple(lines), tuple(ends))
        lines, ends = [], []
    if start < len(body):
        lines.append(body[start:])
    if lines:
        yield Frame(arrivals[-1].at, tuple(lines), tuple(ends), complete=False)
