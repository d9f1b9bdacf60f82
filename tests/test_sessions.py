"""Sessions as pure values: ids that always fit and never meet, transcripts that mean the same (R10)."""

import re
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import InvalidRequest, ProxyError
from providers.bedrock_agent_calls import calls, results
from providers.bedrock_agent_turn import turn
from providers.sessions import Desk, Owner, belongs, explicit_id, lasting_id, transcript, transcript_key
from schemas.chat import load_chat

ANN = Owner("ann", "A/B")
FITTING = re.compile(r"[0-9a-zA-Z._:-]{2,100}")
"""Bedrock's SessionId."""


class Kept:
    """A store in memory."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def put(self, key: str, value: str, seconds: float) -> None:
        self.values[key] = value

    def get(self, key: str) -> str | None:
        return self.values.get(key)

    def claim(self, key: str) -> str | None:
        return self.values.pop(key, None)


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def agent(text: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=200), st.text(max_size=20))
def test_every_id_fits_and_is_its_owners(explicit: str, caller: str) -> None:
    owner = Owner(caller, "A/B")
    identifier = lasting_id(owner, explicit)
    fresh = Desk(None, owner, explicit, [], 60).fresh().id
    for each in (identifier, fresh):
        assert FITTING.fullmatch(each)
        assert belongs(each, owner)
        assert not belongs(each, Owner(f"{caller}x", "A/B"))
        assert not belongs(each, Owner(caller, "A/C"))
    assert identifier == lasting_id(owner, explicit) != fresh


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80))
def test_nobody_owns_what_was_made_up(identifier: str) -> None:
    assert not belongs(identifier, ANN)


def test_owners_are_not_run_together() -> None:
    """ann + xA is not annx + A."""
    assert lasting_id(Owner("ann", "xA/B"), "1") != lasting_id(Owner("annx", "A/B"), "1")


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1, "b": 2}'}}
SAID = [user("Hi  there"), agent("Hello."), user("Do it"), agent(None, tool_calls=[CALL])]
SAID += [{"role": "tool", "tool_call_id": "1", "content": "done"}, agent("It is done.")]


@pytest.mark.parametrize(
    "same",
    [
        [{"role": "system", "content": "Be brief."}, *SAID],
        [user(" Hi\n there"), *SAID[1:]],
        [user([{"type": "text", "text": "Hi "}, {"type": "text", "text": "there"}]), *SAID[1:]],
        [user("Hi"), user("there"), *SAID[1:]],
        [*SAID[:5], agent("It is"), agent("done. ")],
        [
            *SAID[:3],
            agent("", tool_calls=[{**CALL, "function": {"name": "f", "arguments": '{"b":2,"a":1}'}}]),
            *SAID[4:],
        ],
        [*SAID[:1], agent(" "), *SAID[1:]],
    ],
)
def test_the_same_conversation(same: list[dict[str, Any]]) -> None:
    assert transcript(same) == transcript(SAID)


@pytest.mark.parametrize(
    "other",
    [
        SAID[:-1],
        [user("Hi"), *SAID[1:]],
        [*SAID[:4], {**SAID[4], "content": "failed"}, SAID[5]],
        [*SAID[:3], agent(None, tool_calls=[{**CALL, "function": {"name": "f", "arguments": "{}"}}]), *SAID[4:]],
        [agent("Hi there"), *SAID[1:]],
        [user([{"type": "text", "text": "Hi there"}, {"type": "file", "file": {"file_data": "x"}}]), *SAID[1:]],
    ],
)
def test_another_conversation(other: list[dict[str, Any]]) -> None:
    """What a tool has told belongs to it: two callers who say the same words may be two customers."""
    assert transcript_key(ANN, other) != transcript_key(ANN, SAID)


def test_a_key_is_of_one_caller_and_one_agent() -> None:
    owners = [ANN, Owner("bob", "A/B"), Owner("ann", "A/C"), Owner("ann", "A/B", {"customer": "1"})]
    assert len({transcript_key(owner, SAID) for owner in owners}) == 4


def test_a_session_of_another_owner_is_not_taken() -> None:
    """Whatever the store holds."""
    kept = Kept()
    Desk(kept, ANN, "1", [], 60).file(Desk(None, Owner("bob", "A/B"), "1", [], 60).fresh(), [], "")
    assert not Desk(kept, ANN, "1", [], 60).open(anything_before=True).known


def demanded(session: str) -> str:
    function = {"actionGroup": "g", "function": "f", "parameters": []}
    ((identifier, _, _),) = calls(
        {"invocationId": "inv", "invocationInputs": [{"functionInvocationInput": function}]}, session
    )
    return identifier


def test_a_call_of_another_session_is_not_taken() -> None:
    """Neither of another caller's, nor of another agent's, nor one that was written by hand."""
    session = lasting_id(ANN, "1")
    messages = [user("Do it"), {"role": "tool", "tool_call_id": demanded(session), "content": "done"}]
    assert results(messages, [1], ANN)[0] == session
    for owner in (Owner("bob", "A/B"), Owner("ann", "A/C")):
        with pytest.raises(InvalidRequest):
            results(messages, [1], owner)
    for forged in (demanded("1"), demanded(""), demanded(f"1.{session.rpartition('.')[2]}")):
        with pytest.raises(InvalidRequest):
            results([user("Do it"), {**messages[1], "tool_call_id": forged}], [1], ANN)


def test_results_of_two_turns_do_not_go_together() -> None:
    one, other = (demanded(lasting_id(ANN, each)) for each in "12")
    told = [{"role": "tool", "tool_call_id": each, "content": "done"} for each in (one, other)]
    with pytest.raises(InvalidRequest, match="different turns"):
        results([user("Do it"), *told], [1, 2], ANN)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_no_text_is_mistaken_for_a_call(identifier: str) -> None:
    for each in (identifier, f"call_{identifier}"):
        with pytest.raises(InvalidRequest):
            results([user("Do it"), {"role": "tool", "tool_call_id": each, "content": "done"}], [1], ANN)


def test_only_what_was_claimed_is_put_back() -> None:
    """A session that was never opened has not heard what its turn brings."""
    kept = Kept()
    desk = Desk(kept, ANN, "1", [], 60)
    assert desk.open(anything_before=False).known
    desk.put_back()
    assert not kept.values
    desk.file(desk.fresh(), [], "")
    before = dict(kept.values)
    again = Desk(kept, ANN, "1", [], 60)
    again.open(anything_before=True)
    assert kept.values != before
    again.put_back()
    assert kept.values == before


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "x"]), inner, max_size=2),
    max_leaves=4,
)
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "file", "image_url", "x"])}, optional={"text": JUNK, "file": JUNK}
)
CALLED = st.fixed_dictionaries(
    {},
    optional={
        "id": JUNK,
        "function": JUNK | st.fixed_dictionaries({}, optional={"name": JUNK, "arguments": JUNK}),
    },
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "function"])},
    optional={
        "content": st.none() | st.text(max_size=4) | st.lists(PART, max_size=2),
        "tool_calls": st.lists(CALLED, max_size=2),
        "tool_call_id": st.just(demanded(lasting_id(ANN, "1"))) | st.text(max_size=4),
    },
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(MESSAGE, min_size=1, max_size=4),
    st.dictionaries(st.sampled_from(["call", "metadata", "elevenlabs_extra_body"]), JUNK, max_size=2),
)
def test_odd_values_are_refused_and_nothing_worse(messages: list[Any], beside: dict[str, Any]) -> None:
    try:
        asked = load_chat(orjson.dumps({"messages": messages, **beside}))
        explicit_id(asked)
        transcript_key(ANN, asked.messages)
        found = turn(asked.messages)
        if found.results:
            results(asked.messages, found.results, ANN)
    except ProxyError:
        pass
