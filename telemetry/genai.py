"""The names of OpenTelemetry's conventions for generative AI, as of November 2026; they are in development, and their
Python constants are deprecated: https://github.com/open-telemetry/semantic-conventions-genai.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_NAME = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
CONVERSATION_ID = "gen_ai.conversation.id"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"

ERROR_TYPE = "error.type"
HTTP_METHOD = "http.request.method"
HTTP_STATUS = "http.response.status_code"
URL_PATH = "url.path"

CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"

OPERATIONS = {
    "chat": "chat",
    "messages": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
    "images": "generate_content",
}
"""The operation of each endpoint; others keep the endpoint's name."""

MOST_CHARACTERS = 20_000
"""Characters of a conversation in a span."""


def input_messages(messages: Iterable[Mapping[str, Any]]) -> str:
    """A conversation in OpenAI's form as the attribute INPUT_MESSAGES: texts and tool calls; of a long one, only its
    end.
    """
    kept: list[bytes] = []
    size = 0
    for message in reversed(list(messages)):
        data = orjson.dumps({"role": message.get("role"), "parts": [*_texts(message), *_calls(message)]}, default=str)
        size += len(data)
        if size > MOST_CHARACTERS:
            break
        kept.append(data)
    return f"[{b','.join(reversed(kept)).decode()}]"


def output_messages(text: str) -> str:
    """An answer as the attribute OUTPUT_MESSAGES."""
    parts = [{"type": "text", "content": text[:MOST_CHARACTERS]}]
    return orjson.dumps([{"role": "assistant", "parts": parts}]).decode()


def _texts(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    content = message.get("content")
    parts = [{"text": content}] if isinstance(content, str) else content if isinstance(content, list) else []
    for part in parts:
        if isinstance(part, Mapping) and isinstance(text := part.get("text"), str):
            if message.get("role") == "tool":
                yield {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": text}
            else:
                yield {"type": "text", "content": text}


def _calls(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for call in message.get("tool_calls") or ():
        function = call.get("function", {})
        yield {
            "type": "tool_call",
            "id": call.get("id"),
            "name": function.get("name"),
            "arguments": function.get("arguments"),
        }
