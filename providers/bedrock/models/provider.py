"""The models of Amazon Bedrock, through Converse and ConverseStream.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import Any

from core.context import CallContext, Timeouts
from core.errors import UpstreamAuthFailed, UpstreamRejected
from core.events import (
    Events,
    Finish,
    Usage,
)
from core.guardrails import GuardrailRules, Side, Verdict
from core.json_values import BAD_SHAPE
from core.models import ListedModel
from core.requests import ChatRequest
from providers.base import Provider, Target
from providers.bedrock.client import AwsClient, Members, NamedEvent, Operation
from providers.bedrock.models import guardrails
from providers.bedrock.models.decode import decode_events, events_of_body
from providers.bedrock.models.request import SUPPORTED_PARAMETERS, asks_by_tool, to_upstream
from providers.common.answers import cut_at_words
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
"""Models that cannot stream tool calls; for others it is learned from their refusal.
https://docs.aws.amazon.com/bedrock/latest/userguide/conversation-inference-supported-models-features.html
"""
REFUSES_TOOLS = re.compile(r"(?i)tool use in streaming|streaming tool use")


class BedrockModels(Provider):
    """The models that one account has. `account` holds the arguments of AwsClient."""

    def __init__(self, *, name: str, model: str, account: Mapping[str, Any]) -> None:
        self.name = name
        self.default_model = model
        self._client = AwsClient(name, **account)
        self._cannot_stream_calls: set[str] = set()

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """ConverseStream for a stream, else Converse. If the model has no response format, a tool holds the JSON."""
        fitted, answer = format_by_tool(request) if asks_by_tool(request, target) else (request, "")
        log_dropped_parameters(self.name, request.body, SUPPORTED_PARAMETERS)
        events = self._answer_events(fitted, target, call)
        yield from answer_as_text(events, answer) if answer else events

    def _answer_events(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """The answer's events. For a model that cannot stream tool calls, Converse's text is cut at words."""
        params = to_upstream(request, target)
        if request.stream and not ("toolConfig" in params and self._needs_whole_answer(target.model)):
            try:
                with closing(self._client.stream(CONVERSE_STREAM, params, target, call, last="metadata")) as named:
                    yield from self._decode(named, call)
                return
            except UpstreamRejected as error:
                if not REFUSES_TOOLS.search(error.log):
                    raise
                self._cannot_stream_calls.add(target.model)
        answer = self._client.invoke(CONVERSE, to_upstream(replace(request, stream=False), target), target, call)
        events = self._decode(events_of_body(answer), call)
        yield from cut_at_words(events) if request.stream else events

    def count_tokens(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """By CountTokens; an estimate if it is refused for the model or the account."""
        params = to_upstream(replace(request, stream=False), target)
        converse = {name: params[name] for name in COUNTED if name in params}
        params = {"modelId": target.model, "input": {"converse": converse}}
        try:
            answer = self._client.invoke(COUNT_TOKENS, params, target, call)
            yield Usage(token_count(answer["inputTokens"]), 0)
        except (UpstreamRejected, UpstreamAuthFailed):
            yield from super().count_tokens(request, target, call)

    def _needs_whole_answer(self, model: str) -> bool:
        return model in self._cannot_stream_calls or WHOLE_CALLS.search(model) is not None

    def guard(self, text: str, side: Side, rules: GuardrailRules, call: CallContext, seconds: float) -> Verdict:
        """By ApplyGuardrail, or InvokeGuardrailChecks."""
        target = Target(self, self.default_model, timeouts=Timeouts(*[seconds] * 4))
        try:
            return guardrails.check(self._client, text, side, rules, target, call)
        except BAD_SHAPE as error:
            raise self._client.broken(f"a verdict without {error}") from error

    def warm(self, call: CallContext, timeouts: Timeouts) -> None:
        """Keep a connection to the service open."""
        self._client.warm(CONVERSE.service, Target(self, self.default_model), call, timeouts)

    def models(self, call: CallContext) -> Sequence[ListedModel]:
        """The text models that can be called on demand, and the inference profiles."""
        answer = self._invoke(FOUNDATION_MODELS, {"byOutputModality": "TEXT"}, call)
        found = [
            ListedModel(row["modelId"], _vendor(row["modelId"]))
            for row in answer.get("modelSummaries", [])
            if "ON_DEMAND" in row.get("inferenceTypesSupported", [])
        ]
        page: dict[str, Any] = {"maxResults": 1000}
        while page:
            answer = self._invoke(INFERENCE_PROFILES, page, call)
            found += [_profile(row) for row in answer.get("inferenceProfileSummaries", [])]
            page = {"maxResults": 1000, "nextToken": answer["nextToken"]} if answer.get("nextToken") else {}
        return found

    def _decode(self, named: Iterable[NamedEvent], call: CallContext) -> Events:
        finishes: list[Finish] = []
        try:
            for event in until_finished(decode_events(named), lambda: bool(finishes), call):
                if isinstance(event, Finish):
                    finishes.append(event)
                yield event
        except BAD_SHAPE as error:
            if not finishes:
                raise self._client.broken(f"{type(error).__name__}: {error}") from error
        if not finishes:
            raise self._client.broken("the answer ended without a stopReason")

    def _invoke(self, operation: Operation, params: Members, call: CallContext) -> Members:
        return self._client.invoke(operation, params, Target(self, self.default_model), call)


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
