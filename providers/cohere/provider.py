"""Cohere's second API: https://docs.cohere.com/v2/reference

request.py and decode.py translate a chat.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import orjson

from core.context import CallContext
from core.errors import (
    ContextTooLong,
    GatewayError,
    InvalidRequest,
    Unsupported,
    UpstreamDown,
    UpstreamRejected,
)
from core.events import Event, Events, Ranks, Usage, Vectors
from core.json_values import BAD_SHAPE
from core.models import ListedModel
from core.requests import ChatRequest, EmbeddingsRequest, Image, RerankRequest
from providers.base import Target
from providers.cohere.decode import CohereDecoder, events_of_body
from providers.cohere.request import SUPPORTED_PARAMETERS, THINKS, asks_by_tool, to_upstream
from providers.common.answers import answer_events
from providers.common.http_provider import HttpProvider
from providers.common.structured import answer_as_text, format_by_tool
from providers.common.tool_names import COHERE, fit_names, restore_names
from providers.common.translate import parse_data_url
from providers.transport.client import send
from providers.transport.exchange import log_dropped_parameters, request_id_header, request_json
from providers.transport.status_errors import error_from_body, error_from_response, error_object

INPUT_TYPES = {"query": "search_query", "document": "search_document", "passage": "search_document"}
"""Other vendors' input types; Cohere's own are taken as they are."""
ONE_PICTURE = re.compile("-v3")
"""Models that take a picture alone, and by another name (https://docs.cohere.com/v2/reference/embed)."""
RANKING = ("max_tokens_per_doc", "priority", "relevant_spans")

TOO_LONG = re.compile("too many tokens|context length", re.IGNORECASE)
VERSION = re.compile(r"/v[12]$")
"""The ends of an address that are cut off, because the paths have the version."""


class Cohere(HttpProvider):
    """Cohere, or a server with its API."""

    def _address(self, base_url: str) -> str:
        return _without_version(base_url)

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        return cohere_error(self.name, status, headers, body, setting=self._vendor.key_setting)

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """POST v2/chat."""
        fitted, names = fit_names(request, COHERE)
        fitted, answer = format_by_tool(fitted) if asks_by_tool(request) else (fitted, "")
        body = to_upstream(fitted, target)
        log_dropped_parameters(
            self.name,
            request.body,
            SUPPORTED_PARAMETERS | ({"reasoning_effort"} if THINKS.search(target.model) else set()),
        )
        reply = send(
            self._account, "POST", "/v2/chat", request_id_header(call), orjson.dumps(body), call, target.timeouts
        )
        decoder, forwards = CohereDecoder(partial(error_from_body, self.name)), not (names or answer)
        events = answer_events(reply, request, self._failure, decoder, self._whole, call, forwards=forwards)
        events = restore_names(events, names) if names else events
        yield from answer_as_text(events, answer) if answer else events

    def _whole(self, answer: Any) -> Iterator[Event]:
        """The events of an answer in one piece. Raises the error if it is one."""
        if isinstance(answer["message"], str):
            raise error_from_body(self.name, answer)
        return events_of_body(answer)

    def embed(self, request: EmbeddingsRequest, target: Target, call: CallContext) -> Events:
        """POST v2/embed, in requests within Cohere's limits."""
        vectors: list[Sequence[float]] = []
        tokens = 0
        for count, body in embeddings_to_upstream(request, target.model, self._vendor.embedding_batch):
            data = self._json("POST", "/v2/embed", orjson.dumps(body), target, call)
            try:
                found = data["embeddings"]["float"]
                tokens += _billed_units(data, "input_tokens") + _billed_units(data, "image_tokens")
            except BAD_SHAPE as error:
                raise self._bad_response(f"embeddings without {error}") from error
            if len(found) != count:
                raise self._bad_response(f"{len(found)} embeddings for {count} inputs")
            vectors += found
        yield Vectors(vectors, usage=Usage(tokens, 0) if tokens else None)

    def rerank(self, request: RerankRequest, target: Target, call: CallContext) -> Events:
        """POST v2/rerank. It is billed by the search, and reports no tokens."""
        top = {} if request.top_n is None else {"top_n": request.top_n}
        options = {key: value for key, value in request.options.items() if key in RANKING}
        log_dropped_parameters(self.name, request.options, options)
        body = {"model": target.model, "query": request.query, "documents": list(request.documents), **top, **options}
        data = self._json("POST", "/v2/rerank", orjson.dumps(body), target, call)
        try:
            ranks = [(int(row["index"]), float(row["relevance_score"])) for row in data["results"]]
        except BAD_SHAPE as error:
            raise self._bad_response(f"a ranking without {error}") from error
        yield Ranks(ranks)

    def models(self, call: CallContext) -> Sequence[ListedModel]:
        """GET v1/models, page by page: there is no second version of it. What is deprecated is left out."""

        def models(page: Any) -> list[ListedModel]:
            return [ListedModel(each["name"], "cohere") for each in page["models"] if not each.get("is_deprecated")]

        def next_page(page: Any) -> str:
            token = page.get("next_page_token")
            return f"&page_token={quote(token, safe='')}" if token else ""

        return self._list_models(call, "/v1/models?page_size=1000", models, next_page)

    def _json(self, method: str, path: str, body: bytes, target: Target, call: CallContext) -> Any:
        return request_json(self._account, method, path, body, call, target.timeouts, self._failure)


def cohere_error(name: str, status: int, headers: Mapping[str, str], body: bytes, *, setting: str = "") -> GatewayError:
    """The exception for Cohere's error response (https://docs.cohere.com/reference/errors), which has statuses of its
    own.
    """
    text = body[:2000].decode("utf-8", "replace")
    if status == 498:  # noqa: PLR2004
        return InvalidRequest(f"{name} does not allow what is said there.", code="content_filter", log=text)
    if status == 499:  # noqa: PLR2004
        return UpstreamDown(f"{name} gave up the request.", provider=name, upstream_status=status, log=text)
    error = error_from_response(name, status, headers, body, setting=setting)
    if isinstance(error, UpstreamRejected) and TOO_LONG.search(str(error_object(body).get("message"))):
        return ContextTooLong(error.message, param="messages", log=error.log)
    return error


def embeddings_to_upstream(request: EmbeddingsRequest, model: str, size: int) -> list[tuple[int, dict[str, Any]]]:
    """The requests that embed all the inputs, in order, with the number of inputs of each. Raises Unsupported."""
    kind = request.input_type or "search_document"
    common: dict[str, Any] = {
        "model": model,
        "input_type": INPUT_TYPES.get(kind.lower(), kind.lower()),
        "embedding_types": ["float"],  # what its base64 packs is not documented
    }
    if request.dimensions is not None:
        common["output_dimension"] = request.dimensions
    contents = [_content(each, f"input[{at}]") for at, each in enumerate(request.inputs)]
    if all(each["type"] == "text" for each in contents):
        texts = [each["text"] for each in contents]
        return [(len(part), {**common, "texts": part}) for part in _parts(texts, size)]
    if ONE_PICTURE.search(model):
        return [(1, {**common, **_alone(each)}) for each in contents]
    inputs = [{"content": [each]} for each in contents]
    return [(len(part), {**common, "inputs": part}) for part in _parts(inputs, size)]


def _content(given: object, where: str) -> dict[str, Any]:
    if isinstance(given, Image):
        if parse_data_url(given.url) is None:
            raise Unsupported("A picture must come as data:TYPE;base64,... to be embedded.", param=where)
        return {"type": "image_url", "image_url": {"url": given.url}}
    if not isinstance(given, str):
        raise Unsupported("Cohere embeds text, not token ids.", param=where)
    return {"type": "text", "text": given}


def _alone(content: Mapping[str, Any]) -> dict[str, Any]:
    if content["type"] == "text":
        return {"texts": [content["text"]]}
    return {"images": [content["image_url"]["url"]], "input_type": "image"}


def _parts(items: list[Any], size: int) -> list[list[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _billed_units(data: Mapping[str, Any], what: str) -> int:
    units = (data.get("meta") or {}).get("billed_units") or {}
    return int(units.get(what) or 0)


def _without_version(address: str) -> str:
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=VERSION.sub("", parts.path.rstrip("/"))))
