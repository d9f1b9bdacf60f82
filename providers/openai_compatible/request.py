"""A request for an OpenAI-shaped upstream: the caller's body without what the upstream refuses (dialects.py)."""

import re
from base64 import b32encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from core.events import Images, Usage
from core.json_values import Json
from core.requests import ChatRequest, EmbeddingsRequest, ImagesRequest
from providers.base import Target
from providers.common.history import mend_history
from providers.common.image_fetch import parse_images, seconds
from providers.common.translate import content_text
from providers.dialects import ANY_ROLE, Dialect
from providers.vendors import Vendor

Message = Mapping[str, Any]

PLAIN_ROLES = frozenset({"system", "user", "assistant"})
CAPS = ("max_tokens", "max_completion_tokens")
FOREIGN_KEYS = frozenset({"thinking_blocks", "is_error", "cache_control"})
"""Keys of messages that came in another dialect, for vendors that know them."""
CALL_KEYS = frozenset({"id", "type", "function", "custom"})

# https://platform.openai.com/docs/api-reference/chat/create, the published document of 2026-08-21
OPENAI_PARAMETERS = frozenset({
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
    "max_tokens", "messages", "metadata", "modalities", "model", "moderation", "n", "parallel_tool_calls",
    "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "stream",
    "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
    "web_search_options",
})  # fmt: skip
# https://platform.openai.com/docs/api-reference/images/create, and parameters that only openai 3.52 has
IMAGE_PARAMETERS = frozenset({
    "background", "complexity", "frame_count", "frame_duration_ms", "model", "moderation", "n", "output_compression",
    "output_format", "partial_images", "prompt", "quality", "response_format", "safety_identifier", "size", "style",
    "svg", "user",
})  # fmt: skip
IMAGE_DETAILS = ("background", "output_format", "quality", "size", "usage")
"""Keys of OpenAI's answer besides the images."""


def to_upstream(
    request: ChatRequest, target: Target, vendor: Vendor, give_back: Callable[[Json], Json] = lambda body: body
) -> Json:
    """The body for this target, with a history that no vendor refuses. A strict row gets no parameter that OpenAI does
    not publish, unless the target's own rules say so. `give_back` adds the values that the upstream requires back.
    """
    dialect = vendor.dialect
    body = {
        key: value
        for key, value in request.body.items()
        if (not vendor.strict or key in OPENAI_PARAMETERS) and key not in dialect.refuses
    }
    if dialect.takes:
        body = {key: value for key, value in body.items() if key in dialect.takes or key in dialect.names}
    body["model"] = target.model
    if request.native is not None:
        _leave_out_foreign(body, dialect)
    if not _is_plain(body["messages"]):
        body["messages"] = mend_history(body["messages"])
        if "functions" in dialect.refuses:
            body["messages"] = _without_functions(body["messages"])
        body = give_back(body)
        body["messages"] = fit_messages(body["messages"], dialect)
    if request.stream and vendor.usage and "stream_options" not in target.refused:
        body["stream_options"] = {**body.get("stream_options", {}), "include_usage": True}
    else:
        body.pop("stream_options", None)
    if "functions" in dialect.refuses and "functions" in request.body:
        body["tools"] = request.tools
        if "function_call" in request.body:
            body["tool_choice"] = request.tool_choice
    _rename(body, request, target, dialect)
    if target.max_tokens is not None:
        for cap in CAPS:
            if cap in body:
                body[cap] = min(body[cap], target.max_tokens)
    return target.rules.apply(body)


def _leave_out_foreign(body: Json, dialect: Dialect) -> None:
    """Remove the keys that only the caller's own dialect has. A list of text parts becomes one text, because not every
    server accepts a list.
    """
    body["messages"] = [_plainer(message, dialect) for message in body["messages"]]
    if not dialect.cache_marks and "tools" in body:
        body["tools"] = [{key: each for key, each in tool.items() if key != "cache_control"} for tool in body["tools"]]


def _plainer(message: Message, dialect: Dialect) -> Message:
    made = {key: each for key, each in message.items() if key not in FOREIGN_KEYS}
    if isinstance(parts := made.get("content"), list) and not dialect.cache_marks:
        if all(part["type"] == "text" for part in parts):
            made["content"] = "\n\n".join(part["text"] for part in parts)
        else:
            made["content"] = [{key: each for key, each in part.items() if key != "cache_control"} for part in parts]
    return made


def _rename(body: Json, request: ChatRequest, target: Target, dialect: Dialect) -> None:
    """Rename parameters for this upstream, and remove those that the model refuses."""
    names = dialect.names
    for pattern, rules in dialect.models.items():
        if re.fullmatch(pattern, target.model):
            names = {**names, **rules.rename}
            for name in rules.delete:
                body.pop(name, None)
            break
    for old, new in names.items():
        if old in body and new not in target.refused:
            value = body.pop(old)
            if new in CAPS:
                body[new] = request.max_tokens
            else:
                body.setdefault(new, value)


def _is_plain(messages: Sequence[Message]) -> bool:
    """Whether every upstream accepts all messages: each has a role and a text, and nothing else."""
    for message in messages:
        if len(message) != 2 or message["role"] not in PLAIN_ROLES or type(message.get("content")) is not str:  # noqa: PLR2004
            return False
    return True


