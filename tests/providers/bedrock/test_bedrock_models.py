"""Bedrock's models behind the endpoint, against the emulated Bedrock: answers, failures, faults, the real client."""

import json
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from openai import OpenAI

from app import create_app
from config import Settings
from dispatch.routing.catalogue import Catalogue
from dispatch.routing.config import ProviderConfig, SourceContents
from dispatch.sources.aws import models
from dispatch.sources.oci import MODEL_IDS
from tests.conftest import Served, environment, served, until
from tests.emulators import FAULTS, Fault, Phase, cases
from tests.emulators.answers import TEXTS, Call
from tests.emulators.bedrock.answers import Turn
from tests.emulators.bedrock.converse import NO_SUCH_MODEL
from tests.emulators.bedrock.server import HAIKU, NOVA, BedrockUpstream
from tests.support.frames import chunks, completion, error, finish, payloads, streamed_calls, streamed_text

BOTH = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
WHOLE_TEXT = "".join(TEXTS)
TIMED_OUT = {"stalled_before_headers", "slow_headers", "stalled_after_headers", "stalled"}
JSON_FOR_A_STREAM = "lump"
"""A stream in frames with checksums is not mistaken for JSON, so that this fault is a failure here."""
PATIENT = {"FIRST_EVENT_TIMEOUT": 5, "IDLE_TIMEOUT": 5, "RETRIES": 0, "BREAKER_FAILURES": 10_000}
IMPATIENT = {**PATIENT, "FIRST_EVENT_TIMEOUT": 0.3, "IDLE_TIMEOUT": 0.3}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "required": ["city"]}}}


@pytest.fixture(scope="module")
def running() -> Iterator[BedrockUpstream]:
    with BedrockUpstream() as server:
        yield server


@pytest.fixture
def upstream(running: BedrockUpstream) -> BedrockUpstream:
    running.always(Turn())
    return running


def app(running: BedrockUpstream, **more: object) -> Any:
    """One app for many tests, so that its client of Amazon's is built once, and before a clock counts."""
    client = create_app(Settings.load(environment(**more, **running.settings))).test_client()
    until(lambda: post(client)[0] == 200, "an answer")
    return client


@pytest.fixture(scope="module")
def client(running: BedrockUpstream) -> Any:
    return app(running, **PATIENT)


@pytest.fixture(scope="module")
def impatient(running: BedrockUpstream) -> Any:
    """For who falls silent; nobody else is to be hurried."""
    return app(running, **IMPATIENT)


def post(client: Any, stream: bool = False, **body: Any) -> tuple[int, bytes]:
    asked = {"model": NOVA, "messages": [{"role": "user", "content": "Hi"}], "stream": stream, **body}
    response = client.post("/v1/chat/completions", json=asked)
    return response.status_code, response.get_data()


def test_a_whole_answer(upstream: BedrockUpstream, client: Any) -> None:
    status, body = post(client)
    answer = completion(body)
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == WHOLE_TEXT
    assert answer["model"] == NOVA
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (24, 12, 36)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 4
    assert upstream.asked[-1].operation == "Converse"


def test_a_stream(upstream: BedrockUpstream, client: Any) -> None:
    calls = [Call("t1", "weather", ['{"city"', ':"Bern"}']), Call("t2", "now", [])]
    upstream.enqueue(Turn(reasoning=["Hm"], texts=["Grü", "ße"], calls=calls))
    _, stream = post(client, stream=True, stream_options={"include_usage": True})
    assert streamed_text(stream) == "Grüße"
    assert streamed_calls(stream) == [("t1", "weather", {"city": "Bern"}), ("t2", "now", {})]
    assert finish(stream) == "tool_calls"
    assert chunks(stream)[-1]["usage"]["total_tokens"] == 36
    assert b"reasoning_content" not in stream


def test_thinking_is_passed_on_when_asked_for(upstream: BedrockUpstream, client: Any) -> None:
    for stream in (True, False):
        upstream.enqueue(Turn(reasoning=["Hm"]))
        assert b'"reasoning_content":"Hm"' in post(client, stream=stream, include_reasoning=True)[1]


