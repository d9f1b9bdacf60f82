"""What OCI's error answers mean: `{"code": ..., "message": ...}`, where the code is a status or a name.

https://docs.oracle.com/en-us/iaas/Content/API/References/apierrors.htm
"""

import re
from collections.abc import Mapping
from typing import Any

from core.errors import ContextTooLong, GatewayError, UnknownModel, UpstreamAuthFailed, UpstreamError, UpstreamRejected
from providers.transport import status_errors as failures
from providers.transport.status_errors import error_object

TOO_LONG = re.compile(r"too many tokens|maximum context length|context (length|window)", re.IGNORECASE)
"""The families' messages for a conversation that does not fit: OCI itself has one code for every 400."""


def oci_error(name: str, about: str, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
    """The exception for an answer of `status`; `about` is the sentence for a 404.

    Its opc-request-id goes to the log. An openai.* model's own error comes as JSON inside the message; its param and
    code reach the caller.
    """
    inner = _unwrap(body)
    found = failures.error_from_response(name, status, headers, inner)
    if isinstance(found, UpstreamAuthFailed):
        found = UpstreamAuthFailed(
            f"{name} does not accept our credential (AUTH_TYPE, OCI_CONFIG_PROFILE), or its policies do not let us in.",
            provider=name,
            upstream_status=status,
        )
    elif status == 404 and about:  # noqa: PLR2004
        found = UnknownModel(f"{name} {about}", param="model")
    elif error_object(body).get("code") == "ExternalServerIncorrectState":
        what = f"The deployment at {name} did not stream where a stream was asked for (stream_by in models.yaml)."
        found = UpstreamError(what, provider=name, upstream_status=status)
    elif isinstance(found, UpstreamRejected) and TOO_LONG.search(found.message):
        found = ContextTooLong(found.message, param="messages")
    elif isinstance(found, UpstreamRejected) and inner is body:
        found.code = None  # OCI's code repeats the status: "400", InvalidParameter
    found.log = traceable(failures.for_log(body), headers)
    return found


def oci_error_in_body(name: str, error: Any) -> GatewayError:
    """The exception for an error instead of an answer or within one; unwrapped as above."""
    details = error if isinstance(error, dict) else {"message": error}
    inner = error_object(_unwrap(failures.error_body(details)))
    return failures.error_from_body(name, {**details, "status": details.get("code"), **inner})


def traceable(message: str, headers: Mapping[str, str]) -> str:
    """The message for the log, with the id that OCI's support needs."""
    return f"opc-request-id {headers.get('opc-request-id', '(none)')}: {message}"


def _unwrap(body: bytes) -> bytes:
    """The body with the model's own error instead of the message that holds it as JSON."""
    message = error_object(body).get("message")
    start = message.find("{") if isinstance(message, str) else -1
    if start < 0 or message is None:
        return body
    inner = error_object(message[start:].encode())
    return failures.error_body(inner) if isinstance(inner.get("message"), str) else body
