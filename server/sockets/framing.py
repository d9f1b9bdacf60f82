"""WebSocket frames and messages (RFC 6455), without I/O. The library has the protocol; the bounds on what a peer may
send are here.
"""

from math import inf
from time import monotonic

from websockets.exceptions import InvalidState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import SERVER, Protocol, State

from server.sockets.handshake import SILENT_LOGGER

MESSAGES_PER_SECOND = 100
MESSAGES_AT_ONCE = 200
"""The limits of one connection. When they are reached, reading pauses."""
SMALL_FRAME = 1024
"""Bytes. A fragment of this size or larger does not count as a message; its bytes count below."""
BYTES_PER_MESSAGE = 65_536
"""So many bytes count as one more message."""
MOST_REASON = 123
"""Bytes of a close frame's reason (5.5)."""


class Framing:
    """The protocol's state of one connection. Not safe for threads.

    output       bytes that are to be sent
    ends         nothing may be sent after them
    reads_from   when more may be read, by the monotonic clock
    """

    def __init__(self, most_bytes: int) -> None:
        self._protocol = Protocol(SERVER, max_size=most_bytes, logger=SILENT_LOGGER)
        self._message = bytearray()
        self._is_text = True
        self._allowance = float(MESSAGES_AT_ONCE)
        self._allowed_at = monotonic()
        self.output = bytearray()
        self.ends = False
        self.reads_from = -inf

    @property
    def is_open(self) -> bool:
        """Whether messages may be sent and received."""
        return self._protocol.state is State.OPEN

    @property
    def is_over(self) -> bool:
        """Whether the peer has ended its stream."""
        return self._protocol.state is State.CLOSED

    @property
    def is_finished(self) -> bool:
        """Whether the peer has sent a close frame."""
        return self._protocol.close_rcvd is not None

    @property
    def buffered(self) -> int:
        """Bytes of an incomplete message."""
        return len(self._message) + len(self._protocol.reader.buffer)

    def feed(self, data: bytes) -> list[str | bytes]:
        """The messages that these bytes complete; no bytes mean the end of the peer's stream. A violation closes the
        connection: 1002, 1007 for text that is not UTF-8, 1009 for a message that is too large.
        """
        if self._protocol.reader.eof:
            return []
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        frames = [event for event in self._protocol.events_received() if isinstance(event, Frame)]
        self._slow_down(frames, len(data))
        messages = [message for frame in frames if self.is_open and (message := self._take(frame)) is not None]
        self._move_output()
        return messages

    def send_text(self, text: str) -> None:
        """Send a message. Raises InvalidState when the connection is closed."""
        self._protocol.send_text(text.encode(errors="replace"))
        self._move_output()

    def ping(self) -> None:
        """Send a ping, which a living peer answers."""
        self._protocol.send_ping(b"")
        self._move_output()

    def close(self, code: int, reason: str) -> None:
        """Send a close frame, once."""
        try:
            self._protocol.send_close(code, reason.encode()[:MOST_REASON].decode(errors="ignore"))
        except InvalidState:
            return  # it is closed
        self._message.clear()
        self._move_output()

    def _take(self, frame: Frame) -> str | bytes | None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return None
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        self._message += frame.data
        if not frame.fin:
            return None
        data, self._message = bytes(self._message), bytearray()
        try:
            return data.decode() if self._is_text else data
        except UnicodeDecodeError:
            self._protocol.fail(CloseCode.INVALID_DATA, "a text message is UTF-8")
            return None

    def _slow_down(self, frames: list[Frame], size: int) -> None:
        now = monotonic()
        grown = self._allowance + (now - self._allowed_at) * MESSAGES_PER_SECOND
        counted = sum(frame.opcode is not Opcode.CONT or len(frame.data) < SMALL_FRAME for frame in frames)
        self._allowance = min(grown, MESSAGES_AT_ONCE) - counted - size / BYTES_PER_MESSAGE
        self._allowed_at = now
        if self._allowance < 0:
            self.reads_from = now - self._allowance / MESSAGES_PER_SECOND

    def _move_output(self) -> None:
        for data in self._protocol.data_to_send():
            self.output += data
            self.ends = self.ends or not data
