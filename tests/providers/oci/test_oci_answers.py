"""What OCI says, as recorded of each family (wire shapes: opentelemetry's oci_genai cassettes, Elasticsearch's and
langchain-oracle's tests), read into events. Pure: no socket.
"""

import json
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from core.errors import ContextTooLong, GatewayError, UnknownModel, UpstreamAuthFailed, UpstreamRejected
from core.events import Citation, Event, Finish, Reasoning, Text, ToolArguments, ToolCall, Usage
from providers.oci.chat import answers
from providers.oci.chat.calls_in_text import calls_in_text
from providers.oci.errors import oci_error, oci_error_in_body
from providers.oci.provider import styles
from providers.openai_compatible.decode import ChunkDecoder, ErrorFrame, events_of_body, reason_of
from schemas.chat.encode import ChunkEncoder
from tests.support.frames import finish, streamed_calls, streamed_text

STYLES = styles(4000)
USAGE = {"completionTokens": 8, "promptTokens": 41, "totalTokens": 49}
ALSO = {
    "completionTokensDetails": {"reasoningTokens": 3},
    "promptTokensDetails": {"cachedTokens": 5},
}


def read(style: str, said_: Iterable[dict[str, Any]], choices: int = 1) -> list[Event]:
    """The events of a stream's events."""
    reader, once = ChunkDecoder(choices), answers.RepeatFilter(repeats=STYLES[style].repeats, plans=STYLES[style].plans)
    frames = [json.dumps({**each, "pad": "aaaa"}).encode() for each in said_]
    return [
        event
        for data in frames
        for event in reader.events(once(STYLES[style].chunk(answers.check_event(json.loads(data)))))
    ]


def whole(style: str, response: dict[str, Any]) -> list[Event]:
    return list(events_of_body(STYLES[style].body(response)))


def stream(events: Iterable[Event]) -> bytes:
    """What a caller sees of it."""
    encoder = ChunkEncoder("m")
    return b"".join([encoder.encode(event) for event in events]) + encoder.end()


def words(*texts: str) -> Iterator[dict[str, Any]]:
    for text in texts:
        yield {"index": 0, "message": {"role": "ASSISTANT", "content": [{"type": "TEXT", "text": text}]}}


def calls(*each: dict[str, Any], **more: Any) -> dict[str, Any]:
    typed = [{"type": "FUNCTION", **call} for call in each]
    return {"index": 0, "message": {"role": "ASSISTANT", "toolCalls": typed}, **more}


END = {"message": {"role": "ASSISTANT", "content": [{"type": "TEXT", "text": ""}]}, "finishReason": "stop"}


def test_generic_text_and_its_usage_behind() -> None:
    found = read("GENERIC", [*words("Hel", "lo"), END, {"usage": {**USAGE, **ALSO}}])
    assert found == [Text("Hel"), Text("lo"), Finish("stop"), Usage(41, 8, 5, 3)]


def test_content_may_be_a_text() -> None:
    message = {"message": {"role": "ASSISTANT", "content": "Hi"}, "finishReason": "stop"}
    assert read("GENERIC", [message]) == read("COHEREV2", [message]) == [Text("Hi"), Finish("stop")]


def test_generic_thinking_citations_and_refusals() -> None:
    cited = {"type": "url_citation", "urlCitation": {"startIndex": 0, "endIndex": 2, "title": "t", "url": "https://u"}}
    found = read(
        "GENERIC",
        [
            {"index": 0, "message": {"role": "ASSISTANT", "reasoningContent": "hmm"}},
            {"index": 0, "message": {"role": "ASSISTANT", "content": None, "annotations": [cited]}},
            END,
        ],
    )
    assert found == [Reasoning("hmm"), Citation("https://u", "t", 0, 2), Finish("stop")]


def test_several_answers_end_each_for_itself() -> None:
    one, two = (
        {"index": index, "message": {"content": [{"type": "TEXT", "text": text}]}, "finishReason": "length"}
        for index, text in enumerate("ab")
    )
    assert read("GENERIC", [one, two], 2) == [Text("a"), Finish("length"), Text("b", 1), Finish("length", 1)]
    assert read("GENERIC", [{"choices": [one, two]}], 2) == read("GENERIC", [one, two], 2)


