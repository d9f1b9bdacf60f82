"""Estimates the tokens of a text, and of a chat's prompt, without a tokenizer. Pure."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

CJK = "\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
"""Kana and ideographs, which are written without spaces, for the brackets of a regular expression."""
# Characters for which common tokenizers need about a token each: CJK and its punctuation, Hangul syllables, emoji.
_DENSE = re.compile(f"[{CJK}\u3000-\u30ff\uac00-\ud7a3\uff00-\uff60\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff]")
CHARACTERS_PER_TOKEN = 4

MESSAGE_TOKENS = 4
"""Tokens of the marks around each message."""
IMAGE_TOKENS = 1_600
"""Tokens of a picture of a million pixels: https://platform.claude.com/docs/en/build-with-claude/vision"""
FILE_TOKENS = 3_000
"""Tokens of a page or two. The size of a document's base64 says little about the length of its text."""


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of `text`: one for each CJK character, syllable or emoji, one for four other characters.

    At least 1, and 0 only for an empty text. An ordinary English word with its space counts 1, as in most tokenizers.
    """
    if not text:
        return 0
    dense = 0 if text.isascii() else len(_DENSE.findall(text))
    return max(1, dense + (len(text) - dense) // CHARACTERS_PER_TOKEN)


def estimate_prompt_tokens(body: Mapping[str, Any]) -> int:
    """Estimate the tokens of a chat in OpenAI's dialect: its messages with their tool calls, and its tools."""
    total = sum(_message_tokens(message) for message in body["messages"])
    tools = body.get("tools")
    return total + (len(orjson.dumps(tools)) // CHARACTERS_PER_TOKEN if tools else 0)


def _message_tokens(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    total = MESSAGE_TOKENS
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content or ():
        if part["type"] == "image_url":
            total += IMAGE_TOKENS
        elif part["type"] == "file":
            total += FILE_TOKENS
        else:
            total += estimate_tokens(str(part.get("text") or ""))
    for call in message.get("tool_calls") or ():
        function = call["function"]
        total += estimate_tokens(function["name"]) + estimate_tokens(function["arguments"])
    return total
