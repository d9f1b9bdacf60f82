"""A caller's JSON to a ChatRequest: what is taken out, what is dropped, and that both checks judge alike."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.errors import InvalidRequest
from core.requests import ChatRequest
from schemas.chat.request import EXTRAS, ROLES, TYPES, ChatSchema, is_valid_fast, load_chat
from schemas.common import load
from tests.support.http import HI

FUNCTION = {"name": "get_weather", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
VAPI = {
    "call": {"id": "abc", "type": "inboundPhoneCall"},
    "phoneNumber": {"number": "+1555"},
    "customer": {"number": "+1556"},
    "metadata": {"numAssistantTurns": 3, "assistant": {"id": "x"}},
}
TELNYX = {"extra_metadata": {"telnyx_agent_target": "+1"}}
ELEVENLABS = {"user_id": "u1", "elevenlabs_extra_body": {"session_id": "s1", "deep": [1]}}
OURS = {
    "provider": "demo",
    "session_id": "s2",
    "include_reasoning": True,
    "bedrock": {"sessionAttributes": {}},
    "speech": True,
}
USUAL = {
    "model": "gpt-4o-mini",
    "temperature": 0.7,
    "top_p": 1,
    "stop": ["\n"],
    "max_tokens": 200,
    "presence_penalty": -2,
    "seed": 7,
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"50256": -100},
    "tools": [TOOL],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "response_format": {"type": "json_object"},
    "reasoning_effort": "low",
    "verbosity": "low",
    "metadata": {"call": "1"},
    "user": "u",
    "newer_than_us": {"kept": True},
}


def loaded(**fields: Any) -> ChatRequest:
    return load_chat(json.dumps({"messages": HI, **fields}).encode())


# what is passed on, and what is not


def test_every_parameter_is_kept_as_it_came() -> None:
    """No parameter is dropped, also none that is newer than this schema."""
    assert dict(loaded(**USUAL).body) == {"messages": HI, **USUAL}


@pytest.mark.parametrize(
    "fields",
    [VAPI, ELEVENLABS, TELNYX, OURS, VAPI | ELEVENLABS | TELNYX | OURS],
    ids=["Vapi", "11", "Telnyx", "ours", "all"],
)
def test_what_is_ours_or_the_platforms_is_taken_out(fields: dict[str, Any]) -> None:
    """No upstream knows these keys, and OpenAI refuses them."""
    request = loaded(temperature=0, **fields)
    assert dict(request.body) == {"messages": HI, "temperature": 0}
    assert request.extras == fields


def test_r8_names_them_all() -> None:
    assert {*VAPI, *ELEVENLABS, *TELNYX, *OURS} - {"metadata"} == EXTRAS


@pytest.mark.parametrize("metadata", [{}, {"a": "b"}, {"a": "", "b": "ü"}])
def test_metadata_of_strings_is_openais_own(metadata: dict[str, Any]) -> None:
    request = loaded(metadata=metadata)
    assert (request.body["metadata"], "metadata" in request.extras) == (metadata, False)


@pytest.mark.parametrize("value", [1, None, True, 1.5, ["b"], {"c": "d"}])
def test_any_other_metadata_is_a_platforms(value: Any) -> None:
    """`metadata` that is not string to string is a voice platform's, and no upstream takes it."""
    request = loaded(metadata={"a": "b", "x": value})
    assert "metadata" not in request.body
    assert request.extras["metadata"] == {"a": "b", "x": value}


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_negative_cap_means_none(name: str) -> None:
    for value in (-1, -100, -1.0):
        request = loaded(**{name: value})
        assert (name in request.body, request.max_tokens) == (False, None)
    for value in (1, 0, 100.0):
        assert loaded(**{name: value}).max_tokens == value


def test_the_newer_cap_wins() -> None:
    """`max_completion_tokens` goes before `max_tokens`."""
    assert loaded(max_tokens=5, max_completion_tokens=7).max_tokens == 7
    assert loaded(max_tokens=5, max_completion_tokens=-1).max_tokens == 5
    assert loaded().max_tokens is None


