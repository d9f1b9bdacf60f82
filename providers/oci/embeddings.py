"""Embeddings and rerank on OCI: /actions/embedText and /actions/rerankText.

https://docs.oracle.com/en-us/iaas/api/#/en/generative-ai-inference/20231130/EmbedTextResult/EmbedText
https://docs.oracle.com/en-us/iaas/api/#/en/generative-ai-inference/20231130/RerankTextResult/RerankText
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from core.context import CallContext
from core.errors import InvalidRequest, Unsupported, UpstreamDown, UpstreamRejected
from core.events import Events, Ranks, Usage, Vectors
from core.requests import EmbeddingsRequest, Image, RerankRequest
from providers.base import Target
from providers.common.translate import parse_data_url
from providers.oci.chat.common import base_model
from providers.oci.client import Location, OciClient, SignedRequest, not_found_hint, serving_mode
from providers.transport.exchange import log_dropped_parameters

BATCH = 96
"""The number of texts in one request (https://docs.oracle.com/en-us/iaas/Content/generative-ai/embed-models.htm)."""
INPUT_TYPES = ("SEARCH_DOCUMENT", "SEARCH_QUERY", "CLASSIFICATION", "CLUSTERING", "IMAGE")
ALSO = {"QUERY": "SEARCH_QUERY", "DOCUMENT": "SEARCH_DOCUMENT", "PASSAGE": "SEARCH_DOCUMENT"}
"""Other vendors' names for OCI's input types."""
RERANK_OPTIONS = {"max_chunks_per_doc": "maxChunksPerDocument", "max_tokens_per_doc": "maxTokensPerDocument"}
"""Cohere's names for OCI's options; the older name is from its first API."""


FIXED = (
    (re.compile(r"cohere\.embed-\w+-light-(image-)?v3"), 384),
    (re.compile(r"cohere\.embed-\w+-(image-)?v3"), 1024),
)
"""Models whose vectors have a fixed length, and that length."""


class Batch(NamedTuple):
    """The inputs of one request: texts, or one image."""

    inputs: list[str]
    is_image: bool = False


def embed(service: OciClient, request: EmbeddingsRequest, target: Target, call: CallContext, truncate: str) -> Events:
    """Send each batch in turn, and yield all vectors in the order of the inputs."""
    asked_for = list(batches(request))
    output_dimensions(request, target)
    place = service.place(target.details, call)
    log_dropped_parameters(service.name, ["user"] if request.user else [], ())
    vectors: list[Sequence[float]] = []
    tokens: int | None = None
    for batch in asked_for:
        body = embed_to_upstream(request, batch, target, place, truncate)
        try:
            signed = _signed_request(service, place, "/actions/embedText", body, target)
            data, _ = service.json(signed, call, target.timeouts)
        except UpstreamRejected as error:
            raise _mendable(error, body) from error
        found, counted = embed_from_upstream(data, len(batch.inputs), service.name)
        vectors += found
        tokens = tokens if counted is None else (tokens or 0) + counted
    yield Vectors(vectors, usage=None if tokens is None else Usage(tokens, 0))


def batches(request: EmbeddingsRequest) -> Iterator[Batch]:
    """The inputs in order: up to 96 texts at a time, each image alone. Raises an error that names the wrong input."""
    texts: list[str] = []
    only_images = input_type(request) == "IMAGE"
    for at, each in enumerate(request.inputs):
        where = f"input[{at}]"
        if isinstance(each, Image) or (only_images and isinstance(each, str)):
            if texts:
                yield Batch(texts)
                texts = []
            yield Batch([_picture(each.url if isinstance(each, Image) else each, where)], is_image=True)
        elif isinstance(each, str):
            texts.append(each)
            if len(texts) == BATCH:
                yield Batch(texts)
                texts = []
        else:
            raise Unsupported("OCI embeds texts and pictures, no token ids: send the text itself.", param=where)
    if texts:
        yield Batch(texts)


def input_type(request: EmbeddingsRequest) -> str:
    """The purpose of the vectors; documents by default. Raises InvalidRequest."""
    given = (request.input_type or "SEARCH_DOCUMENT").upper()
    kind = ALSO.get(given, given)
    if kind not in INPUT_TYPES:
        allowed = ", ".join(each.lower() for each in INPUT_TYPES)
        raise InvalidRequest(f"'input_type' is {request.input_type!r}; OCI has {allowed}.", param="input_type")
    return kind


def output_dimensions(request: EmbeddingsRequest, target: Target) -> int | None:
    """OCI's value for `dimensions`. Raises Unsupported for a model whose vectors have a fixed length."""
    length = next((size for form, size in FIXED if form.search(base_model(target))), None)
    if length is not None and request.dimensions not in (None, length):
        name = target.public_name or target.model
        raise Unsupported(f"The vectors of {name} have {length} dimensions.", param="dimensions")
    return request.dimensions if length is None else None


def embed_to_upstream(
    request: EmbeddingsRequest, batch: Batch, target: Target, place: Location, truncate: str
) -> dict[str, Any]:
    """EmbedTextDetails. `truncate` is the end at which a text that is too long is cut: START, END, or NONE."""
    optional = {
        "outputDimensions": output_dimensions(request, target),
        "truncate": None if batch.is_image else truncate,
    }
    body = {
        "compartmentId": place.compartment,
        "servingMode": serving_mode(target),
        "inputs": batch.inputs,
        "inputType": "IMAGE" if batch.is_image else input_type(request),
        **{key: value for key, value in optional.items() if value is not None},
    }
    return target.rules.apply(body)


def embed_from_upstream(data: Any, size: int, name: str) -> tuple[list[Sequence[float]], int | None]:
    """The vectors of an EmbedTextResult, and its tokens if it has them. Raises UpstreamDown."""
    try:
        vectors = data.get("embeddings") or data["embeddingsByType"]["float"]
        tokens = (data.get("usage") or {}).get("promptTokens")
    except (KeyError, TypeError, AttributeError) as error:
        raise _nonsense(name, f"embeddings without {error}") from error
    if not isinstance(vectors, list) or len(vectors) != size:
        raise _nonsense(name, f"no {size} embeddings")
    return vectors, tokens if isinstance(tokens, int) else None


def rerank(service: OciClient, request: RerankRequest, target: Target, call: CallContext) -> Events:
    """Send one request: OCI takes all documents together."""
    place = service.place(target.details, call)
    body = rerank_to_upstream(request, target, place)
    log_dropped_parameters(service.name, request.options, RERANK_OPTIONS)
    signed = _signed_request(service, place, "/actions/rerankText", body, target)
    data, _ = service.json(signed, call, target.timeouts)
    yield Ranks(rerank_from_upstream(data, service.name))


def rerank_to_upstream(request: RerankRequest, target: Target, place: Location) -> dict[str, Any]:
    """RerankTextDetails."""
    options = {RERANK_OPTIONS[key]: value for key, value in request.options.items() if key in RERANK_OPTIONS}
    for key in request.options.keys() & RERANK_OPTIONS.keys():
        if not isinstance(request.options[key], int):
            raise InvalidRequest("It must be a whole number.", param=key)
    body = {
        "compartmentId": place.compartment,
        "servingMode": serving_mode(target),
        "input": request.query,
        "documents": list(request.documents),
        **({} if request.top_n is None else {"topN": min(request.top_n, len(request.documents))}),
        **options,
    }
    return target.rules.apply(body)


def rerank_from_upstream(data: Any, name: str) -> list[tuple[int, float]]:
    """The ranks of a RerankTextResult. Raises UpstreamDown."""
    try:
        return [(int(rank["index"]), float(rank["relevanceScore"])) for rank in data["documentRanks"]]
    except (KeyError, TypeError, ValueError) as error:
        raise _nonsense(name, f"a ranking without {error}") from error


def _signed_request(
    service: OciClient, place: Location, action: str, body: Mapping[str, Any], target: Target
) -> SignedRequest:
    return SignedRequest("POST", service.inference(place), action, orjson.dumps(body), about=not_found_hint(target))


def _picture(url: str, where: str) -> str:
    """OCI does not fetch images, and neither does Thinkline."""
    if parse_data_url(url) is None:
        raise Unsupported("OCI embeds a picture that is sent as a data: URL (data:image/png;base64,...).", param=where)
    return url


def _mendable(error: UpstreamRejected, body: Mapping[str, Any]) -> UpstreamRejected:
    """The same error, about the dimensions or else the inputs, with the setting that may be its cause."""
    if "outputDimensions" in body and "dimension" in error.message.lower():
        error.param = error.param or "dimensions"
    error.param = error.param or "input"
    if error.param == "input" and body.get("truncate") == "NONE" and "EMBED_TRUNCATE" not in error.message:
        error.message += " (Nothing is cut from long texts, as EMBED_TRUNCATE is NONE.)"
    return error


def _nonsense(name: str, what: str) -> UpstreamDown:
    return UpstreamDown(f"{name} sent something that is not an answer.", provider=name, log=what)