OPENAI = [  # fragments without ids, and every call at the first position, one after another
    calls({"id": "c1", "name": "f", "arguments": ""}),
    calls({"arguments": '{"a"'}),
    calls({"arguments": ":1}"}),
    calls({"id": "c2", "name": "f", "arguments": ""}),
    calls({"arguments": '{"a":2}'}),
    {"message": {"role": "ASSISTANT"}, "finishReason": "tool_calls"},
]
META = [  # the id is on each fragment
    calls({"id": "c1", "name": "f", "arguments": ""}),
    calls({"id": "c1", "arguments": '{"a":'}),
    calls({"id": "c1", "arguments": "1}"}),
    calls({"id": "c2", "name": "f", "arguments": '{"a":'}),
    calls({"id": "c2", "arguments": "2}"}, finishReason="tool_calls"),
]
XAI = [calls({"id": f"c{a}", "name": "f", "arguments": f'{{"a":{a}}}'}) for a in (1, 2)] + [END]
GOOGLE = [calls({"name": "f", "arguments": f'{{"a":{a}}}'}) for a in (1, 2)] + [END]
TOGETHER = [calls(*({"id": f"c{a}", "name": "f", "arguments": f'{{"a":{a}}}'} for a in (1, 2)), finishReason="stop")]
AGAIN = [*XAI[:2], calls({"id": "c1", "name": "f", "arguments": '{"a": 1}'}, finishReason="tool_calls")]


@pytest.mark.parametrize(
    "events", [OPENAI, META, XAI, GOOGLE, TOGETHER, AGAIN], ids=["openai", "meta", "xai", "google", "together", "again"]
)
def test_the_calls_of_each_family(events: list[dict[str, Any]]) -> None:
    """Dense indices, ids that are there and unique, arguments that are JSON, the right end."""
    data = stream(read("GENERIC", events))
    found = streamed_calls(data)
    assert [(name, arguments) for _, name, arguments in found] == [("f", {"a": 1}), ("f", {"a": 2})]
    assert len({identifier for identifier, *_ in found}) == 2
    assert finish(data) == "tool_calls"


COHERE = [{"apiFormat": "COHERE", "text": text} for text in ("Hi", " there")]


@pytest.mark.parametrize("last", ["Hi there", "Hi there ", "", "Hi there!"])
def test_cohere_says_it_once(last: str) -> None:
    """The last event has the whole text again; what is new in it is still said."""
    done = {"apiFormat": "COHERE", "text": last, "chatHistory": [], "finishReason": "COMPLETE", "usage": USAGE}
    found = read("COHERE", [*COHERE, done])
    new = [Text(last[8:])] if last[8:] else []
    assert found == [Text("Hi"), Text(" there"), *new, Finish("stop"), Usage(41, 8)]


def test_cohere_says_it_at_least_once() -> None:
    """An answer in one event is no repetition. What it says beside its calls is the plan to make them."""
    call = {"name": "f", "parameters": {"a": 1}}
    done = {"apiFormat": "COHERE", "text": "Hi", "finishReason": "COMPLETE", "toolCalls": [call]}
    found = read("COHERE", [done])
    assert [type(event) for event in found] == [Reasoning, ToolCall, ToolArguments, Finish]


@pytest.mark.parametrize("together", [True, False])
def test_coheres_plan_is_kept_back_where_that_costs_no_delay(together: bool) -> None:
    """In a stream its words come before it calls, and waiting for that would make every answer late."""
    call = {"name": "f", "parameters": {"a": 1}}
    plan = "I will use f."
    events: list[Any] = [{"apiFormat": "COHERE", "text": plan}, {"apiFormat": "COHERE", "toolCalls": [call]}]
    events = [{**events[0], **events[1]}] if together else events
    done = {"apiFormat": "COHERE", "text": plan, "finishReason": "COMPLETE", "toolCalls": [call]}
    found = read("COHERE", [*events, done])
    assert found[0] == (Reasoning(plan) if together else Text(plan))
    assert [type(event) for event in found[1:]] == [ToolCall, ToolArguments, Finish]


