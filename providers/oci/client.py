"""Sends requests to OCI's services: finds region and compartment, signs, sends, and checks the status.

    place = service.place(target.details, call)           # region and compartment
    request = SignedRequest("POST", service.inference(place), "/actions/chat", orjson.dumps(body))
    with closing(service.send(request, call, target.timeouts)) as response:    # a successful one
    data, headers = service.json(request, call, target.timeouts)

Hosts: https://docs.oracle.com/en-us/iaas/api/#/en/generative-ai-inference/20231130/
"""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from logging import getLogger
from typing import Any

from oci import regions

from core.context import CallContext, Timeouts
from core.errors import GatewayError, UpstreamAuthFailed, UpstreamDown, UpstreamError, UpstreamTimeout
from providers.base import Target
from providers.oci.auth import Login
from providers.oci.credentials import Credential, credential_error
from providers.oci.errors import oci_error, traceable
from providers.transport.client import Response, send
from providers.transport.endpoint import Endpoint
from providers.transport.exchange import parse_json, raise_for_status, read_body
from providers.transport.warm_up import warm

log = getLogger("oci.requests")
"""A child of the package's logger, which DEBUG_OCI_SDK enables; the package itself does not send these requests."""

INFERENCE = "https://inference.generativeai.{region}.oci.{secondLevelDomain}"
MANAGEMENT = "https://generativeai.{region}.oci.{secondLevelDomain}"
AGENTS = "https://agent-runtime.generativeai.{region}.oci.{secondLevelDomain}"
VERSION = "/20231130"
AGENTS_VERSION = "/20240531"
OPENAI = "/openai/v1"
REGION = re.compile(r"[a-z0-9-]{3,40}")


@dataclass(frozen=True)
class Location:
    """Where a model is called: the region, and the compartment that is billed ("" only with an API key)."""

    region: str
    compartment: str


@dataclass(frozen=True)
class SignedRequest:
    """A request: `base` is an address such as `OciClient.inference` returns, `path` the rest of it, with the query.

    `about` is the message of a 404 for the caller. `bearer` sends the GenAI API key instead of a signature. `once`: the
    request is not repeated if the service may have carried it out.
    """

    method: str
    base: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    about: str = ""
    bearer: bool = False
    once: bool = False


