"""What can go wrong, as the caller is told it. Each class knows its status, OpenAI's type and code, and what follows.

    ProxyError 500
    ├── InvalidRequest 400
    │   ├── UnknownModel 404 model_not_found
    │   ├── Unsupported 400 unsupported_value
    │   ├── ContextTooLong 400 context_length_exceeded
    │   ├── TooLarge 413 request_too_large
    │   └── TooSlow 408 request_timeout
    ├── NotAuthorized 401 invalid_api_key
    ├── NotAllowed 403 permission_denied
    ├── RateLimited 429 rate_limit_exceeded      ours; the client may come again
    ├── Overloaded 503 server_overloaded         ours; the client may come again
    ├── CircuitOpen 503 upstream_unavailable
    └── UpstreamError 502 upstream_error
        ├── UpstreamBusy 429 rate_limit_exceeded        retried
        ├── UpstreamTimeout 504 upstream_timeout        retried, counts for the breaker
        ├── UpstreamDown 502 or 503 upstream_error      retried, counts for the breaker
        ├── UpstreamRejected 4xx                        the caller's request, the vendor's status
        └── UpstreamRefusedUs 502                       our credential, never the caller's fault

    HungUp                                       not an error: nobody is left to be told

The JSON that a client reads is OpenAI's error object, all four keys always present (openapi: ErrorResponse). Its
message is ours; what a vendor wrote goes to the log.
"""

from typing import Any, ClassVar


class GatewayError(Exception):
    """A failure that the caller is told about.

    `message` is for the caller: no key, no stack, no vendor's page. `param` names the field or setting at fault.
    `retry_after` is in seconds and becomes a Retry-After header. `log` is for the log alone. `retryable` is the class's
    word; a provider may know better of one failure, as when what was asked may have been done already. `counts` tells
    whether the breaker is told, and the transport may know better of that.
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

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """The headers that go with the status: Retry-After in whole seconds, and x-should-retry (decision 3)."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after + 0.499)))
        if self.client_may_retry is not None:
            headers["x-should-retry"] = "true" if self.client_may_retry else "false"
        return headers


class InvalidRequest(GatewayError):
    """The request cannot be understood or served as it stands. Its code is `invalid_value` with a `param`, unless one
    is given that says more.
    """

    status = 400
    type = "invalid_request_error"

    def __init__(self, message: str, *, param: str | None = None, **details: Any) -> None:
        super().__init__(message, param=param, **details)
        if self.code is None and param is not None:
            self.code = "invalid_value"


class UnknownModel(InvalidRequest):
    """No such model here."""

    status = 404
    code = "model_not_found"


class Unsupported(InvalidRequest):
    """Understood, but this target has no counterpart for it, and dropping it would lose content."""

    code = "unsupported_value"


class ContextTooLong(InvalidRequest):
    """The conversation does not fit the model."""

    code = "context_length_exceeded"


class TooLarge(InvalidRequest):
    """The body is over MAX_BODY_BYTES."""

    status = 413
    code = "request_too_large"


class RequestTimeout(InvalidRequest):
    """The body was begun, and did not come; or the answer was begun, and its caller did not read it."""

    status = 408
    code = "request_timeout"


class Unauthenticated(GatewayError):
    """No key, or a wrong one."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class PermissionDenied(GatewayError):
    """A known key that may not do this."""

    status = 403
    type = "invalid_request_error"
    code = "permission_denied"


class RateLimited(GatewayError):
    """This key has used up its share for now."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"
    client_may_retry = True


class Overloaded(GatewayError):
    """Too many requests are under way here."""

    status = 503
    code = "server_overloaded"
    client_may_retry = True


class CircuitOpen(GatewayError):
    """The target has failed so often that it is left alone for a while."""

    status = 503
    code = "upstream_unavailable"
    client_may_retry = False


class UpstreamError(GatewayError):
    """The upstream failed in a way that trying again will not mend.

    `provider` is its name; `upstream_status` its HTTP status, None when none came.
    """

    status = 502
    code: str | None = "upstream_error"
    client_may_retry = False

    def __init__(self, message: str, *, provider: str = "", upstream_status: int | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.provider = provider
        self.upstream_status = upstream_status


class UpstreamRateLimited(UpstreamError):
    """The upstream asks us to come back later (429)."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"
    retryable = True


class UpstreamTimeout(UpstreamError):
    """The upstream took longer than we wait."""

    status = 504
    code = "upstream_timeout"
    retryable = True
    trips_breaker = True


class UpstreamDown(UpstreamError):
    """The upstream cannot be reached, broke off, or answered 5xx."""

    retryable = True
    trips_breaker = True

    def __init__(self, message: str, *, unavailable: bool = False, **details: Any) -> None:
        super().__init__(message, **details)
        if unavailable:
            self.status = 503


class UpstreamRejected(UpstreamError):
    """The upstream refuses what the caller asked for; its own 4xx status is kept. `refused` are the parameters that it
    does not take at all, of those that one can do without.
    """

    type = "invalid_request_error"
    code: str | None = None

    def __init__(self, message: str, *, upstream_status: int, refused: tuple[str, ...] = (), **details: Any) -> None:
        super().__init__(message, upstream_status=upstream_status, **details)
        self.status = upstream_status
        self.refused = refused


class UpstreamAuthFailed(UpstreamError):
    """The upstream refuses our credential: our misconfiguration, so never the caller's 401."""

    code = "upstream_authentication"


class Cancelled(Exception):
    """The caller has left. Nothing failed, and nobody is there to be told."""


class HalfClosed(GatewayError):
    """The caller sends no more, which counts as leaving. Who only shut that side still reads, and must not take it for
    a whole answer.
    """

    status = 499  # nginx's
    type = "invalid_request_error"
    code = "client_closed_request"

    def __init__(self) -> None:
        super().__init__("The sending side of this connection was shut, which counts as hanging up.")
