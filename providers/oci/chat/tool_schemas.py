"""JSON schemas of tools as the families on OCI accept them. Pure functions."""

from collections.abc import Mapping
from typing import Any

import orjson

from core.errors import InvalidRequest
from core.json_values import Json
from providers.common.json_schema import inline_references

PYTHON_TYPES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
}
"""CohereParameterDefinition.type has the names of Python's types."""
EMPTY: Mapping[str, Any] = {"type": "object", "properties": {}}
PLAIN = ("meta.", "google.")
"""Families that refuse schemas with alternatives."""


def parameters(function: Mapping[str, Any], model: str) -> Json:
    """A function's parameters without references, and without alternatives for the families that refuse them."""
    schema = inline_references(function.get("parameters") or EMPTY)
    return dict(_plain(schema, bounds=not model.startswith("google.")) if model.startswith(PLAIN) else schema)


def _plain(value: Any, *, bounds: bool) -> Any:
    """The schema with the first alternative that is not null instead of several."""
    if isinstance(value, list):
        return [_plain(each, bounds=bounds) for each in value]
    if not isinstance(value, dict):
        return value
    for key in ("anyOf", "oneOf"):
        options = value.get(key)
        if isinstance(options, list) and options:
            first = next((each for each in options if each != {"type": "null"}), options[0])
            beside = {name: each for name, each in value.items() if name != key}
            return _plain({**(first if isinstance(first, dict) else {}), **beside}, bounds=bounds)
    kept = {
        name: each for name, each in value.items() if bounds or name not in ("exclusiveMinimum", "exclusiveMaximum")
    }
    if isinstance(kind := kept.get("type"), list):
        kept["type"] = next((each for each in kind if each != "null"), "string")
    return {name: _plain(each, bounds=bounds) for name, each in kept.items()}


def definitions(function: Mapping[str, Any]) -> Json:
    """Cohere's parameterDefinitions, which are flat: the rest of a schema goes into the description."""
    schema = _plain(inline_references(function.get("parameters") or EMPTY), bounds=True)
    required, properties = schema.get("required") or [], schema.get("properties") or {}
    if not isinstance(required, list) or not isinstance(properties, dict):
        raise InvalidRequest(f"The parameters of {function['name']!r} are no JSON schema.", param="tools")
    return {
        name: _definition(each if isinstance(each, dict) else {}, is_required=name in required)
        for name, each in properties.items()
    }


def _definition(schema: Mapping[str, Any], *, is_required: bool) -> Json:
    rest = {key: value for key, value in schema.items() if key not in ("type", "description", "title")}
    descriptions = [str(schema.get("description") or schema.get("title") or "")]
    if rest:
        descriptions.append(f"JSON schema: {orjson.dumps(rest).decode()}")
    kind = schema.get("type") or ("object" if "properties" in schema else "array" if "items" in schema else "string")
    definition: Json = {"type": PYTHON_TYPES.get(str(kind), "str"), "isRequired": is_required}
    if description := " ".join(each for each in descriptions if each):
        definition["description"] = description
    return definition
