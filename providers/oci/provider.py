"""OCI Generative AI, and models that OCI Data Science deploys: chat in four styles, embeddings, rerank, discovery.

https://docs.oracle.com/en-us/iaas/Content/generative-ai/overview.htm
"""

import logging
import re
from collections.abc import Mapping, Sequence
from functools import partial
from logging import getLogger
from typing import Any

import orjson

from core.context import CallContext, Timeouts
from core.errors import UpstreamAuthFailed, UpstreamError
from core.events import Events
from core.guardrails import GuardrailRules, Side, Verdict
from core.json_values import BAD_SHAPE
from core.models import ListedModel
from core.requests import ChatRequest, EmbeddingsRequest, RerankRequest
from providers.base import Provider, Target
from providers.common.structured import answer_as_call
from providers.common.tool_names import COHERE, GOOGLE, fit_names, restore_names
from providers.oci import embeddings, guardrails
from providers.oci.auth import Login
from providers.oci.chat import cohere_v1 as cohere
from providers.oci.chat import cohere_v2, generic, openai
from providers.oci.chat.calls_in_text import calls_in_text
from providers.oci.chat.chat import ChatFormat, answer_events
from providers.oci.chat.common import base_model
from providers.oci.client import OciClient, SignedRequest, closing, not_found_hint, serving_mode
from providers.oci.discovery import ModelDirectory
from providers.openai_compatible import answer as openai_answer
from providers.transport.client import Response
from providers.transport.exchange import log_dropped_parameters

HOSTED = ("openai.", "xai.", "google.")
V2 = re.compile(r"cohere\..*(vision|reasoning)")


