"""Decodes what an agent of OCI answers: a ChatResult, whole or in a stream.

The whole answer's shape is that of the oci package (generative_ai_agent_runtime). No document says what the events of a
stream are, so they are read leniently: each holds a ChatResult or a part of one, and its text is the next piece, or all
that was said so far.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from core import lenient_json
from core.events import Citation, Event, Finish, Text, ToolArguments, ToolCall, Usage
from core.json_values import BAD_SHAPE, Json
from providers.common.agent_turns import no_answer
from providers.common.text_paths import at_path, text_of
from providers.common.translate import fit_id, require_name, token_count
from providers.common.words import words
from providers.oci.agents.request import IDS, PendingAction
from providers.oci.errors import oci_error_in_body

TEXT_PATHS = ("message.content.text", "message.content", "content.text", "content", "text", "delta")
CONFIRM = "confirm"
"""The name of the call for a question for approval, which has no function."""
TELLS = ("blocked", "flagged", "violat", "interven")


class AgentDecoder:
    """Decodes one answer: `from_results` once. `name` is the provider's; with `streams`, text that comes at once is cut
    at words. `text` is the text so far; `calls`, in OpenAI's form, and `pending` are in the end what is to be done.
    """

    def __init__(self, name: str, *, streams: bool) -> None:
        self.text = ""
        self.calls: list[Json] = []
        self.pending: list[PendingAction] = []
        self._name = name
        self._streams = streams
        self._pieces = 0
        self._is_cumulative: bool | None = None
        self._citations: dict[tuple[str, int, int], str] = {}
        self._actions: dict[str, Mapping[str, Any]] = {}
        self._usage: Usage | None = None
        self._blocked = False
        self._failed = ""

    def from_results(self, results: Iterable[Any]) -> Iterator[Event]:
        """The events of results, or parts of them, as they come. Raises UpstreamDown for another shape."""
        try:
            for result in results:
                yield from self._events_of(result)
            yield from self._end()
        except BAD_SHAPE as error:
            raise no_answer(self._name, f"{type(error).__name__}: {error}") from error

    def _events_of(self, result: Any) -> Iterator[Event]:
        if isinstance(result, str):
            yield from self._text(result)
            return
        if isinstance(result.get("message"), str) and "code" in result:
            raise oci_error_in_body(self._name, result)
        found = (text_of(at_path(result, path)) for path in TEXT_PATHS)
        yield from self._text(next(filter(None, found), ""))
        content = at_path(result, "message.content")
        if isinstance(content, Mapping):
            self._cite(content)
        for action in result.get("requiredActions") or ():
            self._actions.setdefault(require_name(action["actionId"]), action)
        for trace in result.get("traces") or ():
            self._trace(trace)
        self._blocked = self._blocked or _has_blocked(result.get("guardrailResult"))

    def _text(self, text: str) -> Iterator[Event]:
        """The new part of a text, which is the next piece, or the whole text so far with the next piece."""
        if not text:
            return
        self._pieces += 1
        if self._pieces == 2:  # noqa: PLR2004 - the second shows which of the two it is
            self._is_cumulative = len(text) > len(self.text) and text.startswith(self.text)
        if self._is_cumulative and text.startswith(self.text):
            text = text[len(self.text) :]
        elif self._pieces > 2 and text == self.text:  # noqa: PLR2004 - the whole once more, at the end
            return
        if text:
            whole = self._streams and not self.text
            self.text += text
            yield from map(Text, words(text) if whole else [text])

    def _cite(self, content: Mapping[str, Any]) -> None:
        for paragraph in content.get("paragraphCitations") or ():
            span = paragraph["paragraph"]
            for citation in paragraph.get("citations") or ():
                self._note(citation, int(span["start"]), int(span["end"]))
        if not content.get("paragraphCitations"):
            for citation in content.get("citations") or ():
                self._note(citation, 0, len(self.text))

    def _note(self, citation: Mapping[str, Any], start: int, end: int) -> None:
        location = citation.get("sourceLocation") or {}
        url = location.get("url") or citation.get("docId") or location.get("id") or ""
        if url:
            title = citation.get("title") or str(url).rstrip("/").rpartition("/")[2]
            self._citations[str(url), start, end] = str(title)

    def _trace(self, trace: Mapping[str, Any]) -> None:
        """Token counts are in the traces of the models' calls."""
        for usage in trace.get("usage") or ():
            counts, so_far = usage.get("usageDetails") or {}, self._usage or Usage(0, 0)
            self._usage = Usage(
                so_far.prompt + token_count(counts.get("inputTokenCount")),
                so_far.completion + token_count(counts.get("outputTokenCount")),
            )
        if trace.get("traceType") == "ERROR_TRACE":
            self._failed = str(trace.get("errorMessage") or trace.get("code") or "ERROR_TRACE")

    def _end(self) -> Iterator[Event]:
        for (url, start, end), title in self._citations.items():
            yield Citation(url, title, start, end)
        for identifier, action in self._actions.items():
            yield from self._call(identifier, action)
        if not (self.text or self.calls or self._blocked):
            raise no_answer(self._name, self._failed or "no message, no requiredActions")
        yield Finish("tool_calls" if self.calls else "content_filter" if self._blocked else "stop")
        yield self._usage or Usage(-1, -1)

    def _call(self, identifier: str, action: Mapping[str, Any]) -> Iterator[Event]:
        """A function's call, or a question for approval, whose result is yes or no."""
        kind = require_name(action["requiredActionType"])
        if function := action.get("functionCall"):
            name, arguments = require_name(function["name"]), _arguments(function.get("arguments"))
        else:
            question = {key: action[key] for key in ("message", "options") if key in action}
            name, arguments = CONFIRM, lenient_json.dumps(question).decode()
        key = fit_id(identifier, IDS)
        self.pending.append(PendingAction(identifier, kind))
        self.calls.append({"id": key, "function": {"name": name, "arguments": arguments}})
        yield ToolCall(key, name, key)
        yield ToolArguments(key, arguments)


def _arguments(given: Any) -> str:
    """The text of a JSON object, "{}" for none."""
    if isinstance(given, str):
        return given.strip() or "{}"
    return lenient_json.dumps(given or {}).decode()


def _has_blocked(result: Any) -> bool:
    """Whether a guardrailResult, JSON as text of a shape that no document has, tells of something blocked."""
    if isinstance(result, str):
        try:
            result = lenient_json.loads(result.encode())
        except ValueError:
            return any(word in result.lower() for word in TELLS)
    if isinstance(result, str):
        return any(word in result.lower() for word in TELLS)
    if isinstance(result, Mapping):
        blocked = (value is True and any(word in key.lower() for word in TELLS) for key, value in result.items())
        return any(blocked) or any(map(_has_blocked, result.values()))
    return isinstance(result, list) and any(map(_has_blocked, result))
