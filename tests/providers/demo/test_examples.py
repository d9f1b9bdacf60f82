import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from providers.demo.schema_examples import example

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def valid(schema, text=""):
    found = example(schema, text)
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(found)
    return found


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "integer", "exclusiveMinimum": 3, "maximum": 4}, 4),
        ({"type": "integer", "minimum": 7, "multipleOf": 5}, 10),
        ({"type": "number", "exclusiveMinimum": 0.2, "exclusiveMaximum": 0.4}, pytest.approx(0.3)),
        ({"type": ["null", "boolean"]}, True),
        ({"enum": [3, "x"], "type": "string"}, "x"),
        ({"const": {"a": [None]}}, {"a": [None]}),
        ({"type": "string", "default": "tea"}, "tea"),
        ({"type": "string", "minLength": 8}, "textxxxx"),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": "string", "format": "date"}, "2030-01-01"),
        ({"type": "array", "items": {"type": "null"}, "minItems": 3}, [None, None, None]),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 0}, []),
        ({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": False}, [1, 2]),
        ({"allOf": [{"minimum": 5}, {"minimum": 3}, {"maximum": 8}, {"maximum": 9}], "multipleOf": 4}, 8),
        ({"allOf": [{"minLength": 6}, {"minLength": 2}, {"type": "string"}]}, "textxx"),
        ({"oneOf": [False, {"type": "null"}]}, None),
    ],
)
def test_example_of_a_keyword(schema, expected):
    assert valid(schema) == expected


def test_all_that_is_required_is_given_and_no_more():
    properties = {"a": {"type": "string"}, "b": {"type": "integer"}, "c": {"type": "array", "items": {}}}
    assert valid({"type": "object", "properties": properties, "required": ["b", "z"]}) == {"b": 1, "z": "z"}
    assert valid({"properties": properties}) == {"a": "a", "b": 1}


def test_where_nothing_is_required_the_plain_is_given_or_else_the_rest():
    """instructor's lists of tasks require nothing, and are no use when empty."""
    tasks = {"type": "array", "items": {"$ref": "#/$defs/Task"}}
    task = {"type": "object", "properties": {"name": {"type": "string"}, "of": tasks}, "required": ["name"]}
    schema = {"type": "object", "properties": {"tasks": tasks}, "$defs": {"Task": task}}
    assert example(schema) == {"tasks": [{"name": "name"}]}
    assert example({**schema, "properties": {"tasks": tasks, "sum": {"type": "integer"}}}) == {"sum": 1}


def test_what_is_not_required_and_has_no_end_is_left_out():
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    assert example(node) == {"next": {}}
    assert example({"type": "object", "properties": {"never": False, "list": {"type": "array"}}}) == {"list": []}


def test_all_of_is_joined():
    base = {"properties": {"a": {"type": "string"}}, "required": ["a"]}
    more = {"properties": {"a": {"minLength": 5}, "b": {"type": "boolean"}}, "required": ["b"]}
    found = valid(
        {"$defs": {"base": base, "more": more}, "allOf": [{"$ref": "#/$defs/base"}, {"$ref": "#/$defs/more"}]}
    )
    assert found == {"a": "axxxx", "b": True}


def test_a_recursive_schema_ends():
    node = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}
    node["required"] = ["next"]
    assert valid({"$ref": "#/$defs/node", "$defs": {"node": node}}) == {"next": None}
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}
    assert valid({**tree, "required": ["children"]}) == {"children": [{"children": []}]}


def test_a_branch_that_never_ends_is_not_taken():
    both = {"type": "object", "properties": {"left": {"$ref": "#/$defs/sum"}}, "required": ["left"]}
    sums = {"anyOf": [both, {"type": "number"}]}
    assert valid({"$ref": "#/$defs/sum", "$defs": {"sum": sums}}) == 1
    assert valid({**both, "$defs": {"sum": sums}}) == {"left": 1}


@pytest.mark.parametrize(
    "schema",
    [
        None,
        [],
        False,
        {"enum": []},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "array", "minItems": 10**12},
        {"type": "string", "minLength": 10**12},
    ],
)
def test_no_example_is_an_empty_object(schema):
    assert example(schema) == {}


