"""Schemas of tools and answers, as vendors take them (providers/common/json_schema.py)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InvalidRequest
from providers.common.json_schema import closed_schema, holds_maps, inline_references, parameters

NAMED = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "maps"),
    [
        (NAMED, False),
        ({**NAMED, "additionalProperties": True}, False),
        ({"type": "object", "properties": {}, "additionalProperties": False}, False),
        ({"type": "object", "anyOf": [NAMED]}, False),
        ({"type": "array", "items": NAMED}, False),
        ({"type": "object"}, True),
        ({"type": ["object", "null"]}, True),
        ({**NAMED, "additionalProperties": {"type": "integer"}}, True),
        ({**NAMED, "patternProperties": {"^x": {"type": "integer"}}}, True),
        ({"type": "array", "items": {"type": "object"}}, True),
        ({**NAMED, "properties": {"default": {"type": "object"}}}, True),
        ({**NAMED, "default": {"type": "object"}}, False),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"type": "object", "additionalProperties": True}}}, True),
        (inline_references({**NAMED, "properties": {"next": {"$ref": "#"}}}), True),
    ],
)
def test_an_object_of_any_keys_is_found(schema: Any, maps: bool) -> None:
    """Closed, it would be empty for good: a map of names to numbers could hold none."""
    assert holds_maps(schema) == maps


def test_alternatives_at_the_head_give_their_properties() -> None:
    schema, hint = parameters(
        {"parameters": {"oneOf": [NAMED, {"allOf": [{"properties": {"b": {}}}]}], "required": ["a"]}}
    )
    assert schema == {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}
    assert '"oneOf"' in hint


KEYS = [
    "type",
    "properties",
    "required",
    "anyOf",
    "allOf",
    "not",
    "enum",
    "$ref",
    "$defs",
    "additionalProperties",
    "items",
]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["object", "null", "x", "#", "#/$defs/x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), JUNK, max_size=4))
def test_whatever_a_schema_is_nothing_breaks(schema: dict[str, Any]) -> None:
    """A schema that is none is the vendor's to refuse; one that refers to nothing is refused here."""
    closed_schema(schema)
    holds_maps(schema)
    try:
        made, _ = parameters({"parameters": schema})
    except InvalidRequest:
        return
    assert made.get("type", "object") == "object"
    assert not {"anyOf", "allOf", "not", "enum"} & made.keys()
