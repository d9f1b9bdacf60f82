"""Any answer becomes a message by Anthropic's own types: in order, one block at a time, streamed as whole."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import CircuitOpen, GatewayError, InvalidRequest, Overloaded, UpstreamDown, UpstreamTimeout
from core.events import (
    AnswerStart,
    Event,
    FillerText,
    Finish,
    Reasoning,
    Refusal,
    Text,
    ToolArguments,
    ToolCall,
    Usage,
)
from schemas.messages.encode import MessageEncoder, fold
from schemas.messages.errors import error_body, error_status
from schemas.messages.events import MessageEvents
from tests.support import messages as read

Calls = list[tuple[str, dict[str, Any]]]


def message_events(**options: Any) -> MessageEvents:
    return MessageEvents("fast", estimate=lambda: 7, **options)


def stream(events: list[Event], **options: Any) -> bytes:
    encoder = MessageEncoder(message_events(**options))
    return b"".join(map(encoder.encode, events)) + encoder.end()


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[Event], str, Calls]:
    """The events of an answer, with what it says and the calls that it makes; calls may come interleaved."""
    events: list[Event] = [AnswerStart(model="m")] if draw(st.booleans()) else []
    if draw(st.booleans()):
        events.append(FillerText("One moment... "))
    said, calls, queues = "", list[tuple[str, dict[str, Any]]](), list[list[ToolArguments]]()
    texts = st.text(st.characters(codec="utf-8"), max_size=8)
    for number in range(draw(st.integers(0, 6))):
        match draw(st.sampled_from(["text", "call", "thought", "half", "arguments"])):
            case "text":
                piece = draw(texts)
                events.append(Text(piece))
                said += piece
            case "half":
                events += [Text("\ud83d"), Text("\ude42")]
                said += "\U0001f642"
            case "thought":
                events.append(Reasoning(draw(texts)))
                if draw(st.booleans()):
                    events.append(Reasoning("", signature="signed", redacted=draw(st.booleans())))
            case "call":
                arguments = draw(st.dictionaries(texts, texts | st.integers(), max_size=3))
                events.append(ToolCall(number, f"tool_{number}", f"call_{number}"))
                calls.append((f"tool_{number}", arguments))
                raw = json.dumps(arguments)
                cut = draw(st.integers(0, len(raw)))
                queues.append([ToolArguments(number, raw[:cut]), ToolArguments(number, raw[cut:])])
            case "arguments" if queues:
                queue = draw(st.sampled_from(queues))
                events += [queue.pop(0)] if queue else []
    for queue in draw(st.permutations(queues)):
        events += queue
    events.append(Finish(draw(st.sampled_from(["stop", "tool_calls", "length", "content_filter"]))))
    if draw(st.booleans()):
        events.append(Usage(30, 12, cached=10, written=5))
    return events, said, calls


@given(answers(), st.booleans())
def test_any_answer_is_a_message_streamed_as_whole(answer: tuple[list[Event], str, Calls], thinks: bool) -> None:
    events, said, calls = answer
    streamed = read.streamed(stream(events, include_reasoning=thinks))
    whole = read.whole(fold(message_events(include_reasoning=thinks), events))
    assert streamed | {"id": ""} == whole | {"id": ""}
    assert read.calls(whole) == calls
    # White space alone is no block, so it may be missing beside calls and thoughts, and nowhere else.
    filler = "One moment... " if FillerText("One moment... ") in events and not thinks else ""
    assert "".join(read.text(whole).split()) == "".join((filler + said).split())
    if not calls and not thinks and said.strip():
        assert read.text(whole) == filler + said
    assert thinks or all(block["type"] in ("text", "tool_use") for block in whole["content"])
    if isinstance(events[-1], Usage):
        counted = {"input_tokens": 15, "output_tokens": 12}
        assert whole["usage"] == {**counted, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 10}
    else:
        assert whole["usage"]["input_tokens"] == 7


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([Text("x"), Finish("stop")], "end_turn"),
        ([Text("x"), Finish("length")], "max_tokens"),
        ([Text("x"), Finish("content_filter")], "refusal"),
        ([Refusal("No."), Finish("stop")], "refusal"),
        ([ToolCall(0, "f", "c"), Finish("stop")], "tool_use"),
        ([Text("x"), Finish("tool_calls")], "end_turn"),
    ],
)
def test_the_reason_of_the_end(events: list[Event], reason: str) -> None:
    assert read.streamed(stream(events))["stop_reason"] == reason


def test_the_first_call_flows_and_others_follow_it() -> None:
    encoder = MessageEncoder(message_events())
    begun = [
        encoder.encode(each)
        for each in (
            ToolCall("a", "first", "1"),
            ToolCall("b", "second", "2"),
            ToolArguments("b", '{"y": 2}'),
            ToolArguments("a", '{"x": 1}'),
        )
    ]
    assert [len(read.frames(each)) if each else 0 for each in begun] == [2, 0, 0, 1]
    rest = encoder.encode(Finish("tool_calls")) + encoder.end()
    assert read.calls(read.streamed(b"".join(begun) + rest)) == [("first", {"x": 1}), ("second", {"y": 2})]


def test_an_answer_without_an_end_is_an_error() -> None:
    events = read.frames(stream([Text("Hel")]))
    assert events[-1]["error"]["type"] == "api_error"
    with pytest.raises(UpstreamDown):
        fold(message_events(), [Text("Hel")])


@pytest.mark.parametrize(
    ("failure", "status", "kind"),
    [
        (InvalidRequest("No.", param="tools"), 400, "invalid_request_error"),
        (Overloaded("Busy."), 529, "overloaded_error"),
        (CircuitOpen("Down."), 529, "overloaded_error"),
        (UpstreamTimeout("Late."), 504, "timeout_error"),
        (UpstreamDown("Gone."), 502, "api_error"),
        (GatewayError("Ours."), 500, "api_error"),
    ],
)
def test_errors_are_anthropics(failure: GatewayError, status: int, kind: str) -> None:
    body = error_body(failure, "req")
    assert (error_status(failure), read.error(json.dumps(body).encode())["type"]) == (status, kind)
    assert body["error"].get("details", {}).get("error_code") == failure.code
