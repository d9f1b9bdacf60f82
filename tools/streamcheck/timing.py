"""When things came: the figures of a stream, and its sketch on a line of text."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from tools.streamcheck.stream import Stream

SKETCH_COLUMNS = 60
SEVERAL = 2
MANY = 5


@dataclass(frozen=True)
class Timing:
    """Seconds since the request was sent. None: it did not happen.

    `first_token` is the first frame with something of the answer, `total` the last byte. Gaps are between such frames;
    `silence` is the longest time without any byte, heartbeats and headers being bytes.
    """

    connect: float
    headers: float | None
    first_byte: float | None
    first_token: float | None
    total: float
    gap: float | None
    gap_95: float | None
    silence: float


def timing(stream: Stream) -> Timing:
    """The figures of one stream."""
    capture = stream.capture
    marks = [part.at for part in stream.spoken]
    gaps = sorted(later - earlier for earlier, later in pairwise(marks))
    return Timing(
        connect=capture.connect,
        headers=capture.head_at,
        first_byte=capture.arrivals[0].at if capture.arrivals else None,
        first_token=marks[0] if marks else None,
        total=total(stream),
        gap=median(gaps) if gaps else None,
        gap_95=gaps[round(0.95 * (len(gaps) - 1))] if gaps else None,
        silence=silence(stream),
    )


def total(stream: Stream) -> float:
    """When the last of it came."""
    return max([stream.capture.head_at or 0.0, *(arrival.at for arrival in stream.capture.arrivals)])


def silence(stream: Stream) -> float:
    """The longest time without a byte, up to the last one or to where patience ended."""
    capture = stream.capture
    moments = [0.0, *([capture.head_at] if capture.head_at is not None else [])]
    moments += [arrival.at for arrival in capture.arrivals]
    if not stream.done:
        moments.append(capture.ended_at)
    return max((later - earlier for earlier, later in pairwise(moments)), default=0.0)


def sketch(marks: Sequence[float], seconds: float, columns: int = SKETCH_COLUMNS) -> str:
    """Where on the way from 0 to `seconds` the marks are: `.` is one, `:` a few, `#` many."""
    counts = [0] * columns
    for mark in marks:
        counts[min(columns - 1, int(mark / seconds * columns) if seconds else 0)] += 1
    line = "".join(" " if not count else "." if count < SEVERAL else ":" if count < MANY else "#" for count in counts)
    return f"0 ms |{line}| {milliseconds(seconds)}"


def milliseconds(seconds: float | None) -> str:
    """The time as people read it; - for none."""
    if seconds is None:
        return "-"
    value = seconds * 1000
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"  # noqa: PLR2004 - a matter of taste
