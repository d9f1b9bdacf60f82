"""One function repairs a conversation's history for every dialect (providers/common/history.py)."""

import json
from copy import deepcopy
from typing import Any

import pytest

from providers.common.history import INTERRUPTED, mend_history

USER = {"role": "user", "content": "What time is it?"}


def call(identifier: Any = "c1", arguments: Any = "{}", name: str = "get_time") -> dict[str, Any]:
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def result(identifier: Any = "c1", content: str = "nine") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identifier, "content": content}


def repaired_history(*messages: dict[str, Any]) -> list[Any]:
    """The mended messages; the given ones must be what they were."""
    before = deepcopy(messages)
    made = list(mend_history(messages))
    assert messages == before
    assert mend_history(made) == made, "what is mended needs no mending"
    return made


def test_a_sound_history_is_left_as_it_is() -> None:
    """Byte for byte: a vendor that caches prompts must find the one that it knows."""
    messages = [USER, calling(call(arguments='{ "a":1 }')), result(), {"role": "assistant", "content": "Nine."}, USER]
    assert all(after is before for after, before in zip(repaired_history(*messages), messages, strict=True))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("", {}),
        ("  ", {}),
        (None, {}),
        ("null", {}),
        ("[]", {}),
        ('""', {}),
        ('"{}"', {}),
        ('"{\\"city\\": \\"Paris\\"}"', {"city": "Paris"}),
        ({"city": "Paris"}, {"city": "Paris"}),
        ('{"x": NaN}', {"x": None}),
        ('{"x": "\\ud83d"}', {"x": "\ufffd"}),
        ('{"city": "Par', {"_raw": '{"city": "Par'}),
        ("[1, 2]", {"_raw": "[1, 2]"}),
        ([1, 2], {"_raw": [1, 2]}),
        ("7", {"_raw": "7"}),
        ("Paris", {"_raw": "Paris"}),
        ("[" * 100_000, {"_raw": "[" * 100_000}),
    ],
)
def test_arguments_become_the_text_of_an_object(given: Any, wanted: Any) -> None:
    _, assistant, *_ = repaired_history(USER, calling(call(arguments=given)), result(), USER)
    made = assistant["tool_calls"][0]["function"]["arguments"]
    assert isinstance(made, str)
    assert json.loads(made) == wanted


def test_arguments_and_type_that_are_missing_are_put_in() -> None:
    _, assistant, _ = repaired_history(USER, calling({"id": "c1", "function": {"name": "get_time"}}), result())
    assert assistant["tool_calls"] == [call()]


def test_a_past_call_without_its_result_gets_a_stand_in() -> None:
    """The user has cut in, and the framework has written no result for the call, nor ever will."""
    messages = repaired_history(USER, calling(call(), call("c2")), result(), USER)
    assert messages[3:] == [result("c2", INTERRUPTED), USER]
    assert "interrupted" in INTERRUPTED
    _, legacy, stand_in, _ = repaired_history(
        USER, {"role": "assistant", "function_call": {"name": "tick", "arguments": "null"}}, USER
    )
    assert legacy["function_call"]["arguments"] == "{}"
    assert stand_in == {"role": "function", "name": "tick", "content": INTERRUPTED}


def test_a_past_result_without_its_call_is_left_out() -> None:
    assert repaired_history(result(), USER) == [USER]
    assert repaired_history(USER, calling(call()), result(), result(), USER) == [USER, calling(call()), result(), USER]
    assert repaired_history(USER, calling(call()), result("c9"), USER) == [
        USER,
        calling(call()),
        result("c1", INTERRUPTED),
        USER,
    ]


def test_a_late_result_goes_behind_its_call() -> None:
    """Also past an answer that did not wait for it."""
    aside = {"role": "assistant", "content": "One moment."}
    assert repaired_history(USER, calling(call()), USER, aside, result(), USER) == [
        USER, calling(call()), result(), USER, aside, USER,
    ]  # fmt: skip


def test_what_is_new_is_left_as_it_came() -> None:
    """Whoever reads it refuses it: the caller can still mend that."""
    for messages in (
        [USER, calling(call())],
        [USER, calling(call(), call("c2")), result()],
        [USER, result("c9")],
        [USER, calling(call()), result(), result()],
    ):
        assert repaired_history(*messages) == messages


def test_an_id_is_given_to_calls_that_repeat_or_lack_one() -> None:
    """Their results follow in order, and the ids are the same when the conversation comes again, longer."""
    past = [USER, calling(call("call_0")), result("call_0", "1"), calling(call("call_0")), result("call_0", "2"), USER]
    again = [calling(call("d"), call("d")), result("d", "3"), result("d", "4"), USER]
    lacking = [calling(call(""), call(None)), result("", "5"), result(None, "6"), USER]
    messages = repaired_history(*past, *again, *lacking)
    calls = [each["id"] for message in messages for each in message.get("tool_calls", ())]
    results = [(message["tool_call_id"], message["content"]) for message in messages if message["role"] == "tool"]
    assert len(set(calls)) == 6
    assert all(identifier and identifier.replace("_", "").isalnum() for identifier in calls)
    assert results == list(zip(calls, "123456", strict=True))
    assert mend_history(past) == messages[: len(past)]


def test_a_made_id_is_nobody_elses() -> None:
    messages = repaired_history(
        USER, calling(call("call_3_0")), result("call_3_0"), calling(call("call_3_0")), result("call_3_0")
    )
    first, second = (message["tool_calls"][0]["id"] for message in messages if "tool_calls" in message)
    assert first == "call_3_0" != second


def test_a_list_of_no_calls_is_taken_out() -> None:
    """Answers are sent back as they came, and some vendors' have an empty list."""
    said = {"role": "assistant", "content": "Nine."}
    assert repaired_history(USER, {**said, "tool_calls": []}, USER) == [USER, said, USER]
