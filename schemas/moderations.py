"""`POST /v1/moderations`, inbound: the body is passed on unchanged, once it is known to have an input."""

from typing import Any

from marshmallow import ValidationError, fields, validate, validates

from core.events import ModerationsRequest
from schemas.common import NAME_CHARACTERS, OneOfTypes, OpenSchema, load, parse
from schemas.limits import DEFAULTS, Limits


class ModerationsSchema(OpenSchema):
    """A moderation request."""

    model = fields.String(
        validate=validate.Length(max=NAME_CHARACTERS), metadata={"description": "A model, or `provider/model`."}
    )
    input = OneOfTypes(str, list, what="a string, or a list of strings or of parts", required=True)
    provider = fields.String()

    @validates("input")
    def _input(self, value: Any, **_: Any) -> None:
        if not value or (isinstance(value, list) and not all(isinstance(each, (str, dict)) for each in value)):
            raise ValidationError("Must be a string, or a list of strings or of parts, and not empty.")


_schema = ModerationsSchema()


def load_moderations(raw: bytes, limits: Limits = DEFAULTS) -> ModerationsRequest:
    """A ModerationsRequest. Raises InvalidRequest with the field's name."""
    body = {key: value for key, value in parse(raw, limits).items() if value is not None}
    limits.check(body.get("input"), "inputs", "input")
    body = load(_schema, body)
    provider = body.pop("provider", "")
    return ModerationsRequest(body, body.get("model", ""), provider)
