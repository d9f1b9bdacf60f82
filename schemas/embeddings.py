"""`POST /v1/embeddings`, in both directions."""

import struct
from array import array
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any

import orjson
from marshmallow import ValidationError, fields, validate, validates

from core.errors import InvalidRequest, UpstreamDown
from core.events import Vectors
from core.requests import EmbeddingsRequest, Image
from schemas.common import NAME_CHARACTERS, OneOfTypes, OpenSchema, StrictInteger, load, parse
from schemas.limits import DEFAULTS, Limits

TOKENS = 300_000
"""The limit of tokens in all inputs: https://platform.openai.com/docs/api-reference/embeddings/create"""
WHAT = "a string, a list of strings (or of image_url parts), a list of token ids, or a list of such lists"


class EmbeddingsSchema(OpenSchema):
    """An embeddings request."""

    model = fields.String(
        validate=validate.Length(max=NAME_CHARACTERS), metadata={"description": "A model, or `provider/model`."}
    )
    input = OneOfTypes(str, list, what=WHAT, required=True)
    encoding_format = fields.String(validate=validate.OneOf(["float", "base64"]))
    dimensions = StrictInteger(validate=validate.Range(min=1))
    input_type = fields.String(metadata={"description": "Where the upstream has it: search_query, search_document ..."})
    user = fields.String()
    provider = fields.String()

    @validates("input")
    def _inputs(self, value: Any, **_: Any) -> None:
        if isinstance(value, list) and not (
            all(map(_is_text_or_image, value)) or _token_ids(value) or all(map(_token_ids, value))
        ):
            raise ValidationError(f"Must be {WHAT}.")
        if not value:
            raise ValidationError("Must not be empty.")


_schema = EmbeddingsSchema()


def load_embeddings(raw: bytes, limits: Limits = DEFAULTS) -> EmbeddingsRequest:
    """An EmbeddingsRequest from the request's bytes. Raises InvalidRequest with the field's name."""
    body = {key: value for key, value in parse(raw, limits).items() if value is not None}
    _check_lists(body.get("input"), limits)
    body = load(_schema, body)
    given = body["input"]
    inputs: Sequence[Any] = [given] if isinstance(given, str) or _token_ids(given) else list(map(_input, given))
    return EmbeddingsRequest(
        inputs=inputs,
        model=body.get("model", ""),
        provider=body.get("provider", ""),
        encoding_format=body.get("encoding_format", "float"),
        dimensions=body.get("dimensions"),
        input_type=body.get("input_type"),
        user=body.get("user"),
    )


def _check_lists(given: Any, limits: Limits) -> None:
    """Raise InvalidRequest for too many inputs, or tokens."""
    if not isinstance(given, list) or not given:
        return
    if type(given[0]) is int:
        tokens = len(given)
    else:
        limits.check(given, "inputs", "input")
        tokens = sum(len(each) for each in given if isinstance(each, list))
    if tokens > TOKENS:
        raise InvalidRequest(f"'input': {tokens} tokens; at most {TOKENS} are taken.", param="input")


def embeddings_body(answer: Vectors, request: EmbeddingsRequest, model: str) -> bytes:
    """OpenAI's list of embeddings, each in the format that the request wants."""
    encode = _as_base64 if request.encoding_format == "base64" else _as_floats
    try:
        data = [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(answer.vectors)
        ]
    except (struct.error, ValueError, TypeError) as error:
        raise UpstreamDown("The upstream sent embeddings that are no numbers.", log=str(error)) from error
    prompt = answer.usage.prompt if answer.usage else 0
    usage = {"prompt_tokens": prompt, "total_tokens": prompt}
    return orjson.dumps({"object": "list", "data": data, "model": answer.model or model, "usage": usage})


def _as_floats(vector: Sequence[float] | str) -> Sequence[float]:
    """The vector as numbers. Both functions raise ValueError, TypeError and struct.error for what is no vector."""
    if isinstance(vector, str):
        raw = b64decode(vector, validate=True)
        return struct.unpack(f"<{len(raw) // 4}f", raw)
    array("d", vector)  # the quickest check that all items are numbers
    return vector


def _as_base64(vector: Sequence[float] | str) -> str:
    if isinstance(vector, str):
        array("f", b64decode(vector, validate=True))
        return vector
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _is_text_or_image(value: Any) -> bool:
    return isinstance(value, (str, dict)) and not isinstance(_input(value), dict)


def _input(value: Any) -> Any:
    """One input: a string, tokens, or the text or image of a part in the chat's form."""
    if isinstance(value, dict):
        if isinstance(text := value.get("text"), str) and value.get("type") == "text":
            return text
        image = value.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        return Image(url) if isinstance(url, str) and url else value
    return value


def _token_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int for each in value)
