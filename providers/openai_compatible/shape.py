"""Checks whether an upstream's answer has the shape of OpenAI's: by its keys, and by their values.

Clients rely on these invariants of OpenAI without checks, so passthrough.py checks them before bytes may pass.
"""

import re
from collections.abc import Mapping
from types import NoneType
from typing import Any

from providers.common.tool_calls import MOST_CALLS, ToolCallTracker, is_object
from providers.openai_compatible.decode import SERVICE_TIERS, are_logprobs

CHUNK_KEYS = frozenset(
    {"id", "object", "created", "model", "service_tier", "system_fingerprint", "choices", "usage", "obfuscation"}
)
CHOICE_KEYS = frozenset({"index", "delta", "finish_reason", "logprobs"})
DELTA_KEYS = frozenset({"role", "content", "refusal", "tool_calls", "function_call", "annotations", "audio"})
BODY_KEYS = CHUNK_KEYS | {"metadata", "moderation"}
BODY_CHOICE_KEYS = frozenset({"index", "message", "finish_reason", "logprobs"})
BEGUN = re.compile(r'\s*\{\s*"')
"""The beginning of a call's arguments, if there are any."""
CALL_KEYS = frozenset({"index", "id", "type", "function", "custom"})
FUNCTION_KEYS = frozenset({"name", "arguments"})
MESSAGE_KEYS = frozenset({"role", "content", "refusal", "annotations"})
TEXT = (str, NoneType)
VALUES: Mapping[str, Any] = {
    **dict.fromkeys(("role", "content", "refusal", "reasoning_content"), TEXT),
    **dict.fromkeys(("tool_calls", "annotations"), (list, NoneType)),
    **dict.fromkeys(("function_call", "audio"), (dict, NoneType)),
}
FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
MOST = 2**63


def is_chunk(chunk: Mapping[str, Any]) -> bool:
    """Whether it has all keys of OpenAI's chunks, which clients read without checks."""
    return chunk.get("object") == "chat.completion.chunk" and _has_head(chunk) and _holds(chunk["choices"], "delta")


def is_body(body: Any) -> bool:
    """The same for a whole answer."""
    whole = isinstance(body, dict) and body.get("object") == "chat.completion" and _has_head(body)
    return whole and bool(body["choices"]) and _holds(body["choices"], "message")


def _has_head(data: Mapping[str, Any]) -> bool:
    get = data.get
    return (
        isinstance(get("choices"), list)
        and isinstance(get("id"), str)
        and isinstance(get("model"), str)
        and type(get("created")) is int
        and ((tier := get("service_tier")) is None or (isinstance(tier, str) and tier in SERVICE_TIERS))
        and isinstance(get("system_fingerprint"), TEXT)
    )


def _holds(choices: list[Any], key: str) -> bool:
    for choice in choices:  # noqa: SIM110 - a generator costs more, and every frame comes by here
        if not isinstance(choice, dict) or not isinstance(choice.get(key), dict):
            return False
    return True


def body_may_pass(body: Mapping[str, Any], message_keys: frozenset[str]) -> bool:
    """Whether a whole answer (is_body) has no keys besides OpenAI's."""
    return (
        body.keys() <= BODY_KEYS
        and (body.get("usage") is None or is_usage(body["usage"]))
        and all(
            choice.keys() <= BODY_CHOICE_KEYS
            and is_index(choice.get("index"))
            and is_reason(choice.get("finish_reason"))
            and (choice.get("logprobs") is None or are_logprobs(choice["logprobs"]))
            and MESSAGE_KEYS <= (message := choice["message"]).keys() <= message_keys
            and message["role"] == "assistant"
            and isinstance(message["annotations"], list)
            and are_values(message)
            and _calls_are_whole(message.get("tool_calls"), choice["finish_reason"])
            for choice in body["choices"]
        )
    )


def is_index(value: Any) -> bool:
    """Whether it is the index of a choice or a call."""
    return type(value) is int and value >= 0


