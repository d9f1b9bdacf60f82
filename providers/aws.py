"""The way to Amazon's services: botocore finds credentials, checks, serialises, signs and parses; the bytes go
through our own transport, so that time-outs, heartbeats and hang-ups are the same as everywhere.

    door = Door("bedrock-models", variables)
    answer = yield from door.invoke(CONVERSE, params, target, call)             # Silence, then the parsed body
    for event in door.stream(CONVERSE_STREAM, params, target, call): ...        # (name, members) or Silence

How: botocore prepares a request as it does for itself, and just before it would send it, our handler of its
`before-send` event takes the request away (https://docs.aws.amazon.com/boto3/latest/guide/events.html). So nothing
of botocore's own sockets, retries and time-outs has a part in a call, but for the fetching of credentials.
"""

import re
import threading
from collections.abc import Generator, Iterator, Mapping
from functools import partial
from struct import error as StructError  # noqa: N812 - an exception's name
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

from botocore import UNSIGNED
from botocore.config import Config
from botocore.eventstream import EventStreamBuffer, EventStreamMessage, ParserError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoRegionError,
    ParamValidationError,
    ProfileNotFound,
)
from botocore.parsers import PROTOCOL_PARSERS, ResponseParserError, create_parser
from botocore.session import Session

from errors import InvalidRequest, ProxyError, UpstreamDown, UpstreamError, UpstreamRefusedUs, UpstreamTimeout
from events import SILENCE, Silence
from providers.aws_failures import explained, failure, in_stream
from providers.base import Call, Target
from providers.exchange import accepted, read
from providers.failures import presentable
from providers.http import Account, Reply, send

CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or AWS_BEARER_TOKEN_BEDROCK, "
    "or give this machine a role"
)
FETCHING = Config(connect_timeout=3, read_timeout=3, retries={"total_max_attempts": 1})
"""For the requests that botocore makes by itself, for credentials (STS, SSO): a caller is waiting."""
OURS = frozenset({"host", "user-agent", "accept", "content-type", "content-length"})
"""Headers that the transport writes. Of these, host and content-type are signed, with the values that it gives them."""
DEFAULT_PORTS = {"https": ":443", "http": ":80"}
NOT_FRAMES = (
    ParserError,
    ResponseParserError,
    StructError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
)
"""What botocore's readers raise for bytes that are no event stream."""

Members = dict[str, Any]
Named = tuple[str, Members]


class Operation(NamedTuple):
    """An operation of a service, by the names that botocore's models have for them."""

    service: str
    name: str


class _Prepared(Exception):
    """Not an error: the signed request, on its way out of botocore."""