def test_cohere_calls_once_each() -> None:
    """COMPLETE beside calls is tool_calls; two calls that are the same are two."""
    one, two = {"name": "f", "parameters": {"a": 1}}, {"name": "f", "parameters": {"b": {"c": [2]}}}
    for made in ([one], [one, two], [one, one]):
        apart = [{"apiFormat": "COHERE", "toolCalls": [call]} for call in made]
        together = [{"apiFormat": "COHERE", "toolCalls": made}]
        done = {"apiFormat": "COHERE", "text": "", "finishReason": "COMPLETE", "toolCalls": made}
        for events in (apart, together, []):
            data = stream(read("COHERE", [*events, done]))
            assert [arguments for *_, arguments in streamed_calls(data)] == [call["parameters"] for call in made]
            assert finish(data) == "tool_calls"


def test_v2_in_its_shape() -> None:
    def message(**more: Any) -> dict[str, Any]:
        return {"apiFormat": "COHEREV2", "message": {"role": "ASSISTANT", **more}}

    call = {"id": "c1", "type": "FUNCTION", "function": {"name": "f", "arguments": '{"a":1}'}}
    found = read(
        "COHEREV2",
        [
            message(content=[{"type": "THINKING", "thinking": "hmm"}]),
            message(content=[{"type": "TEXT", "text": "Hi"}]),
            message(toolPlan="I ask."),
            message(toolCalls=[call]),
            {**message(toolCalls=[call]), "finishReason": "TOOL_CALL", "usage": USAGE},
        ],
    )
    assert found == [
        Reasoning("hmm"),
        Text("Hi"),
        Reasoning("I ask."),
        ToolCall(0, "f", "c1"),
        ToolArguments(0, '{"a":1}'),
        Finish("tool_calls"),
        Usage(41, 8),
    ]


def test_whole_answers() -> None:
    call = {"id": "c1", "type": "FUNCTION", "name": "f", "arguments": "{}"}
    message = {"role": "ASSISTANT", "content": [{"type": "TEXT", "text": "Hi"}], "toolCalls": [call]}
    generic = {"choices": [{"index": 0, "message": message, "finishReason": "tool_calls"}], "usage": USAGE}
    cohere = {"text": "Hi", "toolCalls": [{"name": "f", "parameters": {}}], "finishReason": "COMPLETE", "usage": USAGE}
    v2 = {"message": {"content": message["content"], "toolCalls": []}, "finishReason": "MAX_TOKENS"}
    assert [type(each) for each in whole("GENERIC", generic)][1:] == [Text, ToolCall, ToolArguments, Finish, Usage]
    assert [type(each) for each in whole("COHERE", cohere)][1:] == [Reasoning, ToolCall, ToolArguments, Finish, Usage]
    assert whole("COHEREV2", v2)[1:] == [Text("Hi"), Finish("length")]


def test_chances_of_tokens() -> None:
    given = {"tokens": ["Hi"], "tokenLogprobs": [-0.5], "topLogprobs": [{"Hi": "-0.5", "Ho": "-2"}], "textOffset": [0]}
    message = {"content": [{"type": "TEXT", "text": "Hi"}]}
    (event,) = read("GENERIC", [{"index": 0, "message": message, "logprobs": given}])
    assert isinstance(event, Text)
    (entry,) = (event.logprobs or {})["content"]
    assert (entry["token"], entry["logprob"], entry["bytes"]) == ("Hi", -0.5, [72, 105])
    assert [(each["token"], each["logprob"]) for each in entry["top_logprobs"]] == [("Hi", -0.5), ("Ho", -2.0)]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("COMPLETE", "stop"),
        ("STOP_SEQUENCE", "stop"),
        ("end", "stop"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("ERROR_LIMIT", "length"),
        ("TOOL_CALL", "tool_calls"),
        ("content_filter", "content_filter"),
        ("ERROR_TOXIC", "content_filter"),
        ("RECITATION", "content_filter"),
        ("UNKNOWN_ENUM_VALUE", "stop"),
    ],
)
def test_ends(theirs: str, ours: str) -> None:
    """The vendor's COMPLETE never leaks, and the reason is not `stop` for everything."""
    assert reason_of(answers.finish_reason(theirs), has_content=True) == ours


@pytest.mark.parametrize("reason", ["ERROR", "USER_CANCEL", "UNKNOWN_ENUM_VALUE"])
def test_ends_that_are_failures(reason: str) -> None:
    """A word that nobody knows is one where nothing was said before it."""
    with pytest.raises(ErrorFrame):
        reason_of(answers.finish_reason(reason), has_content=False)


