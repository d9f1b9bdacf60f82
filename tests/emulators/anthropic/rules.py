"""What api.anthropic.com refuses in a request for a message, and how it says so.

The fields are those of Anthropic's own SDK; the rest are the rules of its pages and its error texts (/api/errors,
/build-with-claude/thinking-troubleshooting). Which model refuses what is written down here once more, on purpose.
"""

import re
from collections.abc import Container, Mapping
from typing import Any

from anthropic.types.message_create_params import MessageCreateParamsBase

from tests.emulators.rules import misheaded
from tests.emulators.typed import faults_of

SAMPLING = {"temperature": 1, "top_p": 1, "top_k": 500}
NEWER = re.compile(r"claude-(opus-4-[78]|(opus|sonnet|haiku|fable|mythos)-5)")
NO_PREFILL = re.compile(r"claude-((opus|sonnet)-4-6|opus-4-[78]|(opus|sonnet|haiku|fable|mythos)-5)")
ALWAYS_THINKS = re.compile(r"claude-(fable|mythos|opus-5-5)")
OLDER = re.compile(r"claude-(3|(opus|sonnet)-4-\d{8})")
ID = re.compile(r"[a-zA-Z0-9_-]+")
SCHEMA_KEYS = {
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "allOf", "$ref",
    "$defs", "definitions", "title", "description", "format", "minItems",
}  # fmt: skip


