"""A client for Amazon's services: botocore finds credentials, validates, serialises, signs and parses. Our transport
sends the bytes, so time-outs and cancellation are those of the other providers.

    client = AwsClient("bedrock-models", variables)
    answer = client.invoke(CONVERSE, params, target, call)                         # the parsed body
    for event in client.stream(CONVERSE_STREAM, params, target, call): ...         # (name, members)

botocore's clients prepare each request, and pass it to us instead of sending it (botocore_clients.py). So botocore's
own sockets, retries and time-outs are only used to fetch credentials.
"""

import re
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from struct import error as StructError  # noqa: N812 - an exception's name
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from botocore.eventstream import EventStreamBuffer, EventStreamMessage, ParserError
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.parsers import PROTOCOL_PARSERS, ResponseParserError, create_parser

from core.context import CallContext, Timeouts
from core.errors import InvalidRequest, UpstreamDown, UpstreamRejected, UpstreamTimeout
from providers.base import Target
from providers.bedrock.botocore_clients import BotocoreClients, RequestPrepared
from providers.bedrock.errors import aws_error, error_from_event
from providers.transport.client import Response, send
from providers.transport.endpoint import Endpoint
from providers.transport.exchange import raise_for_status, read_body
from providers.transport.status_errors import safe_message
from providers.transport.warm_up import warm

OURS = frozenset({"host", "user-agent", "accept", "content-type", "content-length"})
"""Headers that the transport writes. Of these, host and content-type are signed, with the values that it gives them."""
CONFLICT = 409
DEFAULT_PORTS = {"https": ":443", "http": ":80"}
BAD_EVENT_STREAM = (
    ParserError,
    ResponseParserError,
    StructError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
)
"""The exceptions of botocore's parsers for an invalid event stream."""

KEYS = {"AWS_BEARER_TOKEN_BEDROCK": "token", "AWS_PROFILE": "profile"}
"""Settings that go before AWS_ACCESS_KEY_ID, and the options of models.yaml that replace them."""

Members = dict[str, Any]
NamedEvent = tuple[str, Members]


class Operation(NamedTuple):
    """An operation of a service, by the names that botocore's models have for them."""

    service: str
    name: str


