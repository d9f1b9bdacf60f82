"""GENERIC: the format of all families on OCI but Cohere's (Meta, xAI, OpenAI, Google, imported models).

`to_upstream` makes the request; `chunk` and `body` convert OCI's events and answers to OpenAI's chunks and body, for
openai_compatible.decode. The parameters of models.yaml apply to the chatRequest, whose names are OCI's.

https://docs.oracle.com/en-us/iaas/api/#/en/generative-ai-inference/20231130/datatypes/GenericChatRequest
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from core.errors import InvalidRequest, Unsupported
from core.json_values import Json
from core.requests import ChatRequest
from providers.base import Target
from providers.common import translate
from providers.common.conversation import GO_ON, INSTRUCTIONS, OPENING, Message, conversation
from providers.common.json_schema import inline_references
from providers.oci.chat import answers, common
from providers.oci.chat.tool_schemas import parameters

ONE_CALL = re.compile(r"meta\.llama-3")
"""Models that refuse isParallelToolCalls."""
EFFORTS = {"none": "NONE", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
EFFORTS |= {"xhigh": "HIGH", "max": "HIGH"}
LEVELS = {"low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
TIERS = {"auto": "AUTO", "default": "DEFAULT", "priority": "PRIORITY"}
IDS = re.compile(r".{1,40}", re.DOTALL)
"""The longest call id of OpenAI's models; other vendors' ids may be longer."""
SILENT: Json = {"type": "text", "text": "."}
"""The text beside a call that Gemini requires, if there is none."""
SUPPORTED_PARAMETERS = common.SUPPORTED_PARAMETERS | {
    "logit_bias", "logprobs", "metadata", "parallel_tool_calls", "prediction", "reasoning_effort", "service_tier",
    "top_logprobs", "verbosity", "web_search_options",
}  # fmt: skip
"""OpenAI's parameters with a counterpart."""


def to_upstream(request: ChatRequest, target: Target) -> Json:
    """The chatRequest."""
    body = request.body
    translate.require_text_output(request, target.public_name or target.model)
    sent: Json = {
        "apiFormat": "GENERIC",
        "messages": _messages(request, target),
        **common.tuning(request, "stop"),
    }
    if (cap := translate.capped_max_tokens(request, target.max_tokens)) is not None:
        sent["maxCompletionTokens" if common.counts_thinking(target) else "maxTokens"] = cap
    for name, ours, values in (
        ("reasoning_effort", "reasoningEffort", EFFORTS),
        ("verbosity", "verbosity", LEVELS),
        ("service_tier", "serviceTier", TIERS),
    ):
        if name in body and (value := values.get(str(body[name]).lower())) is not None:
            sent[ours] = value
    for name, ours in (("n", "numGenerations"), ("logit_bias", "logitBias"), ("metadata", "metadata")):
        if name in body:
            sent[ours] = body[name]
    if body.get("logprobs"):
        sent["logProbs"] = max(1, body.get("top_logprobs", 0))
    if isinstance(prediction := body.get("prediction"), dict):
        predicted = _predicted_text(prediction.get("content"))
        sent["prediction"] = {"type": "CONTENT", "content": [{"type": "TEXT", "text": predicted}]}
    if isinstance(search := body.get("web_search_options"), dict):
        sent["webSearchOptions"] = _search(search)
    return target.rules.apply({**sent, **_tools(request, target), **_format(request)})


def _messages(request: ChatRequest, target: Target) -> list[Json]:
    turns = conversation(request.messages, with_instructions=True)
    if common.base_model(target).startswith("google."):
        turns = _between_users(_pair_calls(turns))
    return [_message(turn, target) for turn in turns]


def _between_users(turns: list[Message]) -> list[Message]:
    """The turns with the user first and last, as Gemini requires."""
    spoken = [at for at, turn in enumerate(turns) if turn.role not in INSTRUCTIONS]
    first = spoken[0] if spoken else len(turns)
    messages = list(turns)
    if spoken and turns[spoken[-1]].role == "assistant":
        messages.append(Message("user", "", [("", {"type": "text", "text": GO_ON})]))
    if not spoken or turns[first].role == "assistant":
        messages.insert(first, Message("user", "", [("", {"type": "text", "text": OPENING})]))
    return messages