def test_a_demanded_tool(upstream: BedrockUpstream, client: Any) -> None:
    _, body = post(client, tools=[WEATHER], tool_choice="required")
    (call,) = completion(body)["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"


def test_models_and_inference_profiles_are_listed(upstream: BedrockUpstream, client: Any) -> None:
    """Over all pages; a model that answers only through a profile is listed as that alone."""
    ids = [row["id"] for row in client.get("/v1/models").get_json()["data"]]
    assert ids == [NOVA, f"eu.{HAIKU}", f"global.{HAIKU}", f"eu.{NOVA}"]
    assert client.get(f"/v1/models/eu.{HAIKU}").get_json()["owned_by"] == "anthropic"


def test_it_is_the_default_once_there_are_credentials(upstream: BedrockUpstream, client: Any) -> None:
    """It is the last default before the demo; the region says which profile its default model has."""
    providers = client.get("/v1/providers").get_json()
    rows = {row["name"]: row for row in providers["providers"]}
    assert providers["default"] == "bedrock-models"
    assert rows["bedrock-models"]["default_model"] == "eu.amazon.nova-lite-v1:0"
    assert rows["bedrock"]["reason"] == "Needs AGENT_ID and AGENT_ALIAS_ID."
    post(client, model="")
    assert upstream.asked[-1].params["modelId"] == "eu.amazon.nova-lite-v1:0"


@pytest.mark.parametrize(
    "model", [f"eu.{HAIKU}", f"arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.{HAIKU}"]
)
@pytest.mark.parametrize("prefix", ["", "bedrock-models/"])
def test_profiles_and_arns_are_names(upstream: BedrockUpstream, client: Any, model: str, prefix: str) -> None:
    assert post(client, model=prefix + model)[0] == 200
    assert upstream.asked[-1].params["modelId"] == model


@pytest.mark.parametrize(("oci", "answers"), [("OCI's credentials", "bedrock-models"), ("", "oci")])
def test_a_vendors_prefix_is_bedrocks_where_oci_is_not_configured(oci: str, answers: str) -> None:
    """With OCI configured, `meta.llama...` means OCI, whose names look the same."""
    answer = (
        models("bedrock-models", {}, {"AWS_PROFILE": "p"}, {}),
        ProviderConfig("oci", "demo", "", {"name": "oci"}, oci, model_ids=MODEL_IDS),
    )
    where = Catalogue({"environment": SourceContents(answer)}, default="bedrock-models")
    assert where.route("meta.llama3-1-8b-instruct-v1:0").targets[0].provider.name == answers


# failures


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("exception", "status", "code"),
    [
        ("ThrottlingException", 429, "rate_limit_exceeded"),
        ("AccessDeniedException", 502, "upstream_authentication"),
        ("ValidationException", 400, None),
        ("ServiceUnavailableException", 503, "upstream_error"),
        ("ModelTimeoutException", 504, "upstream_timeout"),
    ],
)
def test_an_exception_has_its_status(
    upstream: BedrockUpstream, client: Any, stream: bool, exception: str, status: int, code: str | None
) -> None:
    """Never an answer that says "Error"."""
    upstream.enqueue(Turn(exception=exception, headers={"Retry-After": "7"}))
    found, body = post(client, stream=stream)
    assert (found, error(body)["code"]) == (status, code)


def test_an_exception_before_the_first_word_has_its_status_too(upstream: BedrockUpstream, client: Any) -> None:
    """A failure that comes in a stream of status 200 has its true status."""
    upstream.enqueue(Turn(breaks_with="throttlingException"))
    status, body = post(client, stream=True)
    assert (status, error(body)["code"]) == (429, "rate_limit_exceeded")


