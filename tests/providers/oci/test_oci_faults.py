"""All faults of an upstream in OCI's dialects: each gives a status, an error frame, or the whole answer."""

from collections.abc import Iterator
from typing import Any

import pytest

from app import create_app
from config import Settings
from tests.conftest import environment, until
from tests.emulators import FAULTS, Fault, Phase, ScriptedAnswer, cases
from tests.emulators.answers import TEXTS
from tests.emulators.oci.chat import error as oci_error
from tests.emulators.oci.lists import ENDPOINT
from tests.emulators.oci.server import OCIUpstream
from tests.support.frames import completion, error, finish, payloads, streamed_text

WHOLE_TEXT = "".join(TEXTS)
TIMED_OUT = {"stalled_before_headers", "slow_headers", "stalled_after_headers", "comments_only", "stalled"}
LOUD = {"endless_headers", "endless_line"}
"""Megabytes that the transport refuses whoever sends them: tests/served/test_faults.py has them once."""
HURRIED = {
    "FIRST_EVENT_TIMEOUT": 0.2,
    "IDLE_TIMEOUT": 0.2,
    "RETRIES": 0,
    "BREAKER_FAILURES": 10_000,
    "LOG_LEVEL": "NONE",
}
MODELS = {"GENERIC": "openai.gpt-4.1", "COHERE": "cohere.command-a-03-2025"}
LATE = {"surplus"}
"""Bytes after an answer: on a busy machine they meet the next model's request, on the same connection."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[OCIUpstream]:
    with OCIUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def client(upstream: OCIUpstream) -> Any:
    started = create_app(Settings.load(environment(**upstream.settings(), **HURRIED))).test_client()
    until(lambda: ask(started, MODELS["GENERIC"], stream=False).status_code == 200, "it to have signed in")
    return started


def ask(client: Any, model: str, stream: bool) -> Any:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    return client.post("/v1/chat/completions", json=body)


def assert_fault_is_reported(response: Any, fault: Fault, stream: bool) -> None:
    """Before the first event a status, after it an error frame and a clean end; no made-up finish."""
    if fault.harmless:
        assert response.status_code == 200, response.data
        text = streamed_text(response.data) if stream else completion(response.data)["choices"][0]["message"]["content"]
        assert text == WHOLE_TEXT
        assert not stream or finish(response.data) == "stop"
    elif response.status_code == 200:
        assert stream
        assert fault.phase in (Phase.MIDDLE, Phase.END)
        *frames, last = payloads(response.data)
        assert '"finish_reason":"' not in "".join(frames)
        code = error(last.encode())["code"]
        assert code == ("upstream_timeout" if fault.name in TIMED_OUT else "upstream_error")
    else:
        assert response.status_code == (504 if fault.name in TIMED_OUT else 502), response.data
        assert error(response.data)["message"]


@cases([fault for fault in FAULTS if fault.name not in {*LOUD, *LATE}])
def test_every_fault(upstream: OCIUpstream, client: Any, fault: Fault, stream: bool) -> None:
    for model in MODELS.values():
        upstream.always(ScriptedAnswer(fault=fault))
        response = ask(client, model, stream)
        data = response.data  # all of it, before the upstream is told otherwise
        upstream.always(ScriptedAnswer())
        assert data
        assert_fault_is_reported(response, fault, stream)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_an_end_that_means_a_failure_is_one(upstream: OCIUpstream, client: Any, model: str) -> None:
    """A failure is never a stop; a word that nobody knows is one where nothing was said."""
    upstream.enqueue(ScriptedAnswer(texts=[], finish_reason="WHATEVER"))
    assert ask(client, model, stream=False).status_code == 502
    for reason in ("ERROR", "USER_CANCEL"):
        upstream.enqueue(ScriptedAnswer(texts=[], finish_reason=reason), ScriptedAnswer(finish_reason=reason))
        assert ask(client, model, stream=False).status_code == 502
        *frames, last = payloads(ask(client, model, stream=True).data)
        assert '"finish_reason":"' not in "".join(frames)
        assert error(last.encode())["type"] == "server_error"


@pytest.mark.parametrize(
    ("theirs", "body", "status", "code", "param"),
    [
        (400, {}, 400, None, None),
        (400, {"named": True}, 400, None, None),
        (400, {"message": "No such.", "inner": ("seed", "unsupported_value")}, 400, "unsupported_value", "seed"),
        (401, {}, 502, "upstream_authentication", None),
        (404, {"named": True}, 404, "model_not_found", "model"),
        (429, {}, 429, "rate_limit_exceeded", None),
        (429, {"named": True}, 429, "rate_limit_exceeded", None),
        (500, {"named": True}, 502, "upstream_error", None),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_what_oci_says_of_failures(
    upstream: OCIUpstream, client: Any, theirs: int, body: Any, status: int, code: str, param: str, stream: bool
) -> None:
    """Both spellings of codes; OpenAI's own error inside of the message is unwrapped."""
    upstream.enqueue(ScriptedAnswer(status=theirs, error=oci_error(theirs, **body)))
    response = ask(client, MODELS["GENERIC"], stream)
    found = error(response.data)
    assert (response.status_code, found["code"], found["param"]) == (status, code, param)
    assert "ocid1.tenancy" not in found["message"]
    assert '{"error"' not in found["message"]


def test_a_throttled_stream_is_a_429(upstream: OCIUpstream, client: Any) -> None:
    """An error in the place of the first event has its status too."""
    upstream.enqueue(ScriptedAnswer(error=oci_error(429)))
    response = ask(client, MODELS["GENERIC"], stream=True)
    assert response.status_code == 429, response.data


def test_an_endpoint_that_is_gone(upstream: OCIUpstream, client: Any) -> None:
    failure = error(ask(client, f"oci/{ENDPOINT}gone", stream=True).data)
    assert failure["code"] == "model_not_found"
