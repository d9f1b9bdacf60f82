"""A chat request as Converse takes it. Pure.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html; what each model supports of it:
https://docs.aws.amazon.com/bedrock/latest/userguide/conversation-inference-supported-models-features.html
"""

import re

import orjson

from core.errors import InvalidRequest, Unsupported
from core.json_values import Json
from core.requests import ChatRequest
from providers.base import Target
from providers.bedrock.models.messages import cache_point, conversation
from providers.common import claude_models as claude
from providers.common.conversation import GO_ON
from providers.common.json_schema import closed_schema, holds_maps, inline_references
from providers.common.translate import declared_functions, response_format, tool_choice

SUPPORTED_PARAMETERS = frozenset({
    "functions", "function_call", "max_completion_tokens", "max_tokens", "messages", "model", "n", "reasoning_effort",
    "response_format", "stop", "stream", "stream_options", "temperature", "tool_choice", "tools", "top_k", "top_p",
})  # fmt: skip
"""Parameters with a counterpart. The others only tune the answer, and are dropped."""

EXTENSION_PARAMETERS = frozenset({
    "additionalModelRequestFields", "guardrailConfig", "outputConfig", "performanceConfig", "promptVariables",
    "requestMetadata", "serviceTier",
})  # fmt: skip
"""Converse's own fields, from the body's `bedrock` object."""

NAMES_ITS_TOOL = re.compile(r"anthropic\.|amazon\.nova")
"""Models that support the choice of a named tool; for others only that tool is declared, with the choice of any.
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolChoice.html
"""
GOES_ON = re.compile(r"anthropic\.|amazon\.nova")
"""Models that continue an assistant's message at the end; others require the user to be last."""
NO_FORMAT = re.compile(
    r"amazon\.|meta\.|cohere\.|ai21\.|deepseek\.r1|claude-opus-4-1|mistral\.(mi[sx]tral-(?!large-3)|pixtral)"
)
"""Models without a JSON schema for the answer, besides older Claude models.
https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html
"""

NO_CAP = 1 << 30
"""The tokens of an answer, where a request without maxTokens gets as many as the model can."""


def asks_by_tool(request: ChatRequest, target: Target) -> bool:
    """Whether only a tool can hold the answer to the format: for models without formats, for JSON of any kind, and for
    objects with unnamed properties.
    """
    kind, given = response_format(request)
    if kind != "json_schema":
        return kind == "json_object"
    kept = claude.family_of(target.model).schemas and not NO_FORMAT.search(target.model)
    return not kept or holds_maps(inline_references(given["schema"]))


def to_upstream(request: ChatRequest, target: Target) -> Json:
    """The parameters of Converse and ConverseStream. Raises InvalidRequest and Unsupported with the field's name."""
    own = _own(request)
    if request.body.get("n", 1) != 1:
        raise Unsupported("Bedrock gives one choice an answer.", param="n")
    tools = _tools(request, target.model)
    returns = request.native is not None and "anthropic." in target.model
    system, messages = conversation(request.messages, tools=bool(tools), thoughts=returns)
    family = claude.family_of(target.model)
    if messages[-1]["role"] == "assistant":
        _end(messages, prefill=family.prefill and GOES_ON.search(target.model) is not None)
    inference = _inference(request, target, family)
    thinks = _reasoning(request, target, messages, inference.get("maxTokens", NO_CAP))
    additional = {**_top_k(request, target, family), **thinks, **own.get("additionalModelRequestFields", {})}
    if "thinking" in additional:
        additional.pop("top_k", None)
    inference = {key: value for key, value in inference.items() if key not in _pop_excluded(additional)}
    params = {
        "modelId": target.model,
        "messages": messages,
        "system": system,
        "inferenceConfig": inference,
        "toolConfig": tools,
        "outputConfig": _output(request),
        **own,
        "additionalModelRequestFields": additional,
    }
    return target.rules.apply({key: value for key, value in params.items() if value})


def _end(messages: list[Json], *, prefill: bool) -> None:
    """End with the user, or with the assistant's message to continue: white space at its end is refused."""
    last = messages[-1]["content"][-1]
    if prefill and "text" in last:
        last["text"] = last["text"].rstrip()
    elif not prefill:
        messages.append({"role": "user", "content": [{"text": GO_ON}]})


def _own(request: ChatRequest) -> Json:
    own = request.extras.get("bedrock", {})
    if not isinstance(own, dict):
        raise InvalidRequest("`bedrock` must be an object.", param="bedrock")
    for name in own:
        if name not in EXTENSION_PARAMETERS:
            raise InvalidRequest(
                f"A model takes no {name!r}; it takes {', '.join(sorted(EXTENSION_PARAMETERS))}.",
                param=f"bedrock.{name}",
            )
        if not isinstance(own[name], dict):
            raise InvalidRequest("Must be an object.", param=f"bedrock.{name}")
    guardrail = own.get("guardrailConfig", {})
    if not request.stream and "streamProcessingMode" in guardrail:
        kept = {key: value for key, value in guardrail.items() if key != "streamProcessingMode"}
        return {**own, "guardrailConfig": kept}
    return own