def test_an_exception_after_a_word_is_a_frame(upstream: BedrockUpstream, client: Any) -> None:
    upstream.enqueue(Turn(breaks_with="modelStreamErrorException", breaks_after=2))
    status, stream = post(client, stream=True)
    *frames, last = payloads(stream)
    assert status == 200
    assert error(last.encode())["code"] == "upstream_error"
    assert '"finish_reason":"' not in "".join(frames)
    assert "123456789012" not in last


def test_throttling_is_tried_again(upstream: BedrockUpstream, app_with: Callable[..., Any]) -> None:
    again = app_with(RETRY_BUDGET=20, **upstream.settings)
    for turn in (Turn(exception="ThrottlingException"), Turn(breaks_with="throttlingException")):
        upstream.enqueue(turn)
        status, stream = post(again, stream=True)
        assert (status, streamed_text(stream)) == (200, WHOLE_TEXT)


def test_an_unknown_model(upstream: BedrockUpstream, client: Any) -> None:
    status, body = post(client, model=NO_SUCH_MODEL)
    assert (status, error(body)["code"]) == (404, "model_not_found")


def test_an_answer_that_the_model_spoilt(upstream: BedrockUpstream, client: Any) -> None:
    upstream.enqueue(Turn(texts=["Hm"], stop_reason="malformed_tool_use"))
    status, body = post(client)
    assert (status, error(body)["code"]) == (502, "upstream_error")


@BOTH
@pytest.mark.parametrize(
    ("word", "ours"),
    [("END_TURN", "stop"), ("endTurn", "stop"), ("eos", "stop"), ("MAX_TOKENS", "length"), ("Safety", "content_filter"),
     ("a_word_of_next_year", "stop"), ("TOOL_USE", "stop"), ("error", None), ("aborted", None)],
)  # fmt: skip
def test_why_it_ended(upstream: BedrockUpstream, client: Any, word: str, ours: str | None, stream: bool) -> None:
    """As in every other dialect: tests/dialects/test_vendors_send.py."""
    upstream.enqueue(Turn(texts=["Hi."], stop_reason=word))
    status, body = post(client, stream)
    if ours is None:
        assert error(payloads(body)[-1].encode() if status == 200 else body)["code"] == "upstream_error"
    else:
        assert (finish(body) if stream else completion(body)["choices"][0]["finish_reason"]) == ours


@BOTH
@pytest.mark.parametrize(
    ("pieces", "wanted"),
    [([], {}), ([""], {}), (["null"], {}), (["nu", "ll"], {}), ([" "], {}), (["[]"], {}), (["{", "}"], {}),
     (['"{\\"a\\": 1}"'], {"a": 1}), (["{", '"a": 1}'], {"a": 1})],
)  # fmt: skip
def test_arguments_are_the_text_of_an_object(
    upstream: BedrockUpstream, client: Any, pieces: list[str], wanted: Any, stream: bool
) -> None:
    upstream.enqueue(Turn(texts=[], calls=[Call("t1", "weather", pieces)]))
    _, body = post(client, stream, tools=[WEATHER])
    if stream:
        assert [(name, arguments) for _, name, arguments in streamed_calls(body)] == [("weather", wanted)]
    else:
        (call,) = completion(body)["choices"][0]["message"]["tool_calls"]
        assert json.loads(call["function"]["arguments"]) == wanted


@BOTH
def test_halves_of_surrogate_pairs(upstream: BedrockUpstream, client: Any, stream: bool) -> None:
    upstream.enqueue(Turn(texts=["a\ud83d", "\ude00b\ud83d"]))
    _, body = post(client, stream)
    text = streamed_text(body) if stream else completion(body)["choices"][0]["message"]["content"]
    assert text == "a😀b\ufffd"


