"""Decodes InvokeHarness's stream: Converse's events, of one message after the other. The HTTP response ends it.

The harness calls its own tools in the midst of it: their calls and results are its affair. A call that is left without
a result at the end is one of an inline function, and the caller's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from core.events import Event, Finish, FinishReason, Reasoning, Text, ToolArguments, ToolCall, Usage
from core.json_values import BAD_SHAPE, Json
from providers.bedrock.client import Members, NamedEvent
from providers.common.agent_turns import no_answer
from providers.common.finish_reasons import finish_reason
from providers.common.translate import require_name, require_text, token_count

FINISHES: dict[str, FinishReason] = {
    "tool_use": "stop",  # of a call that has its result
    "tool_result": "stop",
    "max_output_tokens_exceeded": "length",
    "max_iterations_exceeded": "length",
    "timeout_exceeded": "length",
    "interrupted": "length",
    "partial_turn": "length",
    "hook_stopped": "content_filter",
}
"""The stop reasons that other dialects do not have, or that have another meaning there."""
GOES_ON = ("tool_use", "tool_result", "partial_turn")


@dataclass(slots=True)
class _Call:
    name: str
    pieces: list[str] = field(default_factory=list)


class HarnessDecoder:
    """Decodes one answer: call `from_upstream` once. `name` is the provider's.

    `text` is the text so far, `calls` are in the end those that the caller is to carry out, in OpenAI's form.
    `finished` once the last message has ended, whatever may still follow.
    """

    def __init__(self, name: str) -> None:
        self.text = ""
        self.calls: list[Json] = []
        self._name = name
        self._open: dict[str, _Call] = {}
        self._at: dict[Any, str] = {}
        self._assistant = True
        self._joins = False
        self._stop: Any = None
        self._usage = Usage(0, 0)

    @property
    def finished(self) -> bool:
        """After a call the harness may go on by itself."""
        return self._stop is not None and self._stop not in GOES_ON

    def from_upstream(self, named: Iterable[NamedEvent]) -> Iterator[Event]:
        """The answer's events. Raises UpstreamDown for another shape."""
        try:
            for name, members in named:
                yield from self._events_of(name, members)
            yield from self._end()
        except BAD_SHAPE as error:
            raise no_answer(self._name, f"{type(error).__name__}: {error}") from error

    def _events_of(self, name: str, members: Members) -> Iterator[Event]:
        match name:
            case "messageStart":
                self._stop = None
                self._assistant = members["role"] == "assistant"
                self._joins = bool(self.text)
                self._at.clear()
            case "contentBlockStart":
                self._starts(members)
            case "contentBlockDelta":
                yield from self._goes_on(members)
            case "messageStop":
                self._stop = members["stopReason"]
            case "metadata":
                self._count(members["usage"])

    def _starts(self, members: Members) -> None:
        """A call is identified by its id, because an index may be repeated in one message."""
        start = members["start"]
        if use := start.get("toolUse"):
            identifier = require_name(use["toolUseId"])
            self._open.setdefault(identifier, _Call(require_name(use["name"])))
            self._at[members["contentBlockIndex"]] = identifier
        elif result := start.get("toolResult"):
            self._open.pop(result["toolUseId"], None)
            self._at.pop(members["contentBlockIndex"], None)

    def _goes_on(self, members: Members) -> Iterator[Event]:
        delta = members["delta"]
        if self._assistant and (text := delta.get("text")):
            if self._joins and not (self.text[-1].isspace() or text[0].isspace()):
                text = f" {text}"  # two messages of the harness are one answer here
            self._joins = False
            self.text += text
            yield Text(text)
        if (piece := delta.get("toolUse", {}).get("input")) and (
            call := self._open.get(self._at.get(members["contentBlockIndex"], ""))
        ):
            call.pieces.append(require_text(piece))
        if thought := delta.get("reasoningContent", {}).get("text"):
            yield Reasoning(require_text(thought))

    def _end(self) -> Iterator[Event]:
        if self._stop is None:
            raise no_answer(self._name, "no stopReason")
        for identifier, call in self._open.items():
            arguments = "".join(call.pieces) or "{}"
            self.calls.append({"id": identifier, "function": {"name": call.name, "arguments": arguments}})
            yield ToolCall(identifier, call.name, identifier)
            yield ToolArguments(identifier, arguments)
        reason = FINISHES.get(self._stop) or finish_reason(self._stop, has_content=bool(self.text))
        if reason is None or (reason == "stop" and not (self.text or self.calls)):
            raise no_answer(self._name, f"stopReason {self._stop}")
        yield Finish("tool_calls" if self.calls else reason)
        yield self._usage

    def _count(self, usage: Members) -> None:
        """The tokens of each of the harness's calls of its model; those of the cache come beside inputTokens."""
        fresh, cached, written, output = (
            token_count(usage.get(key))
            for key in ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens", "outputTokens")
        )
        so_far = self._usage
        self._usage = Usage(
            so_far.prompt + fresh + cached + written,
            so_far.completion + output,
            so_far.cached + cached,
            written=so_far.written + written,
        )
