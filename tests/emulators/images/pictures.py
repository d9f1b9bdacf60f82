"""What the emulated vendors of pictures have in common: a key in a header, one answer after another, picture files.

`Answer` is of answers.py; of it, `status`, `error`, `headers`, `fault`, `delay` and `first_delay` count here.
"""

import base64
import json
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.emulators import faults
from tests.emulators.answers import ScriptedAnswer
from tests.emulators.connection import Connection, Received
from tests.emulators.openai.server import PIXEL
from tests.emulators.reply import Piece, Reply, play
from tests.emulators.server import Server

PICTURE = base64.b64decode(PIXEL)
FILES = "/pictures/"


class Denied(Exception):
    """The vendor refuses the request, in its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class PicturesUpstream(Server):
    """A server that draws for the holder of `key`. Its pictures are files below its own address (`picture_host` to have
    them elsewhere), which it gives to anybody, but not to who sends the key along.
    """

    key = "test-pictures-key"
    key_header = "Authorization"
    key_scheme = "Bearer "

    def __init__(self) -> None:
        super().__init__(self._handle)
        self.picture_host = ""
        self.file = ScriptedAnswer()
        """How the picture files are answered."""
        self._queue: deque[ScriptedAnswer] = deque()
        self._default = ScriptedAnswer()
        self._script = threading.Lock()

    def enqueue(self, *answers: ScriptedAnswer) -> None:
        """Answer the next requests for pictures so. One that is refused (401, 400, 404) uses up no answer."""
        with self._script:
            self._queue.extend(answers)

    def always(self, answer: ScriptedAnswer) -> None:
        """Answer so whenever the queue is empty. With faults.refused nothing listens, until the next `always`."""
        with self._script:
            self._default = answer
        if answer.fault is faults.refused:
            self.refuse()
        else:
            self.listen()

    @property
    def image_requests(self) -> list[Received]:
        """The requests for pictures, without those for files."""
        return [each for each in self.received if not each.path.startswith(FILES)]

    def images_body(self, received: Received) -> Any:
        """The vendor's answer. Raises Denied for what the vendor refuses."""
        raise NotImplementedError

    def words(self, status: int, message: str) -> Any:
        """The body of a refusal."""
        raise NotImplementedError

    def picture_url(self, number: int) -> str:
        """Where a picture is."""
        return f"{self.picture_host or self.url}{FILES}{number}.png?exp=1&sig=a%2Fb"

    def _handle(self, connection: Connection, received: Received) -> None:
        if received.path.startswith(FILES):
            _file(connection, received, self.file, self.key)
            return
        answer = ScriptedAnswer()
        try:
            self._authorize(received)
            reply = _json(200, self.images_body(received))
            with self._script:
                answer = self._queue.popleft() if self._queue else self._default
            if answer.status != 200 or answer.error is not None:
                body = self.words(answer.status, "As scripted.") if answer.error is None else answer.error
                reply = _json(answer.status, body)
        except Denied as denied:
            reply = _json(denied.status, self.words(denied.status, denied.message))
        error = json.dumps(self.words(500, "Internal error")).encode()
        pieces = tuple(replace(piece, after=answer.first_delay) for piece in reply.pieces)
        reply = replace(
            reply, pieces=pieces, headers={**reply.headers, **answer.headers}, delay=answer.delay, error=error
        )
        (answer.fault.play if answer.fault else play)(connection, reply)

    def _authorize(self, received: Received) -> None:
        if received.headers.get(self.key_header) != self.key_scheme + self.key:
            raise Denied(401, "Not authorized")


def _file(connection: Connection, received: Received, answer: ScriptedAnswer, key: str) -> None:
    if received.method != "GET" or key in " ".join(received.headers.values()):
        reply = Reply((Piece(b"no"),), 403)
    else:
        reply = Reply(
            (Piece(PICTURE),), answer.status, {"Content-Type": "image/png", **answer.headers}, delay=answer.delay
        )
    (answer.fault.play if answer.fault else play)(connection, reply)


def _json(status: int, value: object) -> Reply:
    data = json.dumps(value).encode()
    return Reply((Piece(data),), status, {"Content-Type": "application/json"}, whole=data)


def check_fields(body: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Every field known, and of one of the values or the type allowed; `prompt` is required. Raises Denied."""
    for name, value in body.items():
        if name not in known:
            raise Denied(400, f"Unknown field {name}.")
        allowed = known[name]
        fits = isinstance(value, allowed) if isinstance(allowed, type) else value in allowed
        if not fits:
            raise Denied(400, f"Invalid value for {name}: {value!r}.")
    if not body.get("prompt"):
        raise Denied(400, "prompt is required.")