@pytest.mark.parametrize("code", ["429", "TooManyRequests"])
def test_an_error_in_a_stream(code: str) -> None:
    with pytest.raises(ErrorFrame) as caught:
        answers.check_event({"code": code, "message": "too many"})
    assert caught.value.error["code"] == "429"


# errors


def error_for(status: int, body: Any, about: str = "has no such model.") -> GatewayError:
    return oci_error("oci", about, status, {"opc-request-id": "R1"}, json.dumps(body).encode())


@pytest.mark.parametrize("code", ["400", "InvalidParameter"])
def test_a_refused_request(code: str) -> None:
    error = error_for(400, {"code": code, "message": "Please pass in correct format of request."})
    assert isinstance(error, UpstreamRejected)
    assert (error.status, error.code) == (400, None)
    assert "Please pass in correct format" in error.message
    assert "opc-request-id R1" in error.log


def test_an_error_of_the_models_own_vendor_is_unwrapped() -> None:
    inner = {"error": {"message": "Unsupported value.", "param": "temperature", "code": "unsupported_value"}}
    for message in (json.dumps(inner), f"Error from the model: {json.dumps(inner)}"):
        error = error_for(400, {"code": "400", "message": message})
        assert (error.param, error.code) == ("temperature", "unsupported_value")
        assert error.message == "oci refused the request: Unsupported value."
        late = oci_error_in_body("oci", {"code": "400", "message": message})
        assert (late.param, late.code, late.message) == (error.param, error.code, error.message)
    long = {"error": {"message": "Too long.", "param": "messages", "code": "context_length_exceeded"}}
    assert isinstance(error_for(400, {"code": "400", "message": json.dumps(long)}), ContextTooLong)


def test_other_failures() -> None:
    refused = error_for(401, {"code": "NotAuthenticated", "message": "The required information was not provided"})
    assert isinstance(refused, UpstreamAuthFailed)
    assert refused.status == 502
    assert "AUTH_TYPE" in refused.message
    missing = error_for(404, {"code": "404", "message": "Entity with key xai.grok-9 not found"})
    assert isinstance(missing, UnknownModel)
    assert missing.message == "oci has no such model."
    lump = {"code": "ExternalServerIncorrectState", "message": "The server did not stream."}
    assert error_for(409, lump).status == 502
    assert "stream_by" in error_for(409, lump).message
    words_ = "too many tokens: size limit exceeded by 1234 tokens."
    assert isinstance(error_for(400, {"code": "400", "message": words_}), ContextTooLong)


# calls that are written


def decode(*pieces: str) -> list[Event]:
    return list(calls_in_text([*(Text(piece) for piece in pieces), Finish("stop")]))


WRITTEN = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_calls_in_the_text(size: int) -> None:
    text = f"Well. {WRITTEN}\n{WRITTEN}\n"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    data = stream(decode(*pieces))
    assert streamed_text(data) == "Well. "
    assert [(name, arguments) for _, name, arguments in streamed_calls(data)] == [("f", {"a": 1})] * 2
    assert finish(data) == "tool_calls"


@pytest.mark.parametrize("text", ["a < b", "see <tool", "<tool_call>never closed", "<tool_call>no JSON</tool_call>"])
def test_what_only_looks_like_a_call_is_text(text: str) -> None:
    for pieces in ([text], list(text)):
        data = stream(decode(*pieces))
        assert streamed_text(data) == text
        assert finish(data) == "stop"


def test_text_is_not_held_back() -> None:
    """Only what may still become a call waits."""
    events = calls_in_text(iter([Text("a <b> "), Text("c<"), Text("d")]))
    assert [event.text for event in events if isinstance(event, Text)] == ["a <b> ", "c", "<d"]


def test_a_long_answer_takes_little_more_memory_than_its_text() -> None:
    """What is kept to find a repetition at the end: a worker has hundreds of answers under way."""
    once, pieces = answers.RepeatFilter(repeats=False), 20_000
    tracemalloc.start()
    for number in range(pieces):
        once.note_text(0, f"word {number:05} ")
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 2 * pieces * len("word 00000 ")
    whole = "".join(f"word {number:05} " for number in range(pieces))
    chunk = {"choices": [{"index": 0, "delta": {"content": whole}, "finish_reason": "stop"}]}
    assert once(chunk)["choices"][0]["delta"]["content"] == ""
