"""`POST /v1/responses`, inbound: the caller's JSON to a ResponsesRequest, and that to the equivalent chat.

https://platform.openai.com/docs/api-reference/responses/create and https://www.openresponses.org
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import time
from typing import Any

from core.errors import InvalidRequest, Unsupported
from core.json_values import Json
from core.requests import ChatRequest, NativeBody
from schemas.chat.request import EXTRAS
from schemas.common import load, parse
from schemas.limits import DEFAULTS, Limits
from schemas.responses.items import CUSTOM_INPUT, check_items, to_messages
from schemas.responses.schema import CompactSchema, ResponsesSchema
from schemas.responses.tools import DeclaredTool, chat_tool_choice, chat_tools, declared_tools, echoed_tool

REFUSED = {
    "conversation": "Conversations are not kept here: send `previous_response_id`, or all items of the conversation.",
    "prompt": "Prompt templates are kept at OpenAI: send the prompt's own text as `instructions` and `input`.",
}
SAME = frozenset({
    "temperature", "top_p", "presence_penalty", "frequency_penalty", "user", "service_tier", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention", "safety_identifier",
})  # fmt: skip
"""Parameters that have the same name in a chat."""
OWN = frozenset({
    "access_programs", "background", "context_management", "conversation", "image", "include", "input", "instructions",
    "max_output_tokens", "max_tool_calls", "metadata", "model", "moderation", "n", "parallel_tool_calls",
    "previous_response_id", "prompt", "reasoning", "store", "stream_options", "text", "tool_choice", "tools",
    "top_logprobs", "truncation", "type",
})  # fmt: skip
"""Parameters that a chat does not have, or has in another form. All others are passed on unchanged."""
CHAT_NAMES = {
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "messages": "input",
}
MESSAGE = re.compile(r"messages\[(\d+)\]")


_schema = ResponsesSchema()
_compact_schema = CompactSchema()


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """A Responses request.

    body            the caller's JSON object, without nulls and without our own keys
    items           its input, as items
    extras          our own keys, and those of voice platforms
    named_tools     its tools that have another name in a chat, by the names of their functions there
    show_reasoning  whether the caller gets the model's thinking without asking for it
    """

    body: Mapping[str, Any]
    items: list[Json]
    extras: Mapping[str, Any] = field(default_factory=dict)
    named_tools: Mapping[str, DeclaredTool] = field(default_factory=dict)
    show_reasoning: bool = False

    @property
    def previous(self) -> str:
        """The id of the response that this one follows, "" for none."""
        return str(self.body.get("previous_response_id", ""))

    @property
    def is_stored(self) -> bool:
        """Whether the response is stored, so that another one may follow it."""
        return bool(self.body.get("store", True))

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream."""
        return bool(self.body.get("stream", False))

    def resource(self, identifier: str, model: str) -> Json:
        """The response at its beginning, with all keys of Open Responses' ResponseResource."""
        body, text = self.body, self.body.get("text", {})
        verbosity = {"verbosity": text["verbosity"]} if "verbosity" in text else {}
        return {
            "id": identifier,
            "object": "response",
            "created_at": int(time()),
            "completed_at": None,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": model,
            "output": [],
            "usage": None,
            "instructions": body.get("instructions"),
            "previous_response_id": body.get("previous_response_id"),
            "tools": [echoed_tool(tool) for tool in body.get("tools", [])],
            "tool_choice": body.get("tool_choice", "auto"),
            "parallel_tool_calls": body.get("parallel_tool_calls", True),
            "text": {"format": echoed_format(text.get("format", {"type": "text"})), **verbosity},
            "reasoning": {"effort": None, "summary": None, **body["reasoning"]} if "reasoning" in body else None,
            "truncation": body.get("truncation", "disabled"),
            "temperature": body.get("temperature", 1.0),
            "top_p": body.get("top_p", 1.0),
            "presence_penalty": body.get("presence_penalty", 0),
            "frequency_penalty": body.get("frequency_penalty", 0),
            "top_logprobs": body.get("top_logprobs", 0),
            "max_output_tokens": body.get("max_output_tokens"),
            "max_tool_calls": body.get("max_tool_calls"),
            "store": self.is_stored,
            "background": False,
            "service_tier": body.get("service_tier", "default"),
            "metadata": body.get("metadata", {}),
            "safety_identifier": body.get("safety_identifier"),
            "prompt_cache_key": body.get("prompt_cache_key"),
            **({"user": body["user"]} if "user" in body else {}),
        }


def load_responses(
    raw: bytes, *, show_reasoning: bool = False, session_id: str = "", limits: Limits = DEFAULTS
) -> ResponsesRequest:
    """A ResponsesRequest from the request's bytes. Raises InvalidRequest and Unsupported with the field's name."""
    body = {key: value for key, value in parse(raw, limits).items() if value is not None}
    limits.check(body.get("input"), "messages", "input")
    limits.check(body.get("tools"), "items", "tools")
    for name in ("text", "reasoning"):
        if isinstance(body.get(name), dict):
            body[name] = {key: value for key, value in body[name].items() if value is not None}
    body = load(_schema, body)
    for name, instead in REFUSED.items():
        if name in body:
            raise Unsupported(instead, param=name)
    if body.get("background"):
        raise Unsupported("Answers are given at once here: send `stream` instead.", param="background")
    if "input" not in body and "previous_response_id" not in body:
        raise InvalidRequest("'input' is required.", param="input", code="missing_required_parameter")
    given = body.get("input", [])
    items = [{"type": "message", "role": "user", "content": given}] if isinstance(given, str) else given
    if "input" in body:
        check_items(items)
    for at, item in enumerate(items):
        limits.check(item.get("content"), "items", f"input[{at}].content")
    extras = {key: body.pop(key) for key in EXTRAS & body.keys()}
    if session_id:
        extras.setdefault("session_id", session_id)
    if "metadata" in body:
        extras.setdefault("metadata", body["metadata"])
    return ResponsesRequest(body, items, extras, declared_tools(body.get("tools", [])), show_reasoning)


