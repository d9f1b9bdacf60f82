"""JSON schemas of tools and of answers, as vendors take them. Pure functions.

They raise InvalidRequest where a schema makes no sense.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from core.errors import InvalidRequest
from core.json_values import Json

DEPTH, NODES = 200, 20_000
"""The bounds of a schema after its references are resolved: references can multiply."""
REFERRED = frozenset({"$defs", "definitions", "$schema"})
VALUES = frozenset({"enum", "const", "default", "examples", "example"})
"""Keys that hold definitions or references, and keys that hold values, not schemas."""

FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
KEPT = {"type", "enum", "const", "title", "description", "required", "$ref"}
"""Keywords that structured output enforces; see /build-with-claude/structured-outputs."""

NAMED = ("properties", "$defs", "definitions")
"""Keys whose value maps the caller's own names to schemas."""
COMBINERS = ("allOf", "anyOf", "oneOf", "not", "enum", "const")
"""Keywords that vendors, OpenAI among them, refuse at the top of a tool's schema."""


def parameters(function: Mapping[str, Any]) -> tuple[Json, str]:
    """A function's parameters as an object without combiners, ({}, "") for none; and the combiners' text, for the
    description. Properties of the alternatives are added, unless the object has properties of these names.
    """
    schema: Json = function.get("parameters") or {}
    if b"null" in orjson.dumps(schema):
        schema = without_null_types(schema)
    if "$ref" in schema or any(key in schema for key in COMBINERS):
        schema = inline_references(schema)
    combiners = {key: schema[key] for key in COMBINERS if key in schema}
    if not combiners:
        return ({**schema, "type": "object"} if schema else {}), ""
    head = {key: each for key, each in schema.items() if key not in COMBINERS}
    properties: Json = {}
    for each in (schema, *_alternatives(schema)):
        properties = {**_object(each.get("properties")), **properties}
    if properties:
        head["properties"] = properties
    whole = [schema, *(each for each in _list(schema.get("allOf")) if isinstance(each, dict))]
    needed = [name for each in whole for name in _list(each.get("required")) if isinstance(name, str)]
    if needed:
        head["required"] = list(dict.fromkeys(needed))
    return {**head, "type": "object"}, f"Its arguments must also fit {orjson.dumps(combiners).decode()}"


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _alternatives(schema: Any) -> Iterator[Json]:
    """The schemas among a schema's alternatives, at any depth."""
    for key in ("allOf", "anyOf", "oneOf"):
        for each in _list(schema.get(key)):
            if isinstance(each, dict):
                yield each
                yield from _alternatives(each)


def without_null_types(schema: Any) -> Any:
    """A schema without keywords that are null, which some clients send for unused ones."""
    if isinstance(schema, list):
        return [without_null_types(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept: Json = {}
    for key, each in schema.items():
        if key in VALUES:
            kept[key] = each
        elif key in NAMED and isinstance(each, dict):
            kept[key] = {name: without_null_types(inner) if inner is not None else {} for name, inner in each.items()}
        elif key == "type" and isinstance(each, list):
            kept[key] = ["null" if kind is None else kind for kind in each]
        elif each is not None:
            kept[key] = without_null_types(each)
    return kept


def holds_maps(schema: Any) -> bool:
    """Whether an object in it may have unnamed properties: closed, such an object would be empty."""
    if isinstance(schema, list):
        return any(map(holds_maps, schema))
    if not isinstance(schema, dict):
        return False
    kind, additional = schema.get("type"), schema.get("additionalProperties", True)
    is_object = kind == "object" or (isinstance(kind, list) and "object" in kind)
    if schema.get("patternProperties") or (isinstance(additional, dict) and additional):
        return True
    if is_object and additional is not False and not schema.get("properties") and "$ref" not in schema:
        return not any(key in schema for key in ("anyOf", "oneOf", "allOf"))
    inner = [each for key, each in schema.items() if key not in VALUES and key not in NAMED]
    subschemas = [each for key in NAMED for each in _object(schema.get(key)).values()]
    return any(map(holds_maps, [*inner, *subschemas]))


def closed_schema(schema: Any) -> Any:
    """A JSON schema that structured output supports: closed objects, and no bounds.

    Keywords that cannot be enforced go into the description, so that the model may follow them.
    """
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {**schema, **({"$defs": _each(schema["$defs"])} if "$defs" in schema else {})}
    kept: Json = {}
    hints = []
    for key, value in schema.items():
        if key in KEPT or (key == "format" and value in FORMATS) or (key == "minItems" and value in (0, 1)):
            kept[key] = value
        elif key in ("properties", "$defs", "definitions"):
            kept[key] = _each(value)
        elif key in ("items", "anyOf", "allOf"):
            kept[key] = _all(value)
        elif key == "oneOf":
            kept["anyOf"] = _all(value)
        elif key not in ("additionalProperties", "$schema"):
            hints.append(f"{key}: {value}")
    if schema.get("type") == "object" or "properties" in schema:
        kept["additionalProperties"] = False
    if hints:
        kept["description"] = f"{kept.get('description', '')} ({', '.join(hints)})".strip()
    return kept


def _each(schemas: Any) -> Any:
    return {name: closed_schema(each) for name, each in schemas.items()} if isinstance(schemas, dict) else schemas


def _all(schemas: Any) -> Any:
    return [closed_schema(each) for each in schemas] if isinstance(schemas, list) else closed_schema(schemas)


def inline_references(schema: Any) -> Any:
    """A JSON schema with its references resolved, without `$ref`, `$defs`, `definitions` and `$schema`.

    A recursive reference becomes `{"type": "object"}`. Raises InvalidRequest for a reference to nothing, and for a
    schema beyond the bounds.
    """
    nodes = iter(range(NODES))

    def within(value: Any, trail: tuple[str, ...], depth: int) -> Any:
        if next(nodes, None) is None or depth > DEPTH:
            raise InvalidRequest("A schema is too large.", param="tools")
        if isinstance(value, list):
            return [within(each, trail, depth + 1) for each in value]
        if not isinstance(value, dict):
            return value
        reference = value.get("$ref")
        if isinstance(reference, str):
            if reference in trail:
                return {"type": "object"}
            beside = {key: each for key, each in value.items() if key != "$ref"}
            return within({**_look_up(reference, schema), **beside}, (*trail, reference), depth + 1)
        found: Json = {}
        for key, each in value.items():
            if key == "properties" and isinstance(each, dict):
                found[key] = {name: within(property_, trail, depth + 1) for name, property_ in each.items()}
            elif key not in REFERRED:
                found[key] = each if key in VALUES else within(each, trail, depth + 1)
        return found

    return within(schema, (), 0)


def _look_up(reference: str, root: Any) -> Json:
    found = root
    for step in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    if not reference.startswith("#") or not isinstance(found, dict):
        raise InvalidRequest(f"The schema refers to {reference!r}, which it does not have.", param="tools")
    return found
