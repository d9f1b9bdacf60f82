"""Maps an upstream's error response to an exception: by its status first, by documented codes second."""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from math import isfinite
from time import time
from typing import Any

import orjson

from core import lenient_json
from core.errors import (
    ContextTooLong,
    GatewayError,
    UnknownModel,
    UpstreamAuthFailed,
    UpstreamDown,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from core.masking import KNOWN_SECRETS
from providers.transport.refusals import refused_parameters, validation

MESSAGE_CHARACTERS = 500
NAME_CHARACTERS = 200
LOG_CHARACTERS = 2000
LONGEST_WAIT = 3600.0
SECRETS = re.compile(
    r"(?i)\b(?:bearer\s+\S+|(?:sk|gsk|xai|key|api[-_]?key|token)[-_=:]\s*[^\s,;.\"']{4,})|https?://\S+"
)


def error_from_response(
    name: str, status: int, headers: Mapping[str, str], body: bytes, *, setting: str = ""
) -> GatewayError:
    """The exception for an answer of `status` from the upstream `name`; its text goes to the log. `setting` is
    the setting of its credential.

    The vendor's message reaches the caller only if the request is at fault (their 400, 404, 413, 422 ...), because it
    names the field to correct; anything that looks like a credential or an address is removed from it.
    """
    details = error_object(body)
    code, param = (_text(details.get(key)) for key in ("code", "param"))
    message = details.get("message")
    message = message if isinstance(message, str) else ""
    facts: dict[str, Any] = {
        "provider": name,
        "upstream_status": status,
        "retry_after": retry_after(headers),
        "log": for_log(body),
    }
    if status in (401, 402, 403):
        where = f" ({setting})" if setting else ""
        return UpstreamAuthFailed(f"{name} does not accept the credential that is configured here{where}.", **facts)
    if status == 429:  # noqa: PLR2004
        if code == "insufficient_quota":
            return UpstreamError(f"The account at {name} has no quota left.", code=code, **facts)
        return UpstreamRateLimited(f"{name} is asking us to slow down.", **facts)
    if status in (408, 504):
        return UpstreamTimeout(f"{name} did not answer in time.", **facts)
    if status >= 500:  # noqa: PLR2004
        return UpstreamDown(f"{name} failed with status {status}.", unavailable=status in (503, 529), **facts)
    about_model = code == "model_not_found" or "model" in message.lower()
    if status < 400 or not details or (status == 404 and not about_model):  # noqa: PLR2004
        return UpstreamError(f"{name} answered with status {status}; its address may be configured wrongly.", **facts)
    text = f"{name} refused the request: {safe_message(message)}" if message else f"{name} refused the request."
    if code == "context_length_exceeded":
        return ContextTooLong(text, param=param or "messages", log=facts["log"])
    if status == 404:  # noqa: PLR2004
        return UnknownModel(text, param=param or "model", log=facts["log"])
    refused = refused_parameters(details, message or "")
    return UpstreamRejected(text, code=code, param=param, refused=refused, **facts)


def error_from_body(name: str, error: Any) -> GatewayError:
    """The exception for an error object that came with status 200, in a body or in a stream."""
    details = error if isinstance(error, dict) else {"message": error}
    statuses = [int(str(details[key])) for key in ("code", "status") if _is_status(details.get(key))]
    body = error_body(details)
    if details.get("type") == "invalid_request_error":
        statuses.append(400)
    if statuses:
        return error_from_response(name, statuses[0], {}, body)
    return UpstreamDown(f"{name} reported an error instead of an answer.", provider=name, log=for_log(body))


def error_body(error: Any) -> bytes:
    """An error object as the bytes of a body. If it is nested too deeply to be encoded, only its texts are kept."""
    try:
        return lenient_json.dumps({"error": error})
    except orjson.JSONEncodeError:
        flat = {key: value for key, value in error.items() if isinstance(value, str)} if isinstance(error, dict) else {}
        return lenient_json.dumps({"error": flat})


def error_object(body: bytes) -> dict[str, Any]:
    """The error in a body: OpenAI's `{"error": {...}}`, or the flat forms that compatible servers use, with a
    validator's complaints in OpenAI's words; else {}.
    """
    try:
        data = lenient_json.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(data, list) and data:  # Gemini's array form
        data = data[0]
    if not isinstance(data, dict):
        return {}
    error = data.get("error")
    if complaints := validation(error if isinstance(error, dict) else data):
        return complaints
    if isinstance(error, dict):
        return error
    if isinstance(error, str):
        return {"message": error, **{key: data.get(key) for key in ("code", "param")}}
    if isinstance(data.get("detail"), str):  # FastAPI's HTTPException
        return {**data, "message": data["detail"]}
    return data if isinstance(data.get("message"), str) else {}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from retry-after-ms, or from Retry-After in seconds or as a date; None if neither can be parsed."""
    try:
        text = headers.get("retry-after", "")
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        elif re.fullmatch(r"\d+(\.\d+)?", text):
            seconds = float(text)
        else:
            seconds = parsedate_to_datetime(text).timestamp() - time()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), LONGEST_WAIT) if isfinite(seconds) else None


def safe_message(message: str) -> str:
    """A vendor's message for a caller: one line, bounded, without credentials and addresses."""
    message = KNOWN_SECRETS.mask(message[: 100 * MESSAGE_CHARACTERS], 10 * MESSAGE_CHARACTERS)
    message = SECRETS.sub("***", " ".join(message.split()))
    return message if len(message) <= MESSAGE_CHARACTERS else f"{message[:MESSAGE_CHARACTERS]}..."


def for_log(body: bytes) -> str:
    """An upstream's body as text for the log."""
    return KNOWN_SECRETS.mask(body[: 4 * LOG_CHARACTERS].decode("utf-8", "replace"), LOG_CHARACTERS)


def _text(value: Any) -> str | None:
    """A code or a field's name of the upstream's, fit to be passed on; None if it is not a text."""
    return KNOWN_SECRETS.mask(value, NAME_CHARACTERS) if isinstance(value, str) and value else None


def _is_status(value: Any) -> bool:
    return isinstance(value, (int, str)) and bool(re.fullmatch(r"[45]\d\d", str(value)))
