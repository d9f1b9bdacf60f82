"""Makes an example for a JSON schema: the smallest sensible value that satisfies it."""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

Schema = Mapping[str, Any]

_FORMATS = {
    "date": "2030-01-01",
    "date-time": "2030-01-01T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_HINTS = {
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "object": ("properties", "required", "additionalProperties"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength", "format", "pattern"),
}
_SCALARS = frozenset({"string", "integer", "number", "boolean"})
_HIGHEST = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems"})
_LOWEST = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems"})

_PLACES = frozenset({"city", "location", "place", "destination", "town", "region", "country", "address"})
_UTTERANCES = frozenset({"text", "query", "question", "message", "prompt", "input", "content", "search"})
_AFTER_PLACE = r"(?=\s+(?:in|for|to|at|on|and|now|please|today|tonight|tomorrow)\b|[,.;:!?\n]|\s*$)"
_PLACE_IN_TEXT = [re.compile(rf"(?i)\b{word}\s+(\w[^,.;:!?\n]*?){_AFTER_PLACE}") for word in ("in", "for", "to")]

# The schema comes from the caller, so its cost is bounded.
_MOST_WORK = 50_000
_DEEPEST = 100
_LONGEST_HINT = 200
_LARGEST = 1e18
_SMALLEST_STEP = 1e-9


class _NoValueError(Exception):
    """This schema has no finite value, or none that the search finds; another branch may have one."""


def example(schema: Any, text: str = "") -> Any:
    """A value that satisfies `schema` (a JSON schema), always the same one for the same arguments.

    `text` is the user's message: strings for a place, or for the words themselves, are taken from it. All required
    properties are given; if none is required, the plain ones, or else the others. `pattern`, `not`, `if` and uniqueness
    are ignored. A schema that is missing, invalid, impossible or huge gives `{}`.
    """
    if not isinstance(schema, Mapping):
        return {}
    try:
        return _Examples(schema, text.strip()[:_LONGEST_HINT]).value(schema, "", ())
    except _NoValueError:
        return {}


class _Examples:
    """One search for an example: the document that $ref points into, the user's text, and the remaining budget."""

    def __init__(self, root: Schema, text: str) -> None:
        self.root = root
        self.text = text
        self.left = _MOST_WORK

    def value(self, schema: Any, name: str, above: tuple[str, ...], here: tuple[str, ...] = ()) -> Any:
        """A value for the property `name`. `above` holds the $refs on the way to it, `here` its own."""
        if not isinstance(schema, Mapping):
            schema = {"enum": []} if schema is False else {}
        self.spend(1 + len(schema))
        if len(above) + len(here) > _DEEPEST:
            raise _NoValueError
        if "$ref" in schema:
            return self.resolve_reference(schema, name, above, here)
        for key in ("anyOf", "oneOf"):
            if _branches(schema, key):
                return self.first_of(schema, key, name, above, here)
        if parts := _branches(schema, "allOf"):
            return self.value(_merge({**schema, "allOf": parts[1:]}, parts[0]), name, above, (*here, ""))
        kinds = _kinds(schema)
        if "const" in schema or "enum" in schema:
            given = [schema["const"]] if "const" in schema else _list(schema, "enum")
            return self.choose([each for each in given if _is_a(each, kinds)])
        if "default" in schema and _is_a(schema["default"], kinds):
            return schema["default"]
        return self.plain(schema, kinds[0] if kinds else "", name, (*above, *here, ""))

    def plain(self, schema: Schema, kind: str, name: str, above: tuple[str, ...]) -> Any:
        """A value of one JSON type."""
        if kind == "object":
            return self.object(schema, above)
        if kind == "array":
            return self.array(schema, name, above)
        if kind in ("number", "integer"):
            return _number(schema, whole=kind == "integer")
        if kind in ("boolean", "null"):
            return True if kind == "boolean" else None
        return self.string(schema, name) if kind == "string" or name else {}

    def resolve_reference(self, schema: Schema, name: str, above: tuple[str, ...], here: tuple[str, ...]) -> Any:
        """The value behind a $ref. The smallest value never needs a $ref inside itself."""
        ref = str(schema["$ref"])
        if ref in above:
            raise _NoValueError
        meant = _merge(_look_up(self.root, ref), _without(schema, "$ref"))
        return self.value(meant, name, above, (*here, ref))

    def first_of(self, schema: Schema, key: str, name: str, above: tuple[str, ...], here: tuple[str, ...]) -> Any:
        """The first branch that has a value."""
        rest = _without(schema, key)
        for branch in _branches(schema, key):
            try:
                return self.value(_merge(rest, branch), name, above, (*here, ""))
            except _NoValueError:
                continue
        raise _NoValueError

    def choose(self, given: list[Any]) -> Any:
        """The enum's value that the user named, else the first."""
        if not given:
            raise _NoValueError
        words = _words_of(self.text)
        return next((each for each in given if isinstance(each, str) and _words_of(each) in words), given[0])

    def object(self, schema: Schema, above: tuple[str, ...]) -> dict[str, Any]:
        """The required properties; if none is required, the plain ones, or else the others."""
        properties = given if isinstance(given := schema.get("properties"), Mapping) else {}
        wanted = [each for each in _list(schema, "required") if isinstance(each, str)]
        others = schema.get("additionalProperties", True)
        if wanted:
            return {key: self.value(properties.get(key, others), key, above) for key in wanted}
        plain = {key: each for key, each in properties.items() if isinstance(each, Mapping) and _is_plain(each)}
        found = {}
        for key, each in (plain or properties).items():
            with suppress(_NoValueError):
                found[key] = self.value(each, key, above)
        return found

    def array(self, schema: Schema, name: str, above: tuple[str, ...]) -> list[Any]:
        """As few items as are allowed, but one if an item is described."""
        items = schema.get("items", True)
        tuple_of = _list(schema, "prefixItems")
        if isinstance(items, list):  # a tuple, in schemas before draft 2020-12
            tuple_of, items = items, schema.get("additionalItems", True)
        least = int(_bound(schema, "minItems", 0))
        count = max(least, len(tuple_of) or int(isinstance(items, Mapping)))
        found: list[Any] = []
        for each in range(int(min(count, _bound(schema, "maxItems", count)))):
            try:
                found.append(self.value(tuple_of[each] if each < len(tuple_of) else items, name, above))
            except _NoValueError:
                if each < least:
                    raise
                break
        return found

    def string(self, schema: Schema, name: str) -> str:
        """A string: by its format, from the user's text, or the property's name; within its length."""
        example = _FORMATS.get(str(schema.get("format"))) or self.text_about(name) or name or self.text or "text"
        least = int(_bound(schema, "minLength", 0))
        self.spend(least)
        if len(example) < least:
            example += "x" * (least - len(example))
        return example[: max(0, int(_bound(schema, "maxLength", len(example))))]

    def text_about(self, name: str) -> str:
        """The part of the user's text that a property's name asks for."""
        words = {each.lower() for each in re.findall(r"[A-Z]?[a-z]+", name)}
        if words & _PLACES:
            found = [each[1] for each in (pattern.search(self.text) for pattern in _PLACE_IN_TEXT) if each]
            return min(found, key=lambda each: not each[0].isupper(), default=self.text)
        return self.text if words & _UTTERANCES else ""

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise _NoValueError


def _number(schema: Schema, *, whole: bool) -> float:
    """The number nearest to 1 that keeps the bounds, among simple candidates."""
    low, high = _bound(schema, "minimum", -math.inf), _bound(schema, "maximum", math.inf)
    above, below = _bound(schema, "exclusiveMinimum", -math.inf), _bound(schema, "exclusiveMaximum", math.inf)
    # Draft 4 has `"exclusiveMinimum": true` beside `minimum`.
    above = low if schema.get("exclusiveMinimum") is True else above
    below = high if schema.get("exclusiveMaximum") is True else below
    step = _bound(schema, "multipleOf", 1 if whole else 0)
    for candidate in _candidates(max(low, above), min(high, below), step):
        if low <= candidate <= high and above < candidate < below:
            return int(candidate) if whole else candidate
    raise _NoValueError


def _candidates(low: float, high: float, step: float) -> Iterator[float]:
    """Candidates: 1, the bounds and the numbers just inside them; multiples of `step` if there is one."""
    bounds = [each for each in (low, high) if math.isfinite(each)]
    if step > _SMALLEST_STEP:
        for each in (1, *bounds):
            nearest = math.floor(each / step)
            yield from (nearest * step, (nearest + 1) * step, (nearest - 1) * step)
        yield 0
    else:
        yield 1
        for each in bounds:
            yield from (each, each + 1, each - 1)
        yield sum(bounds) / 2


def _kinds(schema: Schema) -> list[str]:
    """The JSON types that a schema allows, null last; guessed from its other keywords if it names none."""
    kinds = schema.get("type")
    if isinstance(kinds, str):
        return [kinds]
    if isinstance(kinds, list) and kinds:
        return sorted((str(each) for each in kinds), key=lambda each: each == "null")
    return [kind for kind, keywords in _HINTS.items() if any(each in schema for each in keywords)][:1]


def _is_a(value: Any, kinds: list[str]) -> bool:
    """Whether a given value (of an enum, a default) is of one of the types; of any if none is named."""
    if not kinds:
        return True
    if isinstance(value, bool):
        return "boolean" in kinds
    if isinstance(value, int | float):
        return "number" in kinds or ("integer" in kinds and (isinstance(value, int) or value.is_integer()))
    names = {str: "string", list: "array", dict: "object", type(None): "null"}
    return names.get(type(value)) in kinds


def _is_plain(schema: Schema) -> bool:
    return "enum" in schema or "const" in schema or bool(_SCALARS.intersection(_kinds(schema)))


def _bound(schema: Schema, key: str, otherwise: float) -> float:
    value = schema.get(key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST
    return value if value is not None and is_number else otherwise


def _list(schema: Schema, key: str) -> list[Any]:
    value = schema.get(key)
    return value if isinstance(value, list) else []


def _words_of(text: str) -> str:
    return " ".join(["", *re.findall(r"[^\W_]+", text.lower()), ""])


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _branches(schema: Schema, key: str) -> list[Schema]:
    return [each if isinstance(each, Mapping) else {"enum": []} if each is False else {} for each in _list(schema, key)]


def _without(schema: Schema, key: str) -> Schema:
    return {each: value for each, value in schema.items() if each != key}


def _merge(one: Schema, other: Schema) -> Schema:
    """One schema that requires what two schemas require, as far as the common keywords go."""
    return {**one, **{key: _both(key, one[key], value) if key in one else value for key, value in other.items()}}


def _both(key: str, one: Any, other: Any) -> Any:
    """One keyword that requires what two require; the later one if they cannot be joined."""
    if key == "properties" and isinstance(one, Mapping) and isinstance(other, Mapping):
        shared = {key: {"allOf": [value, other[key]]} for key, value in one.items() if key in other}
        return {**one, **other, **shared}
    if key in ("required", "allOf") and isinstance(one, list) and isinstance(other, list):
        return one + [each for each in other if each not in one]
    if key == "type":
        return [each for each in _as_list(one) if each in _as_list(other)] or other
    if key == "enum" and isinstance(one, list) and isinstance(other, list):
        return [each for each in one if each in other]
    if key in _HIGHEST | _LOWEST and all(isinstance(each, int | float) for each in (one, other)):
        return max(one, other) if key in _HIGHEST else min(one, other)
    return other


def _look_up(root: Schema, ref: str) -> Schema:
    """The target of `#/$defs/x`; any schema (`{}`) if the document has none."""
    found: Any = root
    for step in ref.removeprefix("#").split("/")[1:]:
        if isinstance(found, list):
            found = {str(index): each for index, each in enumerate(found)}
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}
