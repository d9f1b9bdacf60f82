"""How a stream of SSE is odd but whole, and how a whole answer is: the caller must not notice. For vendors that speak
JSON, streamed by SSE; oddities.py has what can befall any.
"""

import re
from dataclasses import replace

from tests.emulators.connection import Connection
from tests.emulators.fault import Edit, Fault, Phase, Play
from tests.emulators.reply import CHUNKED, Piece, Reply, chunk, play, send_chunks

ODD_FRAMES: list[Fault] = []
REASON = re.compile(rb'("(?:finish_?[rR]eason|stop_reason)": ?)"[^"]*"')
COMMENTS = 400


def _enter(send: Play, *, streaming: bool = True, whole: bool = False) -> Fault:
    made = Fault(
        send.__name__, send.__doc__ or "", Phase.THROUGHOUT, send, streaming=streaming, whole=whole, harmless=True
    )
    ODD_FRAMES.append(made)
    return made


def _edit(change: Edit, *, streaming: bool = True, whole: bool = False) -> Fault:
    def send(connection: Connection, reply: Reply) -> None:
        play(connection, change(reply))

    send.__name__, send.__doc__ = change.__name__, change.__doc__
    return _enter(send, streaming=streaming, whole=whole)


def _with(reply: Reply, *frames: bytes) -> Reply:
    """The reply, with these frames behind its finish."""
    last = max(place for place, piece in enumerate(reply.pieces) if piece.kind in ("finish", "usage"))
    return replace(
        reply, pieces=(*reply.pieces[: last + 1], *(Piece(each) for each in frames), *reply.pieces[last + 1 :])
    )


@_edit
def blank_events(reply: Reply) -> Reply:
    """Events whose data are blank, everywhere: an intermediary's way to keep the line."""
    blanks = (b"data: \n\n", b"data:\n\n", b"data:   \n\n", b"event: ping\ndata: \n\n")
    pieces = [
        each for at, piece in enumerate(reply.pieces) for each in (Piece(blanks[at % len(blanks)], "comment"), piece)
    ]
    return replace(reply, pieces=(*pieces, Piece(blanks[0], "comment")))


@_edit
def marked_with_blanks(reply: Reply) -> Reply:
    """Blanks before and behind each event's data."""
    return replace(
        reply,
        pieces=tuple(
            replace(piece, data=re.sub(rb"(?m)^data: ([^\r\n]*)", rb"data:  \1 ", piece.data)) for piece in reply.pieces
        ),
    )


@_edit
def rubbish_after_finish(reply: Reply) -> Reply:
    """Frames that are no JSON, and JSON that is no frame, behind the finish."""
    return _with(reply, b'data: {"half\n\n', b"data: [1]\n\n", b"data: ok\n\n", b'data: {"choices": 5}\n\n')


@_edit
def error_after_finish(reply: Reply) -> Reply:
    """The vendor's error frame, behind the finish."""
    return _with(reply, reply.error_frame)


@_edit
def carriage_returns(reply: Reply) -> Reply:
    """Lines that end by CR alone."""
    pieces = (replace(piece, data=piece.data.replace(b"\r\n", b"\n").replace(b"\n", b"\r")) for piece in reply.pieces)
    return replace(reply, pieces=tuple(pieces))


@_enter
def cut_in_the_end_mark(connection: Connection, reply: Reply) -> None:
    """Ends, cleanly as HTTP has it, inside of a frame behind the finish."""
    play(connection, replace(reply.without("done"), pieces=(*reply.without("done").pieces, Piece(b"data: [DO"))))


@_enter
def comments_after_finish(connection: Connection, reply: Reply) -> None:
    """After the finish comes a comment every 50 ms, without an end."""
    connection.send(reply.head(CHUNKED))
    send_chunks(connection, reply.without("done").pieces)
    for _ in range(COMMENTS):
        connection.pause(0.05)
        connection.send(chunk(b": keep-alive\n\n"))
    connection.close()


def _streamed(reply: Reply, kind: str) -> Reply:
    return replace(reply, pieces=reply.frames, headers=reply.typed(kind), stream=True)


def unasked_stream(reply: Reply) -> Reply:
    """A stream, although none was asked for."""
    return _streamed(reply, "text/event-stream")


def unnamed_stream(reply: Reply) -> Reply:
    """A stream that was not asked for, and that calls itself JSON."""
    return _streamed(reply, "application/json")


@_edit
def unnamed_json(reply: Reply) -> Reply:
    """One JSON body for a stream, which calls itself a stream."""
    return Reply((Piece(reply.whole),), headers=reply.headers, delay=reply.delay)


@_edit
def unnamed_frames(reply: Reply) -> Reply:
    """A stream that calls itself JSON."""
    return replace(reply, headers=reply.typed("application/json"))


def end_mark_after_json(reply: Reply) -> Reply:
    """One JSON body, with the end mark of a stream behind it."""
    return replace(reply, pieces=(Piece(reply.whole + b"\n\ndata: [DONE]\n\n"),))


def null_reason(reply: Reply) -> Reply:
    """A whole answer that does not say why it ended."""
    return replace(reply, pieces=(Piece(REASON.sub(rb"\1null", reply.whole)),))


def empty_reason(reply: Reply) -> Reply:
    """A whole answer whose reason for its end is an empty text."""
    return replace(reply, pieces=(Piece(REASON.sub(rb'\1""', reply.whole)),))


for _change in (unasked_stream, unnamed_stream, end_mark_after_json, null_reason, empty_reason):
    _edit(_change, streaming=False, whole=True)
