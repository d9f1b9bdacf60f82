"""COHEREV2: the newer of Cohere's formats on OCI, for its models that see or reason.

The parameters of models.yaml are applied to the chatRequest, whose names are OCI's.

https://docs.oracle.com/en-us/iaas/api/#/en/generative-ai-inference/20231130/datatypes/CohereChatRequestV2
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson

from core.errors import Unsupported
from core.json_values import Json
from core.requests import ChatRequest
from providers.base import Target
from providers.common import translate
from providers.common.conversation import Message, conversation
from providers.common.json_schema import inline_references
from providers.oci.chat import answers, common
from providers.oci.chat.tool_schemas import EMPTY

SUPPORTED_PARAMETERS = common.SUPPORTED_PARAMETERS | {"logprobs", "reasoning_effort"}
"""OpenAI's parameters with a counterpart."""


def to_upstream(request: ChatRequest, target: Target, most_tokens: int) -> Json:
    """The chatRequest; `most_tokens` is the limit of on-demand models' answers."""
    common.one_text(request, target)
    sent: Json = {
        "apiFormat": "COHEREV2",
        "messages": [_message(turn, target) for turn in conversation(request.messages, with_instructions=True)],
        **_tools(request),
        **common.cohere_format(request),
        **common.tuning(request, "stopSequences"),
    }
    if (cap := translate.capped_max_tokens(request, target.max_tokens)) is not None:
        sent["maxTokens"] = min(cap, most_tokens)
    if request.body.get("logprobs"):
        sent["isLogProbsEnabled"] = True
    if "reasoning_effort" in request.body and "reasoning" in common.base_model(target):
        sent["thinking"] = {"type": "DISABLED" if request.body["reasoning_effort"] == "none" else "ENABLED"}
    return target.rules.apply(sent)


def _message(turn: Message, target: Target) -> Json:
    content = common.contents(turn, partial(_part, target=target))
    sent: Json = {
        "role": "SYSTEM" if turn.role == "developer" else turn.role.upper(),
        "content": content if content or turn.calls else [{"type": "TEXT", "text": ""}],
    }
    if turn.role == "tool":
        sent["toolCallId"] = turn.answers
    if turn.calls:
        sent["toolCalls"] = [
            {
                "id": use.id,
                "type": "FUNCTION",
                "function": {"name": use.name, "arguments": orjson.dumps(use.arguments).decode()},
            }
            for use in turn.calls
        ]
    return sent


def _part(part: Mapping[str, Any], where: str, target: Target) -> Json:
    if part["type"] != "image_url":
        kind = part["type"]
        raise Unsupported(f"{target.public_name or target.model} takes no part of type {kind!r}.", param=where)
    return {"type": "IMAGE_URL", "imageUrl": common.image(part, where, target)}


def _tools(request: ChatRequest) -> Json:
    """A single tool cannot be chosen: it is sent alone, and a call of any tool is required."""
    functions, mode, chosen = common.tools(request)
    tools = [
        {
            "type": "FUNCTION",
            "function": {
                "name": function["name"],
                "description": function["description"],
                "parameters": inline_references(function.get("parameters") or EMPTY),
            },
        }
        for function in functions
        if chosen in ("", function["name"])
    ]
    if not tools:
        return {}
    sent: Json = {"tools": tools}
    if mode != "auto":
        sent["toolsChoice"] = mode.upper()
    if any(function.get("strict") for function in functions):
        sent["isStrictToolsEnabled"] = True
    return sent


def chunk(event: Mapping[str, Any]) -> Json:
    """An event of the stream as one of OpenAI's chunks."""
    return {"choices": [_choice(event, "delta")], "usage": answers.usage(event.get("usage"))}


def body(answer: Mapping[str, Any]) -> Json:
    """A whole chatResponse as OpenAI's body."""
    return {"choices": [_choice(answer, "message")], "usage": answers.usage(answer.get("usage"))}


def _choice(answer: Mapping[str, Any], said_as: str) -> Json:
    message = answer.get("message") or {}
    parts = [part for part in message.get("content") or () if isinstance(part, dict)]
    thought = "".join(part.get("thinking") or "" for part in parts)
    converted = {
        "content": answers.text(message.get("content")),
        "reasoning_content": thought or message.get("toolPlan"),
        "tool_calls": [{**call, "index": at} for at, call in enumerate(message.get("toolCalls") or ())],
    }
    choice = {
        said_as: converted,
        "index": 0,
        "finish_reason": answers.finish_reason(answer.get("finishReason"), answer.get("errorMessage")),
    }
    if chances := answer.get("logProbabilities"):
        entries = [
            answers.logprob(each.get("text") or "", (each.get("logProbabilities") or [0])[0]) for each in chances
        ]
        choice["logprobs"] = {"content": entries, "refusal": None}
    return choice
