"""Every upstream that speaks OpenAI's dialect: a row of vendors.py is all there is to one.

What it says goes through as bytes as long as it is what OpenAI itself would say (R6); chunks.py judges that, and
reads the rest into events.
"""

from collections.abc import Generator, Mapping, Sequence
from functools import partial
from logging import getLogger
from time import monotonic
from typing import Any

import orjson

from errors import ProxyError, UpstreamError
from events import (
    SILENCE,
    ChatRequest,
    EmbeddingsRequest,
    Events,
    Images,
    ImagesRequest,
    Ranks,
    RerankRequest,
    Silence,
    Text,
    Usage,
    Vectors,
)
from providers.base import Call, Model, Provider, Target
from providers.chunks import NONSENSE, ErrorFrame, events_of_body, unwrapped
from providers.exchange import accepted, read
from providers.failures import failure, in_band
from providers.http import Account, Reply, send
from providers.passing import Passing, whole
from providers.pictures import Gallery, pictures, seconds, tell_dropped
from providers.sse import Splitter
from providers.translate import no_images
from providers.vendors import Vendor
from providers.words import words

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
log = getLogger("thinkline.providers")

GRACE_SECONDS = 1.0
"""How long after its finish an answer may still bring its usage and [DONE]."""


class OpenAICompatible(Provider):
    """One row's upstream. What is given is the user's own; `name` differs from the row's for a second account."""

    def __init__(
        self, vendor: Vendor, *, base_url: str, name: str = "", api_key: str = "", model: str = "", proxy: str = ""
    ) -> None:
        self.name = name or vendor.name
        self.default_model = model or vendor.model
        self._vendor = vendor
        headers = {vendor.key_header: f"{vendor.key_scheme} {api_key}".strip()} if api_key else {}
        self._account = Account(self.name, base_url, headers, proxy)
        self._gallery = Gallery(self.name, base_url, vendor.pictures, proxy)
        self._failure = partial(failure, self.name)

    def chat(self, request: ChatRequest, target: Target, call: Call) -> Events:
        """Ask, and pass on what comes: bytes where they are OpenAI's own, events where they are not."""
        body = to_upstream(request, target, self._vendor)
        if dropped := request.body.keys() - body.keys() - {"stream_options"}:
            log.debug("not sent on", extra={"facts": {"provider": self.name, "parameters": sorted(dropped)}})
        reply = self._send("POST", "/chat/completions", orjson.dumps(body), target, call)
        try:
            yield from accepted(reply, self._failure)
            if request.stream and "json" not in reply.headers.get("content-type", ""):
                yield from self._stream(reply, request, call)
            else:
                yield from self._whole(reply, request)
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
                rows = sorted(data["data"], key=lambda row: row["index"])
                vectors.extend(row["embedding"] for row in rows)
                prompt_tokens += (data.get("usage") or {}).get("prompt_tokens", 0)
                model = data.get("model") or model
            except (KeyError, TypeError, AttributeError) as error:
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

    def images(self, request: ImagesRequest, target: Target, call: Call) -> Events:
        """POST /images/generations. How many pictures one request may have is for the upstream to say."""
        body = images_to_upstream(request, target, strict=self._vendor.strict)
        tell_dropped(self.name, request, body)
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
        answer = self._json("GET", "/models", b"", Target(self, self.default_model), call)
        while True:
            try:
                next(answer)
            except StopIteration as done:
                data = done.value
                break
        rows = data.get("data") if isinstance(data, dict) else data
        if not isinstance(rows, list):
            raise self._nonsense("no list of models")
        named = [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]
        return [Model(row["id"], str(row.get("owned_by") or self.name), seconds(row.get("created"))) for row in named]

    def _send(self, method: str, path: str, body: bytes, target: Target, call: Call) -> Reply:
        headers = {"x-request-id": call.request_id} if call.request_id else {}
        return send(self._account, method, path, headers, body, call, target.timeouts)

    def _json(self, method: str, path: str, body: bytes, target: Target, call: Call) -> Generator[Silence, None, Any]:
        reply = self._send(method, path, body, target, call)
        try:
            yield from accepted(reply, self._failure)
            raw = yield from read(reply)
        finally:
            reply.close()
        return self._parsed(raw, reply)

    def _parsed(self, raw: bytes, reply: Reply) -> Any:
        try:
            data = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise reply.broken(f"not JSON: {raw[:200]!r}") from error
        if isinstance(data, dict):
            data = unwrapped(data)
        if isinstance(data, dict) and data.get("error"):
            raise in_band(self.name, data["error"])
        return data

    def _whole(self, reply: Reply, request: ChatRequest) -> Events:
        """One JSON body; when a stream was asked for, it is a lump, and is cut at words."""
        raw = yield from read(reply)
        body = self._parsed(raw, reply)
        try:
            if not request.stream:
                yield from whole(body, raw, self._vendor.frames, include_reasoning=request.include_reasoning)
                return
            for event in events_of_body(body):
                if isinstance(event, Text) and event.logprobs is None:
                    yield from (Text(word, event.choice) for word in words(event.text))
                else:
                    yield event
        except NONSENSE as error:
            raise reply.broken(f"{error}: {raw[:200]!r}") from error
        except ErrorFrame as error:
            raise in_band(self.name, error.error) from error

    def _stream(self, reply: Reply, request: ChatRequest, call: Call) -> Events:
        splitter = Splitter()
        answer = Passing(
            self._vendor.frames,
            include_reasoning=request.include_reasoning,
            include_usage=request.include_usage,
            choices=request.body.get("n", 1),
        )
        try:
            for data in reply:
                if not data:
                    if answer.finished:
                        return
                    yield SILENCE
                elif block := splitter.feed(data):
                    yield from answer.block(block)
                    if answer.done:
                        reply.settle()
                        break
                    if answer.finished:
                        call.beat_by = monotonic() + GRACE_SECONDS
            else:
                yield from answer.block(splitter.close())
        except NONSENSE as error:
            raise reply.broken(str(error)) from error
        except ErrorFrame as error:
            raise in_band(self.name, error.error) from error
        except UpstreamError:
            if not answer.finished:
                raise
        if not answer.sound:
            raise reply.broken("the stream ended without a finish reason")

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
        "encoding_format": request.encoding_format,
    }
    return {"model": model, "input": batch, **{key: value for key, value in optional.items() if value is not None}}


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
