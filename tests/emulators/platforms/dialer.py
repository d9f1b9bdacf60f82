"""What all of them share: a connection whose every frame must have the shape that the documents give it."""

import json
import time
from collections.abc import Mapping
from typing import Any, Self

from jsonschema import Draft202012Validator
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

EVER = 20.0


def shape(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The schema of a frame with these keys and no others."""
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


class Dialer:
    """A platform's side of a connection. `frames` are those that came, `schemas` those that may."""

    schemas: Mapping[str, Any] = {}
    key = "type"

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.frames: list[dict[str, Any]] = []
        self.socket = connect(url, additional_headers=dict(headers or {}), open_timeout=EVER, proxy=None, legacy=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, **frame: Any) -> None:
        self.socket.send(json.dumps(frame))

    def recv(self, timeout: float = EVER) -> dict[str, Any]:
        """The next frame, checked."""
        message = self.socket.recv(timeout)
        assert isinstance(message, str), "a binary frame"
        frame = json.loads(message)
        assert isinstance(frame, dict), frame
        schema = self.schemas.get(frame.get(self.key, ""))
        assert schema, f"unknown frame {frame}"
        Draft202012Validator(schema).validate(frame)
        self.frames.append(frame)
        return frame

    def is_silent(self, seconds: float) -> bool:
        """Whether no frame comes for so long."""
        try:
            self.recv(seconds)
        except TimeoutError:
            return True
        return False

    def close_code(self) -> int | None:
        """Wait for the other side to close; its code. Frames that come before are kept."""
        deadline = time.monotonic() + EVER
        while time.monotonic() < deadline:
            try:
                self.recv(EVER)
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else None
        raise AssertionError("still open")
