"""The models of Amazon Bedrock, through Converse and ConverseStream.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import Any

from core import lenient_json
from core.context import CallContext, Timeouts
from core.errors import UpstreamAuthFailed, UpstreamDown, UpstreamRejected
from core.events import (
    Citation,
    Event,
    Events,
    Finish,
    FinishReason,
    Reasoning,
    Text,
    ToolArguments,
    ToolCall,
    Usage,
)
from core.guardrails import GuardrailRules, Side, Verdict
from core.json_values import BAD_SHAPE
from core.models import ListedModel
from core.requests import ChatRequest
from providers.base import Provider, Target
from providers.bedrock.client import AwsClient, Members, NamedEvent, Operation
from providers.bedrock.models import guardrails
from providers.bedrock.models.request import SUPPORTED_PARAMETERS, asks_by_tool, to_upstream
from providers.common.answers import cut_at_words
from providers.common.finish_reasons import finish_reason
from providers.common.structured import answer_as_text, format_by_tool
from providers.common.translate import token_count
from providers.transport.exchange import log_dropped_parameters, until_finished

CONVERSE = Operation("bedrock-runtime", "Converse")
COUNT_TOKENS = Operation("bedrock-runtime", "CountTokens")
COUNTED = ("messages", "system", "toolConfig", "additionalModelRequestFields")
"""What CountTokens takes of Converse's parameters."""
CONVERSE_STREAM = Operation("bedrock-runtime", "ConverseStream")
FOUNDATION_MODELS = Operation("bedrock", "ListFoundationModels")
INFERENCE_PROFILES = Operation("bedrock", "ListInferenceProfiles")

WHOLE_CALLS = re.compile(r"meta\.llama|mistral\.(mistral-(large|small)-24|pixtral)")
"""Models that call no tools in a stream; of others it is learnt from their refusal.
https://docs.aws.amazon.com/bedrock/latest/userguide/conversation-inference-supported-models-features.html
"""
REFUSES_TOOLS = re.compile(r"(?i)tool use in streaming|streaming tool use")


