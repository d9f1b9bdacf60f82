"""Sessions as pure values: ids that always fit and never meet, transcripts that mean the same."""

import re
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Cancelled, GatewayError, InvalidRequest, UpstreamDown, UpstreamTimeout
from providers.bedrock.agents.request import input_file
from providers.bedrock.agents.return_control import Kept as Calls
from providers.bedrock.agents.return_control import calls, results
from providers.common.agent_input import agent_input
from providers.common.agent_sessions import (
    SessionLease,
    SessionOwner,
    belongs,
    lasting_id,
    transcript,
    transcript_key,
)
from schemas.chat.request import load_chat

ANN = SessionOwner("ann", "A/B")
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

    def pop(self, key: str) -> str | None:
        return self.values.pop(key, None)


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def agent(text: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=200), st.text(max_size=20))
def test_every_id_fits_and_is_its_owners(explicit: str, caller: str) -> None:
    owner = SessionOwner(caller, "A/B")
    identifier = lasting_id(owner, explicit)
    fresh = SessionLease(None, owner, explicit, [], 60).fresh().id
    for each in (identifier, fresh):
        assert FITTING.fullmatch(each)
        assert belongs(each, owner)
        assert not belongs(each, SessionOwner(f"{caller}x", "A/B"))
        assert not belongs(each, SessionOwner(caller, "A/C"))
    assert identifier == lasting_id(owner, explicit) != fresh


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80))
def test_nobody_owns_what_was_made_up(identifier: str) -> None:
    assert not belongs(identifier, ANN)


def test_owners_are_not_run_together() -> None:
    """ann + xA is not annx + A."""
    assert lasting_id(SessionOwner("ann", "xA/B"), "1") != lasting_id(SessionOwner("annx", "A/B"), "1")


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
    owners = [
        ANN,
        SessionOwner("bob", "A/B"),
        SessionOwner("ann", "A/C"),
        SessionOwner("ann", "A/B", {"customer": "1"}),
    ]
    assert len({transcript_key(owner, SAID) for owner in owners}) == 4


def test_a_session_of_another_owner_is_not_taken() -> None:
    """Whatever the store holds."""
    kept = Kept()
    SessionLease(kept, ANN, "1", [], 60).save(
        SessionLease(None, SessionOwner("bob", "A/B"), "1", [], 60).fresh(), [], ""
    )
    assert not SessionLease(kept, ANN, "1", [], 60).open(anything_before=True).known


STORE = Kept()
OPEN = "invocation of the conversation"


def demanded(owner: SessionOwner = ANN, session: str = "s", store: Kept = STORE) -> str:
    """The id of a call that an agent has made."""
    function = {"actionGroup": "g", "function": "f", "parameters": []}
    payload = {"invocationId": "inv", "invocationInputs": [{"functionInvocationInput": function}]}
    (identifier,) = Calls(store, owner, 60).keep([call for call, _, _ in calls(payload, session)], OPEN)
    return identifier


def file_and_find(*identifiers: str, owner: SessionOwner = ANN, store: Kept = STORE, calls: Any = ()) -> Any:
    """What the agent is told of results with these ids, of the assistant's `calls`."""
    tool_results = [{"role": "tool", "tool_call_id": each, "content": "done"} for each in identifiers]
    messages = [user("Do it"), agent(None, tool_calls=list(calls)), *tool_results]
    return results(messages, range(2, len(messages)), Calls(store, owner, 60), OPEN)


def test_a_call_of_another_session_is_not_taken() -> None:
    """Neither of another caller's, nor of another agent's, nor one that was written by hand."""
    identifier = demanded()
    assert file_and_find(identifier)[0] == "s"
    for owner in (SessionOwner("bob", "A/B"), SessionOwner("ann", "A/C")):
        with pytest.raises(InvalidRequest):
            file_and_find(identifier, owner=owner, calls=[{"id": identifier}])
    for forged in (f"{identifier}0", identifier[:-1] + "7", f"call_agent_{'0' * 24}_0"):
        with pytest.raises(InvalidRequest):
            file_and_find(forged)