@pytest.mark.parametrize("name", sorted({*ChatSchema().fields, *EXTRAS, "newer_than_us"} - {"messages"}))
def test_a_null_is_dropped(name: str) -> None:
    """No nulls are sent upstream."""
    request = loaded(**{name: None})
    assert dict(request.body) == {"messages": HI}
    assert request.extras == {}


def test_what_stands_in_the_request_itself() -> None:
    request = loaded()
    assert (request.model, request.provider, request.stream) == ("", "", False)
    assert (request.include_usage, request.include_reasoning) == (False, False)
    request = loaded(
        model="m", provider="p", stream=True, stream_options={"include_usage": True}, include_reasoning=True
    )
    assert (request.model, request.provider, request.stream) == ("m", "p", True)
    assert (request.include_usage, request.include_reasoning) == (True, True)


@pytest.mark.parametrize("options", [{}, {"include_usage": False}, {"include_obfuscation": False}])
def test_usage_comes_only_when_asked_for(options: dict[str, Any]) -> None:
    assert loaded(stream=True, stream_options=options).include_usage is False
    assert loaded(stream_options={"include_usage": True}).include_usage is False


@pytest.mark.parametrize("asked", [None, False, True])
@pytest.mark.parametrize("shown", [False, True])
def test_the_request_beats_the_setting(asked: bool | None, shown: bool) -> None:
    """REASONING holds for requests without `include_reasoning`."""
    body = json.dumps({"messages": HI, "include_reasoning": asked}).encode()
    assert load_chat(body, show_reasoning=shown).include_reasoning is (shown if asked is None else asked)


# a string or a list, new or legacy


@pytest.mark.parametrize(
    ("stop", "expected"), [("\n", ["\n"]), ("END", ["END"]), (["a", "b"], ["a", "b"]), ([], []), ("", [""])]
)
def test_stop_is_a_string_or_a_list(stop: Any, expected: list[str]) -> None:
    """A string was split into its letters."""
    assert loaded(stop=stop).stop == expected
    assert loaded(stop=stop).body["stop"] == stop
    assert loaded().stop == []


def test_functions_are_tools() -> None:
    """`functions` and `function_call`, the legacy form, become tools."""
    assert loaded(functions=[FUNCTION]).tools == [TOOL]
    assert loaded(tools=[TOOL]).tools == [TOOL]
    assert loaded().tools == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "auto"),
        ({"tool_choice": "required"}, "required"),
        ({"tool_choice": NAMED}, NAMED),
        ({"function_call": "none"}, "none"),
        ({"function_call": {"name": "get_weather"}}, NAMED),
        ({"tool_choice": "none", "function_call": {"name": "get_weather"}}, "none"),
        ({"tool_choice": None, "function_call": "auto"}, "auto"),
    ],
)
def test_function_call_is_a_tool_choice(fields: dict[str, Any], expected: Any) -> None:
    """A named tool_choice crashed."""
    assert loaded(tools=[TOOL], **fields).tool_choice == expected


# content


@pytest.mark.parametrize("role", sorted(ROLES))
def test_every_role_of_openais(role: str) -> None:
    assert loaded(messages=[{"role": role, "content": "hi"}]).messages[0]["role"] == role


@pytest.mark.parametrize(
    "message",
    [
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:"}}],
        },
        {"role": "user", "content": [{"type": "newer_than_us", "x": [1]}]},
        {"role": "user", "content": []},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": {}}]},
        {"role": "assistant", "content": None, "tool_calls": None, "name": None, "tool_call_id": None},
        {"role": "assistant"},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "assistant", "content": "a", "audio": {"id": "x"}, "newer_than_us": 1},
    ],
)
def test_messages_as_clients_send_them(message: dict[str, Any]) -> None:
    assert loaded(messages=[*HI, message]).messages == [*HI, message]


