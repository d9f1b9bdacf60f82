"""Google's Gemini API: https://ai.google.dev/api

request.py and decode.py translate a chat. The key is sent in a header, because logs have addresses.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import orjson

from core.context import CallContext
from core.errors import ContextTooLong, GatewayError, Unsupported, UpstreamError, UpstreamRejected
from core.events import Events, Usage, Vectors
from core.json_values import BAD_SHAPE
from core.models import ListedModel
from core.requests import ChatRequest, EmbeddingsRequest, Image
from providers.base import Target
from providers.common.answers import answer_events
from providers.common.http_provider import HttpProvider
from providers.common.structured import answer_as_text, format_by_tool
from providers.common.tool_names import GOOGLE, fit_names, restore_names
from providers.common.translate import Pictures, parse_data_url, token_count
from providers.gemini.decode import GeminiDecoder
from providers.gemini.request import asks_by_tool, supported_parameters, to_upstream
from providers.gemini.thought_signatures import ThoughtSignatures
from providers.transport.client import send
from providers.transport.exchange import log_dropped_parameters, request_id_header, request_json
from providers.transport.status_errors import error_body, error_from_body, error_from_response, error_object

VERSION = "/v1beta"
"""Added to an address that names no version, as Google's SDK takes it."""
STREAM = "streamGenerateContent?alt=sse"
"""Without `alt` the parts of the answer come as one JSON array."""

TASKS = {
    "search_query": "RETRIEVAL_QUERY",
    "query": "RETRIEVAL_QUERY",
    "search_document": "RETRIEVAL_DOCUMENT",
    "document": "RETRIEVAL_DOCUMENT",
}
"""Other vendors' input types; Google's own are taken as they are (https://ai.google.dev/api/embeddings#TaskType)."""

BAD_KEY = re.compile(r"API key (not valid|expired|not found)", re.IGNORECASE)
TOO_LONG = re.compile(r"input token count.*exceeds", re.IGNORECASE)
DELAY = re.compile(r"(\d+(?:\.\d+)?)s")


