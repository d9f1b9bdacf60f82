"""`POST /v1/rerank`, in both directions: the shape that Cohere and Jina have in common.

https://docs.cohere.com/reference/rerank and https://api.jina.ai/redoc#tag/rerank
"""

from typing import Any
from uuid import uuid4

import orjson
from marshmallow import ValidationError, fields, validate, validates

from core.errors import UpstreamDown
from core.events import Ranks
from core.requests import RerankRequest
from schemas.common import NAME_CHARACTERS, OneOfTypes, OpenSchema, StrictBoolean, StrictInteger, load, parse
from schemas.limits import DEFAULTS, Limits

OURS = frozenset({"model", "query", "documents", "top_n", "return_documents", "provider"})


class RerankSchema(OpenSchema):
    """A rerank request."""

    model = fields.String(
        validate=validate.Length(max=NAME_CHARACTERS), metadata={"description": "A model, or `provider/model`."}
    )
    query = fields.String(
        required=True, validate=validate.Length(min=1), metadata={"description": "What is searched for."}
    )
    documents = OneOfTypes(list, what="a list of strings, or of objects with a `text`", required=True)
    top_n = StrictInteger(
        validate=validate.Range(min=1), metadata={"description": "How many to give back; all by default."}
    )
    return_documents = StrictBoolean(metadata={"description": "Give the documents back too."})
    provider = fields.String()

    @validates("documents")
    def _documents(self, value: Any, **_: Any) -> None:
        if not value:
            raise ValidationError("Must not be empty.")
        for position, each in enumerate(value):
            if not isinstance(_text(each), str):
                raise ValidationError({position: ["Must be a string, or an object with a `text`."]})


_schema = RerankSchema()


def load_rerank(raw: bytes, limits: Limits = DEFAULTS) -> tuple[RerankRequest, bool]:
    """A RerankRequest, and whether the answer holds the documents. Raises InvalidRequest with the field's name."""
    body = {key: value for key, value in parse(raw, limits).items() if value is not None}
    limits.check(body.get("documents"), "documents", "documents")
    body = load(_schema, body)
    request = RerankRequest(
        query=body["query"],
        documents=[_text(each) for each in body["documents"]],
        model=body.get("model", ""),
        provider=body.get("provider", ""),
        top_n=body.get("top_n"),
        options={key: value for key, value in body.items() if key not in OURS},
    )
    return request, body.get("return_documents", False)


def rerank_body(answer: Ranks, request: RerankRequest, model: str, *, return_documents: bool) -> bytes:
    """The documents' positions, the most relevant first. Raises UpstreamDown for positions that do not exist."""
    ranks = sorted(answer.ranks, key=lambda rank: -rank[1])[: request.top_n]
    if any(not 0 <= index < len(request.documents) for index, _ in ranks):
        raise UpstreamDown("The upstream ranked documents that it was not given.")
    results: list[dict[str, Any]] = [{"index": index, "relevance_score": score} for index, score in ranks]
    if return_documents:
        for result in results:
            result["document"] = {"text": request.documents[result["index"]]}
    body: dict[str, Any] = {"id": f"rerank-{uuid4().hex}", "object": "list", "model": answer.model or model}
    body["results"] = results
    if answer.usage is not None:
        body["usage"] = {"prompt_tokens": answer.usage.prompt, "total_tokens": answer.usage.prompt}
    return orjson.dumps(body)


def _text(document: Any) -> Any:
    return document.get("text") if isinstance(document, dict) else document
