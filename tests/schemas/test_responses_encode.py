"""Any answer of a model becomes a stream that is valid by OpenAI's types, and the same response in one piece."""

import json
from itertools import pairwise
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from core.errors import RequestCancelled, UpstreamDown, UpstreamRateLimited
from core.events import (
    AnswerStart,
    Citation,
    Event,
    FillerText,
    Finish,
    Picture,
    Reasoning,
    Refusal,
    Text,
    ToolArguments,
    ToolCall,
    Usage,
)
from schemas.responses.encode import ResponsesEncoder, whole
from schemas.responses.request import load_responses
from tests.support.responses import calls_of, checked_response, events, final_response, text_of

ASKED = load_responses(
    json.dumps({
        "model": "m",
        "input": "hi",
        "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "patch"}],
        "tool_choice": "auto",
        "metadata": {"call": "1"},
        "reasoning": {"effort": "max", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "name": "p", "schema": {}}, "verbosity": None},
    }).encode()
)  # fmt: skip


def encoder(**options: Any) -> ResponsesEncoder:
    return ResponsesEncoder(
        ASKED.resource("resp_1", "m"), include_reasoning=True, named_tools=ASKED.named_tools, **options
    )


def encode_stream(said: list[Event]) -> bytes:
    spoken = encoder()
    return b"".join([*map(spoken.encode, said), spoken.end()])


def without_ids(response: dict[str, Any]) -> dict[str, Any]:
    ids = ("id", "call_id", "created_at", "completed_at")
    output = [{key: value for key, value in item.items() if key not in ids} for item in response["output"]]
    return {**{key: value for key, value in response.items() if key not in ids}, "output": output}


TEXTS = st.text(st.characters(), max_size=8)
OBJECTS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), st.integers(-9, 9), max_size=3)


@st.composite
def pieces(draw: st.DrawFn, text: str) -> list[str]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[Event], list[tuple[str, Any]]]:
    """Events as core/events.py has their grammar, calls in any interleaving; and the calls that they make."""
    said: list[Event] = [AnswerStart(model="x")] if draw(st.booleans()) else []
    if draw(st.booleans()):
        said.append(FillerText("One moment... "))
    asides = st.one_of(
        TEXTS.map(Text), TEXTS.map(Refusal), TEXTS.map(Reasoning),
        st.just(Citation("https://a.example", "A", 0, 1)), st.just(Picture("data:image/png;base64,AAAA")),
    )  # fmt: skip
    said += draw(st.lists(asides, max_size=5))
    calls = [(name, draw(OBJECTS)) for name in draw(st.lists(st.sampled_from(["f", "g"]), max_size=3))]
    waiting = []
    for key, (_, arguments) in enumerate(calls):
        raw = json.dumps(arguments, ensure_ascii=draw(st.booleans()))
        waiting.append([ToolArguments(key, piece) for piece in draw(pieces(raw))])
    for key, (name, _) in enumerate(calls):
        said.append(ToolCall(key, name))
        for opened in draw(st.lists(st.integers(0, key), max_size=3)):
            said += [waiting[opened].pop(0)] if waiting[opened] else []
    for left in draw(st.permutations(waiting)):
        said += left
        said += draw(st.lists(asides, max_size=1))
    said.append(Finish(draw(st.sampled_from(["stop", "tool_calls", "content_filter"]))))
    return [*said, *([Usage(3, 4, 1, 2)] if draw(st.booleans()) else [])], calls


@hypothesis.settings(max_examples=300, deadline=None, derandomize=True)
@hypothesis.given(answers())
def test_whatever_is_said_is_a_valid_stream_and_the_same_response_whole(
    answer: tuple[list[Event], list[tuple[str, Any]]],
) -> None:
    """Events come in their one order, numbered, one item at a time (tests/support/responses.py asserts it)."""
    said, calls = answer
    response = final_response(encode_stream(said))
    assert calls_of(response) == calls
    assert response["status"] == ("incomplete" if Finish("content_filter") in said else "completed")
    spoken = encoder(streams=False)
    body = json.loads(whole(spoken, said))
    assert without_ids(checked_response(body)) == without_ids(response)


def test_a_call_into_a_namespace_is_told_by_its_own_name() -> None:
    function = {"type": "function", "name": "look_up"}
    tools = [{"type": "namespace", "name": "crm", "description": "Customers.", "tools": [function]}, function]
    asked = load_responses(json.dumps({"model": "m", "input": "hi", "tools": tools}).encode())
    spoken = ResponsesEncoder(asked.resource("resp_1", "m"), named_tools=asked.named_tools)
    said: list[Event] = [ToolCall(0, "crm__look_up"), ToolCall(1, "look_up"), Finish("tool_calls")]
    response = final_response(b"".join([*map(spoken.encode, said), spoken.end()]))
    assert [(item.get("namespace"), item["name"]) for item in response["output"]] == [
        ("crm", "look_up"),
        (None, "look_up"),
    ]
    assert response["tools"] == [tools[0], {**function, "description": None, "parameters": None, "strict": None}]


