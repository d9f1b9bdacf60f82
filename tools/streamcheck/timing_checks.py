"""Checks of when things came: whether the endpoint streams, or only looks as if it did."""

from collections.abc import Iterator

from tools.streamcheck.check import Need, Problem, check, error, warning
from tools.streamcheck.stream import Stream
from tools.streamcheck.timing import milliseconds, silence, total

INSTANT = 0.05
"""An answer that took less time may come in one piece and yet not have been held back."""

AT_ONCE = 0.001
FEW = 5
LATE, BURST, MOST = 0.9, 0.05, 0.8
"""Buffered: after LATE of the time nothing has come, and then MOST frames within BURST of it."""

SLOW, TOO_SLOW = 5.0, 10.0
"""After 5 s of silence Deepgram warns, after 10 s LiveKit gives up."""

WORDS = 3


@check("not buffered")
def not_buffered(stream: Stream) -> Iterator[Problem]:
    """Frames come as they are made, not all at once at the end."""
    marks = [part.at for part in stream.spoken]
    if len(marks) <= FEW:
        return
    whole = total(stream)
    burst = any(marks[place + int(MOST * len(marks)) - 1] - mark < BURST * whole for place, mark in _starts(marks))
    if marks[-1] - marks[0] >= AT_ONCE and not (marks[0] > LATE * whole and burst):
        return
    text = f"{len(marks)} frames came within {milliseconds(marks[-1] - marks[0])}, after {milliseconds(marks[0])}"
    if whole < INSTANT:
        yield warning(f"{text}: too fast to tell whether they were held back")
    else:
        yield error(f"{text}: the answer was held back until it was whole")


def _starts(marks: list[float]) -> Iterator[tuple[int, float]]:
    return ((place, mark) for place, mark in enumerate(marks) if place + int(MOST * len(marks)) <= len(marks))


@check("small pieces")
def small_pieces(stream: Stream) -> Iterator[Problem]:
    """The text comes in pieces of a word or so, not in one."""
    pieces = [part for part in stream.spoken if part.delta.get("content")]
    if len(pieces) == 1 and len(stream.text.split()) > WORDS:
        yield warning(f"one frame holds the whole answer of {len(stream.text)} characters")


@check("no long silence", Need.ANSWER)
def no_long_silence(stream: Stream) -> Iterator[Problem]:
    """Something comes every 5 s, be it a heartbeat."""
    longest = silence(stream)
    if longest > SLOW:
        problem = error if longest > TOO_SLOW else warning
        yield problem(f"not a byte for {longest:.1f} s")
