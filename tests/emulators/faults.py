"""How an upstream breaks its answer, so that the caller must be told. The harmless ways stand in oddities.py.

Answer(texts=["Hi"], fault=faults.cut)       an emulated vendor answers, and breaks off in the middle
"""

import gzip
from dataclasses import replace

from tests.emulators.connection import Connection
from tests.emulators.fault import SETTLE, Phase, edit, fault
from tests.emulators.reply import CHUNKED, Piece, Reply, chunk, send_chunks

ENDLESS_HEAD_BYTES = 40 * 1024 * 1024
ENDLESS_LINE_BYTES = 64 * 1024 * 1024
BLOCK_BYTES = 64 * 1024

# Before the status


@fault(Phase.CONNECT)
def refused(connection: Connection, _: Reply) -> None:
    """Nothing listens: the vendor that is to show it always stops listening, until it is given another answer."""
    connection.reset()


@fault(Phase.HEADERS)
def reset_before_headers(connection: Connection, _: Reply) -> None:
    """Reads the request and resets the connection (RST)."""
    connection.reset()


@fault(Phase.HEADERS)
def closed_before_headers(connection: Connection, _: Reply) -> None:
    """Reads the request and closes the connection (FIN)."""
    connection.close()


@fault(Phase.HEADERS, silent=True)
def stalled_before_headers(connection: Connection, _: Reply) -> None:
    """Reads the request and never answers."""
    connection.hold()


@fault(Phase.HEADERS, silent=True)
def slow_headers(connection: Connection, reply: Reply) -> None:
    """Sends the head one byte every 100 ms, which takes half a minute, and then nothing."""
    for byte in reply.head():
        connection.send(bytes([byte]))
        connection.pause(0.1)
    connection.hold()


@fault(Phase.HEADERS)
def garbage(connection: Connection, _: Reply) -> None:
    """Answers with bytes that are not HTTP, and leaves the connection open."""
    connection.send(b"\x16\x03\x03\x00\x2a\x02\x00\x00\x26 SSH-2.0-OpenSSH_9.6\r\n\x00\xff\xfe\r\n\r\n")
    connection.hold()


