"""What an emulated vendor answers, before it is bytes on a wire: so that any fault can spoil any vendor's answer."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Literal, Self

from tests.emulators.connection import Connection

Kind = Literal["open", "content", "finish", "usage", "done", "comment"]
HALF = re.compile("[\ud800-\udfff]")
LAST_CHUNK = b"0\r\n\r\n"
CHUNKED = ("Transfer-Encoding", "chunked")


@dataclass(frozen=True)
class Piece:
    """A part of the body, usually one frame: what it is for, and the seconds of silence before it."""

    data: bytes
    kind: Kind = "content"
    after: float = 0.0


@dataclass(frozen=True)
class Reply:
    """A response: chunked, each piece a chunk, when `stream`, else with a length.

    `delay` is the seconds before its head. For faults: `whole` is the same answer as one JSON body, `frames` as a
    stream, `error` this vendor's error body and `error_frame` its error in the middle of a stream.
    """

    pieces: tuple[Piece, ...] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: bool = False
    delay: float = 0.0
    whole: bytes = b""
    frames: tuple[Piece, ...] = ()
    error: bytes = b""
    error_frame: bytes = b""

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(piece.data for piece in self.pieces)

    def head(self, *framing: tuple[str, str]) -> bytes:
        """The status line and the headers; `framing` says how long the body is, by default as `stream` has it."""
        fields = [*self.headers.items(), *(framing or [self._framing()])]
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        return f"HTTP/1.1 {self.status} {_phrase(self.status)}\r\n{lines}\r\n".encode("latin-1")

    def raw(self) -> bytes:
        """The whole response as it stands on the wire."""
        if self.stream:
            return self.head() + b"".join(chunk(piece.data) for piece in self.pieces) + LAST_CHUNK
        return self.head() + self.body

    def without(self, *kinds: Kind) -> Self:
        """The same answer without the pieces of these kinds."""
        return replace(self, pieces=tuple(piece for piece in self.pieces if piece.kind not in kinds))

    def typed(self, content_type: str) -> dict[str, str]:
        """The headers, with another content type."""
        return {**self.headers, "Content-Type": content_type}

    def halves(self) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
        """The pieces before and after the middle of the content; some content comes before it."""
        if len(self.pieces) == 1:
            data = self.pieces[0].data
            return (Piece(data[: len(data) // 2]),), (Piece(data[len(data) // 2 :]),)
        content = [place for place, piece in enumerate(self.pieces) if piece.kind == "content"]
        middle = content[max(0, len(content) // 2 - 1)] + 1 if content else len(self.pieces) // 2
        return self.pieces[:middle], self.pieces[middle:]

    def _framing(self) -> tuple[str, str]:
        return CHUNKED if self.stream else ("Content-Length", str(len(self.body)))


def play(connection: Connection, reply: Reply) -> None:
    """Answer with it, in its own time."""
    connection.pause(reply.delay)
    if reply.stream:
        connection.send(reply.head())
        send_chunks(connection, reply.pieces)
        connection.send(LAST_CHUNK)
    elif silence := sum(piece.after for piece in reply.pieces):
        connection.send(reply.head())
        connection.pause(silence)
        connection.send(reply.body)
    else:
        connection.send(reply.raw())


def send_chunks(connection: Connection, pieces: tuple[Piece, ...]) -> None:
    """Send the pieces, each as a chunk when its time has come."""
    for piece in pieces:
        if piece.after:
            connection.pause(piece.after)
        connection.send(chunk(piece.data))


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def dumps(value: object, **options: Any) -> str:
    """JSON as vendors write it; halves of surrogate pairs, which UTF-8 has not, as escapes."""
    text = json.dumps(value, **{"ensure_ascii": False, "separators": (",", ":"), **options})
    return (
        json.dumps(value, **{"separators": (",", ":"), **options, "ensure_ascii": True}) if HALF.search(text) else text
    )


def _phrase(status: int) -> str:
    """Vendors have statuses of their own: 529 is Anthropic's and Azure's."""
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
