"""The failures that a caller can receive. Each class knows its HTTP status, OpenAI's type and code, and whether it is
retried.

    GatewayError 500
    ├── InvalidRequest 400
    │   ├── UnknownModel 404 model_not_found
    │   ├── Unsupported 400 unsupported_value
    │   ├── ContextTooLong 400 context_length_exceeded
    │   ├── TooLarge 413 request_too_large
    │   └── RequestTimeout 408 request_timeout
    ├── Unauthenticated 401 invalid_api_key
    ├── PermissionDenied 403 permission_denied
    ├── RateLimited 429 rate_limit_exceeded      ours; the client may retry
    │   └── BudgetExceeded 429 budget_exceeded   ours; the client may retry once the budget renews
    ├── Overloaded 503 server_overloaded         ours; the client may retry
    ├── CircuitOpen 503 upstream_unavailable
    └── UpstreamError 502 upstream_error
        ├── UpstreamRateLimited 429 rate_limit_exceeded retried
        ├── UpstreamTimeout 504 upstream_timeout        retried, trips the breaker
        ├── UpstreamDown 502 or 503 upstream_error      retried, trips the breaker
        ├── UpstreamRejected 4xx                        the caller's request, the vendor's status
        └── UpstreamAuthFailed 502                      our credential, never the caller's fault

    Cancelled                                    not an error: the caller has hung up

The caller's dialect decides the form of an error's body: schemas/errors.py has OpenAI's. The message is our own; the
vendor's message goes to the log.
"""

from typing import Any, ClassVar


class GatewayError(Exception):
    """A failure that the caller receives.

    message           for the caller: it contains no key, no stack trace and no link to a vendor's page
    param             the field or setting at fault
    retry_after       seconds, for the Retry-After header
    log               text for the log alone
    retryable         whether another attempt may help. A provider changes it for a single failure, such as one after
                      which an agent may have acted already
    trips_breaker     whether the breaker counts the failure; the transport changes it for a single failure
    client_may_retry  advice for the caller's client; None for no advice
    """

    status: int = 500
    type: ClassVar[str] = "server_error"
    code: str | None = None
    retryable: bool = False
    trips_breaker: bool = False
    client_may_retry: ClassVar[bool | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        log: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code
        self.retry_after = retry_after
        self.log = log


class InvalidRequest(GatewayError):
    """The request cannot be understood or served. The code is `invalid_value` if there is a `param`, unless another
    code is given.
    """

    status = 400
    type = "invalid_request_error"

    def __init__(self, message: str, *, param: str | None = None, **details: Any) -> None:
        super().__init__(message, param=param, **details)
        if self.code is None and param is not None:
            self.code = "invalid_value"


class UnknownModel(InvalidRequest):
    """The model does not exist here."""

    status = 404
    code = "model_not_found"


class Unsupported(InvalidRequest):
    """The target has no counterpart for a part of the request, and leaving that part out would lose content."""

    code = "unsupported_value"


class ContextTooLong(InvalidRequest):
    """The conversation is longer than the model's context."""

    code = "context_length_exceeded"


class TooLarge(InvalidRequest):
    """The body is larger than MAX_BODY_BYTES."""

    status = 413
    code = "request_too_large"


class RequestTimeout(InvalidRequest):
    """The request's body did not arrive in time, or the caller did not read the answer in time."""

    status = 408
    code = "request_timeout"


class Unauthenticated(GatewayError):
    """The request has no key, or a wrong one."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class PermissionDenied(GatewayError):
    """The key is known, but may not do this."""

    status = 403
    type = "invalid_request_error"
    code = "permission_denied"


class RateLimited(GatewayError):
    """A limit is used up for now. `limit` says which: the key's requests, tokens or concurrent; or the model's."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"
    client_may_retry = True
    limit: str = "requests"

    def __init__(self, message: str, *, limit: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.limit = limit or self.limit


class TokensLimited(RateLimited):
    """The key's tokens of this minute are used up."""

    type = "tokens"
    limit = "tokens"


class BudgetExceeded(RateLimited):
    """The key has spent its budget of this day or month."""

    type = "insufficient_quota"
    code = "budget_exceeded"
    client_may_retry = False
    limit = "budget"


class Overloaded(GatewayError):
    """The server has as many requests under way as it may have."""

    status = 503
    code = "server_overloaded"
    client_may_retry = True


class CircuitOpen(GatewayError):
    """The breaker is open: the target has failed too often."""

    status = 503
    code = "upstream_unavailable"
    client_may_retry = False


class UpstreamError(GatewayError):
    """The upstream failed, and another attempt would not help.

    `provider` is the provider's name; `upstream_status` is the HTTP status, None if none came.
    """

    status = 502
    code: str | None = "upstream_error"
    client_may_retry = False

    def __init__(self, message: str, *, provider: str = "", upstream_status: int | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.provider = provider
        self.upstream_status = upstream_status


class UpstreamRateLimited(UpstreamError):
    """The upstream answered 429."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"
    retryable = True


class UpstreamTimeout(UpstreamError):
    """The upstream took longer than the time-out."""

    status = 504
    code = "upstream_timeout"
    retryable = True
    trips_breaker = True


class UpstreamDown(UpstreamError):
    """The upstream cannot be reached, closed the connection early, or answered 5xx."""

    retryable = True
    trips_breaker = True

    def __init__(self, message: str, *, unavailable: bool = False, **details: Any) -> None:
        super().__init__(message, **details)
        if unavailable:
            self.status = 503


class UpstreamRejected(UpstreamError):
    """The upstream refuses the caller's request; the upstream's own 4xx status is kept. `refused` are the optional
    parameters that the upstream does not support.
    """

    type = "invalid_request_error"
    code: str | None = None

    def __init__(self, message: str, *, upstream_status: int, refused: tuple[str, ...] = (), **details: Any) -> None:
        super().__init__(message, upstream_status=upstream_status, **details)
        self.status = upstream_status
        self.refused = refused


class UpstreamAuthFailed(UpstreamError):
    """The upstream refuses our credential. That is our misconfiguration, so the caller never gets a 401 for it."""

    code = "upstream_authentication"


class Cancelled(Exception):
    """The caller has disconnected. Nothing failed, and no answer can be sent."""


class RequestCancelled(GatewayError):
    """The caller has asked for the answer to be ended, over another connection."""

    status = 499
    type = "invalid_request_error"
    code = "response_cancelled"

    def __init__(self) -> None:
        super().__init__("The answer was cancelled by its caller.")


class HalfClosed(GatewayError):
    """The caller has closed its sending side, which counts as a disconnect. A caller that still reads must not take the
    end for a complete answer.
    """

    status = 499  # nginx's code for a client that has closed the connection
    type = "invalid_request_error"
    code = "client_closed_request"

    def __init__(self) -> None:
        super().__init__("The sending side of this connection was shut, which counts as hanging up.")
