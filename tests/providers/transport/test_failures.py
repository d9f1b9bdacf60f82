"""An upstream's refusal names the field to the caller, and the setting to the operator."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from core.errors import (
    InvalidRequest,
    PermissionDenied,
    TooLarge,
    UnknownModel,
    Unsupported,
    UpstreamError,
    UpstreamRejected,
)
from providers.transport.status_errors import error_from_response
from tests.dispatch.sources.test_vendor_rows import answer_of
from tests.emulators.connection import Connection, Received
from tests.emulators.server import Server

HI = [{"role": "user", "content": "hi"}]
EXTRA = {"type": "extra_forbidden", "msg": "Extra inputs are not permitted"}
KEY = {**EXTRA, "loc": ["body", "messages", 1, "assistant", "reasoning_content"]}
TOP = {**EXTRA, "loc": ["body", "max_completion_tokens"], "input": 5}
RANGE = {"type": "less_than_equal", "loc": ["body", "temperature"], "msg": "Input should be less than or equal to 1.5"}
BODIES: Mapping[str, tuple[Any, str | None, str, str]] = {
    "Mistral, an object": (
        {"object": "error", "message": {"detail": [TOP]}, "type": "invalid_request_error"},
        "max_completion_tokens",
        "max_completion_tokens: Extra inputs are not permitted",
        "unsupported_parameter",
    ),
    "FastAPI": ({"detail": [RANGE]}, "temperature", "temperature: Input should be less than", "invalid_value"),
    "a deep field": (
        {"detail": [KEY]},
        "messages[1].assistant.reasoning_content",
        "Extra inputs",
        "unsupported_parameter",
    ),
    "two fields": ({"detail": [RANGE, TOP]}, "temperature", "max_completion_tokens: Extra inputs", "invalid_value"),
    "a list": ({"message": [TOP]}, "max_completion_tokens", "Extra inputs", "unsupported_parameter"),
    "a text": ({"message": json.dumps({"detail": [TOP]})}, "max_completion_tokens", "Extra", "unsupported_parameter"),
    "within an error": ({"error": {"message": [TOP]}}, "max_completion_tokens", "Extra", "unsupported_parameter"),
    "no path": ({"detail": [{"msg": "Value error, tools are missing"}]}, None, "tools are missing", "invalid_value"),
}


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("form", BODIES)
def test_a_validators_complaint_reaches_the_caller(form: str, status: int) -> None:
    body, param, says, code = BODIES[form]
    error = error_from_response("mistral", status, {}, json.dumps(body).encode())
    assert isinstance(error, UpstreamRejected)
    assert (error.status, error.param, error.code) == (status, param, code)
    assert says in error.message
    assert error.message.startswith("mistral refused the request: ")
    assert "address" not in error.message


@pytest.mark.parametrize(
    "body", [{"detail": "Not Found"}, {"detail": []}, {"detail": 5}, {"message": []}, {"x": 1}, []]
)
def test_a_404_of_a_framework_is_still_a_wrong_address(body: Any) -> None:
    error = error_from_response("lab", 404, {}, json.dumps(body).encode())
    assert type(error) is UpstreamError
    assert "address" in error.message


def test_a_sentence_of_a_framework_is_the_vendors() -> None:
    error = error_from_response("lab", 400, {}, b'{"detail": "The prompt is empty."}')
    assert error.message == "lab refused the request: The prompt is empty."
    assert isinstance(error_from_response("lab", 404, {}, b'{"detail": "Model m not found"}'), UnknownModel)


@pytest.mark.parametrize(
    "body",
    [
        {"detail": [{"loc": 5, "msg": {}}]},
        {"detail": [{"msg": None, "loc": [None]}]},
        {"message": "[{"},
        {"message": "{}"},
    ],
    ids=str,
)
def test_an_odd_complaint_is_no_fault_of_ours(body: Any) -> None:
    assert error_from_response("lab", 422, {}, json.dumps(body).encode()).status in (422, 502)


def test_a_refusal_that_names_a_field_has_a_code() -> None:
    assert InvalidRequest("No.", param="model").code == "invalid_value"
    assert InvalidRequest("No.").code is None
    assert InvalidRequest("No.", param="a", code="missing_required_parameter").code == "missing_required_parameter"
    assert Unsupported("No.", param="n").code == "unsupported_value"
    assert TooLarge("No.", param="n").code == "request_too_large"
    assert UpstreamRejected("No.", upstream_status=400, param="n").code is None, "a vendor's own words are its own"
    assert PermissionDenied("No.").code == "permission_denied"


SETTINGS = {
    "openai": ("OPENAI_API_KEY", {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "URL/v1"}),
    "groq": ("GROQ_API_KEY", {"GROQ_API_KEY": "k", "GROQ_BASE_URL": "URL/v1"}),
    "azure": ("AZURE_OPENAI_API_KEY", {"AZURE_OPENAI_API_KEY": "k", "AZURE_BASE_URL": "URL/v1"}),
    "anthropic": ("ANTHROPIC_API_KEY", {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "URL"}),
    "gemini": ("GEMINI_API_KEY", {"GEMINI_API_KEY": "k", "GEMINI_BASE_URL": "URL"}),
    "cohere": ("COHERE_API_KEY", {"COHERE_API_KEY": "k", "COHERE_BASE_URL": "URL"}),
    "bedrock-models": (
        "AWS_ACCESS_KEY_ID",
        {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": "URL"},
    ),
}


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("provider", SETTINGS)
def test_a_key_that_is_refused_names_its_setting(app_with: Callable[..., Any], provider: str, status: int) -> None:
    """Who runs this reads where to look; the key itself is nowhere."""

    def handle(connection: Connection, _: Received) -> None:
        error = {"error": {"message": "Incorrect API key provided.", "type": "x", "code": "invalid_api_key"}}
        connection.send(answer_of("application/json", json.dumps(error), f"{status} No"))

    name, settings = SETTINGS[provider]
    with Server(handle) as server:
        client = app_with(RETRIES=0, **{key: value.replace("URL", server.url) for key, value in settings.items()})
        response = client.post("/v1/chat/completions", json={"provider": provider, "messages": HI})
        error = response.get_json()["error"]
    assert (response.status_code, error["code"]) == (502, "upstream_authentication")
    assert f"({name})" in error["message"]