@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
@hypothesis.given(answers(), st.integers(0, 12))
def test_a_stream_that_breaks_off_anywhere_ends_with_an_error_and_a_failed_response(
    answer: tuple[list[Event], list[tuple[str, Any]]], after: int
) -> None:
    said = [event for event in answer[0] if not isinstance(event, (Finish, Usage))][:after]
    spoken = encoder()
    stream = b"".join([*map(spoken.encode, said), spoken.error(UpstreamDown("It broke."))])
    *_, answer, failed = events(stream)
    assert (answer["type"], answer["code"], answer["message"]) == ("error", "upstream_error", "It broke.")
    assert answer["error"] == {"type": "server_error", "code": "upstream_error", "message": "It broke.", "param": None}
    assert failed["type"] == "response.failed"
    assert failed["response"]["error"] == {"code": "server_error", "message": "It broke."}


def test_the_order_of_a_text_and_two_calls_that_are_told_at_the_same_time() -> None:
    said = [
        Text("Hi"), ToolCall(0, "f", "call_a"), ToolCall(1, "g", "call_b"), ToolArguments(1, "{}"),
        ToolArguments(0, '{"a": '), ToolArguments(0, "1}"), Finish("stop"), Usage(5, 3),
    ]  # fmt: skip
    assert [event["type"].removeprefix("response.") for event in events(encode_stream(said))] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]


@pytest.mark.parametrize(
    ("reason", "details"),
    [("length", {"reason": "max_output_tokens"}), ("content_filter", {"reason": "content_filter"})],
)
def test_an_answer_that_was_cut_short_is_incomplete(reason: Any, details: dict[str, str]) -> None:
    response = final_response(encode_stream([Text("Once upon"), Finish(reason)]))
    assert (response["status"], response["incomplete_details"], response["completed_at"]) == (
        "incomplete",
        details,
        None,
    )
    assert response["output"][-1]["status"] == "incomplete"


def test_an_answer_without_an_end_is_no_completed_response() -> None:
    assert events(encode_stream([Text("Once upon")]))[-1]["type"] == "response.failed"
    with pytest.raises(UpstreamDown):
        whole(encoder(streams=False), [Text("Once upon")])


def test_an_answer_of_nothing_has_a_message() -> None:
    (item,) = final_response(encode_stream([Finish("stop")]))["output"]
    assert (item["type"], item["content"][0]["text"]) == ("message", "")


def test_thinking_is_told_as_a_summary_and_only_where_it_is_wanted() -> None:
    said = [Reasoning("They "), Reasoning("greet."), Text("Hi"), Finish("stop")]
    thought, spoken = final_response(encode_stream(said))["output"]
    assert thought["summary"] == [{"type": "summary_text", "text": "They greet."}]
    assert spoken["type"] == "message"
    hidden = ResponsesEncoder(ASKED.resource("resp_1", "m"))
    stream = b"".join([*map(hidden.encode, said), hidden.end()])
    assert b"greet" not in stream
    assert text_of(final_response(stream)) == "Hi"


def test_a_filler_is_an_item_of_its_own_and_is_not_kept() -> None:
    """What a model never said would be taken for its words in the next turn."""
    kept: list[Any] = []
    spoken = encoder(keep=lambda _, said, __: kept.extend(said))
    said = [FillerText("One moment... "), Text("Hi"), Finish("stop")]
    stream = b"".join([*map(spoken.encode, said), spoken.end()])
    filler, answer = final_response(stream)["output"]
    assert (filler["content"][0]["text"], answer["content"][0]["text"]) == ("One moment... ", "Hi")
    assert kept == [answer]


def test_a_custom_tool_is_told_its_text() -> None:
    said = [ToolCall(0, "patch", "call_1"), ToolArguments(0, '{"input": "*** Begin'), ToolArguments(0, '"}')]
    stream = encode_stream([*said, Finish("tool_calls")])
    (call,) = final_response(stream)["output"]
    assert (call["type"], call["call_id"], call["input"]) == ("custom_tool_call", "call_1", "*** Begin")
    assert b"function_call" not in stream


def test_halves_of_a_pair_meet_across_pieces() -> None:
    assert text_of(final_response(encode_stream([Text("a\ud83d"), Text("\ude00b"), Finish("stop")]))) == "a\U0001f600b"


def test_a_rate_limit_keeps_its_code() -> None:
    answer, failed = events(encoder().error(UpstreamRateLimited("Slowly.")))[-2:]
    assert (answer["code"], failed["response"]["error"]["code"]) == ("rate_limit_exceeded", "rate_limit_exceeded")


def test_a_cancelled_answer_has_not_failed() -> None:
    spoken = encoder()
    last = events(spoken.encode(Text("Once upon")) + spoken.error(RequestCancelled()))[-1]
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "cancelled")
    assert text_of(last["response"]) == "Once upon"


def test_logprobs_have_the_keys_that_openais_types_demand() -> None:
    logprobs = {"content": [{"token": "Hi", "logprob": -0.1, "bytes": None, "top_logprobs": None}]}
    response = final_response(encode_stream([Text("Hi", logprobs=logprobs), Finish("stop")]))
    assert response["output"][0]["content"][0]["logprobs"][0]["token"] == "Hi"
