"""Decodes an agent's answer. The event stream has no event for its end; the HTTP response ends it.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_agent-runtime_ResponseStream.html
"""

import codecs
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from logging import getLogger
from typing import Any

from core.events import Citation, Event, Finish, Text, ToolArguments, ToolCall, Usage
from providers.bedrock.agents.return_control import ReturnedControl, calls
from providers.common.agent_turns import no_answer
from providers.common.translate import token_count
from providers.common.words import words

log = getLogger("thinkline.providers")

FEW_WORDS = 4
"""The first piece of a stream has a few words; a longer one is taken for the whole answer."""
URLS = ("url", "uri", "id", "query")
TITLES = ("title", "x-amz-bedrock-kb-title", "x-amz-bedrock-kb-document-title")

BAD_SHAPE = (KeyError, TypeError, AttributeError, ValueError)
"""The exceptions of reading an event of another shape."""

Named = tuple[str, Mapping[str, Any]]


class AgentDecoder:
    """Decodes one answer: call `from_upstream` once. `name` is the provider's.

    `session` is the calls' session; `keep` stores calls and returns their ids; `traced` says whether token counts come,
    `streams` whether text that comes at once is cut at words. `text` is the text so far.
    """

    def __init__(
        self,
        name: str,
        session: str,
        keep: Callable[[Sequence[ReturnedControl]], list[str]],
        *,
        traced: bool,
        streams: bool,
    ) -> None:
        self.text = ""
        self._name = name
        self._session = session
        self._keep = keep
        self._traced = traced
        self._streams = streams
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._cited: set[tuple[str, int, int]] = set()
        self._prompt = self._completion = 0
        self._intervened = False
        self._failed = ""
        self._called = False
        self._filed = False

    def from_upstream(self, events: Iterable[Named]) -> Iterator[Event]:
        """The answer's events. Raises UpstreamDown for another shape."""
        try:
            for event in events:
                yield from self._events_of(event)
        except BAD_SHAPE as error:
            raise no_answer(self._name, f"{type(error).__name__}: {error}") from error
        yield from self._text(self._decoder.decode(b"", final=True))
        if not (self.text or self._called or self._filed):
            raise no_answer(self._name, self._failed or "no chunk, no returnControl")
        yield Finish("tool_calls" if self._called else "content_filter" if self._intervened else "stop")
        yield Usage(self._prompt, self._completion) if self._traced else Usage(-1, -1)

    def _events_of(self, event: Named) -> Iterator[Event]:
        name, members = event
        match name:
            case "chunk":
                yield from self._chunk(members)
            case "trace":
                self._trace(members.get("trace") or {})
            case "returnControl":
                yield from self._calls(members)
            case "files":
                yield from self._files(members)

    def _chunk(self, members: Mapping[str, Any]) -> Iterator[Event]:
        yield from self._text(self._decoder.decode(members.get("bytes") or b""))
        for citation in (members.get("attribution") or {}).get("citations") or ():
            yield from self._citations(citation)

    def _text(self, text: str) -> Iterator[Event]:
        """The text, unchanged; only a whole answer at once is cut, so that a voice can begin with it."""
        if not text:
            return
        pieces = list(words(text)) if self._streams and not self.text else []
        self.text += text
        yield from map(Text, pieces if len(pieces) > FEW_WORDS else [text])

    def _citations(self, citation: Mapping[str, Any]) -> Iterator[Event]:
        part = (citation.get("generatedResponsePart") or {}).get("textResponsePart") or {}
        start, end = self._span(part)
        for reference in citation.get("retrievedReferences") or ():
            url, title = _source(reference)
            if url and (url, start, end) not in self._cited:
                self._cited.add((url, start, end))
                yield Citation(url, title, start, end)

    def _span(self, part: Mapping[str, Any]) -> tuple[int, int]:
        """The position of the cited words: found in the text if possible, else as Amazon counts."""
        text, span = part.get("text") or "", part.get("span") or {}
        start = span.get("start", 0)
        if text and self.text[start : start + len(text)] != text:
            found = self.text.rfind(text)
            start = found if found >= 0 else start
        return start, start + len(text) if text else span.get("end", len(self.text))

    def _trace(self, trace: Mapping[str, Any]) -> None:
        """Token counts are in the trace of each model call, also of collaborating agents."""
        for part in trace.values():
            if not isinstance(part, Mapping):
                continue
            metadata = (part.get("modelInvocationOutput") or {}).get("metadata") or {}
            usage = metadata.get("usage") or {}
            self._prompt += token_count(usage.get("inputTokens"))
            self._completion += token_count(usage.get("outputTokens"))
        if (trace.get("guardrailTrace") or {}).get("action") == "INTERVENED":
            self._intervened = True
        self._failed = str((trace.get("failureTrace") or {}).get("failureReason") or self._failed)

    def _calls(self, payload: Mapping[str, Any]) -> Iterator[Event]:
        self._called = True
        made = calls(payload, self._session)
        identifiers = self._keep([called for called, _, _ in made])
        for identifier, (_, name, arguments) in zip(identifiers, made, strict=True):
            yield ToolCall(identifier, name, identifier)
            yield ToolArguments(identifier, arguments)

    def _files(self, members: Mapping[str, Any]) -> Iterator[Event]:
        """A file from the agent is named in the log and not sent: chat completions have no place for it."""
        for file in members.get("files") or ():
            name, kind, size = file.get("name") or "file", file.get("type", ""), len(file.get("bytes") or b"")
            self._filed = True
            log.info("the agent made a file", extra={"facts": {"name": name, "type": kind, "bytes": size}})
            yield Citation(f"attachment:{name}", name, len(self.text), len(self.text))


def _source(reference: Mapping[str, Any]) -> tuple[str, str]:
    """URL and title of a citation's source, wherever it is; "" for a source without a URL."""
    places = [place for place in (reference.get("location") or {}).values() if isinstance(place, Mapping)]
    url = next((str(place[key]) for place in places for key in URLS if place.get(key)), "")
    metadata = reference.get("metadata") or {}
    title = next((str(metadata[key]) for key in TITLES if metadata.get(key)), "")
    return url, title or url.rstrip("/").rpartition("/")[2]
