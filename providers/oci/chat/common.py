"""What OCI's chat formats share: parameter names, the conversation, tools and response formats. Pure functions.

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
"""OpenAI's name -> OCI's, in all formats."""
SUPPORTED_PARAMETERS = frozenset({
    *SAME, "function_call", "functions", "max_completion_tokens", "max_tokens", "messages", "modalities", "model", "n",
    "response_format", "stop", "stream", "stream_options", "tool_choice", "tools",
})  # fmt: skip
"""OpenAI's parameters with a counterpart in every format."""
BLIND = re.compile(r"meta\.llama-3(?!.*vision)|xai\.grok-(3|code)|openai\.gpt-oss|cohere\.command-(?!.*vision)")
"""Models without vision, by https://docs.oracle.com/en-us/iaas/Content/generative-ai/chat-models.htm."""
COMPLETION_TOKENS = re.compile(r"openai\.(gpt-[5-9]|o\d)")
"""Reasoning models, which refuse max_tokens under any name."""


class Tools(NamedTuple):
    """The functions, whether they may, must or must not be called, and the one that must be, or ""."""

    functions: list[Json]
    mode: str
    named: str


def base_model(target: Target) -> str:
    """The model's name with its vendor, if it is known: an endpoint has a name of its own."""
    names = (target.details.get("base"), target.model, target.public_name)
    return next((name for name in names if name and "." in name and "ocid1." not in name), target.model)


def counts_thinking(target: Target) -> bool:
    """Whether the model takes its limit as max_completion_tokens, unless it has refused that."""
    refused = target.refused
    return "max_tokens" in refused or (
        "max_completion_tokens" not in refused and bool(COMPLETION_TOKENS.match(base_model(target)))
    )


def tuning(request: ChatRequest, stop: str) -> Json:
    """The parameters with the same meaning in every format; `stop` is the format's name for stop sequences."""
    if not isinstance(request.body.get("top_k", 0), int):  # the schema does not check it, as it is not OpenAI's
        raise InvalidRequest("It must be a whole number.", param="top_k")
    sent = {ours: request.body[name] for name, ours in SAME.items() if name in request.body}
    if request.stop:
        sent[stop] = request.stop
    sent["isStream"] = request.stream
    if request.stream:
        sent["streamOptions"] = {"isIncludeUsage": True}
    return sent


def contents(turn: Message, other: Callable[[Mapping[str, Any], str], Json]) -> list[Json]:
    """A turn's content as OCI's parts; `other` converts parts that are no text, and raises Unsupported."""
    made = []
    for where, part in turn.parts:
        if part["type"] in ("text", "input_text", "refusal"):
            made.append({"type": "TEXT", "text": str(part.get("text") or part.get("refusal") or "")})
        else:
            made.append(other(part, where))
    return made


def image(part: Mapping[str, Any], where: str, target: Target) -> Json:
    """OCI's imageUrl, with the detail unchanged. Raises Unsupported for a model without vision."""
    if BLIND.match(base_model(target)):
        raise Unsupported(f"{target.public_name or target.model} takes no images.", param=where)
    url, detail = translate.image_url(part, where)
    return {"url": url, **({"detail": detail.upper()} if detail.upper() in ("AUTO", "HIGH", "LOW") else {})}


def object_in(given: Mapping[str, Any], name: str, where: str) -> Json:
    """An optional object; {} if it is missing. Raises InvalidRequest for anything else."""
    value = given.get(name) or {}
    if not isinstance(value, dict):
        raise InvalidRequest("It must be an object.", param=f"{where}.{name}")
    return value


def tools(request: ChatRequest) -> Tools:
    """The tools, each with the description that OCI requires. The only tool that must be called is also `named`."""
    mode, names = translate.tool_choice(request)
    functions = list_functions(request)
    if mode == "required" and len(names) == 1:
        return Tools(functions, mode, names[0])
    return Tools([each for each in functions if not names or each["name"] in names], mode, "")


def list_functions(request: ChatRequest) -> list[Json]:
    """All the functions, with a description each."""
    return [
        {**function, "description": str(function.get("description") or function["name"])}
        for function in translate.declared_functions(request.tools)
    ]


def cohere_format(request: ChatRequest) -> Json:
    """Cohere's response format, in both formats: JSON, of a schema or of any."""
    kind, given = translate.response_format(request)
    if kind == "text":
        return {}
    schema = {"schema": inline_references(given["schema"])} if given else {}
    return {"responseFormat": {"type": "JSON_OBJECT", **schema}}


def one_text(request: ChatRequest, target: Target) -> None:
    """Raise Unsupported for more than one answer, or more than text, if the format has no more."""
    if request.body.get("n", 1) != 1:
        raise Unsupported(f"{target.public_name or target.model} gives one answer a request.", param="n")
    translate.require_text_output(request, target.public_name or target.model)