class BedrockModels(Provider):
    """The models that one account has. `account` holds the arguments of AwsClient."""

    def __init__(self, *, name: str, model: str, account: Mapping[str, Any]) -> None:
        self.name = name
        self.default_model = model
        self._door = AwsClient(name, **account)
        self._whole: set[str] = set()

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """Ask by ConverseStream for a stream, else by Converse; for JSON by a tool where the model has no format."""
        fitted, answer = format_by_tool(request) if asks_by_tool(request, target) else (request, "")
        log_dropped_parameters(self.name, request.body, SUPPORTED_PARAMETERS)
        events = self._asked(fitted, target, call)
        yield from answer_as_text(events, answer) if answer else events

    def _asked(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """By Converse too where a stream is wanted of a model that calls no tools in one: cut at words then."""
        params = to_upstream(request, target)
        if request.stream and not ("toolConfig" in params and self._calls_whole(target.model)):
            try:
                with closing(self._door.stream(CONVERSE_STREAM, params, target, call, last="metadata")) as named:
                    yield from self._told(named, call)
                return
            except UpstreamRejected as error:
                if not REFUSES_TOOLS.search(error.log):
                    raise
                self._whole.add(target.model)
        answer = self._door.invoke(CONVERSE, to_upstream(replace(request, stream=False), target), target, call)
        events = self._told(events_of_body(answer), call)
        yield from cut_at_words(events) if request.stream else events

    def count_tokens(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """By CountTokens; an estimate for a model, or an account, that is refused it."""
        params = to_upstream(replace(request, stream=False), target)
        converse = {name: params[name] for name in COUNTED if name in params}
        asked = {"modelId": target.model, "input": {"converse": converse}}
        try:
            answer = self._door.invoke(COUNT_TOKENS, asked, target, call)
            yield Usage(token_count(answer["inputTokens"]), 0)
        except (UpstreamRejected, UpstreamAuthFailed):
            yield from super().count_tokens(request, target, call)

    def _calls_whole(self, model: str) -> bool:
        return model in self._whole or WHOLE_CALLS.search(model) is not None

    def guard(self, text: str, side: Side, rules: GuardrailRules, call: CallContext, seconds: float) -> Verdict:
        """By ApplyGuardrail, or InvokeGuardrailChecks."""
        target = Target(self, self.default_model, timeouts=Timeouts(*[seconds] * 4))
        try:
            return guardrails.check(self._door, text, side, rules, target, call)
        except BAD_SHAPE as error:
            raise self._door.broken(f"a verdict without {error}") from error

    def warm(self, call: CallContext, timeouts: Timeouts) -> None:
        """Keep a connection open there."""
        self._door.warm(CONVERSE.service, Target(self, self.default_model), call, timeouts)

    def models(self, call: CallContext) -> Sequence[ListedModel]:
        """The text models that can be asked for by name, and the inference profiles."""
        asked = {"byOutputModality": "TEXT"}
        answer = self._answer(FOUNDATION_MODELS, asked, call)
        found = [
            ListedModel(row["modelId"], _vendor(row["modelId"]))
            for row in answer.get("modelSummaries", [])
            if "ON_DEMAND" in row.get("inferenceTypesSupported", [])
        ]
        page: dict[str, Any] = {"maxResults": 1000}
        while page:
            answer = self._answer(INFERENCE_PROFILES, page, call)
            found += [_profile(row) for row in answer.get("inferenceProfileSummaries", [])]
            page = {"maxResults": 1000, "nextToken": answer["nextToken"]} if answer.get("nextToken") else {}
        return found

    def _told(self, named: Iterable[NamedEvent], call: CallContext) -> Events:
        finishes: list[Finish] = []
        try:
            for event in until_finished(decode_events(named), lambda: bool(finishes), call):
                if isinstance(event, Finish):
                    finishes.append(event)
                yield event
        except BAD_SHAPE as error:
            if not finishes:
                raise self._door.broken(f"{type(error).__name__}: {error}") from error
        if not finishes:
            raise self._door.broken("the answer ended without a stopReason")

    def _answer(self, operation: Operation, params: Members, call: CallContext) -> Members:
        return self._door.invoke(operation, params, Target(self, self.default_model), call)


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
            said = reasoning.get("reasoningText") or reasoning
            yield "contentBlockDelta", {**at, "delta": {"reasoningContent": said}}
        yield "contentBlockStop", at
    yield "messageStop", {"stopReason": answer.get("stopReason") or "end_turn"}
    yield "metadata", answer


def decode_events(named: Iterable[NamedEvent]) -> Iterator[Event]:
    """What ConverseStream says, as events. Raises UpstreamDown for what the model could not finish, and NONSENSE."""
    block = _Block()
    for name, members in named:
        if name == "contentBlockStart":
            yield from block.starts(members)
        elif name == "contentBlockDelta":
            yield from block.goes_on(members)
        elif name == "contentBlockStop":
            yield from block.stops()
        elif name == "messageStop":
            yield Finish(_finish(members["stopReason"]))
        elif name == "metadata" and (usage := members.get("usage")):
            yield _usage(usage)


class _Block:
    """The block under way. `said` counts the characters of the answer, for what is cited."""

    def __init__(self) -> None:
        self.said = 0
        self._began = 0
        self._call: int | None = None
        self._arguments = False
        self._cited: list[Members] = []

    def starts(self, members: Members) -> Iterator[Event]:
        use = members["start"].get("toolUse")
        if use and use.get("type") != "server_tool_use":  # those are the service's own, which it answers itself
            self._call, self._arguments = members["contentBlockIndex"], False
            yield ToolCall(self._call, use["name"], use.get("toolUseId", ""))

    def goes_on(self, members: Members) -> Iterator[Event]:
        delta = members["delta"]
        if text := delta.get("text"):
            self.said += len(text)
            yield Text(text)
        if self._call is not None and (piece := delta.get("toolUse", {}).get("input")):
            self._arguments = True
            yield ToolArguments(self._call, piece)
        yield from _thought(delta.get("reasoningContent", {}))
        if citation := delta.get("citation"):
            self._cited.append(citation)

    def stops(self) -> Iterator[Event]:
        """A call without arguments has an empty object, not nothing; a citation is of its block's text."""
        if self._call is not None and not self._arguments:
            yield ToolArguments(self._call, "{}")
        for citation in self._cited:
            if url := citation.get("location", {}).get("web", {}).get("url") or citation.get("source"):
                yield Citation(url, citation.get("title") or url, self._began, self.said)
        self._call, self._began, self._cited = None, self.said, []


def _thought(reasoning: Members) -> Iterator[Event]:
    if text := reasoning.get("text"):
        yield Reasoning(text)
    if signature := reasoning.get("signature"):
        yield Reasoning("", signature=signature)
    if redacted := reasoning.get("redactedContent"):
        yield Reasoning("", signature=b64encode(redacted).decode(), redacted=True)


def _finish(word: Any) -> FinishReason:
    """Words that are new end an answer as others do. Raises UpstreamDown for one that means a failure."""
    reason = finish_reason(word, said=True)
    if reason is None:
        raise UpstreamDown("The model could not finish its answer.", log=str(word))
    return reason


def _usage(usage: Members) -> Usage:
    """Converse counts what it read from its cache, and wrote to it, beside inputTokens."""
    fresh, cached, written, said = (
        token_count(usage.get(key))
        for key in ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens", "outputTokens")
    )
    return Usage(fresh + cached + written, said, cached, written=written)


def _profile(row: Members) -> ListedModel:
    created = row.get("createdAt")
    return ListedModel(
        row["inferenceProfileId"],
        _vendor(row["models"][0]["modelArn"].rpartition("/")[2]) if row.get("models") else "aws",
        int(created.timestamp()) if isinstance(created, datetime) else 0,
    )


def _vendor(model: str) -> str:
    """anthropic.claude-... -> anthropic"""
    return model.partition(".")[0]