def test_an_id_that_the_client_has_given_is_found_by_the_conversation() -> None:
    """Some shorten the ids that they get, and others write their own."""
    store = Kept()
    demanded(store=store)
    mine = {"id": "mine", "function": {"name": "f"}}
    session, results = file_and_find("mine", store=store, calls=[mine])
    assert (session, results["invocationId"]) == ("s", "inv")
    other = {"id": "mine", "function": {"name": "another_vendors"}}
    assert file_and_find("mine", store=store, calls=[other]) is None


def test_a_call_that_is_forgotten_is_told_anew() -> None:
    """The store may have lost it, and another vendor may have made it."""
    identifier = demanded(store=Kept())
    assert file_and_find(identifier, store=Kept(), calls=[{"id": identifier}]) is None
    assert file_and_find("call_of_another", store=Kept(), calls=[{"id": "call_of_another"}]) is None


def test_an_id_fits_wherever_the_conversation_goes_on() -> None:
    """OpenAI takes 40 characters."""
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", demanded())


def test_results_of_two_turns_do_not_go_together() -> None:
    with pytest.raises(InvalidRequest, match="different turns"):
        file_and_find(demanded(session="1"), demanded(session="2"))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_no_text_is_mistaken_for_a_call(identifier: str) -> None:
    for each in (identifier, f"call_{identifier}"):
        with pytest.raises(InvalidRequest):
            file_and_find(each)


def fail(lease: SessionLease) -> None:
    """The turn fails before the agent begins."""
    with pytest.raises(UpstreamDown), lease:
        raise UpstreamDown("It is down.")


def test_only_what_was_claimed_is_put_back() -> None:
    """A session that was never opened has not heard what its turn brings."""
    kept = Kept()
    desk = SessionLease(kept, ANN, "1", [], 60)
    assert desk.open(anything_before=False).known
    fail(desk)
    assert not kept.values
    desk.save(desk.fresh(), [], "")
    before = dict(kept.values)
    again = SessionLease(kept, ANN, "1", [], 60)
    again.open(anything_before=True)
    assert kept.values != before
    fail(again)
    assert kept.values == before


@pytest.mark.parametrize(
    ("error", "begun"),
    [
        (UpstreamTimeout("It takes long."), False),
        (Cancelled(), False),
        (UpstreamDown("It broke off."), True),
    ],
    ids=["a time-out", "a hang-up", "after its first word"],
)
def test_a_session_that_the_agent_may_still_use_is_not_put_back(error: Exception, begun: bool) -> None:
    kept = Kept()
    lease = SessionLease(kept, ANN, "1", [], 60)
    lease.save(lease.fresh(), [], "")
    again = SessionLease(kept, ANN, "1", [], 60)
    again.open(anything_before=True)
    taken = dict(kept.values)
    if begun:
        again.begin()
    with pytest.raises(type(error)), again:
        raise error
    assert kept.values == taken


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
        "tool_call_id": st.just(demanded()) | st.text(max_size=4),
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
        assert isinstance(asked.conversation_id, str)
        transcript_key(ANN, asked.messages)
        found = agent_input(asked.messages, input_file)
        if found.results:
            results(asked.messages, found.results, Calls(STORE, ANN, 60), OPEN)
    except GatewayError:
        pass


@pytest.mark.parametrize("name", ["end_call", "transfer_call", "press_digit"])
def test_an_action_that_ends_or_transfers_a_call_has_the_name_that_voice_sockets_know(name: str) -> None:
    given = {"functionInvocationInput": {"actionGroup": "phone", "function": name, "parameters": []}}
    ((_, called, arguments),) = calls({"invocationId": "i", "invocationInputs": [given]}, "s")
    assert (called, arguments) == (name, "{}")