class Gemini(HttpProvider):
    """Gemini at Google, or a server with its API."""

    def _address(self, base_url: str) -> str:
        return _with_version(base_url)

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        return gemini_error(self.name, status, headers, body, setting=self._vendor.key_setting)

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """POST models/{model}:generateContent, or :streamGenerateContent, whose stream ends where the response does."""
        thoughts = ThoughtSignatures(call)
        fitted, names = fit_names(request, GOOGLE)
        fitted, answer = format_by_tool(fitted) if asks_by_tool(request, target) else (fitted, "")
        body = to_upstream(fitted, target, thoughts.recall)
        log_dropped_parameters(self.name, request.body, supported_parameters(target.model))
        decoder = GeminiDecoder(request.body.get("n", 1), thoughts.keep, self._in_band, Pictures(request))
        path = f"/{resource(target.model)}:{STREAM if request.stream else 'generateContent'}"
        reply = send(self._account, "POST", path, request_id_header(call), orjson.dumps(body), call, target.timeouts)
        whole, forwards = decoder.whole, not (names or answer)
        events = answer_events(
            reply, request, self._failure, decoder, lambda data: list(whole(data)), call, forwards=forwards
        )
        events = restore_names(events, names) if names else events
        yield from answer_as_text(events, answer) if answer else events

    def count_tokens(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """POST models/{model}:countTokens; an estimate for a model that does not count."""
        model = resource(target.model)
        fitted, _ = fit_names(replace(request, stream=False), GOOGLE)
        body = to_upstream(fitted, target, ThoughtSignatures(call).recall)
        raw = orjson.dumps({"generateContentRequest": {"model": model, **body}})
        try:
            answer = request_json(
                self._account, "POST", f"/{model}:countTokens", raw, call, target.timeouts, self._failure
            )
        except UpstreamRejected:
            yield from super().count_tokens(request, target, call)
            return
        yield Usage(token_count(answer.get("totalTokens")), 0)

    def embed(self, request: EmbeddingsRequest, target: Target, call: CallContext) -> Events:
        """POST models/{model}:batchEmbedContents, in batches within Gemini's limit."""
        wanted = [embedding_to_upstream(request, at, target.model) for at in range(len(request.inputs))]
        vectors: list[Sequence[float]] = []
        tokens = 0
        for start in range(0, len(wanted), self._vendor.embedding_batch):
            batch = wanted[start : start + self._vendor.embedding_batch]
            path = f"/{resource(target.model)}:batchEmbedContents"
            body = orjson.dumps({"requests": batch})
            data = request_json(self._account, "POST", path, body, call, target.timeouts, self._failure)
            try:
                found = [each["values"] for each in data["embeddings"]]
                tokens += (data.get("usageMetadata") or {}).get("promptTokenCount", 0)
            except BAD_SHAPE as error:
                raise self._bad_response(f"embeddings without {error}") from error
            if len(found) != len(batch):
                raise self._bad_response(f"{len(found)} embeddings for {len(batch)} inputs")
            vectors += found
        yield Vectors(vectors, usage=Usage(tokens, 0) if tokens else None)

    def models(self, call: CallContext) -> Sequence[ListedModel]:
        """GET models, page by page: those that chat or embed."""

        def models(page: Any) -> list[ListedModel]:
            rows = filter(_serves, page["models"])
            return [ListedModel(each["name"].removeprefix("models/"), "google") for each in rows]

        def next_page(page: Any) -> str:
            token = page.get("nextPageToken")
            return f"&pageToken={quote(token, safe='')}" if token else ""

        return self._list_models(call, "/models?pageSize=1000", models, next_page)

    def _in_band(self, error: Any) -> GatewayError:
        """The exception for an error object that comes instead of an answer."""
        status = error.get("code") if isinstance(error, dict) else None
        if isinstance(status, int) and 400 <= status < 600:  # noqa: PLR2004
            return gemini_error(self.name, status, {}, error_body(error))
        return error_from_body(self.name, error)


def gemini_error(name: str, status: int, headers: Mapping[str, str], body: bytes, *, setting: str = "") -> GatewayError:
    """The exception for Google's error response (https://ai.google.dev/gemini-api/docs/troubleshooting).

    Its documented details decide: a bad key is a 400, and the body has the time to wait.
    """
    details = error_object(body)
    message, facts = (
        str(details.get("message")),
        [each for each in details.get("details") or () if isinstance(each, dict)],
    )
    reasons = [str(each.get("reason")) for each in facts]
    ours = any(reason.startswith("API_KEY_") for reason in reasons) or BAD_KEY.search(message)
    if ours or details.get("status") == "FAILED_PRECONDITION":  # which means: no billing, or not in this country
        refused = error_from_response(name, 401, headers, body, setting=setting)
        if isinstance(refused, UpstreamError):
            refused.upstream_status = status
        return refused
    delays = [found[1] for each in facts if (found := DELAY.fullmatch(str(each.get("retryDelay"))))]
    headers = {**headers, "retry-after": delays[0]} if delays else headers
    error = error_from_response(name, status, headers, body, setting=setting)
    if isinstance(error, UpstreamRejected) and TOO_LONG.search(message):
        return ContextTooLong(error.message, param="messages", log=error.log)
    return error


def resource(model: str) -> str:
    """A model's name as part of a path: with its kind before it, and quoted."""
    kind = "tunedModels" if model.startswith("tunedModels/") else "models"
    return f"{kind}/{quote(model.removeprefix(f'{kind}/'), safe='')}"


def embedding_to_upstream(request: EmbeddingsRequest, at: int, model: str) -> dict[str, Any]:
    """One EmbedContentRequest, of the input at a place. Raises Unsupported for what Gemini does not embed."""
    given, where = request.inputs[at], f"input[{at}]"
    part: dict[str, Any] = {"text": given}
    if isinstance(given, Image):
        found = parse_data_url(given.url)
        if found is None:
            raise Unsupported("A picture must come as data:TYPE;base64,... to be embedded.", param=where)
        part = {"inlineData": {"mimeType": found[0], "data": found[1]}}
    elif not isinstance(given, str):
        raise Unsupported("Gemini embeds text, not token ids.", param=where)
    kind = request.input_type or ""
    task = {"taskType": TASKS.get(kind.lower(), kind.upper())} if kind else {}
    size = {"outputDimensionality": request.dimensions} if request.dimensions else {}
    return {"model": resource(model), "content": {"parts": [part]}, **task, **size}


def _serves(model: Mapping[str, Any]) -> bool:
    methods = model.get("supportedGenerationMethods", ["generateContent"])
    return any(method in methods for method in ("generateContent", "embedContent"))


def _with_version(address: str) -> str:
    parts = urlsplit(address)
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=path if re.search(r"/v\d\w*$", path) else path + VERSION))