def load_compact(raw: bytes, limits: Limits = DEFAULTS) -> ResponsesRequest:
    """A request to compact a conversation; it must name a model. Raises InvalidRequest with the field's name."""
    load(_compact_schema, {key: value for key, value in parse(raw, limits).items() if value is not None})
    return load_responses(raw, limits=limits)


@dataclass(frozen=True, slots=True)
class Chat:
    """The chat of a Responses request. `places` has the field that each of its messages was made of."""

    request: ChatRequest
    places: list[str]

    def field(self, param: str | None) -> str | None:
        """Translate the name of a chat's field to the field of the Responses request that it was made of."""
        if param is None:
            return None
        if found := MESSAGE.match(param):
            at = int(found[1])
            return (self.places[at] if at < len(self.places) else "input") + param[found.end() :]
        name, _, rest = param.partition(".")
        return CHAT_NAMES[name] + (f".{rest}" if rest else "") if name in CHAT_NAMES else param


def to_chat(
    asked: ResponsesRequest, native: NativeBody, before: Sequence[Json] = (), *, drops_tools: bool = False
) -> Chat:
    """The chat of the conversation `before` and the request's own items. Raises InvalidRequest.

    `drops_tools`: tools of OpenAI's own are left out. If a chat cannot express other content, `native` notes the error
    (`lacks`), and only an upstream of the Responses dialect can be asked.
    """
    body = asked.body
    try:
        messages, places = to_messages([*before, *asked.items], kept=len(before))
        options = _tools(body, drops=drops_tools)
    except Unsupported as error:
        messages, places, options = [{"role": "user", "content": ""}], ["input"], {}
        native = replace(native, lacks=error)
    if "instructions" in body:
        messages.insert(0, {"role": "system", "content": body["instructions"]})
        places.insert(0, "instructions")
    if not messages:
        raise InvalidRequest("It holds nothing to answer.", param="input")
    kept = {key: value for key, value in body.items() if key in SAME or key not in OWN}
    chat: Json = {**kept, **options, **_text_options(body), "messages": messages}
    if "model" in body:
        chat["model"] = body["model"]
    if "max_output_tokens" in body:
        chat["max_tokens"] = body["max_output_tokens"]
    reasoning = body.get("reasoning", {})
    if "effort" in reasoning:
        chat["reasoning_effort"] = reasoning["effort"]
    if "message.output_text.logprobs" in body.get("include", ()):
        chat |= {"logprobs": True, "top_logprobs": body.get("top_logprobs", 0)}
    summary = bool(reasoning.get("summary") or reasoning.get("generate_summary"))
    shown = asked.extras.get("include_reasoning", asked.show_reasoning)
    request = ChatRequest(
        body=chat,
        model=body.get("model", ""),
        provider=asked.extras.get("provider", ""),
        stream=asked.streams,
        include_reasoning=summary or shown,
        passthrough="responses",
        native=native,
        extras=asked.extras,
    )
    return Chat(request, places)


def _text_options(body: Mapping[str, Any]) -> Json:
    """The parameters of `text`, by a chat's names."""
    text = body.get("text", {})
    options: Json = {"verbosity": text["verbosity"]} if "verbosity" in text else {}
    given = text.get("format", {})
    match given.get("type", "text"):
        case "text":
            pass
        case "json_object":
            options["response_format"] = {"type": "json_object"}
        case "json_schema":
            if not isinstance(given.get("schema"), dict):
                raise InvalidRequest("It must be a JSON schema.", param="text.format.schema")
            named = {key: given[key] for key in ("description", "schema", "strict") if given.get(key) is not None}
            options["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": given.get("name") or "answer", **named},
            }
        case _:
            raise InvalidRequest("It must be text, json_object or json_schema.", param="text.format.type")
    return options


def echoed_format(given: Json) -> Json:
    """A text format with the keys that it must have in an answer."""
    if given.get("type") != "json_schema":
        return given
    named = {key: value for key, value in given.items() if value is not None}
    return {"description": "", "strict": False, "name": "answer", **named}


def _tools(body: Mapping[str, Any], *, drops: bool) -> Json:
    """A chat's parameters for the tools and their use."""
    tools = chat_tools(body.get("tools", []), CUSTOM_INPUT, drops=drops)
    tools, choice = chat_tool_choice(body.get("tool_choice"), tools, drops=drops)
    if not tools:
        return {}
    parallel = {"parallel_tool_calls": body["parallel_tool_calls"]} if "parallel_tool_calls" in body else {}
    return {"tools": tools, **({"tool_choice": choice} if choice is not None else {}), **parallel}