def _pair_calls(turns: list[Message]) -> list[Message]:
    """Each call with its result behind it. Gemini on OCI refuses several calls in a message ("number of function
    response parts"), and an assistant's message with a call and without text
    (https://github.com/oracle/langchain-oracle, providers/generic.py).
    """
    results = {turn.answers: turn for turn in turns if turn.role == "tool"}
    paired: list[Message] = []
    for turn in turns:
        for place, use in enumerate(turn.calls):
            parts = turn.parts if turn.parts and not place else [(turn.at, SILENT)]
            paired += [replace(turn, parts=parts, calls=(use,)), results[use.id]]
        if not turn.calls and turn.role != "tool":
            paired.append(turn)
    return paired


def _message(turn: Message, target: Target) -> Json:
    content = common.contents(turn, partial(_part, target=target))
    sent: Json = {"role": turn.role.upper()}
    if content or not turn.calls:
        sent["content"] = content or [{"type": "TEXT", "text": ""}]
    if turn.role == "tool":
        sent["toolCallId"] = translate.fit_id(turn.answers, IDS)
    elif turn.name:
        sent["name"] = turn.name
    if turn.calls:
        sent["toolCalls"] = [
            {
                "id": translate.fit_id(use.id, IDS),
                "type": "FUNCTION",
                "name": use.name,
                "arguments": orjson.dumps(use.arguments).decode(),
            }
            for use in turn.calls
        ]
    return sent


def _part(part: Mapping[str, Any], where: str, target: Target) -> Json:
    """A part that is no text: an image, audio, a document or a video."""
    kind = part["type"]
    if kind == "image_url":
        return {"type": "IMAGE", "imageUrl": common.image(part, where, target)}
    url, ours = "", kind.partition("_")[0].upper()
    if kind == "input_audio":
        audio = common.object_in(part, kind, where)
        url, ours = f"data:audio/{audio.get('format', 'wav')};base64,{audio.get('data', '')}", "AUDIO"
    elif kind == "file":
        url, ours = str(common.object_in(part, kind, where).get("file_data") or ""), "DOCUMENT"
    elif kind in ("video_url", "audio_url"):
        url = str(common.object_in(part, kind, where).get("url") or "")
    if not url or common.BLIND.match(common.base_model(target)):
        raise Unsupported(f"{target.public_name or target.model} takes no part of type {kind!r}.", param=where)
    return {"type": ours, f"{ours.lower()}Url": {"url": url}}


def _tools(request: ChatRequest, target: Target) -> Json:
    """Tools are flat here: no `function` key."""
    functions, mode, chosen = common.tools(request)
    if not functions:
        return {}
    sent: Json = {
        "tools": [
            {
                "type": "FUNCTION",
                "name": function["name"],
                "description": function["description"],
                "parameters": parameters(function, common.base_model(target)),
            }
            for function in functions
        ]
    }
    if chosen:
        sent["toolChoice"] = {"type": "FUNCTION", "name": chosen}
    elif mode != "auto" or "tool_choice" in request.body:
        sent["toolChoice"] = {"type": mode.upper()}
    if "parallel_tool_calls" in request.body and not ONE_CALL.match(common.base_model(target)):
        sent["isParallelToolCalls"] = request.body["parallel_tool_calls"]
    return sent


def _format(request: ChatRequest) -> Json:
    kind, given = translate.response_format(request)
    if kind != "json_schema":
        return {"responseFormat": {"type": kind.upper()}} if "response_format" in request.body else {}
    schema: Json = {"name": str(given.get("name") or "answer"), "schema": inline_references(given["schema"])}
    if given.get("description"):
        schema["description"] = str(given["description"])
    if isinstance(given.get("strict"), bool):
        schema["isStrict"] = given["strict"]
    return {"responseFormat": {"type": "JSON_SCHEMA", "jsonSchema": schema}}


def _predicted_text(content: Any) -> str:
    of_parts = isinstance(content, list) and all(isinstance(each, dict) and "type" in each for each in content)
    if not of_parts and not isinstance(content, str):
        raise InvalidRequest("It must be a string or a list of text parts.", param="prediction.content")
    return translate.content_text(content, "prediction")


