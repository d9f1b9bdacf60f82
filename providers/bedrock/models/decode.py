"""Decodes Converse's answers, streamed and whole, to events. Pure.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Any

from core import lenient_json
from core.errors import UpstreamDown
from core.events import Citation, Event, Finish, FinishReason, Reasoning, Text, ToolArguments, ToolCall, Usage
from providers.bedrock.client import Members, NamedEvent
from providers.common.finish_reasons import finish_reason
from providers.common.translate import token_count


def events_of_body(answer: Members) -> Iterator[NamedEvent]:
    """Converse's answer as the events that ConverseStream would have sent."""
    for index, block in enumerate(answer["output"]["message"]["content"]):
        at = {"contentBlockIndex": index}
        if use := block.get("toolUse"):
            yield "contentBlockStart", {**at, "start": {"toolUse": use}}
            arguments = lenient_json.dumps(use.get("input") or {}).decode()
            yield "contentBlockDelta", {**at, "delta": {"toolUse": {"input": arguments}}}
        cited = block.get("citationsContent", {})
        for piece in (block, *cited.get("content", [])):
            if "text" in piece:
                yield "contentBlockDelta", {**at, "delta": {"text": piece["text"]}}
        for citation in cited.get("citations", []):
            yield "contentBlockDelta", {**at, "delta": {"citation": citation}}
        if reasoning := block.get("reasoningContent"):
            thought = reasoning.get("reasoningText") or reasoning
            yield "contentBlockDelta", {**at, "delta": {"reasoningContent": thought}}
        yield "contentBlockStop", at
    yield "messageStop", {"stopReason": answer.get("stopReason") or "end_turn"}
    yield "metadata", answer


def decode_events(named: Iterable[NamedEvent]) -> Iterator[Event]:
    """ConverseStream's events as ours. Raises BAD_SHAPE, and UpstreamDown for a finish reason that means a failure."""
    block = _Block()
    for name, members in named:
        if name == "contentBlockStart":
            yield from block.start(members)
        elif name == "contentBlockDelta":
            yield from block.continue_with(members)
        elif name == "contentBlockStop":
            yield from block.stop()
        elif name == "messageStop":
            yield Finish(_finish(members["stopReason"]))
        elif name == "metadata" and (usage := members.get("usage")):
            yield _usage(usage)


class _Block:
    """The content block under way. It counts the answer's characters, for the positions of citations."""

    def __init__(self) -> None:
        self._characters = 0
        self._began = 0
        self._call: int | None = None
        self._arguments = False
        self._cited: list[Members] = []

    def start(self, members: Members) -> Iterator[Event]:
        use = members["start"].get("toolUse")
        if use and use.get("type") != "server_tool_use":  # those are the service's own, which it answers itself
            self._call, self._arguments = members["contentBlockIndex"], False
            yield ToolCall(self._call, use["name"], use.get("toolUseId", ""))

    def continue_with(self, members: Members) -> Iterator[Event]:
        delta = members["delta"]
        if text := delta.get("text"):
            self._characters += len(text)
            yield Text(text)
        if self._call is not None and (piece := delta.get("toolUse", {}).get("input")):
            self._arguments = True
            yield ToolArguments(self._call, piece)
        yield from _thought(delta.get("reasoningContent", {}))
        if citation := delta.get("citation"):
            self._cited.append(citation)

    def stop(self) -> Iterator[Event]:
        """End the block: a call without arguments gets an empty object, and a citation covers the block's text."""
        if self._call is not None and not self._arguments:
            yield ToolArguments(self._call, "{}")
        for citation in self._cited:
            if url := citation.get("location", {}).get("web", {}).get("url") or citation.get("source"):
                yield Citation(url, citation.get("title") or url, self._began, self._characters)
        self._call, self._began, self._cited = None, self._characters, []


def _thought(reasoning: Members) -> Iterator[Event]:
    if text := reasoning.get("text"):
        yield Reasoning(text)
    if signature := reasoning.get("signature"):
        yield Reasoning("", signature=signature)
    if redacted := reasoning.get("redactedContent"):
        yield Reasoning("", signature=b64encode(redacted).decode(), redacted=True)


def _finish(word: Any) -> FinishReason:
    """The finish reason; an unknown word is `stop`. Raises UpstreamDown for one that means a failure."""
    reason = finish_reason(word, has_content=True)
    if reason is None:
        raise UpstreamDown("The model could not finish its answer.", log=str(word))
    return reason


def _usage(usage: Members) -> Usage:
    """The usage. Converse's inputTokens do not include tokens read from its cache or written to it."""
    fresh, cached, written, output = (
        token_count(usage.get(key))
        for key in ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens", "outputTokens")
    )
    return Usage(fresh + cached + written, output, cached, written=written)
