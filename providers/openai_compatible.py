"""Every upstream that speaks OpenAI's dialect: a row of vendors.py is all there is to one.

What it says goes through as bytes as long as it is what OpenAI itself would say (R6): see openai_answer.py.
"""

from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from errors import ProxyError, UpstreamError
from events import (
    ChatRequest,
    EmbeddingsRequest,
    Events,
    Images,
    ImagesRequest,
    Ranks,
    RerankRequest,
    Silence,
    Usage,
    Vectors,
)
from providers.base import Call, Model, Provider, Target, Timeouts
from providers.exchange import accepted, awaited, read, request_id, tell_dropped
from providers.failures import failure
from providers.http import Account, Reply, send, warm
from providers.openai_answer import answered, value
from providers.pictures import Gallery, pictures, seconds
from providers.translate import NONSENSE, no_images, tokens
from providers.vendors import Vendor

# https://platform.openai.com/docs/api-reference/chat/create, the published document of 2026-08-21
PARAMETERS = frozenset({
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
    "max_tokens", "messages", "metadata", "modalities", "model", "moderation", "n", "parallel_tool_calls",
    "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "stream",
    "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
    "web_search_options",
})  # fmt: skip
# https://platform.openai.com/docs/api-reference/images/create, and those that openai 3.52 has besides
IMAGE_PARAMETERS = frozenset({
    "background", "complexity", "frame_count", "frame_duration_ms", "model", "moderation", "n", "output_compression",
    "output_format", "partial_images", "prompt", "quality", "response_format", "safety_identifier", "size", "style",
    "svg", "user",
})  # fmt: skip
IMAGE_DETAILS = ("background", "output_format", "quality", "size", "usage")
"""What OpenAI's answer has besides the pictures."""


class OpenAICompatible(Provider):
    """One row's upstream. What is given is the user's own; `name` differs from the row's for a second account."""

    def __init__(
        self, vendor: Vendor, *, base_url: str, name: str = "", api_key: str = "", model: str = "", proxy: str = ""
    ) -> None:
        self.name = name or vendor.name
        self.default_model = model or vendor.model
        self._vendor = vendor
        self._account = Account(self.name, base_url, vendor.credential(api_key), proxy)
        self._gallery = Gallery(self.name, base_url, vendor.pictures, proxy)
        self._failure = partial(failure, self.name)

    def chat(self, request: ChatRequest, target: Target, call: Call) -> Events:
        """Ask, and pass on what comes: bytes where they are OpenAI's own, events where they are not."""
        body = to_upstream(request, target, self._vendor)
        tell_dropped(self.name, request.body.keys() - {"stream_options"}, body)
        reply = self._send("POST", "/chat/completions", orjson.dumps(body), target, call)
        try:
            yield from accepted(reply, self._failure)
            yield from answered(reply, request, call, self.name, self._vendor.frames)
        finally:
            reply.close()

    def embed(self, request: EmbeddingsRequest, target: Target, call: Call) -> Events:
        """Ask in batches that the upstream takes, and give all the vectors in order."""
        no_images(request.inputs, self.name)
        vectors: list[Sequence[float] | str] = []
        prompt_tokens, model = 0, ""
        size = self._vendor.embedding_batch
        for start in range(0, len(request.inputs), size):
            batch = list(request.inputs[start : start + size])
            body = orjson.dumps(embeddings_to_upstream(request, batch, target.model, strict=self._vendor.strict))
            data = yield from self._json("POST", "/embeddings", body, target, call)
            try:
                rows = _in_order(data["data"])
                vectors.extend(row["embedding"] for row in rows)
                prompt_tokens += tokens((data.get("usage") or {}).get("prompt_tokens"))
                model = data.get("model") or model
            except NONSENSE as error:
                raise self._nonsense(f"embeddings without {error}") from error
            if len(rows) != len(batch):
                raise self._nonsense(f"{len(rows)} embeddings for {len(batch)} inputs")
        yield Vectors(vectors, model, Usage(prompt_tokens, 0))

    def rerank(self, request: RerankRequest, target: Target, call: Call) -> Events:
        """POST /rerank, as vLLM, llama.cpp, Together and Jina have it."""
        asked = {"model": target.model, "query": request.query, "documents": list(request.documents)}
        top = {} if request.top_n is None else {"top_n": request.top_n}
        body = orjson.dumps({**asked, **top, **request.options})
        data = yield from self._json("POST", "/rerank", body, target, call)
        try:
            ranks = [(int(row["index"]), float(row["relevance_score"])) for row in data["results"]]
            tokens = (data.get("usage") or {}).get("total_tokens")
        except NONSENSE as error:
            raise self._nonsense(f"a ranking without {error}") from error
        yield Ranks(ranks, data.get("model") or "", Usage(tokens, 0) if isinstance(tokens, int) else None)

    def warm(self, call: Call, timeouts: Timeouts) -> None:
        """Keep a connection open there."""
        warm(self._account, call, timeouts)

    def images(self, request: ImagesRequest, target: Target, call: Call) -> Events:
        """POST /images/generations. How many pictures one request may have is for the upstream to say."""
        body = images_to_upstream(request, target, strict=self._vendor.strict)
        tell_dropped(self.name, request.body, body)
        answer = yield from self._json("POST", "/images/generations", orjson.dumps(body), target, call)
        try:
            drawn = images_from_upstream(answer)
        except NONSENSE as error:
            raise self._nonsense(f"pictures without {error}") from error
        if request.as_base64:
            yield from self._gallery.unpack(drawn.data, call, target.timeouts)
        yield drawn

    def models(self, call: Call) -> Sequence[Model]:
        """GET /models; also a bare array, as some servers answer."""
        data = awaited(self._json("GET", "/models", b"", Target(self, self.default_model), call))
        rows = data.get("data") if isinstance(data, dict) else data
        if not isinstance(rows, list):
            raise self._nonsense("no list of models")
        named = [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]
        return [Model(row["id"], str(row.get("owned_by") or self.name), seconds(row.get("created"))) for row in named]

    def _send(self, method: str, path: str, body: bytes, target: Target, call: Call) -> Reply:
        return send(self._account, method, path, request_id(call), body, call, target.timeouts)

    def _json(self, method: str, path: str, body: bytes, target: Target, call: Call) -> Generator[Silence, None, Any]:
        reply = self._send(method, path, body, target, call)
        try:
            yield from accepted(reply, self._failure)
            raw = yield from read(reply)
        finally:
            reply.close()
        return value(raw, reply, self.name)

    def _nonsense(self, what: str) -> ProxyError:
        return UpstreamError(f"{self.name} sent something that is not an answer.", provider=self.name, log=what)