class Refused(Exception):
    """The request is refused with this status and Anthropic's error object."""

    def __init__(self, message: str, status: int = 400, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status = status
        self.error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_011CTest"}


def check(body: Mapping[str, Any], signatures: Container[str]) -> None:
    """Raises Refused. `signatures` are those of the thinking that this vendor has done."""
    rest = {key: value for key, value in body.items() if key not in (*SAMPLING, "stream")}
    for fault in faults_of(rest, MessageCreateParamsBase):
        raise Refused(fault)
    if not isinstance(body.get("stream", False), bool):
        raise Refused("stream: Input should be a valid boolean")
    _check_sampling(body)
    _check_thinking(body)
    _check_messages(body, signatures)
    _check_tools(body)
    for place, sequence in enumerate(body.get("stop_sequences", [])):
        _require(sequence.strip(), f"stop_sequences.{place}: each stop sequence must contain non-whitespace")
    user = body.get("metadata", {}).get("user_id") or ""
    _require("@" not in user, "metadata.user_id: user_id appears to contain an email address")
    if schema := body.get("output_config", {}).get("format", {}).get("schema"):
        _require(
            not OLDER.search(body["model"]), "output_config.format: this model does not support structured outputs"
        )
        check_schema(schema)


def _require(holds: object, message: str) -> None:
    if not holds:
        raise Refused(message)


def _check_sampling(body: Mapping[str, Any]) -> None:
    for name, most in SAMPLING.items():
        if name in body:
            _require(not NEWER.match(body["model"]), f"`{name}` is deprecated for this model.")
            _require(type(body[name]) in (int, float), f"{name}: Input should be a valid number")
            _require(0 <= body[name] <= most, f"{name}: range: 0..{most}")
    if "temperature" in body and "top_p" in body and "claude-3" not in body["model"]:
        raise Refused("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")


def _check_thinking(body: Mapping[str, Any]) -> None:
    kind = body.get("thinking", {}).get("type")
    if kind == "enabled":
        message = '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive"'
        _require(not NEWER.match(body["model"]), message)
        budget = body["thinking"]["budget_tokens"]
        _require(budget >= 1024, "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        _require(budget < body["max_tokens"], "`max_tokens` must be greater than `thinking.budget_tokens`")
    if kind == "disabled":
        message = '"thinking.type.disabled" is not supported for this model.'
        _require(not ALWAYS_THINKS.match(body["model"]) and "sonnet-5-5" not in body["model"], message)
    if kind == "adaptive":
        message = "adaptive thinking is not supported on this model"
        _require(NO_PREFILL.match(body["model"]), message)
    if kind in ("enabled", "adaptive"):
        forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
        _require(not forced, "Thinking may not be enabled when tool_choice forces tool use.")
        _require(body.get("temperature", 1) == 1, "`temperature` may only be set to 1 when thinking is enabled.")


def _check_messages(body: Mapping[str, Any], signatures: Container[str]) -> None:
    messages = body["messages"]
    _require(messages, "messages: at least one message is required")
    _require(messages[0]["role"] == "user", 'messages: first message must use the "user" role')
    due: list[str] = []
    uses = [block["id"] for message in messages for block in _blocks(message) if block["type"] == "tool_use"]
    _require(len(uses) == len(set(uses)), "messages: `tool_use` ids must be unique")
    for place, message in enumerate(messages):
        at, blocks = f"messages.{place}", _blocks(message)
        _require(blocks, f"{at}: all messages must have non-empty content except for the optional final assistant one")
        if place and messages[place - 1]["role"] == message["role"]:
            raise Refused('messages: roles must alternate between "user" and "assistant"')
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        _require(set(results) <= set(due), f"{at}: unexpected `tool_use_id` found in `tool_result` blocks: {results}")
        _require(set(due) <= set(results), f"{at}: `tool_use` ids were found without `tool_result` blocks: {due}")
        _require(len(results) == len(set(results)), f"{at}: each tool_use must have a single result")
        due = [block["id"] for block in blocks if block["type"] == "tool_use"]
        _check_blocks(blocks, f"{at}.content", message["role"], signatures)
        enabled = body.get("thinking", {}).get("type") == "enabled"
        if enabled and due and "thinking" not in blocks[0]["type"]:
            raise Refused(f"{at}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`.")
    if messages[-1]["role"] == "assistant":
        _require(not NO_PREFILL.match(body["model"]), "This model does not support assistant message prefill.")
        said = _blocks(messages[-1])[-1].get("text", "")
        _require(said == said.rstrip(), "messages: final assistant content cannot end with trailing whitespace")


def _blocks(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _check_blocks(blocks: list[dict[str, Any]], at: str, role: str, signatures: Container[str]) -> None:
    allowed = {
        "user": ("text", "image", "document", "tool_result"),
        "assistant": ("text", "tool_use", "thinking", "redacted_thinking"),
    }[role]
    for place, block in enumerate(blocks):
        kind = block["type"]
        _require(kind in allowed, f"{at}.{place}: `{kind}` blocks are not permitted in `{role}` messages")
        if kind == "text":
            _require(block["text"].strip(), f"{at}.{place}: text content blocks must contain non-whitespace text")
        if kind == "tool_use":
            _require(ID.fullmatch(block["id"]), f"{at}.{place}.tool_use.id: String should match '^[a-zA-Z0-9_-]+$'")
        if kind == "thinking":
            _require(block["signature"] in signatures, f"{at}.{place}: Invalid `signature` in `thinking` block")


def _check_tools(body: Mapping[str, Any]) -> None:
    names = [tool["name"] for tool in body.get("tools", [])]
    uses = any(block["type"] == "tool_use" for message in body["messages"] for block in _blocks(message))
    _require(names or not uses, "Requests which include `tool_use` blocks must define tools")
    _require(names or "tool_choice" not in body, "tool_choice may only be specified while providing tools.")
    for place, tool in enumerate(body.get("tools", [])):
        wrong = "type" not in tool and misheaded(tool["input_schema"])
        _require(not wrong, f"tools.{place}.custom.input_schema: {wrong}")
    named = body.get("tool_choice", {}).get("name")
    _require(named in (None, *names), f"Tool '{named}' not found in provided tools")


def check_schema(schema: Any) -> None:
    """Every schema in it; names of properties and definitions are none."""
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        _require(key in SCHEMA_KEYS, f"output_config.format.schema: property '{key}' is not supported")
        for each in value.values() if key in ("properties", "$defs", "definitions") else ():
            check_schema(each)
        for each in value if key in ("anyOf", "allOf") else ():
            check_schema(each)
    check_schema(schema.get("items"))
    if schema.get("type") == "object":
        message = (
            "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
        )
        _require(schema.get("additionalProperties") is False, message)