def _without_functions(given: Sequence[Message]) -> list[Message]:
    """The messages with tool calls instead of legacy function calls."""
    messages: list[Message] = []
    called = ""
    for at, message in enumerate(given):
        legacy = message.get("function_call")
        if legacy and not message.get("tool_calls"):
            called = f"call_{at}"
            kept = {key: value for key, value in message.items() if key != "function_call"}
            messages.append({**kept, "tool_calls": [{"id": called, "type": "function", "function": legacy}]})
        elif message["role"] == "function":
            messages.append({"role": "tool", "tool_call_id": called, "content": message.get("content")})
        else:
            messages.append(message)
    return messages


def fit_messages(messages: Sequence[Message], dialect: Dialect) -> list[Message]:
    """The messages as the upstream accepts them; unchanged ones are the same objects."""
    if not (dialect.message_keys or dialect.roles or dialect.call_ids):
        return list(messages)
    return [message if _is_acceptable(message, dialect) else _fit_message(message, dialect) for message in messages]


def _is_acceptable(message: Message, dialect: Dialect) -> bool:
    """Whether the upstream accepts a message unchanged."""
    keys = _keys(message["role"], dialect)
    plain = type(message.get("content")) is str and "tool_calls" not in message and "tool_call_id" not in message
    return plain and message["role"] not in dialect.roles and (not keys or message.keys() <= keys)


def _fit_message(message: Message, dialect: Dialect) -> Json:
    keys = _keys(message["role"], dialect)
    made = dict(message)
    if keys:
        made = {key: value for key, value in message.items() if key in keys and (value is not None or key == "content")}
        if dialect.text_alone and isinstance(made.get("content"), list):
            made["content"] = content_text(made["content"], "messages")
        if isinstance(content := made.get("content"), list):
            made["content"] = [{key: each for key, each in part.items() if key != "cache_control"} for part in content]
        if "refusal" not in keys and message.get("refusal") and not made.get("content"):
            made["content"] = message["refusal"]
        if isinstance(audio := made.get("audio"), dict):
            made["audio"] = {"id": audio.get("id")}  # the other keys belong to an answer
    made["role"] = dialect.roles.get(message["role"], message["role"])
    if calls := made.get("tool_calls"):
        made["tool_calls"] = [_call(call, dialect) for call in calls]
    if isinstance(identifier := made.get("tool_call_id"), str):
        made["tool_call_id"] = fit_call_id(identifier, dialect.call_ids)
    return made


def _keys(role: str, dialect: Dialect) -> frozenset[str]:
    return dialect.message_keys.get(role) or dialect.message_keys.get(ANY_ROLE) or frozenset()


def _call(call: Message, dialect: Dialect) -> Json:
    made = dict(call)
    if dialect.message_keys:
        known = {key: each for key, each in call.items() if key in CALL_KEYS or key in dialect.returned_in_call}
        made = {"type": "function", **known}
        if isinstance(function := made.get("function"), dict):
            made["function"] = {key: each for key, each in function.items() if key in ("name", "arguments")}
    if isinstance(identifier := made.get("id"), str):
        made["id"] = fit_call_id(identifier, dialect.call_ids)
    return made


def fit_call_id(identifier: str, pattern: str) -> str:
    """A call's id that matches the pattern: unchanged, or derived from its hash, so that equal ids stay equal and
    different ids different. Unchanged too if no text of letters and digits matches the pattern.
    """
    if not pattern or re.fullmatch(pattern, identifier):
        return identifier
    digest = b32encode(sha256(identifier.encode(errors="replace")).digest()).decode().rstrip("=").lower()
    lengths = range(len(digest), 0, -1)
    return next((digest[:length] for length in lengths if re.fullmatch(pattern, digest[:length])), identifier)


def embeddings_to_upstream(request: EmbeddingsRequest, batch: list[Any], model: str, *, strict: bool) -> dict[str, Any]:
    """One batch of an embeddings request, without missing values, and if strict without keys that OpenAI does not have.

    The vectors are requested as numbers in any case: many servers have no base64, and it is encoded here.
    """
    optional: Mapping[str, Any] = {
        "dimensions": request.dimensions,
        "input_type": None if strict else request.input_type,
        "user": request.user,
        "encoding_format": "float",
    }
    return {"model": model, "input": batch, **{key: value for key, value in optional.items() if value is not None}}


def images_to_upstream(request: ImagesRequest, target: Target, *, strict: bool) -> dict[str, Any]:
    """The body for this target. Without a model of the caller's the body has none, so that the upstream chooses.

    gpt-image models refuse `response_format` and `style`: they always answer with base64.
    """
    body = {key: value for key, value in request.body.items() if not strict or key in IMAGE_PARAMETERS}
    if request.model:
        body["model"] = target.model
    if "gpt-image" in target.model:
        body = {key: value for key, value in body.items() if key not in ("response_format", "style")}
    return target.rules.apply(body)


def images_from_upstream(answer: Any) -> Images:
    """The images of an answer, and the other keys of OpenAI's answer. Raises one of BAD_SHAPE."""
    details = {key: answer[key] for key in IMAGE_DETAILS if answer.get(key) is not None}
    counts = details.get("usage")
    usage = Usage(int(counts["input_tokens"]), int(counts["output_tokens"])) if counts else None
    return Images(parse_images(answer), seconds(answer.get("created")), usage, details)


def rows_in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of an embeddings answer in the order of their indices; in their own order if one has no index."""
    indexed = all(type(row.get("index")) is int for row in rows)
    return sorted(rows, key=lambda row: row["index"]) if indexed else rows
