"""Decodes Cohere's answers. Pure. https://docs.cohere.com/v2/reference/chat-stream"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from core import lenient_json
from core.errors import GatewayError, UpstreamDown, UpstreamTimeout
from core.events import Citation, Event, Finish, Reasoning, Text, ToolArguments, ToolCall, Usage
from core.json_values import Json
from providers.common.finish_reasons import finish_reason
from providers.common.tool_calls import arguments_of
from providers.common.translate import require_name, require_text, token_count
from providers.transport.exchange import StreamDecoder
from providers.transport.sse import Frame


class CohereDecoder(StreamDecoder):
    """Decodes a streamed answer (a StreamDecoder): frames whose data have a `type`, then [DONE].

    `fail` makes the exception for an error that comes instead of an answer.
    """

    def __init__(self, fail: Callable[[Any], GatewayError]) -> None:
        self._fail = fail
        self._said = False
        self._argued: dict[Any, bool] = {}

    def events(self, frame: Frame) -> Iterator[Event]:
        """The events of a frame."""
        if frame.data == b"[DONE]":
            self.done = True
        if self.done or self.finished:
            return
        data = lenient_json.loads(frame.data, keep_halves=True)
        kind, delta = data.get("type", ""), data.get("delta") or {}
        message = delta.get("message") or {}
        match kind:
            case "content-start" | "content-delta":
                self._said = self._said or bool((message.get("content") or {}).get("text"))
                yield from _content(message.get("content") or {}, _logprobs([data.get("logprobs")]))
            case "tool-plan-delta":
                yield Reasoning(require_text(message["tool_plan"]))
            case "tool-call-start" | "tool-call-delta" | "tool-call-end":
                yield from self._call(kind, data["index"], message.get("tool_calls") or {})
            case "citation-start":
                yield from _citations(message.get("citations"))
            case "message-end":
                yield from _end(delta, has_content=self._said or bool(self._argued))
                self.finished = True
            case "" | "error":
                raise self._fail(data)

    def _call(self, kind: str, key: int, call: Mapping[str, Any]) -> Iterator[Event]:
        function = call.get("function") or {}
        if (kind == "tool-call-start") == (key in self._argued):
            raise ValueError(f"{kind} of the call {key!r}")
        if kind == "tool-call-start":
            self._argued[key] = False
            yield ToolCall(key, require_name(function["name"]), require_text(call.get("id") or ""))
        if piece := arguments_of(call):
            self._argued[key] = True
            yield ToolArguments(key, piece)
        if kind == "tool-call-end" and not self._argued[key]:
            yield ToolArguments(key, "{}")


def events_of_body(body: Any) -> Iterator[Event]:
    """The events of an answer in one piece. Raises one of BAD_SHAPE for another shape."""
    message = body["message"]
    logprobs = _logprobs(body.get("logprobs") or [])
    if message.get("tool_plan"):
        yield Reasoning(require_text(message["tool_plan"]))
    for part in message.get("content") or ():
        yield from _content(part, logprobs)
        if part.get("text"):
            logprobs = None
    for key, call in enumerate(message.get("tool_calls") or ()):
        yield ToolCall(key, require_name(call["function"]["name"]), require_text(call.get("id") or ""))
        yield ToolArguments(key, arguments_of(call))
    yield from _citations(message.get("citations"))
    has_content = bool(message.get("content") or message.get("tool_calls"))
    yield from _end({**body, "finish_reason": body.get("finish_reason") or "COMPLETE"}, has_content=has_content)


def _content(part: Mapping[str, Any], logprobs: Json | None) -> Iterator[Event]:
    if part.get("thinking"):
        yield Reasoning(require_text(part["thinking"]))
    if part.get("text"):
        yield Text(require_text(part["text"]), logprobs=logprobs)


def _end(body: Mapping[str, Any], *, has_content: bool) -> Iterator[Event]:
    """The finish reason and the usage."""
    word = body["finish_reason"]
    if word == "TIMEOUT":
        raise UpstreamTimeout("The model did not finish its answer in time.", log=word)
    reason = finish_reason(word, has_content=has_content and not body.get("error"))
    if reason is None:
        raise UpstreamDown("The model could not finish its answer.", log=f"{word} {body.get('error') or ''}")
    yield Finish(reason)
    if found := usage(body.get("usage")):
        yield found


def usage(fields: Any) -> Usage | None:
    """Tokens as the model counts them; billed tokens leave out those of Cohere's own prompt."""
    if not isinstance(fields, dict):
        return None
    counts = fields.get("tokens") or fields.get("billed_units")
    if not isinstance(counts, dict):
        return None
    return Usage(
        token_count(counts.get("input_tokens")),
        token_count(counts.get("output_tokens")),
        token_count(fields.get("cached_tokens")),
    )


def _citations(citations: Any) -> Iterator[Event]:
    """A citation may have several sources, each a document of the request or a tool's result."""
    for citation in citations if isinstance(citations, list) else [citations] if citations else []:
        for source in citation.get("sources") or ():
            known = source.get("document") or source.get("tool_output") or {}
            title = str(known.get("title") or source.get("id") or "")
            yield Citation(
                str(known.get("url") or ""), title, token_count(citation.get("start")), token_count(citation.get("end"))
            )


def _logprobs(items: list[Any]) -> Json | None:
    """One entry for each piece of text: Cohere gives no text for its tokens."""
    content = [
        {
            "token": require_text(item.get("text") or ""),
            "logprob": float(sum(item["logprobs"])),
            "bytes": list((item.get("text") or "").encode("utf-8", "replace")),
            "top_logprobs": [],
        }
        for item in items
        if item and item.get("logprobs")
    ]
    return {"content": content, "refusal": None} if content else None
