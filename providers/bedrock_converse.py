"""A chat request as Converse has it. Pure.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html; what a model takes of it:
https://docs.aws.amazon.com/bedrock/latest/userguide/conversation-inference-supported-models-features.html
"""

from collections.abc import Mapping
from typing import Any

import orjson

from errors import InvalidRequest, Unsupported
from events import ChatRequest
from providers.base import Target
from providers.bedrock_messages import cache_point, conversation
from providers.translate import choice, functions, inlined, wanted_format

Json = dict[str, Any]

USED = frozenset({
    "functions", "function_call", "max_completion_tokens", "max_tokens", "messages", "model", "n", "reasoning_effort",
    "response_format", "stop", "stream", "stream_options", "temperature", "tool_choice", "tools", "top_k", "top_p",
})  # fmt: skip
"""What has a counterpart. The rest tunes, and is dropped."""

OWN = frozenset({
    "additionalModelRequestFields", "guardrailConfig", "outputConfig", "performanceConfig", "promptVariables",
    "requestMetadata", "serviceTier",
})  # fmt: skip
"""Converse's own fields, which a caller may give in the body's `bedrock` object."""

BUDGETS: Mapping[str, int] = {"low": 1024, "medium": 4096, "high": 16_384, "xhigh": 32_768}
"""reasoning_effort -> thinking tokens; Anthropic takes no fewer than 1024, and fewer than maxTokens."""
LEAST_BUDGET = 1024


def to_upstream(request: ChatRequest, target: Target) -> Json:
    """The parameters of Converse and ConverseStream. Raises InvalidRequest and Unsupported with the field's name."""
    own = _own(request)
    if request.body.get("n", 1) != 1:
        raise Unsupported("Bedrock gives one choice an answer.", param="n")
    tools = _tools(request)
    system, messages = conversation(request.messages, tools=bool(tools))
    inference, additional = _inference(request, target), _additional(request, target, messages)
    if (
        "thinking" in additional
    ):  # https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-extended-thinking.html
        inference.pop("temperature", None)
        inference.pop("topP", None)
    params = {
        "modelId": target.model,
        "messages": messages,
        "system": system,
        "inferenceConfig": inference,
        "toolConfig": tools,
        "outputConfig": _output(request),
        **own,
        "additionalModelRequestFields": {**additional, **own.get("additionalModelRequestFields", {})},
    }
    return target.rules.apply({key: value for key, value in params.items() if value})


def _own(request: ChatRequest) -> Json:
    own = request.extras.get("bedrock", {})
    if not isinstance(own, dict):
        raise InvalidRequest("`bedrock` must be an object.", param="bedrock")
    for name in own:
        if name not in OWN:
            raise InvalidRequest(
                f"A model takes no {name!r}; it takes {', '.join(sorted(OWN))}.", param=f"bedrock.{name}"
            )
        if not isinstance(own[name], dict):
            raise InvalidRequest("Must be an object.", param=f"bedrock.{name}")
    guardrail = own.get("guardrailConfig", {})
    if not request.stream and "streamProcessingMode" in guardrail:
        kept = {key: value for key, value in guardrail.items() if key != "streamProcessingMode"}
        return {**own, "guardrailConfig": kept}
    return own


def _inference(request: ChatRequest, target: Target) -> Json:
    """Tokens, and OpenAI's ranges fitted into 0 to 1."""
    config: Json = {}
    if (cap := request.max_tokens) is not None:
        config["maxTokens"] = min(cap, target.max_tokens or cap)
    for theirs, ours in (("temperature", "temperature"), ("top_p", "topP")):
        if theirs in request.body:
            config[ours] = min(max(float(request.body[theirs]), 0.0), 1.0)
    if "anthropic." in target.model and len(config.keys() & {"temperature", "topP"}) > 1:
        del config["topP"]  # its newer models refuse the two together
    if stop := [each for each in request.stop if each]:
        config["stopSequences"] = stop
    return config


def _additional(request: ChatRequest, target: Target, messages: list[Json]) -> Json:
    """What only some models have, in their own words."""
    model, fields = target.model, {}
    effort, top_k = request.body.get("reasoning_effort", ""), request.body.get("top_k")
    if effort and "openai." in model:
        fields["reasoning_effort"] = effort
    elif effort in BUDGETS and "amazon.nova-2" in model:
        fields["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": effort.removeprefix("x")}
    elif effort in BUDGETS and "anthropic." in model and _may_think(request, messages):
        budget = min(BUDGETS[effort], (request.max_tokens or BUDGETS[effort] + 1) - 1)
        if budget >= LEAST_BUDGET:
            fields["thinking"] = {"type": "enabled", "budget_tokens": budget}
    if top_k is not None and "anthropic." in model:
        fields["top_k"] = top_k
    return fields


def _may_think(request: ChatRequest, messages: list[Json]) -> bool:
    """Not when a tool is forced; nor after a call of one, which would have to come back with its signed thoughts."""
    called = any("toolUse" in block for message in messages for block in message["content"])
    return not called and (request.tool_choice in ("auto", "none") or not request.tools)


def _tools(request: ChatRequest) -> Json:
    """toolConfig, or {}: `none` has no counterpart but to declare none. Of tools that alone may be called, only those
    are declared.
    """
    mode, names = choice(request)
    tools: list[Json] = []
    for function in functions(request.tools):
        if mode == "none" or (names and function["name"] not in names):
            continue
        schema = {"type": "object", "properties": {}, **inlined(function.get("parameters") or {})}
        spec = {"name": function["name"], "inputSchema": {"json": schema}}
        if description := function.get("description"):
            spec["description"] = description
        tools += [{"toolSpec": spec}, *cache_point(function)]
    if not tools:
        return {}
    one: Json = {"tool": {"name": names[0]}} if len(names) == 1 else {"any": {}}
    return {"tools": tools, "toolChoice": one if mode == "required" else {"auto": {}}}


def _output(request: ChatRequest) -> Json:
    """https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html"""
    kind, given = wanted_format(request)
    if kind == "text":
        return {}
    if kind != "json_schema":
        raise Unsupported("Bedrock takes a json_schema or text there.", param="response_format")
    named = {key: given[key] for key in ("name", "description") if given.get(key)}
    schema = {"schema": orjson.dumps(inlined(given["schema"])).decode(), **named}
    return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