@cases(FAULTS)
def test_faults(upstream: BedrockUpstream, client: Any, impatient: Any, fault: Fault, stream: bool) -> None:
    """Before the first event a status, after it an error frame; never a made-up finish."""
    upstream.always(Turn(fault=fault))
    status, body = post(impatient if fault.silent else client, stream=stream)
    if fault.harmless and fault.name != JSON_FOR_A_STREAM:
        assert status == 200
        if stream:
            assert (streamed_text(body), finish(body)) == (WHOLE_TEXT, "stop")
        else:
            assert completion(body)["choices"][0]["message"]["content"] == WHOLE_TEXT
    elif status == 200:
        assert stream
        assert fault.phase in (Phase.MIDDLE, Phase.END)
        *frames, last = payloads(body)
        assert '"finish_reason":"' not in "".join(frames)
        failure = error(last.encode())
        assert failure["code"] == ("upstream_timeout" if fault.name in TIMED_OUT else "upstream_error")
    else:
        timed_out = fault.name in TIMED_OUT or (fault.name == "comments_only" and not stream)
        assert status == (504 if timed_out else 502), body
        assert error(body)["message"]


# the real client, the real server


@pytest.fixture(scope="module")
def served_app(running: BedrockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("served") / "log", THREADS=8, **running.settings) as app:
        yield app


@pytest.fixture
def openai_client(served_app: Served) -> OpenAI:
    return served_app.client()


def test_a_conversation_with_a_tool(upstream: BedrockUpstream, openai_client: OpenAI) -> None:
    """Three turns: a call, its result, and what remains of both in the next."""
    messages: list[Any] = [
        {"role": "system", "content": "You are on the phone."},
        {"role": "assistant", "content": "Welcome!"},
        {"role": "user", "content": "How is the weather in Bern?"},
    ]
    ask = openai_client.chat.completions.create
    upstream.enqueue(Turn(calls=[Call("tooluse_1", "weather", ['{"city":"Bern"}'])]))
    first = ask(model=NOVA, messages=messages, tools=[WEATHER]).choices[0]
    assert first.finish_reason == "tool_calls"
    messages += [first.message, {"role": "tool", "tool_call_id": first.message.tool_calls[0].id, "content": "Sun"}]
    answer = ask(model=NOVA, messages=messages, tools=[WEATHER], stream=True)
    words = "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
    assert words == WHOLE_TEXT
    messages += [{"role": "assistant", "content": words}, {"role": "user", "content": "Thanks"}]
    assert ask(model=NOVA, messages=messages, tools=[WEATHER]).choices[0].finish_reason == "stop"
    history = upstream.asked[-1].params["messages"]
    assert [message["role"] for message in history] == ["user", "assistant"] * 3 + ["user"]
    assert history[4]["content"] == [{"toolResult": {"toolUseId": "tooluse_1", "content": [{"text": "Sun"}]}}]


def test_words_come_as_they_are_said(upstream: BedrockUpstream, openai_client: OpenAI) -> None:
    """Words come as the upstream sends them, not all at the end."""
    upstream.enqueue(Turn(texts=["One", " two", " three"], frame_delay=0.15))
    times = [
        monotonic()
        for chunk in openai_client.chat.completions.create(
            model=NOVA, messages=[{"role": "user", "content": "Count"}], stream=True
        )
        if chunk.choices and chunk.choices[0].delta.content
    ]
    assert len(times) == 3
    assert times[2] - times[0] > 0.2


def test_a_caller_who_leaves_ends_the_models_stream(
    upstream: BedrockUpstream, openai_client: OpenAI, served_app: Served
) -> None:
    """A hang-up ends the upstream's stream, which would otherwise generate on."""
    upstream.enqueue(Turn(texts=["word "] * 3000, frame_delay=0.01))
    count = len(upstream.received)
    stream = openai_client.chat.completions.create(
        model=NOVA, messages=[{"role": "user", "content": "Talk"}], stream=True
    )
    next(stream)
    left = monotonic()
    stream.close()
    assert upstream.received[count].wait_closed(5) - left < 1
    served_app.logged("outcome=hung_up")


def test_nothing_secret_is_logged(upstream: BedrockUpstream, served_app: Served) -> None:
    """No credential of AWS is in the log, at any level."""
    assert upstream.secret not in served_app.log()
