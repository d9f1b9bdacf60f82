"""botocore's clients, one for each service and region, with their credentials and addresses. Built on first use.

They send nothing: our handler of botocore's `before-send` event raises RequestPrepared with the signed request
(https://docs.aws.amazon.com/boto3/latest/guide/events.html).

Missing credentials are looked up by botocore's own chain: shared files, web identity, container, instance
(https://docs.aws.amazon.com/boto3/latest/guide/credentials.html).
"""

import threading
from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import Any, NoReturn

from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError, ProfileNotFound
from botocore.session import Session

from core.context import CallContext
from core.errors import GatewayError, UpstreamAuthFailed, UpstreamError, UpstreamTimeout
from providers.base import Target
from providers.bedrock.errors import is_about_credentials

CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or (for models) AWS_BEARER_TOKEN_BEDROCK, "
    "or give this machine a role"
)
FETCHING = Config(connect_timeout=3, read_timeout=3, retries={"total_max_attempts": 1})
"""Time-outs of botocore's own requests for credentials (STS, SSO), for which a request waits."""
ONCE = Config(retries={"total_max_attempts": 1, "mode": "standard"})
LOOK_AGAIN_SECONDS = 5.0
"""Seconds for which missing credentials are remembered. The lookup asks the machine's metadata service, which takes a
second or two if there is none, and callers wait for each other meanwhile.
"""


class RequestPrepared(Exception):
    """Not an error: it carries the signed request out of botocore."""


class BotocoreClients:
    """An account's clients. `variables` are the AWS_* of the environment and of .env; `region`, `profile`, `endpoint`
    and `token` (a Bedrock API key) go before them.
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
    ) -> None:
        self.token = token or ("" if profile else variables.get("AWS_BEARER_TOKEN_BEDROCK", ""))
        self._name = name
        self._variables = variables
        self._region = region or variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION") or ""
        self._profile = profile
        self._endpoint = endpoint
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._none_until = 0.0
        self._lock = threading.Lock()

    def get(self, service: str, target: Target, call: CallContext) -> Any:
        """The client of a service, in the region (and at the endpoint) of the target, or else of the configuration.

        Raises UpstreamError with the setting that is missing or wrong, UpstreamTimeout and Cancelled: to look for
        credentials may take seconds.
        """
        key = service, target.details.get("region") or "", target.details.get("endpoint") or ""
        client = self._clients.get(key)
        if client is None:
            try:
                client = call.run(partial(self._make, key))
            except TimeoutError as error:
                message = f"{self._name} found no AWS credentials in time."
                raise UpstreamTimeout(message, provider=self._name) from error
        return client

    def _make(self, key: tuple[str, str, str]) -> Any:
        with self._lock:
            client = self._clients.get(key)
            if client is None:
                try:
                    client = self._clients[key] = self._build(*key)
                except (BotoCoreError, ClientError, ValueError) as error:  # ValueError: an endpoint that is no URL
                    raise self.error_from_botocore(error) from error
            return client

    def error_from_botocore(self, error: Exception) -> GatewayError:
        """The error for an exception that botocore raises before anything is sent."""
        name = self._name
        details: dict[str, Any] = {"provider": name, "log": f"{type(error).__name__}: {error}"}
        if isinstance(error, NoRegionError):
            return UpstreamError(f"There is no AWS region for {name}: set AWS_REGION.", **details)
        if isinstance(error, ProfileNotFound):
            return UpstreamAuthFailed(f"The AWS profile for {name} does not exist: see AWS_PROFILE.", **details)
        if isinstance(error, ClientError) or is_about_credentials(error):
            return UpstreamAuthFailed(f"No AWS credentials could be fetched for {name}: {CREDENTIALS}.", **details)
        message = f"{name} cannot be reached as it is configured: see AWS_REGION and AWS_ENDPOINT_URL."
        return UpstreamError(message, **details)

    def _build(self, service: str, region: str, endpoint: str) -> Any:
        given = self._variables
        session = Session(profile=self._profile or given.get("AWS_PROFILE"))
        session.set_default_client_config(FETCHING)
        if region := region or self._region:
            session.set_config_variable("region", region)
        key, secret = given.get("AWS_ACCESS_KEY_ID"), given.get("AWS_SECRET_ACCESS_KEY")
        if key and secret and not self._profile:
            session.set_credentials(key, secret, given.get("AWS_SESSION_TOKEN"))
        if not self.token:
            self._look_for_credentials(session)
        url = endpoint or self._endpoint or _endpoint(service, given)
        signing = Config(signature_version=UNSIGNED) if self.token else None
        config = ONCE.merge(signing) if signing else ONCE
        client = session.create_client(service, endpoint_url=url or None, config=config)
        client.meta.events.register(f"before-send.{service}", _hand_over)
        return client

    def _look_for_credentials(self, session: Session) -> None:
        """A client without credentials is not kept, so that a later call looks for them again."""
        if monotonic() >= self._none_until:
            if session.get_credentials() is not None:
                return
            self._none_until = monotonic() + LOOK_AGAIN_SECONDS
        raise UpstreamAuthFailed(f"There are no AWS credentials for {self._name}: {CREDENTIALS}.", provider=self._name)


def _hand_over(request: Any, **_: Any) -> NoReturn:
    raise RequestPrepared(request)


def _endpoint(service: str, variables: Mapping[str, str]) -> str:
    """AWS_ENDPOINT_URL, or the service's own: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html"""
    if variables.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return ""
    own = f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}"
    return variables.get(own) or variables.get("AWS_ENDPOINT_URL") or ""
