"""`POST /v1/images/generations`, in both directions.

https://platform.openai.com/docs/api-reference/images/create
"""

from time import time

import orjson
from marshmallow import fields, validate

from core.errors import Unsupported
from core.events import Images
from core.requests import ImagesRequest
from schemas.chat.request import EXTRAS
from schemas.common import NAME_CHARACTERS, OpenSchema, StrictBoolean, StrictInteger, load, parse
from schemas.limits import DEFAULTS, Limits

MOST = 10
"""Images that one request may want; this is OpenAI's limit."""


def _text(about: str) -> fields.String:
    return fields.String(metadata={"description": about})


class ImagesSchema(OpenSchema):
    """An image generation request."""

    prompt = fields.String(
        required=True, validate=validate.Length(min=1), metadata={"description": "What the pictures are to show."}
    )
    model = fields.String(
        validate=validate.Length(max=NAME_CHARACTERS), metadata={"description": "A model, or `provider/model`."}
    )
    n = StrictInteger(
        validate=validate.Range(1, MOST), metadata={"description": "How many pictures to make; one by default."}
    )
    size = _text("`1024x1024`, `1536x1024` ... or `auto`. Where the upstream draws others: the one of nearest shape.")
    quality = _text("`low`, `medium`, `high`, `standard`, `hd` or `auto`, as the model has it.")
    style = _text("`vivid` or `natural`, or one of the upstream's own.")
    response_format = fields.String(
        validate=validate.OneOf(["url", "b64_json"]),
        metadata={"description": "An address of each picture, or its bytes. gpt-image models always give bytes."},
    )
    background = _text("`transparent`, `opaque` or `auto`, where the model has it.")
    output_format = _text("`png`, `jpeg` or `webp`, where the model has it.")
    output_compression = StrictInteger(metadata={"description": "From 0 to 100, for `jpeg` and `webp`."})
    moderation = _text("`low` or `auto`, where the model has it.")
    stream = StrictBoolean(metadata={"description": "Pictures are not streamed: `true` is refused."})
    user = fields.String()
    provider = fields.String()


_schema = ImagesSchema()


def load_images(raw: bytes, limits: Limits = DEFAULTS) -> ImagesRequest:
    """An ImagesRequest from the request's bytes. Raises InvalidRequest with the field's name."""
    body = load(_schema, {key: value for key, value in parse(raw, limits).items() if value is not None})
    if body.pop("stream", False):
        raise Unsupported("Pictures are not streamed here.", param="stream")
    kept = {key: value for key, value in body.items() if key not in EXTRAS}
    return ImagesRequest(kept, body.get("model", ""), body.get("provider", ""))


def images_body(answer: Images) -> bytes:
    """OpenAI's ImagesResponse."""
    return orjson.dumps({"created": answer.created or int(time()), "data": answer.data, **answer.details})
