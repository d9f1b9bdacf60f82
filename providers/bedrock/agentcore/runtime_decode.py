"""Decodes what an app at a runtime of AgentCore answers: SSE, JSON or plain text, in which each app has its own shape.

The text stands at `path`, names with dots between them (`event.contentBlockDelta.delta.text`). Without one it is looked
for where apps usually have it, and the first such place is then that of the whole answer: Strands' events have the
same text at several.
"""

import codecs
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from core import lenient_json
from core.errors import UpstreamDown
from core.events import Event, Finish, Text, Usage
from providers.common.agent_turns import no_answer
from providers.common.text_paths import at_path, text_of
from providers.common.words import words
from providers.transport.sse import Frame

USUAL_PATHS = (
    "event.contentBlockDelta.delta.text",
    "contentBlockDelta.delta.text",
    "choices.0.delta.content",
    "choices.0.message.content",
    "data",
    "delta",
    "text",
    "content",
    "result",
    "response",
    "answer",
    "output",
    "message",
)
DONE = b"[DONE]"
JSON_BEGINS = (b"{", b"[", b'"')


class RuntimeDecoder:
    """Decodes one answer. `name` is the provider's; with `streams`, text that comes at once is cut at words. `text` is
    the text so far.
    """

    def __init__(self, name: str, path: str, *, streams: bool) -> None:
        self.text = ""
        self._name = name
        self._paths = (path,) if path else USUAL_PATHS
        self._given = bool(path)
        self._streams = streams

    def from_frames(self, frames: Iterable[Frame]) -> Iterator[Event]:
        """The events of SSE frames: each has JSON, or plain text, in its data. Raises UpstreamDown."""
        for frame in frames:
            if frame.data == DONE:
                break
            try:
                value = lenient_json.loads(frame.data)
            except orjson.JSONDecodeError as error:
                if frame.data[:1] in JSON_BEGINS:
                    raise no_answer(self._name, f"not JSON: {frame.data[:200]!r}") from error
                value = frame.data.decode("utf-8", "replace")
            self._raise_error(value)
            yield from self._text(self._find(value))
        yield from self._end()

    def from_json(self, value: Any) -> Iterator[Event]:
        """The events of one JSON value. Raises UpstreamDown."""
        self._raise_error(value)
        text = self._find(value)
        yield from map(Text, words(text) if self._streams else [text] if text else [])
        self.text = text
        yield from self._end()

    def from_plain_text(self, pieces: Iterable[bytes]) -> Iterator[Event]:
        """The events of a body of plain text."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for piece in pieces:
            yield from self._text(decoder.decode(piece))
        yield from self._text(decoder.decode(b"", final=True))
        yield from self._end()

    def _text(self, text: str) -> Iterator[Event]:
        if text:
            self.text += text
            yield Text(text)

    def _end(self) -> Iterator[Event]:
        if not self.text:
            raise no_answer(self._name, f"no text at {' or '.join(self._paths)} (text_path in models.yaml)")
        yield Finish("stop")
        yield Usage(-1, -1)

    def _find(self, value: Any) -> str:
        """The text in a value, "" for none."""
        if isinstance(value, str):
            return value
        for path in self._paths:
            if text := text_of(at_path(value, path)):
                self._paths = (path,)
                return text
        return ""

    def _raise_error(self, value: Any) -> None:
        """The error that the app reports instead of text: `{"error": ..., "error_type": ..., "message": ...}`."""
        if isinstance(value, dict) and value.get("error"):
            raise self._error(orjson.dumps(value, default=str).decode())

    def _error(self, what: str) -> UpstreamDown:
        error = UpstreamDown(f"The agent at {self._name} failed.", provider=self._name, upstream_status=200, log=what)
        error.retryable = False
        return error
