"""Errors in Anthropic's dialect: https://platform.claude.com/docs/en/api/errors"""

from core.errors import GatewayError
from core.json_values import Json
from schemas.errors import ErrorFormat

OVERLOADED = 529
TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Our status -> Anthropic's type. Other 4xx are an invalid_request_error, other 5xx an api_error."""


def error_status(error: GatewayError) -> int:
    """Anthropic's status for an error: 529 instead of OpenAI's 503."""
    return OVERLOADED if error.status == 503 else error.status  # noqa: PLR2004


def error_body(error: GatewayError, request_id: str = "") -> Json:
    """The error object. `details.error_code`, which the SDKs show, is the code that OpenAI's clients get."""
    otherwise = "invalid_request_error" if error.status < 500 else "api_error"  # noqa: PLR2004
    error_object: Json = {"type": TYPES.get(error.status, otherwise), "message": error.message}
    details = {"error_code": error.code, "param": error.param}
    if any(details.values()):
        error_object["details"] = {key: value for key, value in details.items() if value}
    return {"type": "error", "error": error_object, **({"request_id": request_id} if request_id else {})}


ERRORS = ErrorFormat(error_body, error_status, "request-id")
