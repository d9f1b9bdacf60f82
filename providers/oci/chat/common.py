"""What OCI's chat styles have in common: the parameters' names, the conversation, tools and formats. Pure functions.

https://docs.oracle.com/en-us/iaas/api/#/en/generative-ai-inference/20231130/datatypes/ChatDetails
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from core.errors import InvalidRequest, Unsupported
from core.json_values import Json
from core.requests import ChatRequest
from providers.base import Target
from providers.common import translate
from providers.common.conversation import Message
from providers.common.json_schema import inline_references

SAME = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
    "seed": "seed",
}
"""OpenAI's name -> OCI's, in all styles."""
SUPPORTED_PARAMETERS = frozenset({
    *SAME, "function_call", "functions", "max_completion_tokens", "max_tokens", "messages", "modalities", "model", "n",
    "response_format", "stop", "stream", "stream_options", "tool_choice", "tools",
})  # fmt: skip
"""OpenAI's parameters that every style has a counterpart for."""
BLIND = re.compile(r"meta\.llama-3(?!.*vision)|xai\.grok-(3|code)|openai\.gpt-oss|cohere\.command-(?!.*vision)")
"""Models that see nothing, by https://docs.oracle.com/en-us/iaas/Content/generative-ai/chat-models.htm."""
COMPLETION_TOKENS = re.compile(r"openai\.(gpt-[5-9]|o\d)")
"""Models that refuse max_tokens, by whatever name: they think first."""


class Tools(NamedTuple):
    """The functions that are sent, whether they may, must or must not be called, and the one that must, or ""."""

    functions: list[Json]
    mode: str
    named: str


def base_model(target: Target) -> str:
    """The name of the model that answers, with its vendor, as far as it is known: an endpoint has a name of its own."""
    names = (target.details.get("base"), target.model, target.public_name)
    return next((name for name in names if name and "." in name and "ocid1." not in name), target.model)


def counts_thinking(target: Target) -> bool:
    """Whether the model takes its cap on the answer as max_completion_tokens, as far as it has not refused that."""
    refused = target.refused
    return "max_tokens" in refused or (
        "max_completion_tokens" not in refused and bool(COMPLETION_TOKENS.match(base_model(target)))
    )


def tuning(request: ChatRequest, stop: str) -> Json:
    """The parameters that have the same meaning in every style; `stop` is what its sequences are called there."""
    if not isinstance(request.body.get("top_k", 0), int):  # it is not OpenAI's, so nobody has looked at it yet
        raise InvalidRequest("It must be a whole number.", param="top_k")
    sent = {ours: request.body[name] for name, ours in SAME.items() if name in request.body}
    if request.stop:
        sent[stop] = request.stop
    sent["isStream"] = request.stream
    if request.stream:
        sent["streamOptions"] = {"isIncludeUsage": True}
    return sent


def contents(turn: Message, other: Callable[[Mapping[str, Any], str], Json]) -> list[Json]:
    """A turn's content as OCI's parts; `other` makes those that are no text, and raises Unsupported."""
    made = []
    for where, part in turn.parts:
        if part["type"] in ("text", "input_text", "refusal"):
            made.append({"type": "TEXT", "text": str(part.get("text") or part.get("refusal") or "")})
        else:
            made.append(other(part, where))
    return made


def image(part: Mapping[str, Any], where: str, target: Target) -> Json:
    """OCI's imageUrl; detail as it was given. Raises Unsupported for a model that sees nothing."""
    if BLIND.match(base_model(target)):
        raise Unsupported(f"{target.public_name or target.model} takes no images.", param=where)
    url, detail = translate.image_url(part, where)
    return {"url": url, **({"detail": detail.upper()} if detail.upper() in ("AUTO", "HIGH", "LOW") else {})}


def object_in(given: Mapping[str, Any], name: str, where: str) -> Json:
    """An object that may be missing; {} then. Raises InvalidRequest for anything else in its place."""
    value = given.get(name) or {}
    if not isinstance(value, dict):
        raise InvalidRequest("It must be an object.", param=f"{where}.{name}")
    return value


def tools(request: ChatRequest) -> Tools:
    """The tools, with a description each, which OCI wants. One that must be called, and none else, is also `named`."""
    mode, names = translate.tool_choice(request)
    functions = declared(request)
    if mode == "required" and len(names) == 1:
        return Tools(functions, mode, names[0])
    return Tools([each for each in functions if not names or each["name"] in names], mode, "")


def declared(request: ChatRequest) -> list[Json]:
    """All the functions, with a description each."""
    return [
        {**function, "description": str(function.get("description") or function["name"])}
        for function in translate.declared_functions(request.tools)
    ]


def cohere_format(request: ChatRequest) -> Json:
    """Cohere's response format, in both of its styles: JSON, of a schema or of any."""
    kind, given = translate.response_format(request)
    if kind == "text":
        return {}
    schema = {"schema": inline_references(given["schema"])} if given else {}
    return {"responseFormat": {"type": "JSON_OBJECT", **schema}}


def one_text(request: ChatRequest, target: Target) -> None:
    """Raise Unsupported where more than one answer, or more than text, is asked of a style that gives no more."""
    if request.body.get("n", 1) != 1:
        raise Unsupported(f"{target.public_name or target.model} gives one answer a request.", param="n")
    translate.require_text_output(request, target.public_name or target.model)
