"""Finish reasons of all dialects in one table."""

import re
from collections.abc import Mapping
from typing import Any

from core.events import FinishReason

FINISH_REASONS: Mapping[str, FinishReason] = {
    **dict.fromkeys(
        (
            "stop", "stopped", "stop_sequence", "stop_token", "stop_str", "end", "end_turn", "end_of_turn",
            "end_of_text", "end_of_sequence", "eos", "eos_token", "eos_token_id", "eot", "complete", "completed",
            "done", "finish", "finished", "success", "normal", "pause_turn",
        ),
        "stop",
    ),
    **dict.fromkeys(
        (
            "length", "max_length", "max_tokens", "max_new_tokens", "max_output_tokens", "max_completion_tokens",
            "max_tokens_reached", "token_limit", "token_limit_reached", "error_limit", "model_length",
            "context_length", "model_context_window_exceeded", "continuation", "incomplete",
        ),
        "length",
    ),
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call", "function_calls"), "tool_calls"),
    **dict.fromkeys(
        (
            "content_filter", "content_filtered", "content_filtering", "filtered", "sensitive", "safety", "refusal",
            "guardrail", "guardrail_intervened", "moderation", "error_toxic", "recitation", "language", "blocklist",
            "prohibited_content", "spii", "image_safety", "image_prohibited_content", "image_recitation", "escalation",
            "model_armor",
        ),
        "content_filter",
    ),
}  # fmt: skip
"""OpenAI's own, Anthropic's, Bedrock's, Cohere's, Gemini's, OCI's, Mistral's, Zhipu's and TGI's, without case."""

FAILURES = frozenset({
    "other", "image_other", "no_image", "missing_thought_signature", "unexpected_tool_call", "too_many_tool_calls",
    "insufficient_system_resource",
})  # fmt: skip
FAILED = re.compile(r"error|abort|cancel|fail|interrupt|malformed|time_?out")
"""Words, and parts of words, for a model that could not finish; the table above goes first."""

NONE_YET = frozenset({"finish_reason_unspecified", "unspecified", "null", "none"})


def normalize_reason(word: Any) -> str:
    """The word in lower case with underscores, as in the table: EndTurn, END-TURN and end_turn are one. "" for none."""
    if not word:
        return ""
    if not isinstance(word, str):
        return f"({type(word).__name__})"
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word.strip()).lower().replace("-", "_").replace(" ", "_")
    return "" if text in NONE_YET else text.removeprefix("finish_reason_")


def is_failure(word: Any) -> bool:
    """Whether the word means that the model could not finish."""
    text = normalize_reason(word)
    return text in FAILURES or (text not in FINISH_REASONS and bool(FAILED.search(text)))


def finish_reason(word: Any, *, has_content: bool) -> FinishReason | None:
    """OpenAI's finish reason; None for a failure. An unknown word is `stop` if there is an answer, and a failure if
    there is none.
    """
    known = FINISH_REASONS.get(normalize_reason(word))
    return known if known or is_failure(word) or not has_content else "stop"