class Door:
    """One account at Amazon: its credentials, and a client for each service and region, built on first use.

    `variables` are the AWS_* of the environment and of .env; `region`, `profile`, `endpoint` and `token` (a Bedrock
    API key) go before what they say. `proxy` as in http.Account. What is given nowhere, botocore looks for in its own
    chain: shared files, web identity, container, instance (https://docs.aws.amazon.com/boto3/latest/guide/credentials.html).
    """

    def __init__(
        self,
        name: str,
        variables: Mapping[str, str],
        *,
        region: str = "",
        profile: str = "",
        endpoint: str = "",
        token: str = "",
        proxy: str = "",
    ) -> None:
        self.name = name
        self._variables = variables
        self._region = region
        self._profile = profile
        self._endpoint = endpoint
        self._token = token or ("" if profile else variables.get("AWS_BEARER_TOKEN_BEDROCK", ""))
        self._proxy = proxy
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._accounts: dict[str, Account] = {}
        self._lock = threading.Lock()

    def invoke(
        self, operation: Operation, params: Members, target: Target, call: Call
    ) -> Generator[Silence, None, Members]:
        """The answer to an operation that has one. Raises ProxyError, HungUp."""
        client = self._client(operation.service, target)
        model = client.meta.service_model.operation_model(operation.name)
        reply = self._send(client, operation, params, target, call)
        try:
            yield from accepted(reply, partial(failure, self.name))
            body = yield from read(reply)
            answer = {"status_code": reply.status, "headers": reply.headers, "body": body}
            parser = create_parser(client.meta.service_model.resolved_protocol)
            parsed: Members = parser.parse(answer, model.output_shape)
        except NOT_FRAMES as error:
            raise reply.broken(f"{error}") from error
        finally:
            reply.close()
        return parsed

    def stream(
        self, operation: Operation, params: Members, target: Target, call: Call, *, last: str = "", once: bool = False
    ) -> Generator[Named | Silence, None, None]:
        """The events of an operation that streams, as (name, members), in order; blobs are bytes.

        Whether an end is the end is for the caller to judge: `broken` is the exception for one that is not. After an
        event of the name `last` nothing is awaited. `once`: what may have been carried out is not tried again. Raises
        ProxyError, HungUp; for an exception that comes as an event too.
        """
        client = self._client(operation.service, target)
        reply = self._send(client, operation, params, target, call)
        try:
            yield from self._events(reply, client.meta.service_model, operation, last)
        except (UpstreamDown, UpstreamTimeout) as error:
            if once and reply.status in (0, 200):
                error.retryable = False
            raise
        finally:
            reply.close()

    def _events(
        self, reply: Reply, model: Any, operation: Operation, last: str
    ) -> Generator[Named | Silence, None, None]:
        parser = PROTOCOL_PARSERS[model.resolved_protocol].EVENT_STREAM_PARSER_CLS()
        shape = model.operation_model(operation.name).get_event_stream_output()
        try:
            yield from accepted(reply, partial(failure, self.name))
            for message in _messages(reply):
                if isinstance(message, Silence):
                    yield message
                    continue
                for name, members in self._event(message, parser, shape).items():
                    yield name, members
                    if name == last:
                        reply.settle()
                        return
        except NOT_FRAMES as error:
            raise reply.broken(f"{type(error).__name__}: {error}") from error

    def broken(self, what: str) -> UpstreamDown:
        """The exception for an answer that stopped, or makes no sense; `what` goes to the log."""
        return UpstreamDown(f"{self.name} broke off its answer.", provider=self.name, log=what)

    def _event(self, message: EventStreamMessage, parser: Any, shape: Any) -> dict[str, Members]:
        response = message.to_response_dict()
        parsed: dict[str, Any] = parser.parse(response, shape)
        if response["status_code"] != 200:  # noqa: PLR2004 - botocore's way of saying: an exception
            raise in_stream(self.name, message.headers, parsed["Error"])
        return parsed

    def _send(self, client: Any, operation: Operation, params: Members, target: Target, call: Call) -> Reply:
        request = self._prepared(client, operation, params)
        parts = urlsplit(request.url)
        origin = f"{parts.scheme}://{parts.netloc.removesuffix(DEFAULT_PORTS[parts.scheme])}"
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        headers = {name: _text(value) for name, value in request.headers.items() if name.lower() not in OURS}
        body = request.body or b""
        return send(self._account(origin), request.method, path, headers, body, call, target.timeouts)

    def _prepared(self, client: Any, operation: Operation, params: Members) -> Any:
        """The request as botocore would send it. Raises InvalidRequest with the field, and what `_told` raises."""
        try:
            getattr(client, client_method(operation.name))(**params)
        except _Prepared as prepared:
            return prepared.args[0]
        except ParamValidationError as error:
            raise _invalid(error) from error
        except (BotoCoreError, ClientError) as error:
            raise self._told(error) from error
        raise AssertionError("botocore sends by itself")

    def _account(self, origin: str) -> Account:
        account = self._accounts.get(origin)
        if account is None:
            with self._lock:
                headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
                account = self._accounts.setdefault(origin, Account(self.name, origin, headers, self._proxy))
        return account

    def _client(self, service: str, target: Target) -> Any:
        """The client of a service, in the region (and at the endpoint) that the target says, or that is configured."""
        key = service, target.details.get("region") or "", target.details.get("endpoint") or ""
        client = self._clients.get(key)
        if client is None:
            with self._lock:
                client = self._clients.get(key)
                if client is None:
                    try:
                        client = self._clients[key] = self._built(*key)
                    except (BotoCoreError, ClientError, ValueError) as error:  # ValueError: an endpoint that is no URL
                        raise self._told(error) from error
        return client

    def _built(self, service: str, region: str, endpoint: str) -> Any:
        given = self._variables
        session = Session(profile=self._profile or given.get("AWS_PROFILE"))
        session.set_default_client_config(FETCHING)
        region = region or self._region or given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION") or ""
        if region:
            session.set_config_variable("region", region)
        key, secret = given.get("AWS_ACCESS_KEY_ID"), given.get("AWS_SECRET_ACCESS_KEY")
        if key and secret and not self._profile:
            session.set_credentials(key, secret, given.get("AWS_SESSION_TOKEN"))
        if not self._token and session.get_credentials() is None:
            # Not kept, unlike a client: the next call looks again.
            raise UpstreamRefusedUs(f"There are no AWS credentials for {self.name}: {CREDENTIALS}.", provider=self.name)
        signing = {"signature_version": UNSIGNED} if self._token else {}
        url = endpoint or self._endpoint or _endpoint(service, given)
        client = session.create_client(
            service,
            endpoint_url=url or None,
            config=Config(retries={"total_max_attempts": 1, "mode": "standard"}, **signing),
        )
        client.meta.events.register(f"before-send.{service}", _take)
        return client

    def _told(self, error: Exception) -> ProxyError:
        """What botocore raises before anything is sent, as what the caller is told."""
        details: dict[str, Any] = {"provider": self.name, "log": f"{type(error).__name__}: {error}"}
        if isinstance(error, NoRegionError):
            return UpstreamError(f"There is no AWS region for {self.name}: set AWS_REGION.", **details)
        if isinstance(error, ProfileNotFound):
            return UpstreamRefusedUs(f"The AWS profile for {self.name} does not exist: see AWS_PROFILE.", **details)
        if isinstance(error, ClientError) or explained(error):
            return UpstreamRefusedUs(f"No AWS credentials could be fetched for {self.name}: {CREDENTIALS}.", **details)
        said = f"{self.name} cannot be reached as it is configured: see AWS_REGION and AWS_ENDPOINT_URL."
        return UpstreamError(said, **details)