def is_reason(word: Any) -> bool:
    """Whether it is one of OpenAI's finish reasons."""
    return isinstance(word, str) and word in FINISH_REASONS


def is_usage(counts: Any) -> bool:
    """Whether it has OpenAI's counts, of 64 bits at most."""
    if not isinstance(counts, dict):
        return False
    totals: list[Any] = [counts.get("prompt_tokens"), counts.get("completion_tokens"), counts.get("total_tokens")]
    if [type(each) for each in totals] != [int, int, int] or max(totals) >= MOST:
        return False
    return _are_counts(counts.get("prompt_tokens_details")) and _are_counts(counts.get("completion_tokens_details"))


def _are_counts(details: Any) -> bool:
    if not isinstance(details, dict):
        return details is None
    return all(count is None or type(count) is int for count in details.values())


def are_values(delta: Mapping[str, Any]) -> bool:
    """Whether the values of a delta, or a message, have OpenAI's types."""
    for key, value in delta.items():
        if not isinstance(value, VALUES[key]):
            return False
    return all(_is_citation(each) for each in delta.get("annotations") or ())


def _is_citation(annotation: Any) -> bool:
    cited = annotation.get("url_citation") if isinstance(annotation, dict) else None
    return (
        isinstance(cited, dict)
        and annotation.get("type") == "url_citation"
        and all(isinstance(cited.get(key), str) for key in ("url", "title"))
        and all(is_index(cited.get(key)) for key in ("start_index", "end_index"))
    )


def _calls_are_whole(calls: Any, finish: str) -> bool:
    if not calls:
        return finish != "tool_calls"
    ids = [call.get("id") for call in calls if isinstance(call, dict)]
    distinct = all(isinstance(each, str) and each for each in ids) and len(set(ids)) == len(calls)
    if finish in ("stop", "function_call") or len(calls) > MOST_CALLS or not distinct:
        return False
    return all(_call_is_whole(call) for call in calls)


def _call_is_whole(call: Mapping[str, Any]) -> bool:
    if not call.keys() <= CALL_KEYS:
        return False
    if call.get("type") == "custom":
        return isinstance(call.get("custom"), dict)
    function = call.get("function")
    return (
        call.get("type") == "function"
        and isinstance(function, dict)
        and function.keys() == FUNCTION_KEYS
        and isinstance(function["name"], str)
        and function["name"] != ""
        and isinstance(function["arguments"], str)
        and is_object(function["arguments"])
    )


def call_may_pass(called: list[Any], calls: ToolCallTracker) -> bool:
    """Whether a delta's call is one of OpenAI's. One call a delta; a new one has the next index, an id and a name; a
    known one has only arguments, which begin as those of an object.
    """
    if len(called) != 1 or not isinstance(called[0], dict):
        return False
    call = called[0]
    function = call.get("function")
    if not isinstance(function, dict) or not (call.keys() <= CALL_KEYS and function.keys() <= FUNCTION_KEYS):
        return False
    index, identifier, name, piece = call.get("index"), call.get("id"), function.get("name"), function.get("arguments")
    if not isinstance(piece, str):
        return False
    known = calls.opened.get(index) if type(index) is int else None
    if not (known and known.begun) and piece.strip() and not BEGUN.match(piece):
        return False
    if known is not None:
        return name is None and identifier in (None, known.id) and call.get("type") in (None, "function")
    fresh = isinstance(identifier, str) and identifier != "" and identifier not in calls.by_id
    has_name = isinstance(name, str) and name != "" and call.get("type") == "function"
    return is_index(index) and index == len(calls.opened) and fresh and has_name


def may_end(finish: str, calls: ToolCallTracker | None) -> bool:
    """Whether a choice with these calls may end so: with tool_calls, and with arguments for each call."""
    if calls is None:
        return finish != "tool_calls"
    return finish not in ("stop", "function_call") and all(call.begun for call in calls.opened.values())
