"""Checks of the HTTP answer and of its server-sent events, apart from their contents."""

from collections.abc import Iterator

from tools.streamcheck.capture import End
from tools.streamcheck.check import OK, Need, Problem, check, error, warning
from tools.streamcheck.frames import Frame
from tools.streamcheck.stream import Stream, error_message, message, shorten

NO_ANSWER = {
    End.CUT: "the connection was closed",
    End.RESET: "the connection was reset",
    End.SILENT: "only silence",
    End.GARBAGE: "what came is not HTTP",
    End.ENDLESS: "headers without end",
}


@check("status", Need.NOTHING)
def status(stream: Stream) -> Iterator[Problem]:
    """The request is answered with 200."""
    capture = stream.capture
    if capture.status == 0:
        yield error(f"no answer: {NO_ANSWER.get(capture.end, capture.end)}")
    elif capture.status != OK:
        text = capture.headers.get("location") or error_message(capture.body)
        yield error(f"{capture.status}" + f": {text}" * bool(text))


@check("content type", Need.ANSWER)
def content_type(stream: Stream) -> Iterator[Problem]:
    """The content type is text/event-stream; clients take another for no stream."""
    given = stream.capture.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != "text/event-stream":
        yield error(f"the content type is {given!r}")


@check("cache control", Need.ANSWER)
def cache_control(stream: Stream) -> Iterator[Problem]:
    """Cache-Control has no-cache or no-store, so that nothing in between keeps frames back."""
    given = stream.capture.headers.get("cache-control", "")
    if not {"no-cache", "no-store"} & {part.strip().lower() for part in given.split(",")}:
        yield warning(f"Cache-Control is {given!r}")


@check("not compressed", Need.ANSWER)
def not_compressed(stream: Stream) -> Iterator[Problem]:
    """The body is not compressed: it was not offered, and a compressor holds frames back."""
    given = stream.capture.headers.get("content-encoding", "identity")
    if given.strip().lower() != "identity":
        yield error(f"Content-Encoding is {given!r}")


@check("whole body", Need.ANSWER)
def whole_body(stream: Stream) -> Iterator[Problem]:
    """The body ends as HTTP has it: no cut, no reset, no silence."""
    end = stream.capture.end
    if end is End.CLOSED:
        yield warning(f"the response {end}: a cut would look the same")
    elif end not in (End.WHOLE, End.HELD):
        yield error(f"the response {end}")


@check("ends after [DONE]", Need.ANSWER)
def ends_after_done(stream: Stream) -> Iterator[Problem]:
    """The body ends right after [DONE]; some clients read until it does."""
    if stream.capture.end is End.HELD:
        yield error(f"the response {End.HELD}")


@check("UTF-8", Need.ANSWER)
def utf8(stream: Stream) -> Iterator[Problem]:
    """The body is UTF-8, no character is cut or lost."""
    try:
        stream.capture.body.decode()
    except UnicodeDecodeError as problem:
        around = stream.capture.body[max(0, problem.start - 20) : problem.start + 4]
        yield error(f"byte {problem.start} is not UTF-8, after {around!r}")
    if "\ufffd" in stream.text:
        yield warning("the text has U+FFFD, which stands for a character that was lost on the way")


@check("line ends", Need.ANSWER)
def line_ends(stream: Stream) -> Iterator[Problem]:
    """Lines end in LF alone, as OpenAI's do."""
    ends = {end for frame in stream.frames for end in frame.ends}
    if len(ends) > 1:
        yield warning("line ends are mixed: " + " and ".join(sorted(repr(end.decode()) for end in ends)))
    elif ends and ends != {b"\n"}:
        yield warning(f"lines end in {ends.pop().decode()!r}")


@check("frames", Need.ANSWER)
def frames(stream: Stream) -> Iterator[Problem]:
    """Each frame is one line `data: ...` and one empty line, and nothing else."""
    for number, frame in enumerate(stream.frames, start=1):
        if frame.kind == "comment":
            continue
        if frame.kind == "blank":
            yield error(f"an empty line too many before frame {number + 1}")
            continue
        if not frame.complete:
            yield error(f"the last frame is not ended by an empty line: {shorten(str(frame))}")
        for text in _odd_lines(frame):
            yield error(f"frame {number} {text}")


def _odd_lines(frame: Frame) -> Iterator[str]:
    names = [line.partition(b":")[0] for line in frame.lines if not line.startswith(b":")]
    if names.count(b"data") > 1:
        yield f"has {names.count(b'data')} data lines"
    for name, line in zip(names, (line for line in frame.lines if not line.startswith(b":")), strict=True):
        if name == b"event":
            yield f"has a name: {shorten(line.decode(errors='replace'))}"
        elif name != b"data":
            yield f"has a line that is no data: {shorten(line.decode(errors='replace'))}"
        elif not line.startswith(b"data: "):
            yield "has no space after `data:`, which some clients count on"


@check("comments", Need.ANSWER)
def comments(stream: Stream) -> Iterator[Problem]:
    """Comments (heartbeats) are whole and stand between frames."""
    for number, frame in enumerate(stream.frames, start=1):
        if frame.kind == "mixed":
            yield error(f"frame {number} has a comment inside: {shorten(str(frame))}")
        elif frame.kind == "comment" and not frame.complete:
            yield error(f"the comment at the end has no empty line after it: {shorten(str(frame))}")


@check("JSON", Need.ANSWER)
def json_data(stream: Stream) -> Iterator[Problem]:
    """The data of each frame is a JSON object or [DONE]."""
    for number, reason in stream.unreadable:
        yield error(f"frame {number} cannot be read ({shorten(reason)}): {shorten(str(stream.frames[number - 1]))}")


@check("no error frame", Need.ANSWER)
def no_error_frame(stream: Stream) -> Iterator[Problem]:
    """The answer does not fail in the middle."""
    for chunk in stream.errors:
        yield error(f"frame {chunk.number} is an error: {message(chunk.body)}")


@check("[DONE]", Need.ANSWER)
def done(stream: Stream) -> Iterator[Problem]:
    """`data: [DONE]` comes exactly once, as the very last frame."""
    if len(stream.done) != 1:
        yield error(f"[DONE] comes {len(stream.done)} times" if stream.done else "there is no [DONE]")
    if stream.done and stream.done[-1] != len(stream.frames):
        yield error(f"after [DONE] comes {shorten(str(stream.frames[stream.done[-1]])) or 'an empty line'}")