def client_method(operation: str) -> str:
    """ConverseStream -> converse_stream, as botocore names the methods of its clients."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", operation).lower()


def _take(request: Any, **_: Any) -> NoReturn:
    raise _Prepared(request)


def _endpoint(service: str, variables: Mapping[str, str]) -> str:
    """AWS_ENDPOINT_URL, or the service's own: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html"""
    if variables.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return ""
    own = f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}"
    return variables.get(own) or variables.get("AWS_ENDPOINT_URL") or ""


def _messages(reply: Reply) -> Iterator[EventStreamMessage | Silence]:
    """The frames of an event stream as they come, each with its checksums proven. Raises NOT_FRAMES, UpstreamDown."""
    buffer = EventStreamBuffer()
    unread = 0
    for data in reply:
        if not data:
            yield SILENCE
            continue
        unread += len(data)
        buffer.add_data(data)
        for message in buffer:
            unread -= message.prelude.total_length
            yield message
    if unread:
        raise reply.broken("the stream ended inside a frame")


def _invalid(error: ParamValidationError) -> InvalidRequest:
    """What botocore's own model of the service refuses; the first finding, with the service's name of the field."""
    finding = str(error.kwargs["report"]).partition("\n")[0]
    field = re.search(r"(?:for parameter|in) ([A-Za-z][\w.\[\]]*)", finding)
    return InvalidRequest(f"Amazon's model of the request says: {presentable(finding)}.", param=field and field[1])


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value
