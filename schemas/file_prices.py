"""The `price` of a model in models.yaml."""

from marshmallow import fields, validate

from schemas.closed import ClosedSchema
from schemas.common import StrictInteger, StrictNumber

PRICE = validate.Range(min=0, max=1_000_000)


class TokenPricesSchema(ClosedSchema):
    """Prices per million tokens. `cached` and `written` are those of a prompt that a cache has or takes, `reasoning`
    those of a completion that is thinking.
    """

    prompt = StrictNumber(required=True, validate=PRICE)
    completion = StrictNumber(required=True, validate=PRICE)
    cached = StrictNumber(validate=PRICE)
    reasoning = StrictNumber(validate=PRICE)
    written = StrictNumber(validate=PRICE)


class LongPromptPriceSchema(TokenPricesSchema):
    """The prices of requests whose prompts have more than so many tokens."""

    tokens = StrictInteger(required=True, validate=validate.Range(min=1))


class PriceSchema(TokenPricesSchema):
    """A model's price."""

    above = fields.Nested(LongPromptPriceSchema)