@fault(Phase.HEADERS)
def endless_headers(connection: Connection, reply: Reply) -> None:
    """Sends headers without end: 40 MB of them, unless the client leaves."""
    connection.send(reply.head()[:-2])
    line = b"X-Filler: " + b"a" * 1000 + b"\r\n"
    block = line * (BLOCK_BYTES // len(line))
    for _ in range(ENDLESS_HEAD_BYTES // len(block)):
        connection.send(block)
    connection.close()


# After the status, before the first event


@fault(Phase.START, silent=True)
def stalled_after_headers(connection: Connection, reply: Reply) -> None:
    """Sends the head, 200, and nothing more."""
    connection.send(reply.head())
    connection.hold()


@fault(Phase.START)
def cut_after_headers(connection: Connection, reply: Reply) -> None:
    """Sends the head, 200, and closes (FIN)."""
    connection.send(reply.head())
    connection.close()


@fault(Phase.START, whole=False, silent=True)
def comments_only(connection: Connection, reply: Reply) -> None:
    """Sends an SSE comment every 50 ms, for a minute, and never an event."""
    connection.send(reply.head())
    for _ in range(1200):
        connection.send(chunk(b": keep-alive\n\n"))
        connection.pause(0.05)
    connection.close()


@fault(Phase.START)
def endless_line(connection: Connection, reply: Reply) -> None:
    """Sends a body that is one line without end: 64 MB of it, unless the client leaves."""
    connection.send(reply.head(CHUNKED) + chunk(b'data: {"'))
    block = chunk(b"a" * BLOCK_BYTES)
    for _ in range(ENDLESS_LINE_BYTES // BLOCK_BYTES):
        connection.send(block)
    connection.close()


@fault(Phase.START)
def negative_chunk(connection: Connection, reply: Reply) -> None:
    """Gives the first chunk the size -5, and leaves the connection open."""
    connection.send(reply.head(CHUNKED) + b"-5\r\n" + reply.body)
    connection.hold()


@fault(Phase.START)
def oversize_chunk(connection: Connection, reply: Reply) -> None:
    """Gives the first chunk a size that no 64-bit integer holds, and leaves the connection open."""
    connection.send(reply.head(CHUNKED) + b"1" + b"0" * 16 + b"\r\n" + reply.body)
    connection.hold()


@edit(Phase.START, whole=False)
def malformed_first(reply: Reply) -> Reply:
    """The first event is not JSON."""
    return replace(reply, pieces=(_broken(), *reply.pieces))


@edit(Phase.START)
def html(_: Reply) -> Reply:
    """Answers 200 with a page in HTML."""
    page = b"<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body>It works!</body></html>\n"
    return Reply((Piece(page),), headers={"Content-Type": "text/html; charset=utf-8"})


@edit(Phase.START)
def error_with_200(reply: Reply) -> Reply:
    """Answers 200 with the vendor's error as a JSON body."""
    return Reply((Piece(reply.error),), headers=reply.typed("application/json"))


@edit(Phase.START)
def empty(reply: Reply) -> Reply:
    """Answers 200 with an empty body."""
    return replace(reply, pieces=())


@fault(Phase.START)
def no_content(connection: Connection, _: Reply) -> None:
    """Answers 204 without a body."""
    connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")


@fault(Phase.START)
def redirect(connection: Connection, _: Reply) -> None:
    """Answers 302 to another host name (localhost, on the same port: `received` shows who follows it)."""
    location = f"Location: http://localhost:{connection.port}/elsewhere\r\n".encode()
    connection.send(b"HTTP/1.1 302 Found\r\n" + location + b"Content-Length: 0\r\n\r\n")


@edit(Phase.START)
def compressed(reply: Reply) -> Reply:
    """Compresses the body by gzip, although that was not offered."""
    body = Piece(gzip.compress(reply.body, mtime=0))
    return replace(reply, pieces=(body,), headers={**reply.headers, "Content-Encoding": "gzip"})


# In the middle


@fault(Phase.MIDDLE)
def cut(connection: Connection, reply: Reply) -> None:
    """Closes (FIN) in the middle of a chunked body, without the last chunk."""
    _first_half(connection, reply)
    connection.close()


@fault(Phase.MIDDLE)
def reset(connection: Connection, reply: Reply) -> None:
    """Resets the connection (RST) in the middle of a chunked body."""
    _first_half(connection, reply)
    connection.pause(SETTLE)
    connection.reset()


@fault(Phase.MIDDLE, silent=True)
def stalled(connection: Connection, reply: Reply) -> None:
    """Falls silent in the middle of a chunked body, and leaves the connection open."""
    _first_half(connection, reply)
    connection.hold()


@fault(Phase.MIDDLE, streaming=False)
def short(connection: Connection, reply: Reply) -> None:
    """Closes (FIN) in the middle of a body whose Content-Length promised more."""
    connection.send(reply.raw()[: -len(reply.body) // 2])
    connection.close()


@edit(Phase.MIDDLE)
def malformed(reply: Reply) -> Reply:
    """In the middle of the stream stands an event that is not JSON; a whole body is only half of its JSON."""
    before, after = reply.halves()
    return replace(reply, pieces=(*before, _broken(), *after) if reply.stream else before)


@edit(Phase.MIDDLE, whole=False)
def error_frame(reply: Reply) -> Reply:
    """In the middle comes the vendor's error frame, and the stream ends, cleanly as HTTP has it."""
    before, _ = reply.halves()
    return replace(reply, pieces=(*before, Piece(reply.error_frame)))


# At the end


@edit(Phase.END, whole=False)
def no_finish(reply: Reply) -> Reply:
    """The stream ends cleanly after the content: no finish reason, no usage, no end mark."""
    return reply.without("finish", "usage", "done")


@edit(Phase.END, whole=False)
def done_without_finish(reply: Reply) -> Reply:
    """The end mark comes, but no finish reason."""
    return reply.without("finish")


def _first_half(connection: Connection, reply: Reply) -> None:
    connection.pause(reply.delay)
    connection.send(reply.head(CHUNKED))
    send_chunks(connection, reply.halves()[0])


def _broken() -> Piece:
    return Piece(b'data: {"id":"chatcmpl-broken","choices":[{"index":0,\n\n')