class OciClient:
    """One account at OCI. Built once for each provider, shared by all threads; no network before the first request.

    `region` and `compartment` are the settings', `endpoint` replaces scheme and host of inference and management.
    """

    def __init__(
        self,
        name: str,
        login: Login,
        *,
        region: str = "",
        compartment: str = "",
        endpoint: str = "",
        api_key: str = "",
        proxy: str = "",
    ) -> None:
        self.name = name
        self.api_key = api_key
        self._login = login
        self._region = region
        self._compartment = compartment
        self._endpoint = endpoint.rstrip("/").removesuffix(VERSION).removesuffix(AGENTS_VERSION).removesuffix(OPENAI)
        self._proxy = proxy
        self._accounts: dict[str, Endpoint] = {}
        self._lock = threading.Lock()

    def place(self, details: Mapping[str, Any], call: CallContext, *, bearer: bool = False) -> Location:
        """The location from the model's `details`, else the settings, else the credential (its tenancy is the root
        compartment). A request with the API key (`bearer`) needs neither a compartment nor another credential.
        Raises UpstreamAuthFailed that names the missing setting.
        """
        region = details.get("region") or self._region
        compartment = details.get("compartment") or self._compartment
        if not region or not (compartment or bearer):
            try:
                signature = self._login.signature(call)
            except UpstreamAuthFailed as error:
                if not bearer:
                    raise
                raise credential_error(self.name, "no region is set (OCI_REGION).", "OCI_REGION") from error
            region = region or signature.region
            compartment = compartment or signature.tenancy
        if not region and not self._endpoint:
            raise credential_error(self.name, "no region is set (OCI_REGION).", "OCI_REGION")
        if not (compartment or bearer):
            raise credential_error(self.name, "no compartment is set (OCI_COMPARTMENT).", "OCI_COMPARTMENT")
        return Location(region.lower(), compartment)

    def inference(self, place: Location) -> str:
        """The address before `/actions/chat` and other actions."""
        return self._host(INFERENCE, place.region) + VERSION

    def management(self, place: Location) -> str:
        """The address before `/models` and `/endpoints`."""
        return self._host(MANAGEMENT, place.region) + VERSION

    def agents(self, place: Location) -> str:
        """The address before `/agentEndpoints`."""
        return self._host(AGENTS, place.region) + AGENTS_VERSION

    def inference_host(self, place: Location) -> str:
        """Scheme and host of inference, where the path OPENAI is too."""
        return self._host(INFERENCE, place.region)

    def send(self, request: SignedRequest, call: CallContext, timeouts: Timeouts) -> Response:
        """A successful response, which the caller closes. After a 401, a token is renewed and the request repeated."""
        if request.bearer:
            return self._send_once(request, {"Authorization": f"Bearer {self.api_key}"}, call, timeouts)
        signature = self._login.signature(call)
        try:
            return self._send_once(request, self._sign(request, signature), call, timeouts)
        except UpstreamError as error:
            if error.upstream_status != 401 or not self._login.discard(signature):  # noqa: PLR2004
                raise
        signature = self._login.signature(call)
        return self._send_once(request, self._sign(request, signature), call, timeouts)

    def warm(self, base: str, call: CallContext, timeouts: Timeouts) -> None:
        """Keep a connection open there."""
        warm(self._account(base), call, timeouts)

    def json(self, request: SignedRequest, call: CallContext, timeouts: Timeouts) -> tuple[Any, Mapping[str, str]]:
        """The answer's JSON and headers (`opc-next-page`)."""
        with closing(self.send(request, call, timeouts)) as response:
            raw = read_body(response)
            return parse_json(raw, response), response.headers

    def _sign(self, request: SignedRequest, signature: Credential) -> dict[str, str]:
        return signature.headers(request.method, request.base + request.path, request.body)

    def _send_once(
        self, request: SignedRequest, headers: Mapping[str, str], call: CallContext, timeouts: Timeouts
    ) -> Response:
        account = self._account(request.base)
        headers = {**request.headers, **headers}
        if call.request_id:
            headers["opc-request-id"] = call.request_id
        try:
            response = send(account, request.method, request.path, headers, request.body, call, timeouts)
        except UpstreamDown as error:
            raise self._unreachable(error, request) from error
        try:
            raise_for_status(response, lambda *answer: oci_error(self.name, request.about, *answer))
        except BaseException as error:  # the caller has no response yet that it could close
            response.close()
            if request.once and isinstance(error, UpstreamError):
                raise _without_retry(error, response) from error
            raise
        finally:
            _log_request(request, response)
        return response

    def _unreachable(self, error: UpstreamDown, request: SignedRequest) -> GatewayError:
        """The error for a failed connection: for an unknown region, the setting is wrong."""
        host = request.base.split("/")[2]
        region = host.partition(".oci.")[0].rpartition(".")[2]
        if ".oci." not in host or regions.is_region(region):
            return error
        return credential_error(self.name, f"there is no region {region!r} (OCI_REGION).", "OCI_REGION", log=error.log)

    def _host(self, template: str, region: str) -> str:
        if self._endpoint:
            return self._endpoint
        if not REGION.fullmatch(region):
            raise credential_error(self.name, f"there is no region {region!r} (OCI_REGION).", "OCI_REGION")
        address: str = regions.endpoint_for("generativeai", region, service_endpoint_template=template)
        return address

    def _account(self, base: str) -> Endpoint:
        account = self._accounts.get(base)
        if account is None:
            with self._lock:
                try:
                    account = self._accounts.setdefault(base, Endpoint(self.name, base, {}, self._proxy))
                except ValueError as error:
                    raise credential_error(self.name, f"{error}", "endpoint") from error
        return account


@contextmanager
def closing(response: Response) -> Iterator[Response]:
    """Close the response in the end; an error in between gets its opc-request-id for the log."""
    try:
        yield response
    except GatewayError as error:
        error.log = traceable(error.log, response.headers)
        raise
    finally:
        response.close()


def _without_retry(error: UpstreamError, response: Response) -> UpstreamError:
    """The error, retryable only if nothing was carried out; a conflict may be with the same request sent before."""
    if response.resent and error.status == HTTPStatus.CONFLICT:
        what = "the request that went out before is being carried out"
        error = UpstreamDown("The answer was broken off.", provider=error.provider, log=what)
    if isinstance(error, UpstreamTimeout) or response.status in (0, HTTPStatus.OK, HTTPStatus.CONFLICT):
        error.retryable = False
    return error


def _log_request(request: SignedRequest, response: Response) -> None:
    facts = {
        "method": request.method,
        "address": request.base + request.path,
        "status": response.status or "none",
        "opc_request_id": response.headers.get("opc-request-id", "(none)"),
    }
    log.debug("request", extra={"facts": facts})


def serving_mode(target: Target) -> dict[str, str]:
    """The serving mode: a dedicated endpoint where the model has one, else on demand."""
    endpoint = target.details.get("endpoint") or (target.model if ".generativeaiendpoint." in target.model else "")
    if endpoint:
        endpoint = endpoint.removeprefix("https://")  # OCI GenAI access gateway's template writes the OCID so
        return {"servingType": "DEDICATED", "endpointId": endpoint}
    return {"servingType": "ON_DEMAND", "modelId": target.model}


def not_found_hint(target: Target) -> str:
    """The message of a 404: its meaning, and the setting to correct."""
    if target.details.get("endpoint"):
        return "has no such endpoint, or does not let us use it (endpoint in models.yaml, OCI_COMPARTMENT)."
    return f"has no model {target.model!r} there, or does not let us use it (OCI_REGION, OCI_COMPARTMENT)."
