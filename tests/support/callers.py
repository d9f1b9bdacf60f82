"""Callers that hang up, and the phases of an answer in which they do."""

import json
import socket
import struct
import time
from typing import Any

from tests.emulators import faults

AT_ONCE = 1.0
"""Seconds: generous, where the promise is 0.1 (docs/performance.md and tools/bench/silence.py have the figures)."""
LONG = 30.0
"""Seconds that nothing of a test waits for."""
WORDS = ["word "] * 500

PHASES: dict[str, tuple[dict[str, Any], bool, bytes]] = {
    "before headers": ({"delay": LONG}, True, b""),
    "before the first token": ({"texts": WORDS, "first_delay": LONG}, True, b""),
    "mid-stream, running": ({"texts": WORDS, "frame_delay": 0.01}, True, b"word"),
    "mid-stream, silent": ({"fault": faults.stalled}, True, b"data: "),
    "not streaming": ({"delay": LONG}, False, b""),
}
"""What a ScriptedAnswer is made of, whether it is streamed, and what the caller hears before they leave."""


class Caller:
    """A caller on a raw socket, who may leave in any way."""

    def __init__(self, port: int, body: object, path: str = "/v1/chat/completions") -> None:
        raw = json.dumps(body).encode()
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(raw)}\r\n\r\n"
        self.socket.sendall(head.encode() + raw)

    def hears(self, what: bytes) -> None:
        heard = b""
        while what not in heard:
            data = self.socket.recv(4096)
            assert data, heard
            heard += data

    def leaves(self) -> float:
        """Close, politely. Returns when."""
        left = time.monotonic()
        self.socket.close()
        return left

    def is_cut_off(self) -> float:
        """A reset, as when a phone's network goes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return self.leaves()
