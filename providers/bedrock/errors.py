"""Maps Amazon's exceptions to errors for the caller, by the names in its service models.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#API_runtime_Converse_Errors and
https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson
from botocore.exceptions import (
    CredentialRetrievalError,
    HTTPClientError,
    MetadataRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

from core.errors import GatewayError
from providers.transport.status_errors import error_from_response as by_status
from providers.transport.status_errors import error_object

STATUSES: Mapping[str, int] = {
    "AccessDenied": 403,
    "UnrecognizedClient": 403,
    "InvalidSignature": 403,
    "SignatureDoesNotMatch": 403,
    "IncompleteSignature": 403,
    "InvalidClientTokenId": 403,
    "MissingAuthenticationToken": 403,
    "ExpiredToken": 403,
    "OptInRequired": 403,
    "Validation": 400,
    "ResourceNotFound": 404,
    "Conflict": 409,
    "RetryableConflict": 409,
    "Throttling": 429,
    "ServiceQuotaExceeded": 429,
    "ModelTimeout": 504,
    "InternalServer": 500,
    "BadGateway": 502,
    "DependencyFailed": 502,
    "RuntimeClientError": 502,
    "ModelError": 502,
    "ModelStreamError": 502,
    "ModelNotReady": 503,
    "ServiceUnavailable": 503,
}
"""Exception -> the HTTP status for its meaning; Amazon's own is often another (a 424, a 400 for a quota)."""

CODES: Mapping[str, str] = {"ResourceNotFound": "model_not_found", "ServiceQuotaExceeded": "insufficient_quota"}

BY_MESSAGE: tuple[tuple[re.Pattern[str], int, str], ...] = (
    (
        re.compile(r"(?i)\b(?:input|prompt) is too long|too many input tokens|context (?:length|window)"),
        400,
        "context_length_exceeded",
    ),
    (re.compile(r"(?i)model identifier is invalid"), 404, "model_not_found"),
)
"""Bedrock uses ValidationException for both; only the message tells them apart."""

NO_CREDENTIALS = (
    CredentialRetrievalError,
    HTTPClientError,
    MetadataRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)


def is_about_credentials(error: Exception) -> bool:
    """Whether an exception of botocore is about credentials."""
    return isinstance(error, NO_CREDENTIALS)


def aws_error(name: str, status: int, headers: Mapping[str, str], body: bytes, *, setting: str = "") -> GatewayError:
    """The exception for an answer of `status`: x-amzn-errortype is `Name` or `Name:address`, the body has a message.
    `setting` is the credential's setting.
    """
    message = error_object(body) or _fields_of(body)
    exception = headers.get("x-amzn-errortype") or str(message.get("__type") or message.get("code") or "")
    exception = exception.partition(":")[0].rpartition("#")[2]
    return _error_class(name, status, headers, exception, str(message.get("message") or ""), setting)


def error_from_event(name: str, headers: Mapping[str, Any], error: Mapping[str, Any]) -> GatewayError:
    """The exception for one that came as an event; there its name begins with a small letter."""
    exception = error.get("Code") or headers.get(":exception-type") or headers.get(":error-code") or ""
    return _error_class(name, 502, {}, str(exception), str(error.get("Message") or ""))


def _error_class(
    name: str, status: int, headers: Mapping[str, str], exception: str, message: str, setting: str = ""
) -> GatewayError:
    stem = exception[:1].upper() + exception[1:].removesuffix("Exception")
    status = STATUSES.get(stem, status)
    code = CODES.get(stem)
    if stem == "Validation":
        status, code = next(((to, word) for form, to, word in BY_MESSAGE if form.search(message)), (status, code))
    fields = {"message": message, "code": code, "type": exception} if message or exception else {}
    return by_status(name, status, headers, orjson.dumps({"error": fields}), setting=setting)


def _fields_of(body: bytes) -> dict[str, Any]:
    """The body's fields, by names in lower case: some services and gateways call the message `Message`."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return {key.lower(): value for key, value in data.items()} if isinstance(data, dict) else {}
