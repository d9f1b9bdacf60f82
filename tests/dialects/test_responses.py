"""The conversations and faults of test_dialects.py asked as /v1/responses: every vendor answers in that dialect too."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import until
from tests.dialects.test_dialects import HURRIED, DialectClient, dialect_client, leaves
from tests.emulators import FAULTS, Fault, Phase, ScriptedAnswer, cases
from tests.emulators.answers import TEXTS
from tests.emulators.dialects import DIALECTS
from tests.support.conversations import AFTERWARDS, CONVERSATIONS, HI, TIME, WEATHER, Conversation, Wanted
from tests.support.frames import error
from tests.support.responses import calls_of, checked_response, events, final_response, responses_body, text_of

LEGACY = "legacy functions"
"""This dialect never had them."""
FINISHES = {"length": "max_output_tokens", "content_filter": "content_filter"}


def ask(line: DialectClient, body: Any, stream: bool) -> Any:
    given = {"model": line.dialect.model, "provider": line.dialect.name, "messages": HI, "stream": stream, **body}
    return line.client.post("/v1/responses", json=responses_body(given), buffered=True)


def received_answer(response: Any, stream: bool) -> Wanted:
    """An answer as the table has it."""
    if response.status_code != 200:
        said = error(response.data)
        return Wanted(status=response.status_code, code=said["code"], retry_after=response.headers.get("Retry-After"))
    found = final_response(response.data) if stream else checked_response(response.json)
    calls = tuple(calls_of(found))
    details = found["incomplete_details"]
    finish = next((k for k, v in FINISHES.items() if details and details["reason"] == v), "")
    usage = found["usage"]
    tokens = (
        usage["input_tokens"],
        usage["output_tokens"],
        usage["input_tokens_details"]["cached_tokens"],
        usage["output_tokens_details"]["reasoning_tokens"],
    )
    thought = "".join(part["text"] for item in found["output"] for part in item.get("summary", ()))
    return Wanted(text_of(found), calls, finish or ("tool_calls" if calls else "stop"), tokens, thought)


@pytest.fixture(scope="module", params=DIALECTS, ids=str)
def line(request: pytest.FixtureRequest) -> Iterator[DialectClient]:
    with dialect_client(request.param) as patient:
        yield patient


@pytest.fixture(scope="module", params=DIALECTS[:3], ids=str)
def faulty(request: pytest.FixtureRequest) -> Iterator[tuple[DialectClient, DialectClient]]:
    """Three kinds of vendors will do: how a fault is told is the encoder's matter, whoever has it."""
    with dialect_client(request.param) as patient, dialect_client(request.param, **HURRIED) as hurried:
        yield patient, hurried


@pytest.mark.parametrize("said", [each for each in CONVERSATIONS if each.name != LEGACY], ids=str)
def test_every_vendor_has_the_conversation(line: DialectClient, said: Conversation) -> None:
    if said.name in line.dialect.without:
        pytest.skip(line.dialect.without[said.name])
    line.upstream.forget()
    line.upstream.enqueue(said.answer, said.answer)
    before = len(line.upstream.received)
    for stream in (True, False):
        found = received_answer(ask(line, said.body, stream), stream)
        assert replace(found, code=found.code if said.wanted.code else None) == said.wanted
    sent = [text for each in line.upstream.received[before:] if each.body for text in leaves(each.json)]
    dropped = ("END", "HALT")  # this dialect has no stop sequences
    assert not [text for text in said.texts if text not in " ".join(sent) and text not in dropped]


@cases(FAULTS)
def test_a_fault_is_told(faulty: tuple[DialectClient, DialectClient], fault: Fault, stream: bool) -> None:
    """Before the first event a status, after it an error and a failed response; never a response that seems whole."""
    line = faulty[fault.silent]
    line.upstream.forget()
    line.upstream.always(ScriptedAnswer(fault=fault))
    response = ask(line, {}, stream)
    until(lambda: line.upstream.open_connections() <= 1, "the connections to be closed or kept")
    line.upstream.refuse()
    line.upstream.always(ScriptedAnswer())
    if fault.harmless:
        assert received_answer(response, stream).text == "".join(TEXTS)
    elif response.status_code == 200:
        assert fault.phase in (Phase.MIDDLE, Phase.END)
        *_, values, failed = events(response.data)
        assert values["code"] == ("upstream_timeout" if fault.silent else "upstream_error")
        assert failed["type"] == "response.failed"
    else:
        assert response.status_code == (504 if fault.silent else 502)
        assert error(response.data)["message"]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_turn_by_chat_and_the_next_by_responses(line: DialectClient, stream: bool) -> None:
    """The history is what another dialect has made of it, with calls and their results."""
    line.upstream.forget()
    chat = {
        "model": line.dialect.model,
        "provider": line.dialect.name,
        "messages": AFTERWARDS,
        "tools": [WEATHER, TIME],
    }
    first = line.client.post("/v1/chat/completions", json=chat)
    assert first.status_code == 200, first.data
    messages = [*AFTERWARDS, first.json["choices"][0]["message"], {"role": "user", "content": "And tomorrow?"}]
    second = received_answer(ask(line, {"messages": messages, "tools": [WEATHER, TIME]}, stream), stream)
    assert second.text == "".join(TEXTS)
