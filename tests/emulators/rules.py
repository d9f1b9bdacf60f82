"""What api.openai.com refuses in a chat request, and how it says so.

The parameters are those of OpenAI's published document (CreateChatCompletionRequest), top level.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

PARAMETERS = {
    "audio": "object",
    "frequency_penalty": "decimal",
    "function_call": "string or object",
    "functions": "array",
    "logit_bias": "object",
    "logprobs": "boolean",
    "max_completion_tokens": "integer",
    "max_tokens": "integer",
    "messages": "array",
    "metadata": "object",
    "modalities": "array",
    "model": "string",
    "moderation": "object",
    "n": "integer",
    "parallel_tool_calls": "boolean",
    "prediction": "object",
    "presence_penalty": "decimal",
    "prompt_cache_key": "string",
    "prompt_cache_options": "object",
    "prompt_cache_retention": "string",
    "reasoning_effort": "string",
    "response_format": "object",
    "safety_identifier": "string",
    "seed": "integer",
    "service_tier": "string",
    "stop": "string or array",
    "store": "boolean",
    "stream": "boolean",
    "stream_options": "object",
    "temperature": "decimal",
    "tool_choice": "string or object",
    "tools": "array",
    "top_logprobs": "integer",
    "top_p": "decimal",
    "user": "string",
    "verbosity": "string",
    "web_search_options": "object",
}

JSON_TYPES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "decimal",
    dict: "object",
    list: "array",
    type(None): "null",
}
ID_CHARACTERS = 40
THINKS_FIRST = re.compile(r"(gpt-5(-mini|-nano)?|o4-mini)(-\d{4}-\d\d-\d\d)?")
SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias")
ROLES = ("system", "developer", "user", "assistant", "tool", "function")


AT_NO_HEAD = ("oneOf", "anyOf", "allOf", "enum", "not")


def misheaded(schema: Mapping[str, Any]) -> str:
    """What is wrong at the head of a tool's schema, as OpenAI says it, and others alike; "" for nothing."""
    if schema.get("type") != "object" or any(key in schema for key in AT_NO_HEAD):
        return f"schema must have type 'object' and not have {'/'.join(AT_NO_HEAD)} at the top level"
    return ""


class Refused(Exception):
    """The request is refused with this status and OpenAI's error object."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}


def parse(data: bytes) -> dict[str, Any]:
    """The request's JSON object."""
    try:
        body = json.loads(data)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused(400, "We could not parse the JSON body of your request. Expected a JSON object.")
    return body


def check_chat(body: Mapping[str, Any]) -> None:
    """Raises Refused for what OpenAI would not accept; nulls are refused too, although some parameters allow them."""
    check_parameters(body, PARAMETERS, required=("model", "messages"))
    if "stream_options" in body and not body.get("stream"):
        raise Refused(
            400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    for name, value in body.get("metadata", {}).items():
        _check_type(f"metadata.{name}", value, "string")
    _check_messages(body["messages"])
    _check_tools(body)
    if THINKS_FIRST.fullmatch(str(body["model"])):
        _check_thinking(body)


def _check_thinking(body: Mapping[str, Any]) -> None:
    """What gpt-5 and its like do not take."""
    code = "unsupported_parameter"
    if "max_tokens" in body:
        message = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        raise Refused(400, message, param="max_tokens", code=code)
    for name in SAMPLING:
        if body.get(name, 1) != 1:
            message = f"Unsupported value: '{name}' does not support {body[name]} with this model."
            raise Refused(400, message, param=name, code="unsupported_value")


def check_parameters(body: Mapping[str, Any], parameters: Mapping[str, str], *, required: tuple[str, ...]) -> None:
    """Every parameter known and of its type, and the required ones there."""
    for name, value in body.items():
        if name not in parameters:
            raise Refused(400, f"Unrecognized request argument supplied: {name}", param=name, code="unknown_parameter")
        _check_type(name, value, parameters[name])
    for name in required:
        if name not in body:
            raise Refused(400, f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")


def _check_type(name: str, value: object, expected: str) -> None:
    got = JSON_TYPES[type(value)]
    if got in expected.split(" or ") or (got, expected) == ("integer", "decimal"):
        return
    message = f"Invalid type for '{name}': expected {_article(expected)}, but got {_article(got)} instead."
    raise Refused(400, message, param=name, code="invalid_type")


def _article(kind: str) -> str:
    if kind == "null":
        return kind
    if " or " in kind:
        return f"one of {kind}"
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _check_messages(messages: list[Any]) -> None:
    if not messages:
        message = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array."
        raise Refused(400, message, param="messages", code="empty_array")
    called: set[str] = set()
    for place, message in enumerate(messages):
        at = f"messages[{place}]"
        _check_type(at, message, "object")
        if message.get("role") not in ROLES:
            text = f"Invalid value: '{message.get('role')}'. Supported values are: {', '.join(map(repr, ROLES))}."
            raise Refused(400, text, param=f"{at}.role", code="invalid_value")
        for number, call in enumerate(message.get("tool_calls") or ()):
            if len(call["id"]) > ID_CHARACTERS:
                where = f"{at}.tool_calls[{number}].id"
                text = f"Invalid '{where}': string too long. Expected a string with maximum length 40."
                raise Refused(400, text, param=where, code="string_above_max_length")
        called |= {call["id"] for call in message.get("tool_calls") or ()}
        if message["role"] == "tool" and message.get("tool_call_id") not in called:
            text = (
                "Invalid parameter: messages with role 'tool' must be a response to a preceding message with "
                "'tool_calls'."
            )
            raise Refused(400, text, param=f"{at}.role")


def _check_tools(body: Mapping[str, Any]) -> None:
    names = [tool.get("function", tool).get("name") for tool in body.get("tools", [])]
    choice = body.get("tool_choice")
    if choice is not None and not names:
        raise Refused(400, "'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")
    function = choice.get("function", {}) if isinstance(choice, dict) else {}
    if not isinstance(function, dict) or ("name" in function and function["name"] not in names):
        message = f"Tool choice 'function' not found in 'tools' parameter: {function}."
        raise Refused(400, message, param="tool_choice")
