"""Amazon's event stream encoding: a prelude, headers and a payload, each frame with two checksums.

https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html#streaming-event-stream (the encoding is the
same for all services).
"""

import base64
import struct
from collections.abc import Mapping
from typing import Any
from zlib import crc32

from tests.emulators import reply

CONTENT_TYPE = "application/vnd.amazon.eventstream"
STRING = 7


def event(name: str, members: Mapping[str, Any]) -> bytes:
    """The frame of an event; bytes among its members are sent as base64."""
    return frame({":message-type": "event", ":event-type": name, ":content-type": "application/json"}, members)


def exception(name: str, message: str) -> bytes:
    """The frame of an exception. `name` as it stands in the service's model: throttlingException."""
    headers = {":message-type": "exception", ":exception-type": name, ":content-type": "application/json"}
    return frame(headers, {"message": message})


def frame(headers: Mapping[str, str], members: Mapping[str, Any]) -> bytes:
    """One frame, checksums and all."""
    head = b"".join(_header(name, value) for name, value in headers.items())
    payload = dumps(members)
    lengths = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    body = lengths + struct.pack(">I", crc32(lengths)) + head + payload
    return body + struct.pack(">I", crc32(body))


def dumps(value: object) -> bytes:
    """JSON as the services write it, with blobs as base64."""
    return reply.dumps(value, default=_blob).encode()


def _header(name: str, value: str) -> bytes:
    raw = value.encode()
    return bytes([len(name)]) + name.encode() + bytes([STRING]) + struct.pack(">H", len(raw)) + raw


def _blob(value: object) -> str:
    assert isinstance(value, bytes), value
    return base64.b64encode(value).decode()