def to_upstream(request: ChatRequest, target: Target, vendor: Vendor) -> dict[str, Any]:
    """The body as it came, for this target; a strict row gets no parameter that OpenAI does not publish (R8), unless
    the target's own rules say so.
    """
    body = {key: value for key, value in request.body.items() if not vendor.strict or key in PARAMETERS}
    body["model"] = target.model
    if request.stream and vendor.usage:
        body["stream_options"] = {**body.get("stream_options", {}), "include_usage": True}
    else:
        body.pop("stream_options", None)
    if target.max_tokens is not None:
        for cap in ("max_tokens", "max_completion_tokens"):
            if cap in body:
                body[cap] = min(body[cap], target.max_tokens)
    return target.rules.apply(body)


def embeddings_to_upstream(request: EmbeddingsRequest, batch: list[Any], model: str, *, strict: bool) -> dict[str, Any]:
    """One batch of an embeddings request; what the caller left out is left out, and what OpenAI has not, if strict."""
    optional: Mapping[str, Any] = {
        "dimensions": request.dimensions,
        "input_type": None if strict else request.input_type,
        "user": request.user,
        "encoding_format": request.encoding_format if strict else "float",  # base64 is made here: not all have it
    }
    return {"model": model, "input": batch, **{key: value for key, value in optional.items() if value is not None}}


def _in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of an embeddings answer by their indices; as they stand, where one has none."""
    indexed = all(type(row.get("index")) is int for row in rows)
    return sorted(rows, key=lambda row: row["index"]) if indexed else rows


def images_to_upstream(request: ImagesRequest, target: Target, *, strict: bool) -> dict[str, Any]:
    """The body as it came, for this target; without a model where the caller names none, so that the upstream chooses.

    gpt-image models refuse `response_format` and `style`: they always give base64.
    """
    body = {key: value for key, value in request.body.items() if not strict or key in IMAGE_PARAMETERS}
    if request.model:
        body["model"] = target.model
    if "gpt-image" in target.model:
        body = {key: value for key, value in body.items() if key not in ("response_format", "style")}
    return target.rules.apply(body)


def images_from_upstream(answer: Any) -> Images:
    """The pictures of an answer, and what else OpenAI's has. Raises one of NONSENSE."""
    details = {key: answer[key] for key in IMAGE_DETAILS if answer.get(key) is not None}
    told = details.get("usage")
    usage = Usage(int(told["input_tokens"]), int(told["output_tokens"])) if told else None
    return Images(pictures(answer), seconds(answer.get("created")), usage, details)