def test_a_deep_schema_does_not_exhaust_the_stack():
    deep = {"type": "string"}
    for _ in range(500):
        deep = {"type": "object", "properties": {"a": {"anyOf": [{"allOf": [deep]}]}}, "required": ["a"]}
    assert example(deep) == {}


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("weather in Paris", "city", "Paris"),
        ("What's the weather in New York today?", "cityName", "New York"),
        ("I want to know the weather for Oslo, please", "location", "Oslo"),
        ("fly me to san francisco", "destination", "san francisco"),
        ("Berlin", "place", "Berlin"),
        ("find cheap shoes", "query", "find cheap shoes"),
        ("weather in Paris", "unit", "unit"),
    ],
)
def test_a_string_is_taken_from_what_the_user_said(text, name, expected):
    assert valid({"properties": {name: {"type": "string"}}, "required": [name]}, text) == {name: expected}


def test_an_enum_value_that_the_user_named_is_chosen():
    unit = {"enum": ["celsius", "fahrenheit"]}
    assert valid(unit, "in Fahrenheit, please") == "fahrenheit"
    assert valid(unit, "whatever") == "celsius"


SMALL = st.integers(0, 4)
PAIRS = st.tuples(SMALL, SMALL).map(sorted)
LEAVES = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": ["null", "string"]}),
    st.just({"type": "string", "nullable": True}),
    st.lists(JSON, min_size=1, max_size=3).map(lambda values: {"enum": values}),
    JSON.map(lambda value: {"const": value}),
    st.text(max_size=3).map(lambda value: {"type": "string", "default": value}),
    st.sampled_from(["date", "date-time", "email", "uri", "uuid", "ipv4", "unknown"]).map(
        lambda name: {"type": "string", "format": name}
    ),
    PAIRS.map(lambda pair: {"type": "string", "minLength": pair[0], "maxLength": pair[1]}),
    st.tuples(st.integers(-9, 9), SMALL).map(
        lambda pair: {"type": "integer", "minimum": pair[0], "maximum": pair[0] + pair[1]}
    ),
    st.tuples(st.integers(-9, 9), st.integers(2, 5)).map(
        lambda pair: {"type": "integer", "exclusiveMinimum": pair[0], "exclusiveMaximum": pair[0] + pair[1]}
    ),
    st.tuples(st.floats(-9, 9), st.floats(0.01, 9)).map(
        lambda pair: {"type": "number", "exclusiveMinimum": pair[0], "exclusiveMaximum": pair[0] + pair[1]}
    ),
    st.tuples(st.integers(-99, 99), st.integers(1, 9)).map(
        lambda pair: {"type": "integer", "minimum": pair[0], "multipleOf": pair[1]}
    ),
    st.sampled_from([{"$ref": "#/$defs/tree"}, {"$ref": "#/$defs/name"}, {}, True]),
)
DEFINITIONS = {
    "name": {"type": "string", "minLength": 1},
    "tree": {
        "type": "object",
        "properties": {"name": {"$ref": "#/$defs/name"}, "under": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
        "required": ["name", "under"],
        "additionalProperties": False,
    },
}


def objects_of(inner):
    properties = st.dictionaries(st.sampled_from(["city", "query", "a", "b"]), inner, max_size=3)
    return st.tuples(properties, st.sets(st.sampled_from(["city", "query", "a", "b"]))).map(
        lambda pair: {
            "type": "object",
            "properties": pair[0],
            "required": sorted(pair[1] & set(pair[0])),
            "additionalProperties": False,
        }
    )


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        objects_of(inner),
        st.tuples(inner, PAIRS).map(
            lambda pair: {"type": "array", "items": pair[0], "minItems": pair[1][0], "maxItems": pair[1][1]}
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: {"type": "array", "prefixItems": each}),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: {"anyOf": each}),
        st.lists(inner, min_size=1, max_size=1).map(lambda each: {"oneOf": each}),
        inner.map(lambda each: {"allOf": [each, {"description": "more"}, each]}),
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(SCHEMAS, st.sampled_from(["", "weather in Paris for two", "b"]))
def test_an_example_satisfies_its_schema(schema, text):
    schema = {"$defs": DEFINITIONS, "type": "object", "properties": {"it": schema}, "required": ["it"]}
    assert valid(schema, text) == example(schema, text)


KEYWORDS = ["type", "properties", "required", "items", "prefixItems", "minItems", "minimum", "multipleOf", "$ref"]
KEYWORDS += ["anyOf", "allOf", "enum", "const", "default", "format", "minLength", "maxLength", "additionalProperties"]
NOT_QUITE = st.recursive(
    JSON | st.floats() | st.sampled_from(["object", "array", "string", "number", "#", "#/anyOf/0", "a"]),
    lambda inner: st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=4) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@given(NOT_QUITE)
def test_any_json_may_stand_for_a_schema(schema):
    assert json.dumps(example(schema, "text"))
