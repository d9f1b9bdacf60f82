"""OCI's endpoints in OpenAI's own dialect: `/openai/v1`, and deployments of Data Science. Bodies are passed on.

https://docs.oracle.com/en-us/iaas/Content/generative-ai/chat-completions-api.htm
https://docs.oracle.com/en-us/iaas/Content/data-science/using/model-dep-response-streaming-endpoint.htm
"""

from collections.abc import Mapping
from typing import Any

import orjson

from core.json_values import Json
from core.requests import ChatRequest
from providers.base import Target
from providers.common.history import mend_history
from providers.dialects import AZURE, LOCAL
from providers.oci.chat.common import counts_thinking
from providers.oci.client import OPENAI, Location, OciClient, SignedRequest
from providers.openai_compatible.request import fit_messages

DEPLOYED = "odsc-llm"
"""The model's name in the containers of Data Science's AI Quick Actions."""
ROUTE = {"route": "/v1/chat/completions"}
"""The header that chooses the container's path, for deployments with several."""


def to_upstream(request: ChatRequest, target: Target) -> Json:
    """The body for this target, with a mended history and without other vendors' keys. Usage is always requested, and
    removed again if the caller did not want it.
    """
    dialect = LOCAL if target.details.get("type") == "datascience" else AZURE
    body = {**request.body, "model": target.model, "messages": fit_messages(mend_history(request.messages), dialect)}
    if counts_thinking(target) and "max_tokens" in body:
        body.setdefault("max_completion_tokens", body.pop("max_tokens"))
    if target.details.get("type") == "datascience" and target.model in (target.public_name, target.details["endpoint"]):
        body["model"] = DEPLOYED
    if request.stream:
        body["stream_options"] = {**body.get("stream_options", {}), "include_usage": True}
    else:
        body.pop("stream_options", None)
    if target.max_tokens is not None:
        for cap in {"max_tokens", "max_completion_tokens"} & body.keys():
            body[cap] = min(body[cap], target.max_tokens)
    return target.rules.apply(body)


def at_inference(service: OciClient, place: Location, body: Mapping[str, Any], about: str) -> SignedRequest:
    """The request to `/openai/v1`: with the GenAI API key if there is one, else signed."""
    headers = {"opc-compartment-id": place.compartment, "CompartmentId": place.compartment} if place.compartment else {}
    address = service.inference_host(place) + OPENAI
    return SignedRequest(
        "POST", address, "/chat/completions", orjson.dumps(body), headers, about=about, bearer=bool(service.api_key)
    )


def at_deployment(details: Mapping[str, Any], body: Mapping[str, Any], about: str) -> SignedRequest:
    """The request to a deployment: `endpoint` ends in /predict, or in /predict/v1 as the base of an OpenAI client.

    Streams use /predictWithResponseStream; if `stream_by` is "header", they use /predict, as older deployments did.
    """
    endpoint, headers = details["endpoint"].rstrip("/"), dict(ROUTE)
    root, _, end = endpoint.rpartition("/predict")
    path = "/predict"
    if not root:
        root, path = endpoint, ""
    elif end:
        path, headers = f"/predict{end.removesuffix('/chat/completions')}/chat/completions", {}
    elif body.get("stream") and details.get("stream_by") == "header":
        headers["enable-streaming"] = "true"
    elif body.get("stream"):
        path = "/predictWithResponseStream"
    return SignedRequest("POST", root, path, orjson.dumps(body), headers, about=about)
