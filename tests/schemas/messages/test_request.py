"""Any body is loaded as a request, or gives a 400 that names its field."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidRequest
from core.token_estimate import estimate_prompt_tokens
from providers.base import Provider, Target
from providers.common.conversation import conversation
from providers.dialects import OPENAI
from providers.openai_compatible.request import to_upstream
from providers.vendors import VENDORS
from schemas.messages.request import load_messages

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "x", "text", "base64", "content", "tool"]),
    lambda each: (
        st.lists(each, max_size=2)
        | st.dictionaries(
            st.sampled_from(["type", "text", "content", "source", "data", "name", "id"]), each, max_size=3
        )
    ),
    max_leaves=6,
)
KINDS = [
    "text",
    "image",
    "document",
    "search_result",
    "tool_use",
    "tool_result",
    "thinking",
    "redacted_thinking",
    "odd",
]
FIELDS = ["text", "source", "content", "tool_use_id", "id", "name", "input", "is_error", "title", "cache_control"]
BLOCKS = st.builds(
    lambda kind, rest: {**rest, "type": kind},
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4),
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.lists(BLOCKS, max_size=3) | st.just("hi")}
)
OTHERS = st.dictionaries(
    st.sampled_from(["system", "tools", "tool_choice", "thinking", "output_config", "metadata", "mcp_servers"]),
    VALUES,
    max_size=3,
)


@given(st.lists(MESSAGES, min_size=1, max_size=4), OTHERS)
def test_anything_is_a_request_or_a_mistake(messages: list[Any], others: dict[str, Any]) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": messages, **others}
    vendor = next(each for each in VENDORS if each.dialect is OPENAI)
    mistake: InvalidRequest | None = None
    try:
        asked = load_messages(json.dumps(body).encode())
        assert estimate_prompt_tokens(asked.body) >= 0
        to_upstream(asked, Target(Provider(), "m"), vendor)
        conversation(asked.messages)
    except InvalidRequest as error:
        mistake = error
    assert mistake is None or mistake.param