def _inference(request: ChatRequest, target: Target, family: claude.Family) -> Json:
    """The token limit, and OpenAI's ranges scaled into 0 to 1; of those that exclude each other, the temperature."""
    config: Json = {}
    if (cap := request.max_tokens) is not None:
        config["maxTokens"] = min(cap, target.max_tokens or cap)
    for theirs, ours in (("temperature", "temperature"), ("top_p", "topP")):
        if theirs in request.body and family.sampling != "none":
            config[ours] = min(max(float(request.body[theirs]), 0.0), 1.0)
    if family.sampling == "one" and "temperature" in config:
        config.pop("topP", None)
    if stop := [each for each in request.stop if each]:
        config["stopSequences"] = stop
    return config


def _top_k(request: ChatRequest, target: Target, family: claude.Family) -> Json:
    top_k = request.body.get("top_k")
    return {"top_k": top_k} if top_k is not None and "anthropic." in target.model and family.sampling != "none" else {}


def _reasoning(request: ChatRequest, target: Target, messages: list[Json], room: int) -> Json:
    """`reasoning_effort` in each vendor's own form.

    https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-adaptive-thinking.html
    """
    model, effort = target.model, str(request.body.get("reasoning_effort", ""))
    if "anthropic." in model:
        return _thinking(request, model, effort, messages, room)
    level = {"xhigh": "high", "max": "high"}.get(effort, effort)
    if "openai.gpt-oss" in model and effort:  # it always reasons
        return {"reasoning_effort": {"none": "low", "minimal": "low"}.get(level, level)}
    if "amazon.nova-2" in model and effort in claude.EFFORTS:
        return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": level}}
    return {}


def _pop_excluded(additional: Json) -> tuple[str, ...]:
    """Remove what a reasoning model refuses in inferenceConfig.

    https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-extended-thinking.html,
    https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html
    """
    reasoning = additional.get("reasoningConfig")
    if isinstance(reasoning, dict) and reasoning.get("maxReasoningEffort") == "high":
        return "maxTokens", "temperature", "topP"
    return ("temperature", "topP") if "thinking" in additional else ()


def _thinking(request: ChatRequest, model: str, effort: str, messages: list[Json], room: int) -> Json:
    family = claude.family_of(model)
    if family.thinking == "manual" and any(_lacks_thoughts(message["content"]) for message in messages):
        return {}  # the thoughts before the call would have to come back signed
    forced = bool(request.tools) and tool_choice(request)[0] == "required"
    thought, strength = claude.thinking_options(
        family, effort, shown=request.include_reasoning, forced=forced, max_tokens=room
    )
    fields: Json = {"thinking": thought} if thought else {}
    if strength and family.thinking == "adaptive":  # for the others it is a beta
        fields["output_config"] = {"effort": strength}
    return fields


def _lacks_thoughts(blocks: list[Json]) -> bool:
    """Whether a call stands there without the thoughts that led to it."""
    return any("toolUse" in block for block in blocks) and "reasoningContent" not in blocks[0]


def _tools(request: ChatRequest, model: str) -> Json:
    """toolConfig, or {}: `none` has no counterpart except to declare no tools. If only some tools may be called, only
    those are declared.
    """
    mode, names = tool_choice(request)
    tools: list[Json] = []
    for function in declared_functions(request.tools):
        if mode == "none" or (names and function["name"] not in names):
            continue
        schema = {"type": "object", "properties": {}, **inline_references(function.get("parameters") or {})}
        spec = {"name": function["name"], "inputSchema": {"json": schema}}
        if description := function.get("description"):
            spec["description"] = description
        tools += [{"toolSpec": spec}, *cache_point(function)]
    if not tools:
        return {}
    one_tool = len(names) == 1 and NAMES_ITS_TOOL.search(model) is not None
    one: Json = {"tool": {"name": names[0]}} if one_tool else {"any": {}}
    return {"tools": tools, "toolChoice": one if mode == "required" else {"auto": {}}}


def _output(request: ChatRequest) -> Json:
    """https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html"""
    kind, given = response_format(request)
    if kind == "text":
        return {}
    if kind != "json_schema":
        raise Unsupported("Bedrock takes a json_schema or text.", param="response_format")
    labels = {key: given[key] for key in ("name", "description") if given.get(key)}
    schema = {"schema": orjson.dumps(closed_schema(inline_references(given["schema"]))).decode(), **labels}
    return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