# two checks, one verdict

ANY = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner | st.none(), max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
TEXT, OBJECT = st.text(max_size=3), st.dictionaries(st.text(max_size=3), ANY, max_size=2)
PARTS = st.lists(st.fixed_dictionaries({"type": TEXT}, optional={"text": TEXT}) | ANY, max_size=2)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(sorted(ROLES)) | ANY},
        optional={
            "content": TEXT | PARTS | st.none() | ANY,
            "name": TEXT | st.none() | ANY,
            "tool_calls": st.lists(OBJECT, max_size=2) | st.none() | ANY,
            "tool_call_id": TEXT | ANY,
            "newer_than_us": ANY,
        },
    )
    | ANY,
    max_size=2,
)
RIGHT: dict[type, Any] = {
    str: TEXT,
    bool: st.booleans(),
    int: st.integers(-5, 5),
    float: st.floats(allow_nan=False, allow_infinity=False),
    dict: OBJECT,
}
FIELDS: dict[str, Any] = {name: st.one_of(ANY, *(RIGHT[each] for each in types)) for name, types in TYPES.items()}
FIELDS |= {
    "n": st.integers(-1, 200) | ANY,
    "tools": st.lists(OBJECT, max_size=2) | ANY,
    "functions": st.lists(OBJECT, max_size=2) | ANY,
    "stop": TEXT | st.lists(TEXT, max_size=2) | ANY,
    "stream_options": st.fixed_dictionaries({}, optional={"include_usage": st.booleans() | ANY}) | ANY,
    "metadata": st.dictionaries(TEXT, TEXT | ANY, max_size=2) | ANY,
    "newer_than_us": ANY,
}


def schema_accepts(body: dict[str, Any]) -> bool:
    try:
        load(ChatSchema(), body)
    except InvalidRequest:
        return False
    return True


@settings(max_examples=100, deadline=None)
@given(st.fixed_dictionaries({}, optional={"messages": st.just(HI) | MESSAGES, **FIELDS}))
@example({"messages": [{"role": []}]})
@example({"messages": [{"role": {}}]})
@example({"messages": HI, "stop": ["a", 1]})
@example({"messages": HI, "temperature": 1e300})
@example({"messages": HI, "seed": 2**63})
@example({"messages": HI, "stream_options": {"include_usage": None}})
def test_what_is_plainly_right_is_right(body: dict[str, Any]) -> None:
    """The flat check never lets through what the schema would refuse (nor what it cannot judge itself)."""
    assert not is_valid_fast(body) or schema_accepts(body)


@settings(max_examples=60, deadline=None)
@given(st.lists(MESSAGES, min_size=1, max_size=3))
def test_messages_that_are_plainly_right_are_right(messages: list[Any]) -> None:
    for each in messages:
        assert not is_valid_fast({"messages": each}) or schema_accepts({"messages": each})


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({"messages": st.just(HI)}, optional=FIELDS))
def test_both_ways_lead_to_the_same_request(body: dict[str, Any]) -> None:
    """Whoever checks, the same is passed on; a whole number written 2.0 is made 2 by the schema alone."""
    if is_valid_fast(body):
        assert load(ChatSchema(), body) == body


@pytest.mark.parametrize("fields", [{}, USUAL, VAPI, ELEVENLABS, OURS, {"stream": True, "stop": "x"}])
def test_what_clients_send_is_plainly_right(fields: dict[str, Any]) -> None:
    """Or the flat check is for nothing."""
    assert is_valid_fast({"messages": HI, **fields})


def test_the_flat_check_knows_every_field() -> None:
    """A field of the schema that it does not know would go unchecked."""
    known = {*TYPES, "messages", "tools", "functions", "stop", "stream_options"}
    assert set(ChatSchema().fields) <= known


@pytest.mark.parametrize("name", sorted(TYPES))
def test_each_field_of_the_flat_check_is_one_of_the_schema(name: str) -> None:
    assert name in ChatSchema().fields