class AwsClient:
    """One account at Amazon: connections to its services. `variables` and `given` (region, profile, endpoint, token)
    are those of BotocoreClients, `proxy` is that of Endpoint.
    """

    def __init__(self, name: str, variables: Mapping[str, str], *, proxy: str = "", **given: str) -> None:
        self.name = name
        self._clients = BotocoreClients(name, variables, **given)
        self._proxy = proxy
        self._key = next((key for key in KEYS if given.get(KEYS[key]) or variables.get(key)), "AWS_ACCESS_KEY_ID")
        self._accounts: dict[str, Endpoint] = {}
        self._lock = threading.Lock()

    def invoke(self, operation: Operation, params: Members, target: Target, call: CallContext) -> Members:
        """The parsed body of an operation that does not stream. Raises GatewayError and Cancelled."""
        client = self.client(operation.service, target, call)
        model = client.meta.service_model.operation_model(operation.name)
        reply = self._send(client, operation, params, target, call)
        try:
            raise_for_status(reply, partial(aws_error, self.name, setting=self._key))
            body = read_body(reply)
            answer = {"status_code": reply.status, "headers": reply.headers, "body": body}
            parser = create_parser(client.meta.service_model.resolved_protocol)
            parsed: Members = parser.parse(answer, model.output_shape)
        except BAD_EVENT_STREAM as error:
            raise reply.broken(f"{error}") from error
        finally:
            reply.close()
        return parsed

    def stream(
        self,
        operation: Operation,
        params: Members,
        target: Target,
        call: CallContext,
        *,
        last: str = "",
        once: bool = False,
    ) -> Generator[NamedEvent]:
        """The events of an operation that streams, as (name, members), in order; blobs are bytes.

        The caller decides whether the stream ended too early: `broken` is the exception for that. After an event of the
        name `last` nothing is awaited. `once`: a request that may have been carried out is not repeated. Raises
        GatewayError, also for an exception that comes as an event, and Cancelled.
        """
        model = self.client(operation.service, target, call).meta.service_model
        with self.open(operation, params, target, call, once=once) as reply:
            yield from self._events(reply, model, operation, last)

    @contextmanager
    def open(
        self, operation: Operation, params: Members, target: Target, call: CallContext, *, once: bool = False
    ) -> Iterator[Response]:
        """The successful response to an operation, for the caller to read; closed in the end. `once` and the exceptions
        are those of `stream`.
        """
        client = self.client(operation.service, target, call)
        reply = self._send(client, operation, params, target, call)
        try:
            raise_for_status(reply, partial(aws_error, self.name, setting=self._key))
            yield reply
        except UpstreamRejected as error:
            if once and reply.resent and error.status == CONFLICT:
                busy = self.broken("the request that went out before is being carried out")
                busy.retryable = False
                raise busy from error
            raise
        except (UpstreamDown, UpstreamTimeout) as error:
            if once and (isinstance(error, UpstreamTimeout) or reply.status in (0, 200)):
                error.retryable = False
            raise
        finally:
            reply.close()

    def _events(self, reply: Response, model: Any, operation: Operation, last: str) -> Generator[NamedEvent]:
        parser = PROTOCOL_PARSERS[model.resolved_protocol].EVENT_STREAM_PARSER_CLS()
        shape = model.operation_model(operation.name).get_event_stream_output()
        try:
            for message in _messages(reply):
                for name, members in self._event(message, parser, shape).items():
                    yield name, members
                    if name == last:
                        reply.settle()
                        return
        except BAD_EVENT_STREAM as error:
            raise reply.broken(f"{type(error).__name__}: {error}") from error

    def broken(self, what: str) -> UpstreamDown:
        """The exception for an answer that is incomplete or invalid; `what` goes to the log."""
        return UpstreamDown(f"{self.name} broke off its answer.", provider=self.name, log=what)

    def _event(self, message: EventStreamMessage, parser: Any, shape: Any) -> dict[str, Members]:
        response = message.to_response_dict()
        parsed: dict[str, Any] = parser.parse(response, shape)
        if response["status_code"] != 200:  # noqa: PLR2004 - botocore's way of saying: an exception
            raise error_from_event(self.name, message.headers, parsed["Error"])
        return parsed

    def _send(self, client: Any, operation: Operation, params: Members, target: Target, call: CallContext) -> Response:
        request = self._prepare(client, operation, params)
        parts = urlsplit(request.url)
        origin = f"{parts.scheme}://{parts.netloc.removesuffix(DEFAULT_PORTS[parts.scheme])}"
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        headers = {name: _text(value) for name, value in request.headers.items() if name.lower() not in OURS}
        body = request.body or b""
        return send(self._account(origin), request.method, path, headers, body, call, target.timeouts)

    def _prepare(self, client: Any, operation: Operation, params: Members) -> Any:
        """The request as botocore would send it. Raises InvalidRequest with the field; else as `client`."""
        method = getattr(client, client_method(operation.name))
        try:
            method(**params)
        except RequestPrepared as prepared:
            # The exception that carried it out of botocore is released: its traceback forms a reference cycle.
            return prepared.with_traceback(None).args[0]
        except ParamValidationError as error:
            raise _invalid(error) from error
        except (BotoCoreError, ClientError) as error:
            raise self._clients.error_from_botocore(error) from error
        raise AssertionError("botocore sends by itself")

    def _account(self, origin: str) -> Endpoint:
        account = self._accounts.get(origin)
        if account is None:
            with self._lock:
                token = self._clients.token
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                account = self._accounts.setdefault(origin, Endpoint(self.name, origin, headers, self._proxy))
        return account

    def warm(self, service: str, target: Target, call: CallContext, timeouts: Timeouts) -> None:
        """Build the service's client, and keep a connection to it open."""
        parts = urlsplit(self.client(service, target, call).meta.endpoint_url)
        warm(self._account(f"{parts.scheme}://{parts.netloc}"), call, timeouts)

    def client(self, service: str, target: Target, call: CallContext) -> Any:
        """The client of a service, which only prepares requests. Raises UpstreamError with the missing setting."""
        return self._clients.get(service, target, call)


def client_method(operation: str) -> str:
    """ConverseStream -> converse_stream, as botocore names the methods of its clients."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", operation).lower()


def _messages(reply: Response) -> Iterator[EventStreamMessage]:
    """The frames of an event stream, with their checksums verified. Raises UpstreamDown and BAD_EVENT_STREAM."""
    buffer = EventStreamBuffer()
    unread = 0
    for data in reply:
        unread += len(data)
        buffer.add_data(data)
        for message in buffer:
            unread -= message.prelude.total_length
            yield message
    if unread:
        raise reply.broken("the stream ended inside a frame")


def _invalid(error: ParamValidationError) -> InvalidRequest:
    """The error for parameters that botocore's service model refuses: its first finding, with the service's field."""
    finding = str(error.kwargs["report"]).partition("\n")[0]
    field = re.search(r"(?:for parameter|in) ([A-Za-z][\w.\[\]]*)", finding)
    return InvalidRequest(f"Amazon's model of the request says: {safe_message(finding)}.", param=field and field[1])


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value
