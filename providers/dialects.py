"""Deviations of OpenAI-shaped upstreams from OpenAI's dialect, by vendor: refused parameters, keys to send back.

A refusal of another tuning parameter is learned at run time:
dispatch/resilience/refused_parameters.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.base import ParameterRules

ANY_ROLE = "*"
MESSAGE_KEYS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})
"""Keys of a message that nearly all upstreams accept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """An upstream's deviations from OpenAI's dialect. The default has none.

    refuses       parameters that are not sent to it
    takes         the only parameters that are sent to it; empty for any
    names         OpenAI's name of a parameter -> its own name
    models        the same for some of its models: a pattern of their names -> renamed and omitted parameters; the first
                  that fits
    message_keys  role, or ANY_ROLE -> the keys that its messages may have; empty for any
    roles         a role that it does not know -> the role to send instead
    call_ids      a pattern of the ids of tool calls that it takes; "" for any
    cache_marks   takes Anthropic's `cache_control` in parts and tools
    text_alone    accepts a content as one text only, not as a list of parts

    OpenAI's clients do not send back some keys that an upstream sends with its calls, and requires with them later:

    returned          keys of the message -> the value for an unknown call; None: no value
    returned_in_call  keys of the call, likewise; the value goes with a message's first call alone
    unreturned        parameters for a conversation with an unknown call
    thinking          a pattern of the models that require them; "" for all: for other models no value is made up
    """

    refuses: frozenset[str] = frozenset()
    takes: frozenset[str] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, ParameterRules] = field(default_factory=dict)
    message_keys: Mapping[str, frozenset[str]] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    call_ids: str = ""
    cache_marks: bool = False
    text_alone: bool = False
    returned: Mapping[str, Any] = field(default_factory=dict)
    returned_in_call: Mapping[str, Any] = field(default_factory=dict)
    unreturned: Mapping[str, Any] = field(default_factory=dict)
    thinking: str = ""


ANY = Dialect()

_SYSTEM = {"developer": "system"}
_MAX_TOKENS = {"max_completion_tokens": "max_tokens"}
_MAX_COMPLETION_TOKENS = {"max_tokens": "max_completion_tokens"}
_SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias")

AZURE = Dialect(
    message_keys={ANY_ROLE: MESSAGE_KEYS | {"refusal", "audio", "function_call"}},
    call_ids=r"(?s).{1,40}",
)
"""A deployment's name does not contain its model's."""

OPENAI = Dialect(
    message_keys=AZURE.message_keys,
    call_ids=AZURE.call_ids,
    # https://platform.openai.com/docs/guides/reasoning
    models={
        r"(gpt-5(-mini|-nano|-pro|-codex)?|o\d(-mini|-pro)?)(-\d{4}-\d\d-\d\d)?": ParameterRules(
            rename=_MAX_COMPLETION_TOKENS, delete=_SAMPLING
        ),
        r"(gpt-[5-9]|o\d).*": ParameterRules(rename=_MAX_COMPLETION_TOKENS),
    },
)

DEEPSEEK = Dialect(
    refuses=frozenset({"functions", "function_call"}),
    names=_MAX_TOKENS,
    roles=_SYSTEM,
    # https://api-docs.deepseek.com/guides/thinking_mode: a 400 without it while it thinks, by default.
    returned={"reasoning_content": ""},
    unreturned={"thinking": {"type": "disabled"}},
)

GROQ = Dialect(message_keys={ANY_ROLE: MESSAGE_KEYS}, roles=_SYSTEM)
"""It answers a 400 to any other key: property 'reasoning_content' is unsupported."""

# https://docs.mistral.ai/api/endpoint/chat: what it does not list is a 422, "Extra inputs are not permitted".
MISTRAL = Dialect(
    refuses=frozenset({
        "audio", "function_call", "functions", "logit_bias", "logprobs", "metadata", "modalities", "moderation",
        "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "service_tier",
        "store", "stream_options", "top_logprobs", "user", "verbosity", "web_search_options",
    }),
    names={**_MAX_TOKENS, "seed": "random_seed"},
    message_keys={
        "assistant": frozenset({"role", "content", "tool_calls", "prefix"}),
        "tool": frozenset({"role", "content", "tool_call_id", "name"}),
        ANY_ROLE: frozenset({"role", "content"}),
    },
    roles=_SYSTEM,
    call_ids="[a-zA-Z0-9]{9}",
)  # fmt: skip

# https://openrouter.ai/docs/guides/best-practices/reasoning-tokens, "preserving reasoning"
OPENROUTER = Dialect(returned={"reasoning_details": None}, cache_marks=True)

# https://ai.google.dev/gemini-api/docs/openai and /thought-signatures, which names what stands in for a lost signature.
GEMINI = Dialect(
    message_keys={ANY_ROLE: MESSAGE_KEYS},
    roles=_SYSTEM,
    returned_in_call={"extra_content": {"google": {"thought_signature": "skip_thought_signature_validator"}}},
    thinking=r"(models/)?gemini-([3-9]|.*latest).*",
)

# https://developers.deepgram.com/docs/llm/request-response-format: eight fields, any other is refused; a text alone.
DEEPGRAM = Dialect(
    takes=frozenset({
        "model", "messages", "stream", "temperature", "max_tokens", "tools", "tool_choice", "reasoning_effort",
    }),
    names=_MAX_TOKENS,
    message_keys={ANY_ROLE: frozenset({"role", "content", "tool_calls", "tool_call_id"})},
    roles=_SYSTEM,
    text_alone=True,
)  # fmt: skip

LOCAL = Dialect(roles=_SYSTEM)
"""Servers of one's own: their templates have a system role, and no developer role."""
