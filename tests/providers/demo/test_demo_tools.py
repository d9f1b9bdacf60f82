import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidRequest
from core.events import Finish, Text, ToolArguments, ToolCall, Usage
from core.requests import ChatRequest
from providers.demo.provider import answer


def tool(name, properties=None, description="", **more):
    parameters = {"type": "object", "properties": properties or {}, **more}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


WEATHER = tool("get_weather", {"city": {"type": "string"}}, "Forecast for a place", required=["city"])
TRANSFER = tool("transferCall", {"reason": {"type": "string"}}, "Hands the caller to a human")


def events_of(content, **body):
    """The answer to a user's words, or to a whole conversation."""
    messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
    return list(answer(ChatRequest({"messages": messages, **body})))


def text_of(events):
    return "".join(each.text for each in events if isinstance(each, Text))


def calls_of(events):
    """The called tools: (name, arguments) in order."""
    return [
        (
            opened.name,
            json.loads("".join(e.text for e in events if isinstance(e, ToolArguments) and e.key == opened.key)),
        )
        for opened in events
        if isinstance(opened, ToolCall)
    ]


def finish_of(events):
    return [each.reason for each in events if isinstance(each, Finish)]


def test_a_tool_that_the_user_speaks_of_is_called():
    events = events_of("What is the weather in Paris?", tools=[TRANSFER, WEATHER])
    assert calls_of(events) == [("get_weather", {"city": "Paris"})]
    assert finish_of(events) == ["tool_calls"]
    assert text_of(events) == ""
    assert sum(isinstance(each, ToolArguments) for each in events) >= 2
    assert events[-1].completion > 0


@pytest.mark.parametrize("text", ["please transferCall", "transfer call now", "Transfer this call, please!"])
def test_a_tool_is_known_by_the_words_of_its_name(text):
    assert [name for name, _ in calls_of(events_of(text, tools=[WEATHER, TRANSFER]))] == ["transferCall"]


def test_a_tool_that_nobody_speaks_of_is_not_called():
    events = events_of("Get me a coffee", tools=[WEATHER, TRANSFER])
    assert calls_of(events) == []
    assert finish_of(events) == ["stop"]


def test_several_tools_are_called_at_once_unless_forbidden():
    text = "Transfer the call and tell me the weather in Rome"
    both = events_of(text, tools=[WEATHER, TRANSFER])
    assert [name for name, _ in calls_of(both)] == ["get_weather", "transferCall"]
    assert len({each.key for each in both if isinstance(each, ToolCall)}) == 2
    assert len(calls_of(events_of(text, tools=[WEATHER, TRANSFER], parallel_tool_calls=False))) == 1


def test_tool_choice_none_is_obeyed():
    assert calls_of(events_of("weather", tools=[WEATHER], tool_choice="none")) == []


def test_tool_choice_required_calls_the_best_match():
    tools = [WEATHER, TRANSFER]
    assert calls_of(events_of("Hi", tools=tools, tool_choice="required"))[0][0] == "get_weather"
    assert calls_of(events_of("Make the call", tools=tools, tool_choice="required"))[0][0] == "transferCall"
    assert calls_of(events_of("A human, now", tools=tools, tool_choice="required"))[0][0] == "transferCall"


def test_a_named_tool_is_called():
    choice = {"type": "function", "function": {"name": "transferCall"}}
    assert calls_of(events_of("weather", tools=[WEATHER, TRANSFER], tool_choice=choice))[0][0] == "transferCall"


def test_a_named_tool_that_is_not_declared_is_the_callers_mistake():
    with pytest.raises(InvalidRequest) as caught:
        events_of("Hi", tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "nope"}})
    assert caught.value.param == "tool_choice"


def test_allowed_tools_leave_the_others_out():
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "transferCall"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    called = calls_of(events_of("weather", tools=[WEATHER, TRANSFER], tool_choice=choice))
    assert [name for name, _ in called] == ["transferCall"]


def test_legacy_functions_are_tools():
    events = events_of("Hi", functions=[WEATHER["function"]], function_call={"name": "get_weather"})
    assert calls_of(events)[0][0] == "get_weather"


