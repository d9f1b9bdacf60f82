"""Every upstream that speaks OpenAI's dialect; a row of vendors.py configures it.

An answer passes as bytes as long as it is as OpenAI would send it (decision 11): see answer.py.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from core.context import CallContext
from core.errors import Unsupported
from core.events import Events, ModerationsRequest, Ranks, Usage, Vectors, Verbatim
from core.json_values import BAD_SHAPE
from core.models import ListedModel
from core.requests import ChatRequest, EmbeddingsRequest, ImagesRequest, RerankRequest
from providers.base import ParameterRules, Target
from providers.common.http_provider import HttpProvider
from providers.common.image_fetch import ImageFetcher, seconds
from providers.common.translate import reject_images, token_count
from providers.openai_compatible.answer import answer_events, json_body
from providers.openai_compatible.request import (
    embeddings_to_upstream,
    images_from_upstream,
    images_to_upstream,
    rows_in_order,
    to_upstream,
)
from providers.openai_compatible.responses import DIALECT, native_events, native_request
from providers.openai_compatible.returned import Returned
from providers.transport.client import Response, send
from providers.transport.exchange import (
    log_dropped_parameters,
    raise_for_status,
    read_body,
    request_id_header,
    without_end_mark,
)
from providers.vendors import Vendor

NO_RULES = ParameterRules()


class OpenAICompatible(HttpProvider):
    """The upstream of one row. The arguments are the user's; `name` differs from the row's for a second account."""

    def __init__(self, vendor: Vendor, *, base_url: str, proxy: str = "", **account: str) -> None:
        super().__init__(vendor, base_url=base_url, proxy=proxy, **account)
        self._image_fetcher = ImageFetcher(self.name, base_url, vendor.pictures, proxy)

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """POST /chat/completions. The answer is bytes where these are as OpenAI's, else events."""
        if self.passes(request, target):
            yield from self._respond(request, target, call)
            return
        returned = Returned(self._vendor.dialect, call, target)
        body = to_upstream(request, target, self._vendor, returned.put_back)
        log_dropped_parameters(self.name, request.body.keys() - {"stream_options"}, body)
        reply = self._send("POST", self._vendor.chat_path, orjson.dumps(body), target, call)
        try:
            raise_for_status(reply, self._failure)
            note = returned.note if returned.wanted else None
            yield from answer_events(reply, request, call, self.name, self._vendor.frames, note)
        finally:
            reply.close()

    def passes(self, request: ChatRequest, target: Target) -> bool:
        """True for a request in the Responses dialect, if the row has that and the model has no rules (for chats)."""
        wanted = request.passthrough == DIALECT and request.native is not None
        return wanted and self._vendor.responses != "never" and target.rules == NO_RULES

    def _respond(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """POST /responses; the answer passes unchanged."""
        body = native_request(request, target)
        reply = self._send("POST", "/responses", orjson.dumps(body), target, call)
        try:
            raise_for_status(reply, self._failure)
            yield from native_events(reply, request, call, self.name)
        finally:
            reply.close()

    def embed(self, request: EmbeddingsRequest, target: Target, call: CallContext) -> Events:
        """POST /embeddings in batches of the upstream's size; yields all vectors in order."""
        self._require_endpoint("embeddings", "has no embedding models")
        reject_images(request.inputs, self.name)
        vectors: list[Sequence[float] | str] = []
        prompt_tokens, model = 0, ""
        size = self._vendor.embedding_batch
        for start in range(0, len(request.inputs), size):
            batch = list(request.inputs[start : start + size])
            body = orjson.dumps(embeddings_to_upstream(request, batch, target.model, strict=self._vendor.strict))
            data = self._json("POST", "/embeddings", body, target, call)
            try:
                rows = rows_in_order(data["data"])
                vectors.extend(row["embedding"] for row in rows)
                prompt_tokens += token_count((data.get("usage") or {}).get("prompt_tokens"))
                model = data.get("model") or model
            except BAD_SHAPE as error:
                raise self._bad_response(f"embeddings without {error}") from error
            if len(rows) != len(batch):
                raise self._bad_response(f"{len(rows)} embeddings for {len(batch)} inputs")
        yield Vectors(vectors, model, Usage(prompt_tokens, 0))

    def rerank(self, request: RerankRequest, target: Target, call: CallContext) -> Events:
        """POST /rerank, as vLLM, llama.cpp, Together and Jina have it."""
        self._require_endpoint("rerank", "does not rerank")
        fields = {"model": target.model, "query": request.query, "documents": list(request.documents)}
        top = {} if request.top_n is None else {"top_n": request.top_n}
        body = orjson.dumps({**fields, **top, **request.options})
        data = self._json("POST", "/rerank", body, target, call)
        try:
            ranks = [(int(row["index"]), float(row["relevance_score"])) for row in data["results"]]
            tokens = (data.get("usage") or {}).get("total_tokens")
        except BAD_SHAPE as error:
            raise self._bad_response(f"a ranking without {error}") from error
        yield Ranks(ranks, data.get("model") or "", Usage(tokens, 0) if isinstance(tokens, int) else None)

    def images(self, request: ImagesRequest, target: Target, call: CallContext) -> Events:
        """POST /images/generations. The upstream limits the number of images."""
        self._require_endpoint("images", "makes no pictures")
        body = images_to_upstream(request, target, strict=self._vendor.strict)
        log_dropped_parameters(self.name, request.body, body)
        answer = self._json("POST", "/images/generations", orjson.dumps(body), target, call)
        try:
            drawn = images_from_upstream(answer)
        except BAD_SHAPE as error:
            raise self._bad_response(f"pictures without {error}") from error
        if request.as_base64:
            self._image_fetcher.unpack(drawn.data, call, target.timeouts)
        yield drawn

    def moderate(self, request: ModerationsRequest, target: Target, call: CallContext) -> Events:
        """POST /moderations; the answer passes unchanged."""
        self._require_endpoint("moderations", "does not moderate")
        named = {"model": target.model} if request.model else {}
        body = orjson.dumps({**request.body, **named})
        answer = self._json("POST", "/moderations", body, target, call)
        if not isinstance(answer, dict) or not isinstance(answer.get("results"), list):
            raise self._bad_response("a moderation without results")
        yield Verbatim(orjson.dumps(answer), "moderations")

    def models(self, call: CallContext) -> Sequence[ListedModel]:
        """GET /models; also a bare array, as some servers answer."""
        data = self._json("GET", "/models", b"", Target(self, self.default_model), call)
        rows = data.get("data") if isinstance(data, dict) else data
        if not isinstance(rows, list):
            raise self._bad_response("no list of models")
        named = [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]
        return [
            ListedModel(row["id"], str(row.get("owned_by") or self.name), seconds(row.get("created"))) for row in named
        ]

    def _send(self, method: str, path: str, body: bytes, target: Target, call: CallContext) -> Response:
        return send(self._account, method, path, request_id_header(call), body, call, target.timeouts)

    def _json(self, method: str, path: str, body: bytes, target: Target, call: CallContext) -> Any:
        reply = self._send(method, path, body, target, call)
        try:
            raise_for_status(reply, self._failure)
            raw = read_body(reply)
        finally:
            reply.close()
        return json_body(without_end_mark(raw), reply, self.name)[0]

    def _require_endpoint(self, endpoint: str, lacking: str) -> None:
        """Raise Unsupported for an endpoint that the vendor does not have."""
        if endpoint in self._vendor.lacks:
            raise Unsupported(f"{self.name} {lacking}.", param="model")