def _search(options: Mapping[str, Any]) -> Json:
    sent: Json = {}
    if (size := LEVELS.get(str(options.get("search_context_size")))) is not None:
        sent["searchContextSize"] = size
    located = common.object_in(options, "user_location", "web_search_options")
    place = common.object_in(located, "approximate", "web_search_options.user_location")
    if place := {key: place[key] for key in ("city", "region", "country", "timezone") if place.get(key)}:
        sent["userLocation"] = place
    return sent


PLAIN = {"role", "content"}
"""Keys of a message that is text and pictures."""


PLAIN_EVENT = {"index", "message", "pad"}
"""Keys of an event that is a piece of a message."""


def plain_text(event: Mapping[str, Any]) -> tuple[int, str] | None:
    """The choice and the text of an event that is one piece of text, as most are; None for another event."""
    message, index = event.get("message"), event.get("index")
    if not (event.keys() <= PLAIN_EVENT and isinstance(message, dict) and message.keys() <= PLAIN):
        return None
    content = message.get("content")
    if not (type(index) is int and index >= 0 and isinstance(content, list) and len(content) == 1):
        return None
    part = content[0]
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "TEXT" else None
    return (index, text) if isinstance(text, str) and text else None


def chunk(event: Mapping[str, Any]) -> Json:
    """An event of the stream as one of OpenAI's chunks. An event is a choice by itself, or has a list of them."""
    choices = event.get("choices") or ([event] if "message" in event or event.get("finishReason") else [])
    return {"choices": [_choice(each, "delta") for each in choices], "usage": _usage(event, choices)}


def body(answer: Mapping[str, Any]) -> Json:
    """A whole chatResponse as OpenAI's body."""
    choices = answer.get("choices") or []
    return {"choices": [_choice(each, "message") for each in choices], "usage": _usage(answer, choices)}


def _usage(answer: Mapping[str, Any], choices: list[Any]) -> Json | None:
    for each in (answer, *choices):
        if counts := each.get("usage"):
            return answers.usage(counts)
    return None


def _choice(choice: Mapping[str, Any], said_as: str) -> Json:
    message = choice.get("message") or {}
    content = message.get("content")
    converted: Json = {"content": answers.text(content)}
    if images := answers.pictures(content):
        converted["images"] = images
    if not message.keys() <= PLAIN:  # most pieces of a stream are text and nothing else
        converted |= {
            "reasoning_content": message.get("reasoningContent"),
            "refusal": message.get("refusal"),
            "tool_calls": [_call(call, at) for at, call in enumerate(message.get("toolCalls") or ())],
            "annotations": [_annotation(each) for each in message.get("annotations") or ()],
        }
    made: Json = {said_as: converted, "finish_reason": answers.finish_reason(choice.get("finishReason"))}
    if isinstance(choice.get("index"), int):
        made["index"] = choice["index"]
    if isinstance(logprobs := choice.get("logprobs"), dict):
        made["logprobs"] = _logprobs(logprobs)
    return made


def _call(call: Mapping[str, Any], at: int) -> Json:
    """A call, or a piece of one. OCI gives no index, so its position in the event counts."""
    function = {"name": call.get("name"), "arguments": call.get("arguments")}
    return {"index": at, "id": call.get("id"), "function": function}


def _annotation(annotation: Mapping[str, Any]) -> Json:
    cited = annotation.get("urlCitation") or {}
    names = {"url": "url", "title": "title", "startIndex": "start_index", "endIndex": "end_index"}
    return {"url_citation": {ours: cited[name] for name, ours in names.items() if name in cited}}


def _logprobs(given: Mapping[str, Any]) -> Json:
    """OCI's parallel lists as OpenAI's entries; the values of the most likely tokens come as text."""
    chances, others = given.get("tokenLogprobs") or (), given.get("topLogprobs") or ()
    entries = []
    for at, token in enumerate(given.get("tokens") or ()):
        top = others[at].items() if at < len(others) and others[at] else ()
        entry = answers.logprob(token, chances[at] if at < len(chances) else 0)
        entries.append({**entry, "top_logprobs": [answers.logprob(each, float(chance)) for each, chance in top]})
    return {"content": entries, "refusal": None}
