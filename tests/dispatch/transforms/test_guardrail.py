"""A model's guardrail, in every dialect and at every provider: blocked texts, masked texts, and late verdicts."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app import create_app
from config import Settings
from tests.conftest import environment, until
from tests.emulators import Call, OpenAIUpstream, ScriptedAnswer
from tests.emulators.bedrock.guardrails import BLOCKED, GUARDRAIL
from tests.emulators.bedrock.server import BedrockUpstream
from tests.emulators.dialects import models_file
from tests.emulators.oci.server import OCIUpstream
from tests.support import messages, responses
from tests.support.frames import completion, finish, streamed_calls, streamed_text

PHRASE = "Let us talk about something else."
PATIENT = {"deadline_ms": 30_000}
"""A busy machine takes its time, above all when a vendor's SDK is loaded for its first request."""
KEPT = {"provider": "bedrock-models", "id": GUARDRAIL, "version": "1", **PATIENT}
CHECKS = {
    "provider": "bedrock-models",
    "content": ["VIOLENCE"],
    "attacks": ["JAILBREAK"],
    "sensitive": ["NAME"],
    **PATIENT,
}
OCIS = {"provider": "oci", "content": ["OVERALL"], "attacks": ["any"], "sensitive": ["PERSON"], **PATIENT}


@pytest.fixture(scope="module")
def amazon() -> Iterator[BedrockUpstream]:
    with BedrockUpstream() as upstream:
        yield upstream


@pytest.fixture
def bedrock(amazon: BedrockUpstream) -> BedrockUpstream:
    amazon.guardrails.__init__()  # type: ignore[misc]
    amazon.guardrails.blocks = {"bomb"}
    amazon.guardrails.masks = {"Ada"}
    return amazon


@pytest.fixture(scope="module")
def ocis() -> Iterator[OCIUpstream]:
    with OCIUpstream() as upstream:
        upstream.objections = {"bomb"}
        yield upstream


@pytest.fixture
def app(bedrock: BedrockUpstream, ocis: OCIUpstream, upstream: OpenAIUpstream, tmp_path: Path) -> Callable[..., Any]:
    """app(guardrail): a client of an app whose model `talk` has that guardrail."""

    def start(guardrail: Any, env: Any = None, **row: Any) -> Any:
        models = [{"name": "talk", "provider": "openai", "model": "gpt-4o-mini", "guardrail": guardrail, **row}]
        file = tmp_path / "models.yaml"
        file.write_text(yaml.safe_dump({"models": models}))
        values = {**bedrock.settings, **ocis.settings(), **upstream.settings(), **(env or {})}
        return create_app(Settings.load(environment(**values, MODELS_FILE=file, DATA_DIR=tmp_path))).test_client()

    return start


def ask(client: Any, text: str = "hi", stream: bool = True, **body: Any) -> Any:
    asked = {"model": "talk", "messages": [{"role": "user", "content": text}], "stream": stream, **body}
    return client.post("/v1/chat/completions", json=asked, buffered=True)


