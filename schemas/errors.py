"""OpenAI's error object, and the headers of errors. Other dialects have their error object in their own folder."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.errors import GatewayError


def error_body(error: GatewayError, _request_id: str = "") -> dict[str, Any]:
    """OpenAI's error object: https://platform.openai.com/docs/guides/error-codes. All four keys are always present."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def error_headers(error: GatewayError) -> dict[str, str]:
    """The headers of every dialect: Retry-After in whole seconds, and x-should-retry, which OpenAI's clients obey."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after + 0.499)))
    if error.client_may_retry is not None:
        headers["x-should-retry"] = "true" if error.client_may_retry else "false"
    return headers


@dataclass(frozen=True, slots=True)
class ErrorFormat:
    """How a dialect of callers encodes an error: a function of the error and the request's id that makes the body; a
    function that makes the status; and the header that has the id besides x-request-id, "" for none.
    """

    body: Callable[[GatewayError, str], dict[str, Any]]
    status: Callable[[GatewayError], int] = lambda error: error.status
    id_header: str = ""


OPENAI = ErrorFormat(error_body)
