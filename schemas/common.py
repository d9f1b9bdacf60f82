"""What the request schemas share: parsing of JSON, strict types, and one clear error."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from marshmallow import INCLUDE, Schema, ValidationError, fields, pre_load

from core import lenient_json
from core.errors import InvalidRequest
from schemas.limits import Limits

LARGEST = 1e300
"""The bound of a number's size. NaN is not within it either."""

NAME_CHARACTERS = 256
"""The longest name of a model."""

MOST_FIELDS = 1000
"""The most fields of an object that a schema checks, since each unknown one is copied by itself."""

DEPTH = 200
"""With more opening brackets than this, a body may be nested too deeply to be encoded: orjson encodes 254 levels."""


def parse(raw: bytes, limits: Limits) -> dict[str, Any]:
    """The body as a JSON object. Raises InvalidRequest."""
    limits.check_values(raw)
    if raw.startswith(b"\x1f\x8b"):
        raise InvalidRequest("The body is compressed; send it as it is.", code="invalid_json")
    try:
        body = lenient_json.loads(raw)
    except orjson.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}" if raw else "it is empty"
        raise InvalidRequest(f"The body is not valid JSON ({at}).", code="invalid_json") from None
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    if len(body) > MOST_FIELDS:
        raise InvalidRequest(f"The body has {len(body)} fields; at most {MOST_FIELDS} are taken.")
    if raw.count(b"[") + raw.count(b"{") > DEPTH:
        try:
            orjson.dumps(body)
        except TypeError:
            raise InvalidRequest("The body is nested too deeply.", code="invalid_json") from None
    return body


class OpenSchema(Schema):
    """A schema that lets unknown keys through: callers may use newer parameters than this schema knows."""

    class Meta:
        """marshmallow's options."""

        unknown = INCLUDE

    @pre_load
    def _check_size(self, data: Any, **_: Any) -> Any:
        if isinstance(data, dict) and len(data) > MOST_FIELDS:
            raise ValidationError(f"Must have at most {MOST_FIELDS} fields.")
        return data


class Items(fields.List[Any]):
    """A list that is checked up to its first wrong item. Items for which `is_right` holds are not checked again."""

    def __init__(
        self, item: fields.Field[Any], *, is_right: Callable[[Any], bool] = lambda _: False, **options: Any
    ) -> None:
        super().__init__(item, **options)
        self._is_right = is_right

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        found = []
        for position, item in enumerate(value):
            try:
                found.append(item if self._is_right(item) else self.inner.deserialize(item, **options))
            except ValidationError as error:
                raise ValidationError({position: error.messages}) from None
        return found


class StrictNumber(fields.Field[float]):
    """A JSON number; neither a string of digits nor a boolean is one."""

    default_error_messages = {"invalid": "Must be a number."}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < LARGEST:
            raise self.make_error("invalid")
        return value


class StrictInteger(fields.Field[int]):
    """A JSON number without a fraction."""

    default_error_messages = {"invalid": "Must be a whole number, of 64 bits at most."}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value % 1 != 0 or abs(value) >= 2**63:
            raise self.make_error("invalid")
        return int(value)


class StrictBoolean(fields.Field[bool]):
    """true or false; neither "yes" nor 1."""

    default_error_messages = {"invalid": "Must be true or false."}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class OneOfTypes(fields.Field[Any]):
    """A value of one of several JSON types; `what` is their name in the error message."""

    def __init__(self, *types: type, what: str, **options: Any) -> None:
        super().__init__(**options)
        self.types = types
        self.what = what

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if not isinstance(value, self.types):
            raise ValidationError(f"Must be {self.what}.")
        return value


def load(schema: Schema, body: Mapping[str, Any]) -> dict[str, Any]:
    """The body, fully checked. Raises InvalidRequest that names the first wrong field."""
    try:
        loaded: dict[str, Any] = schema.load(body)
    except ValidationError as error:
        error.__traceback__ = None  # else a frame of marshmallow's and its exception refer to each other
        path, sentence = _first(error.normalized_messages())  # type: ignore[no-untyped-call]
        missing = sentence.startswith("Missing data")
        code = "missing_required_parameter" if missing else "invalid_value"
        says = "is required." if missing else f": {sentence}"
        raise InvalidRequest(f"'{path}'{' ' if missing else ''}{says}", param=path, code=code) from None
    return loaded


def _first(messages: Any, path: str = "") -> tuple[str, str]:
    """The first message in marshmallow's nested dictionaries, with its path: messages[2].content."""
    while isinstance(messages, dict):
        key, messages = next(iter(messages.items()))
        if isinstance(key, int):
            path += f"[{key}]"
        elif key not in ("_schema", "value"):
            path += f".{key}" if path else str(key)
    return path or "body", str(messages[0] if isinstance(messages, list) else messages)