@pytest.mark.parametrize("role", ["tool", "function"])
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_after_a_tool_has_answered_it_speaks(role, choice):
    conversation = [
        {"role": "user", "content": "weather in Paris"},
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "get_weather", "arguments": "{}"}}]},
        {"role": role, "tool_call_id": "c", "name": "get_weather", "content": "Sunny, 21 degrees."},
    ]
    events = events_of(conversation, tools=[WEATHER], tool_choice=choice)
    assert text_of(events) == "The tool says: Sunny, 21 degrees."
    assert finish_of(events) == ["stop"]


def test_all_results_are_told():
    results = [{"role": "tool", "content": "Sunny."}, {"role": "tool", "content": [{"type": "text", "text": "Done."}]}]
    conversation = [{"role": "user", "content": "weather"}, *results]
    assert text_of(events_of(conversation)) == "The tool says: Sunny. The tool says: Done."


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object"}, {"type": "string"}, "odd", {"$ref": "#/nowhere"}])
def test_arguments_are_an_object_whatever_the_schema(parameters):
    events = events_of("Hi", tools=[{"function": {"name": "f", "parameters": parameters}}], tool_choice="required")
    assert calls_of(events) == [("f", {})]
    assert sum(isinstance(each, ToolArguments) for each in events) == 2


def test_a_json_object_is_json():
    assert "pear" in json.loads(text_of(events_of("pear", response_format={"type": "json_object"})))["message"]


@pytest.mark.parametrize("indent", ["", " " * 12, "\t"])
def test_a_json_object_follows_a_schema_that_is_told_in_words(indent):
    """instructor's Mode.JSON: the schema stands in the system's message, its first line indented."""
    schema = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 18}}, "required": ["age"]}
    system = (
        f"Give an object such as\n{{}}\nthat fits this schema:\n\n{indent}{json.dumps(schema, indent=2)}\n\nNo schema."
    )
    conversation = [{"role": "system", "content": system}, {"role": "user", "content": "Hi"}]
    assert json.loads(text_of(events_of(conversation, response_format={"type": "json_object"}))) == {"age": 18}


@pytest.mark.parametrize(
    "instructions",
    ['{"a":' * 100_000, "{\n" * 100_000, '{"properties": 1}', "{}\n{}\n{}\n{}", " " * 100_000, " {\n" * 50_000],
)
def test_what_is_no_schema_is_passed_over(instructions):
    assert "message" in json.loads(text_of(events_of(instructions, response_format={"type": "json_object"})))


def test_a_json_schema_is_satisfied():
    schema = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 18}}, "required": ["age"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}}
    events = events_of("Hi", response_format=wanted)
    assert json.loads(text_of(events)) == {"age": 18}
    assert sum(isinstance(each, Text) for each in events) >= 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
PARTS = st.lists(
    st.fixed_dictionaries({}, optional={"type": JSON | st.sampled_from(["text", "image_url"]), "text": JSON}) | JSON,
    max_size=3,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"]) | JSON,
            "content": PARTS | JSON,
            "tool_calls": JSON,
        },
    )
    | JSON,
    max_size=4,
)
TOOLS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "type": JSON,
            "function": st.fixed_dictionaries({}, optional={"name": JSON, "description": JSON, "parameters": JSON})
            | JSON,
        },
    )
    | JSON,
    max_size=3,
)
CHOICES = st.sampled_from(["none", "auto", "required"]) | st.dictionaries(
    st.sampled_from(["type", "function", "allowed_tools"]), JSON, max_size=2
)


@given(
    st.fixed_dictionaries(
        {"messages": MESSAGES},
        optional={"tools": TOOLS, "tool_choice": CHOICES, "response_format": JSON, "reasoning_effort": JSON},
    )
)
def test_odd_shapes_are_answered(body):
    try:
        events = list(answer(ChatRequest(body)))
    except InvalidRequest as mistake:
        assert mistake.param == "tool_choice"  # noqa: PT017 - most bodies raise nothing
        return
    assert isinstance(events[-2], Finish)
    assert isinstance(events[-1], Usage)