class OCI(Provider):
    """One account at OCI. What is given is in dispatch/sources/oci.py's words. Nothing is read before the first
    request.
    """

    def __init__(
        self,
        *,
        name: str = "oci",
        model: str = "",
        auth_type: str = "API_KEY",
        config_file: str = "~/.oci/config",
        profile: str = "DEFAULT",
        credentials: Mapping[str, str] | None = None,
        region: str = "",
        compartment: str = "",
        places: Sequence[tuple[str, str]] = (),
        endpoint: str = "",
        api_key: str = "",
        api_format: str = "",
        proxy: str = "",
        cohere_max_tokens: int = 4000,
        embed_truncate: str = "END",
        debug: bool = False,
    ) -> None:
        self.name = name
        self.default_model = model
        self.embed_truncate = embed_truncate
        login = Login(name, auth_type, config_file, profile, credentials, debug=debug)
        self.service = OciClient(
            name, login, region=region, compartment=compartment, endpoint=endpoint, api_key=api_key, proxy=proxy
        )
        self.directory = ModelDirectory(self.service, places)
        self._api_format = api_format
        self._styles = styles(cohere_max_tokens)
        getLogger("oci").setLevel(logging.DEBUG if debug else logging.NOTSET)

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """Answer in the style of the model's family."""
        target = self.directory.locate(target, call)
        api_format = self._format(target)
        if api_format == "OPENAI":
            yield from self._openai(request, target, call)
            return
        style = self._styles[api_format]
        google = GOOGLE if base_model(target).startswith("google.") else None
        fitted, names = fit_names(request, google if api_format == "GENERIC" else COHERE)
        fitted, must = (
            cohere.call_by_format(fitted, target.public_name or target.model)
            if api_format == "COHERE"
            else (fitted, "")
        )
        sent = style.to_upstream(fitted, target)
        log_dropped_parameters(self.name, request.body, style.supported_parameters)
        with closing(self._send(sent, target, call)) as reply:
            finds_calls = _may_write_calls(request, target, api_format)
            forwards = not (finds_calls or must or names)
            events = answer_events(reply, request, call, self.name, style, forwards=forwards)
            if finds_calls:
                events = calls_in_text(events)
            events = answer_as_call(events, must) if must else events
            yield from restore_names(events, names) if names else events

    def embed(self, request: EmbeddingsRequest, target: Target, call: CallContext) -> Events:
        """POST /actions/embedText."""
        yield from embeddings.embed(
            self.service, request, self.directory.locate(target, call), call, self.embed_truncate
        )

    def rerank(self, request: RerankRequest, target: Target, call: CallContext) -> Events:
        """POST /actions/rerankText."""
        yield from embeddings.rerank(self.service, request, self.directory.locate(target, call), call)

    def guard(self, text: str, side: Side, rules: GuardrailRules, call: CallContext, seconds: float) -> Verdict:
        """POST /actions/applyGuardrails."""
        try:
            return guardrails.check(self.service, text, side, rules, call, Timeouts(*[seconds] * 4))
        except BAD_SHAPE as error:
            what = f"{self.name} sent something that is no verdict."
            raise UpstreamError(what, provider=self.name, log=f"{type(error).__name__}: {error}") from error

    def warm(self, call: CallContext, timeouts: Timeouts) -> None:
        """Keep a connection to the service open."""
        self.service.warm(self.service.inference(self.service.place({}, call)), call, timeouts)

    def models(self, call: CallContext) -> Sequence[ListedModel]:
        """GET /models and /endpoints, in every region and compartment that is configured."""
        try:
            return self.directory.models(call)
        except UpstreamAuthFailed as error:
            if self.service.api_key and error.param == "OCI_CONFIG_FILE":
                return super().models(call)  # a GenAI API key is all there is, and it lists nothing
            raise

    def check(self, call: CallContext) -> str:
        """One region or compartment that is refused is no small matter, though others have lists."""
        if self.directory.failures:
            raise self.directory.failures[0]
        return (
            ""
            if self.directory.has_loaded
            else "not asked: OCI_API_KEY alone lists nothing, so nor was OCI_COMPARTMENT"
        )

    def _format(self, target: Target) -> str:
        """The API style: as models.yaml has it, else by the family; with an API key, OpenAI's if the model has it."""
        if target.details.get("type") == "datascience":
            return "OPENAI"
        if chosen := target.details.get("api_format"):
            return str(chosen)
        model = base_model(target)
        if model.startswith("cohere."):
            family = "COHEREV2" if V2.match(model) else "COHERE"
            return family if self._api_format in ("", "OPENAI") else self._api_format
        return self._api_format or (
            "OPENAI" if self.service.api_key and not target.details.get("endpoint") else "GENERIC"
        )

    def _send(self, chat: Mapping[str, Any], target: Target, call: CallContext) -> Response:
        """Ask in one of OCI's own formats. The request's bytes are not kept for as long as the answer takes."""
        place = self.service.place(target.details, call)
        details = {"compartmentId": place.compartment, "servingMode": serving_mode(target), "chatRequest": chat}
        signed = SignedRequest(
            "POST", self.service.inference(place), "/actions/chat", orjson.dumps(details), about=not_found_hint(target)
        )
        return self.service.send(signed, call, target.timeouts)

    def _openai(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        with closing(self._send_openai(request, target, call)) as reply:
            yield from openai_answer.answer_events(reply, request, call, self.name)

    def _send_openai(self, request: ChatRequest, target: Target, call: CallContext) -> Response:
        """Ask in OpenAI's format, as `_send` does."""
        body = openai.to_upstream(request, target)
        if target.details.get("type") == "datascience":
            signed = openai.at_deployment(target.details, body, not_found_hint(target))
        else:
            place = self.service.place(target.details, call, bearer=bool(self.service.api_key))
            signed = openai.at_inference(self.service, place, body, not_found_hint(target))
        return self.service.send(signed, call, target.timeouts)


def styles(cohere_max_tokens: int) -> dict[str, ChatFormat]:
    """OCI's own API formats, by their names."""
    v1 = partial(cohere.to_upstream, most_tokens=cohere_max_tokens)
    v2 = partial(cohere_v2.to_upstream, most_tokens=cohere_max_tokens)
    return {
        "GENERIC": ChatFormat(
            generic.to_upstream,
            generic.chunk,
            generic.body,
            generic.SUPPORTED_PARAMETERS,
            usage_follows=True,
            plain_text=generic.plain_text,
        ),
        "COHERE": ChatFormat(v1, cohere.chunk, cohere.body, cohere.SUPPORTED_PARAMETERS, repeats=True, plans=True),
        "COHEREV2": ChatFormat(v2, cohere_v2.chunk, cohere_v2.body, cohere_v2.SUPPORTED_PARAMETERS, repeats=True),
    }


def _may_write_calls(request: ChatRequest, target: Target, api_format: str) -> bool:
    """Whether tool calls may come as text: from models that OCI does not host itself."""
    return bool(request.tools) and api_format == "GENERIC" and not base_model(target).startswith(HOSTED)
