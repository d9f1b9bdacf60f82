"""What OCI's chat styles have in common: the parameters' names, the conversation, tools and formats. Pure functions.

https://docs.oracle.com/en-us/iaas/api/#/en/generative-ai-inference/20231130/datatypes/ChatDetails
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from errors import InvalidRequest, Unsupported
from events import ChatRequest
from providers import translate
from providers.base import Target

Json = dict[str, Any]

SAME = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
    "seed": "seed",
}
"""OpenAI's name -> OCI's, in all styles."""
BLIND = re.compile(r"meta\.llama-3(?!.*vision)|xai\.grok-(3|code)|openai\.gpt-oss|cohere\.command-(?!.*vision)")
"""Models that see nothing, by https://docs.oracle.com/en-us/iaas/Content/generative-ai/chat-models.htm."""

COMPLETION_TOKENS = re.compile(r"openai\.(gpt-[5-9]|o\d)")
"""Models that refuse max_tokens, by whatever name: they think first."""


def base(target: Target) -> str:
    """The name of the model that answers, with its vendor, as far as it is known: an endpoint has a name of its own."""
    names = (target.details.get("base"), target.model, target.public_name)
    return next((name for name in names if name and "." in name and "ocid1." not in name), target.model)


def tuning(request: ChatRequest, stop: str) -> Json:
    """The parameters that have the same meaning in every style; `stop` is what its sequences are called there."""
    sent = {ours: request.body[name] for name, ours in SAME.items() if name in request.body}
    if request.stop:
        sent[stop] = request.stop
    if request.stream:
        sent["isStream"] = True
        sent["streamOptions"] = {"isIncludeUsage": True}
    return sent


def cap(request: ChatRequest, target: Target, most: int | None = None) -> int | None:
    """How many tokens the answer may have: what the caller asks for, at most what the model and the setting allow."""
    limits = [each for each in (request.max_tokens, target.max_tokens, most) if each is not None]
    return min(limits) if request.max_tokens is not None else None


def conversation(request: ChatRequest) -> list[tuple[str, Json]]:
    """The messages, each with its place for a complaint; legacy function calls and their results told as tools'."""
    told, last = [], ""
    for at, message in enumerate(request.messages):
        called = message.get("function_call")
        if isinstance(called, dict) and not message.get("tool_calls"):
            last = f"call_{at}"
            message = {**message, "tool_calls": [{"id": last, "type": "function", "function": called}]}  # noqa: PLW2901
        if message["role"] == "function":
            message = {**message, "role": "tool", "tool_call_id": last}  # noqa: PLW2901
        told.append((f"messages[{at}]", message))
    return told


def calls(message: Mapping[str, Any], where: str) -> list[tuple[str, str, Json]]:
    """An assistant's calls: (id, name, arguments). Raises InvalidRequest. Those of other kinds are passed over."""
    found = []
    for at, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function")
        if call.get("type", "function") != "function":
            continue
        place = f"{where}.tool_calls[{at}].function"
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidRequest("A tool call needs a `function` with a `name`.", param=f"{place}.name")
        arguments = translate.arguments(call, f"{place}.arguments")
        found.append((str(call.get("id") or f"call_{where}_{at}"), function["name"], arguments))
    return found


def chosen(request: ChatRequest) -> tuple[str, str, list[Json]]:
    """How tools may be used (none, auto, required, function), the one that must be, and those declared."""
    declared = translate.functions(request.tools)
    choice = request.tool_choice
    if isinstance(choice, str):
        return choice, "", declared
    if choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools") or {}
        names = {(tool.get("function") or tool).get("name") for tool in allowed.get("tools") or ()}
        return str(allowed.get("mode", "auto")), "", [each for each in declared if each["name"] in names]
    name = (choice.get("function") or choice).get("name")
    if not any(each["name"] == name for each in declared):
        raise InvalidRequest("`tool_choice` names a tool that is not declared.", param="tool_choice")
    return "function", str(name), declared


def schema_of(request: ChatRequest) -> tuple[str, Json]:
    """The response format: its type (text, json_object, json_schema), and OpenAI's json_schema object or {}."""
    wanted = request.body.get("response_format") or {"type": "text"}
    kind, schema = str(wanted.get("type")), wanted.get("json_schema")
    if kind not in ("text", "json_object", "json_schema"):
        raise Unsupported(f"There is no response format {kind!r} there.", param="response_format.type")
    if kind != "json_schema":
        return kind, {}
    if not isinstance(schema, dict):
        raise InvalidRequest("A json_schema format needs its `json_schema`.", param="response_format.json_schema")
    return kind, schema


def cohere_format(request: ChatRequest) -> Json:
    """Cohere's response format, in both of its styles: JSON, of a schema or of any."""
    kind, given = schema_of(request)
    if kind == "text":
        return {}
    schema = translate.inlined(given["schema"]) if isinstance(given.get("schema"), dict) else None
    return {"responseFormat": {"type": "JSON_OBJECT", **({"schema": schema} if schema else {})}}


def image(part: Mapping[str, Any], where: str, target: Target) -> Json:
    """OCI's imageUrl; detail as it was given. Raises Unsupported for a model that sees nothing."""
    if BLIND.match(base(target)):
        raise Unsupported(f"{target.public_name or target.model} takes no images.", param=where)
    url, detail = translate.image_url(part, where)
    return {"url": url, **({"detail": detail.upper()} if detail.upper() in ("AUTO", "HIGH", "LOW") else {})}


def contents(message: Mapping[str, Any], where: str, other: Callable[[Mapping[str, Any], str], Json]) -> list[Json]:
    """A message's content as OCI's parts; `other` makes those that are no text, and raises Unsupported."""
    made = []
    for at, part in enumerate(translate.parts(message.get("content"))):
        place = f"{where}.content[{at}]"
        if part["type"] in ("text", "input_text"):
            made.append({"type": "TEXT", "text": str(part.get("text") or "")})
        elif part["type"] == "refusal":
            made.append({"type": "TEXT", "text": str(part.get("refusal") or "")})
        else:
            made.append(other(part, place))
    return made


def no_choices(request: ChatRequest) -> None:
    """Raise Unsupported where more than one answer is asked of a style that gives one."""
    if request.body.get("n", 1) != 1:
        raise Unsupported("This model gives one answer a request.", param="n")
