"""The `keys` of models.yaml, inbound."""

import re
from datetime import datetime

from marshmallow import ValidationError, fields, validate

from core.api_keys import HASHED
from schemas.closed import NAME, ClosedSchema
from schemas.common import StrictBoolean, StrictInteger, StrictNumber

OTHER_HASH = re.compile(r"(?:sha-?(?!256:)\d+|md5|bcrypt|scrypt|argon2\w*)[:$]|\$\w+\$", re.IGNORECASE)
"""The beginning of a hash of another kind, which would be taken for a key."""
YEARS = (1970, 9000)
"""What Unix time can express, and no more than Python's dates can reach."""


def _moment(value: str) -> None:
    try:
        known = YEARS[0] <= datetime.fromisoformat(value).year <= YEARS[1]
    except ValueError:
        known = False
    if not known:
        raise ValidationError("Must be a date such as 2027-01-31, or a time such as 2027-01-31T18:00:00Z.")


def _api_key(value: str) -> None:
    if not value or value != value.strip():
        raise ValidationError("Must be a key, without spaces around it.")
    is_hash = value.lower().startswith("sha256:") or OTHER_HASH.match(value)
    if is_hash and not HASHED.fullmatch(value):
        raise ValidationError("Must be `sha256:` and 64 hexadecimal digits; `python -m tools.keys new NAME` makes one.")


class BudgetSchema(ClosedSchema):
    """Money, in the currency of the prices."""

    day = StrictNumber(validate=validate.Range(min=0))
    month = StrictNumber(validate=validate.Range(min=0))


class ApiKeySchema(ClosedSchema):
    """A key that callers may send."""

    name = fields.String(required=True, validate=NAME)
    key = fields.String(required=True, validate=_api_key)
    models = fields.List(fields.String(validate=validate.Length(min=1)), validate=validate.Length(min=1))
    requests_per_minute = StrictInteger(validate=validate.Range(min=1))
    tokens_per_minute = StrictInteger(validate=validate.Range(min=1))
    concurrent = StrictInteger(validate=validate.Range(min=1))
    budget = fields.Nested(BudgetSchema)
    expires = fields.String(validate=_moment)
    admin = StrictBoolean()
    metadata = fields.Dict(keys=fields.String())
