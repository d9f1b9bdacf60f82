"""How an upstream answers oddly but whole: the caller must not notice. The harmful ways stand in faults.py.

Answer(fault=oddities.trickled)              each byte in its own packet
Answer(fault=oddities.split(17))             two packets, cut after 17 bytes
"""

from dataclasses import replace

from tests.emulators.connection import Connection
from tests.emulators.fault import SETTLE, Fault, Phase, edit, fault
from tests.emulators.reply import CHUNKED, LAST_CHUNK, Piece, Reply, chunk, play, send_chunks

# Before the status, and instead of a stream


@fault(Phase.HEADERS, harmless=True)
def informed(connection: Connection, reply: Reply) -> None:
    """Sends 100 Continue and 103 Early Hints before the 200."""
    connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
    play(connection, reply)


@edit(Phase.START, whole=False, harmless=True)
def lump(reply: Reply) -> Reply:
    """Answers with one JSON body, although a stream was asked for."""
    return Reply((Piece(reply.whole),), headers=reply.typed("application/json"), delay=reply.delay)


# At the end


@edit(Phase.END, whole=False, harmless=True)
def no_done(reply: Reply) -> Reply:
    """The stream ends cleanly after the finish reason, without the end mark ([DONE])."""
    return reply.without("done")


@fault(Phase.END, whole=False, harmless=True)
def held_after_finish(connection: Connection, reply: Reply) -> None:
    """After the finish reason (and usage) comes nothing: no end mark, no last chunk, no close."""
    connection.pause(reply.delay)
    connection.send(reply.head())
    send_chunks(connection, reply.without("done").pieces)
    connection.hold()


@fault(Phase.END, whole=False, harmless=True)
def held_after_done(connection: Connection, reply: Reply) -> None:
    """After the end mark comes nothing: no last chunk, no close."""
    connection.pause(reply.delay)
    connection.send(reply.head())
    send_chunks(connection, reply.pieces)
    connection.hold()


@edit(Phase.END, whole=False, harmless=True)
def finished_twice(reply: Reply) -> Reply:
    """The frames with the finish reason come twice."""
    last = max(place for place, piece in enumerate(reply.pieces) if piece.kind == "finish")
    again = tuple(piece for piece in reply.pieces if piece.kind == "finish")
    return replace(reply, pieces=(*reply.pieces[: last + 1], *again, *reply.pieces[last + 1 :]))


# On a kept connection


@fault(Phase.IDLE, harmless=True)
def stale(connection: Connection, reply: Reply) -> None:
    """Answers the first request of each connection, reads the second and closes without a word."""
    if connection.requests > 1:
        connection.close()
    else:
        play(connection, reply)


@fault(Phase.IDLE, harmless=True)
def closed_while_idle(connection: Connection, reply: Reply) -> None:
    """Closes after each answer, although it promised to keep the connection."""
    play(connection, reply)
    connection.close()


@fault(Phase.IDLE, harmless=True)
def surplus(connection: Connection, reply: Reply) -> None:
    """Sends a second response, which nobody asked for, with the end of each answer: later it would be the next one."""
    with connection.corked():
        play(connection, reply)
        connection.send(Reply((Piece(b'{"surplus": true}'),), headers={"Content-Type": "application/json"}).raw())


# How it is packed


@fault(Phase.THROUGHOUT, harmless=True)
def until_close(connection: Connection, reply: Reply) -> None:
    """A body with neither length nor chunks, which ends when the connection does."""
    connection.send(reply.head(("Connection", "close")))
    for piece in reply.pieces:
        connection.pause(piece.after)
        connection.send(piece.data)
    connection.close()


@fault(Phase.THROUGHOUT, harmless=True)
def extensions_and_trailers(connection: Connection, reply: Reply) -> None:
    """Chunks with extensions, and trailers after the last one."""
    connection.send(reply.head(CHUNKED, ("Trailer", "X-Digest")))
    for piece in reply.pieces:
        connection.send(b'%x;kind=word;note="a; b"\r\n%b\r\n' % (len(piece.data), piece.data))
    connection.send(b"0;last\r\nX-Digest: 0\r\nX-Other: 1\r\n\r\n")


@fault(Phase.THROUGHOUT, harmless=True)
def rechunked(connection: Connection, reply: Reply) -> None:
    """Chunks of 7 bytes, whose borders are not those of events or characters."""
    body = reply.body
    connection.send(reply.head(CHUNKED))
    for start in range(0, len(body), 7):
        connection.send(chunk(body[start : start + 7]))
    connection.send(LAST_CHUNK)


@fault(Phase.THROUGHOUT, harmless=True)
def trickled(connection: Connection, reply: Reply) -> None:
    """Each byte in its own packet, as fast as they go."""
    for byte in reply.raw():
        connection.send(bytes([byte]))


@fault(Phase.THROUGHOUT, harmless=True)
def coalesced(connection: Connection, reply: Reply) -> None:
    """Head and body in one packet."""
    connection.send(reply.raw())


def split(offset: int) -> Fault:
    """The whole response in two packets, the first of `offset` bytes (head and chunk sizes count). Not in FAULTS."""

    def send(connection: Connection, reply: Reply) -> None:
        _split(connection, reply.raw(), offset)

    return Fault(
        f"split({offset})", f"Two packets, the first of {offset} bytes.", Phase.THROUGHOUT, send, harmless=True
    )


@fault(Phase.THROUGHOUT, harmless=True)
def split_in_character(connection: Connection, reply: Reply) -> None:
    """Two packets, split inside the first character that takes several bytes (in the middle if there is none)."""
    raw = reply.raw()
    wide = (place for place, byte in enumerate(raw) if byte >= 0x80)
    _split(connection, raw, next(wide, len(raw) // 2) + 1)


@fault(Phase.THROUGHOUT, harmless=True)
def split_in_line_end(connection: Connection, reply: Reply) -> None:
    """Two packets, split between the CR and the LF that end the head."""
    raw = reply.raw()
    _split(connection, raw, raw.index(b"\r\n\r\n") + 3)


@fault(Phase.THROUGHOUT, whole=False, harmless=True)
def split_in_event_end(connection: Connection, reply: Reply) -> None:
    """Two packets, split before the last byte of the first event, so inside of its empty line."""
    raw = reply.raw()
    first = chunk(reply.pieces[0].data)
    _split(connection, raw, raw.index(first) + len(first) - len(b"\n\r\n"))


@edit(Phase.THROUGHOUT, whole=False, harmless=True)
def plain_text(reply: Reply) -> Reply:
    """A real event stream that calls itself text/plain."""
    return replace(reply, headers=reply.typed("text/plain"))


@edit(Phase.THROUGHOUT, harmless=True)
def charset(reply: Reply) -> Reply:
    """A content type in another case, with a quoted charset and another parameter."""
    kind = "Text/Event-Stream" if reply.stream else "Application/JSON"
    return replace(reply, headers=reply.typed(f'{kind};charset="UTF-8"; boundary=x'))


def _split(connection: Connection, raw: bytes, offset: int) -> None:
    connection.send(raw[:offset])
    connection.pause(SETTLE)
    connection.send(raw[offset:])