@pytest.mark.parametrize("guardrail", [KEPT, CHECKS, OCIS], ids=["kept", "checks", "oci"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_what_the_user_may_not_say_asks_no_model(
    app: Callable[..., Any], upstream: OpenAIUpstream, guardrail: Any, stream: bool
) -> None:
    response = ask(app({**guardrail, "phrase": PHRASE}), "How do I build a bomb?", stream)
    if stream:
        assert (streamed_text(response.data), finish(response.data)) == (PHRASE, "content_filter")
    else:
        (choice,) = completion(response.data)["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == (PHRASE, "content_filter")
    assert not upstream.received


@pytest.mark.parametrize("guardrail", [KEPT, CHECKS, OCIS], ids=["kept", "checks", "oci"])
def test_what_is_blocked_in_the_middle_of_a_sentence_is_not_heard(
    app: Callable[..., Any], upstream: OpenAIUpstream, guardrail: Any
) -> None:
    """The sentence before it is; of its own, nothing is, though its first words had come by then."""
    upstream.enqueue(ScriptedAnswer(texts=["Sure", ". ", "First you", " take a ", "bomb and ", "then. ", "More."]))
    response = ask(app({**guardrail, "phrase": PHRASE}))
    assert streamed_text(response.data) == f"Sure. {PHRASE}"
    assert finish(response.data) == "content_filter"
    for word in (b"First", b"take", b"bomb", b"More"):
        assert word not in response.data


def test_the_model_is_let_go_when_it_is_blocked(app: Callable[..., Any], upstream: OpenAIUpstream) -> None:
    upstream.enqueue(ScriptedAnswer(texts=["A bomb. B", "ut ", "so ", "on."], frame_delay=30.0, role=False))
    client = app({**KEPT, "phrase": PHRASE})
    began = time.monotonic()
    assert streamed_text(ask(client).data) == PHRASE
    assert time.monotonic() - began < 15
    until(lambda: upstream.open_connections() == 0, "the model to be freed")


def test_what_passes_is_exactly_what_the_model_said(
    app: Callable[..., Any], upstream: OpenAIUpstream, bedrock: BedrockUpstream
) -> None:
    pieces = ["  Hello", " there.\n\n", "How", " are you? ", "Fine… ", "日本語。", "Bye"]
    upstream.enqueue(ScriptedAnswer(texts=pieces))
    response = ask(app(KEPT))
    assert streamed_text(response.data) == "".join(pieces)
    assert bedrock.guardrails.checked == [
        ("INPUT", "hi"),
        ("OUTPUT", "Hello there."),
        ("OUTPUT", "How are you?"),
        ("OUTPUT", "Fine…"),
        ("OUTPUT", "日本語。"),
        ("OUTPUT", "Bye"),
    ]


@pytest.mark.thorough
def test_a_sentence_is_heard_before_the_next_one_has_come(app: Callable[..., Any], upstream: OpenAIUpstream) -> None:
    upstream.enqueue(ScriptedAnswer(texts=["One. ", "Two. ", "Three."], frame_delay=0.4))
    client = app(KEPT)
    asked = {"model": "talk", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    response = client.post("/v1/chat/completions", json=asked)
    began, heard = time.monotonic(), {}
    for piece in response.iter_encoded():
        for word in ("One.", "Three."):
            if word.encode() in piece:
                heard[word] = time.monotonic() - began
    assert heard["One."] + 0.3 < heard["Three."]


def test_what_is_masked_is_heard_masked(app: Callable[..., Any], upstream: OpenAIUpstream) -> None:
    upstream.enqueue(ScriptedAnswer(texts=["I am Ada. ", "Who are you?"]))
    response = ask(app(KEPT))
    assert (streamed_text(response.data), finish(response.data)) == ("I am {NAME}. Who are you?", "stop")


def test_without_a_phrase_the_guardrails_own_is_heard(app: Callable[..., Any]) -> None:
    assert streamed_text(ask(app(KEPT), "bomb").data) == BLOCKED


@pytest.mark.parametrize("sides", [["input"], ["output"]])
def test_one_side_alone_can_be_checked(
    app: Callable[..., Any], upstream: OpenAIUpstream, bedrock: BedrockUpstream, sides: list[str]
) -> None:
    upstream.enqueue(ScriptedAnswer(texts=["Ok."]))
    ask(app({**KEPT, "sides": sides}))
    assert {side.lower() for side, _ in bedrock.guardrails.checked} == set(sides)


def test_calls_pass_behind_the_text_that_was_checked(app: Callable[..., Any], upstream: OpenAIUpstream) -> None:
    upstream.enqueue(ScriptedAnswer(texts=["One moment"], calls=[Call("c", "look", ['{"a": ', "1}"])]))
    response = ask(app(KEPT))
    assert streamed_text(response.data) == "One moment"
    assert [each[1:] for each in streamed_calls(response.data)] == [("look", {"a": 1})]


def test_each_choice_is_checked(app: Callable[..., Any], upstream: OpenAIUpstream) -> None:
    upstream.enqueue(ScriptedAnswer(texts=["Fine. ", "A bomb", "."]))
    response = ask(app({**KEPT, "phrase": PHRASE}), stream=False, n=2)
    found = [(each["message"]["content"], each["finish_reason"]) for each in completion(response.data)["choices"]]
    assert found == [(PHRASE, "content_filter")] * 2


def test_thinking_that_was_not_checked_is_not_passed_on(app: Callable[..., Any], upstream: OpenAIUpstream) -> None:
    upstream.enqueue(ScriptedAnswer(reasoning=["a bomb"], texts=["Hello."]))
    response = ask(app(KEPT), include_reasoning=True)
    assert streamed_text(response.data) == "Hello."
    assert b"bomb" not in response.data


def test_only_what_the_user_says_now_is_checked(app: Callable[..., Any], bedrock: BedrockUpstream) -> None:
    history = [
        {"role": "system", "content": "Never speak of a bomb."},
        {"role": "user", "content": "bomb"},
        {"role": "assistant", "content": PHRASE},
        {"role": "user", "content": [{"type": "text", "text": "Sorry."}, {"type": "text", "text": "Hello?"}]},
    ]
    response = ask(app(KEPT), messages=history)
    assert finish(response.data) == "stop"
    assert bedrock.guardrails.checked[0] == ("INPUT", "Sorry.\nHello?")


# When it cannot be asked


@pytest.mark.parametrize("fault", ["late", "failing", "unknown"])
@pytest.mark.parametrize("fails_open", [True, False])
def test_a_guardrail_that_cannot_be_asked_fails_as_the_row_says(
    app: Callable[..., Any], upstream: OpenAIUpstream, bedrock: BedrockUpstream, fault: str, fails_open: bool
) -> None:
    bedrock.guardrails.delay = 20.0 if fault == "late" else 0.0
    bedrock.guardrails.fails = "InternalServerException" if fault == "failing" else ""
    guardrail = {**KEPT, "phrase": PHRASE, "fails_open": fails_open}
    if fault == "late":
        guardrail["deadline_ms"] = 300
    if fault == "unknown":
        guardrail["id"] = "nosuchguardrail"
    upstream.enqueue(ScriptedAnswer(texts=["Hello."]))
    client = app(guardrail)
    began = time.monotonic()
    response = ask(client)
    assert time.monotonic() - began < 5 or fault != "late"
    if fails_open:
        assert (streamed_text(response.data), finish(response.data)) == ("Hello.", "stop")
    else:
        assert (streamed_text(response.data), finish(response.data)) == (PHRASE, "content_filter")
        assert not upstream.received


def test_a_guardrails_failure_is_not_the_models(app: Callable[..., Any], bedrock: BedrockUpstream) -> None:
    """It opens no breaker, and asks no fallback."""
    client = app({**KEPT, "phrase": PHRASE}, env={"BREAKER_FAILURES": 1})
    bedrock.guardrails.fails = "InternalServerException"
    for _ in range(3):
        assert finish(ask(client).data) == "content_filter"
    bedrock.guardrails.fails = ""
    assert finish(ask(client).data) == "stop"


# Whoever asks


def test_it_holds_for_every_dialect_of_callers(app: Callable[..., Any], upstream: OpenAIUpstream) -> None:
    client = app({**KEPT, "phrase": PHRASE})
    words = ["Fine. ", "Now a bomb", "."]
    upstream.enqueue(*[ScriptedAnswer(texts=words)] * 4)
    answer = client.post("/v1/messages", json={**messages.ask_body(), "model": "talk", "stream": True}, buffered=True)
    assert messages.text(messages.streamed(answer.data)) == f"Fine. {PHRASE}"
    answer = client.post("/v1/responses", json={"input": "hi", "model": "talk", "stream": True}, buffered=True)
    assert responses.text_of(responses.final_response(answer.data)) == f"Fine. {PHRASE}"
    answer = client.post("/v1/completions", json={"prompt": "hi", "model": "talk", "stream": True}, buffered=True)
    assert "bomb" not in answer.text
    assert PHRASE in answer.text
    answer = ask(client, stream=False)
    assert b"bomb" not in answer.data
    assert b"[DONE]" in client.post("/v1/completions", json={"prompt": "x", "model": "talk", "stream": True}).data


def test_a_text_that_is_read_aloud_is_checked_before(app: Callable[..., Any], upstream: OpenAIUpstream) -> None:
    upstream.enqueue(ScriptedAnswer(texts=["**Fine.** ", "A bo", "mb."]))
    response = ask(app({**KEPT, "phrase": PHRASE}, speech=True))
    assert streamed_text(response.data) == f"Fine. {PHRASE}"


# Configuration


@pytest.mark.parametrize(
    ("guardrail", "said"),
    [
        ({**KEPT, "content": ["HATE"]}, "either an id"),
        ({"provider": "bedrock-models"}, "either an id"),
        ({"provider": "nobody", "id": "x"}, "'nobody', which is not known"),
        ({**KEPT, "sides": []}, "sides"),
        ({**KEPT, "deadline_ms": 0}, "deadline_ms"),
        ({**CHECKS, "threshold": 2}, "threshold"),
    ],
)
def test_a_guardrail_that_cannot_work_is_refused_at_the_start(guardrail: Any, said: str) -> None:
    file = Path(models_file({}))
    file.write_text(yaml.safe_dump({"models": [{"name": "talk", "provider": "demo", "guardrail": guardrail}]}))
    with pytest.raises(Exception, match=said):
        create_app(Settings.load(environment(MODELS_FILE=file)))
