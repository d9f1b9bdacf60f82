"""What vendors really send, in every dialect, streamed and whole: the caller gets what OpenAI would have sent.

A new dialect meets it all by its row of tests/emulators/dialects.py.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import until
from tests.dialects.test_dialects import DialectClient, dialect_client, received_answer
from tests.emulators import ODD_FRAMES, Call, Fault, ScriptedAnswer, cases
from tests.emulators.answers import TEXTS
from tests.emulators.dialects import DIALECTS
from tests.support.conversations import TIME, WEATHER
from tests.support.frames import chunks, completion, error, finish, payloads, streamed_calls, streamed_text

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture(scope="module", params=DIALECTS, ids=str)
def client(request: pytest.FixtureRequest) -> Iterator[DialectClient]:
    with dialect_client(request.param) as made:
        yield made


def post_scripted(client: DialectClient, answer: ScriptedAnswer, stream: bool, **body: Any) -> Any:
    client.upstream.always(answer)
    response = client.ask(body, stream)
    client.upstream.always(ScriptedAnswer())
    return response


@cases(ODD_FRAMES)
def test_odd_frames_cost_nothing(client: DialectClient, fault: Fault, stream: bool) -> None:
    """A frame that says nothing ends nothing, and what comes is read, whatever was asked for."""
    response = post_scripted(client, ScriptedAnswer(fault=fault), stream)
    until(lambda: client.upstream.open_connections() <= 1, "the connections to be closed or kept")
    client.upstream.refuse()
    client.upstream.listen()
    assert response.status_code == 200, response.data
    if stream:
        assert (streamed_text(response.data), finish(response.data)) == ("".join(TEXTS), "stop")
    else:
        choice = completion(response.data)["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("".join(TEXTS), "stop")


@both
@pytest.mark.parametrize(
    ("word", "ours"),
    [
        ("STOP", "stop"), ("Stop", "stop"), ("END_TURN", "stop"), ("endTurn", "stop"), ("eos", "stop"),
        ("EOS_TOKEN", "stop"), ("complete", "stop"), ("a_word_of_next_year", "stop"), ("MAX_TOKENS", "length"),
        ("max-tokens", "length"), ("Length", "length"), ("model_length", "length"), ("sensitive", "content_filter"),
        ("SAFETY", "content_filter"), ("Content_Filter", "content_filter"),
        ("error", None), ("ABORT", None), ("network_error", None), ("cancelled", None), ("OTHER", None),
    ],
)  # fmt: skip
def test_why_it_ended(client: DialectClient, word: str, ours: str | None, stream: bool) -> None:
    """One table of words for all, without case; what nobody knows costs no text, what means a failure is one."""
    response = post_scripted(client, ScriptedAnswer(texts=["Hi", " there."], finish_reason=word), stream)
    if ours is not None:
        found = received_answer(response, stream)
        assert (found.text, found.finish) == ("Hi there.", ours)
    elif response.status_code == 200:
        *before, last = payloads(response.data)
        assert '"finish_reason":"' not in "".join(before)
        assert error(last.encode())["code"] == "upstream_error"
    else:
        assert (response.status_code, error(response.data)["code"]) == (502, "upstream_error")


@both
@pytest.mark.parametrize("word", ["TOOL_CALLS", "tool_use", "Stop", "function_call", "a_word_of_next_year"])
def test_calls_end_with_tool_calls(client: DialectClient, word: str, stream: bool) -> None:
    answer = ScriptedAnswer(calls=[Call("c1", "get_weather", ['{"city": ', '"x"}'])], finish_reason=word)
    response = post_scripted(client, answer, stream, tools=[WEATHER])
    assert received_answer(response, stream).finish == "tool_calls"


@both
@pytest.mark.parametrize("word", ["tool_calls", "TOOL_USE"])
def test_without_calls_nothing_ends_with_tool_calls(client: DialectClient, word: str, stream: bool) -> None:
    """A client would wait for the call that it is told of."""
    assert (
        received_answer(post_scripted(client, ScriptedAnswer(texts=["Hi"], finish_reason=word), stream), stream).finish
        == "stop"
    )


@both
@pytest.mark.parametrize(
    ("pieces", "object_"),
    [
        ([""], {}), (["null"], {}), (["nu", "ll"], {}), ([" "], {}), (["{", "}"], {}), (["{}"], {}), (["[]"], {}),
        (['"{\\"a\\": 1}"'], {"a": 1}), (['"{\\"a', '\\": 1}"'], {"a": 1}), (["[1]"], {"_raw": "[1]"}),
        (["{", '"a": 1}'], {"a": 1}), ([" \n", ' {"a": 1}'], {"a": 1}),
    ],
    ids=repr,
)  # fmt: skip
def test_arguments_are_the_text_of_an_object(
    client: DialectClient, pieces: list[str], object_: Any, stream: bool
) -> None:
    """OpenAI always sends one, "{}" at least: clients parse it without a look, and drop what is none."""
    answer = ScriptedAnswer(calls=[Call("c1", "get_weather", pieces), Call("c2", "get_time", ['{"b": 2}'])])
    response = post_scripted(client, answer, stream, tools=[WEATHER, TIME])
    calls = (
        [(name, arguments) for _, name, arguments in streamed_calls(response.data)]
        if stream
        else [
            (call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in completion(response.data)["choices"][0]["message"]["tool_calls"]
        ]
    )
    assert calls[1] == ("get_time", {"b": 2})
    assert calls[0][1] == object_ or json.loads(calls[0][1]["_raw"]) == json.loads(object_["_raw"])


@both
@pytest.mark.parametrize(
    ("texts", "heard"),
    [
        (["a\ud83d", "\ude00b"], "a😀b"),
        (["\ud83d", "\ude00", "!"], "😀!"),
        (["a\ud83d", "b"], "a\ufffdb"),
        (["a\ude00b"], "a\ufffdb"),
        (["a", "b\ud83d"], "ab\ufffd"),
        (["one ", "two ", "three ", "four ", "\ud83d", "\ude00"], "one two three four 😀"),
    ],
)
def test_halves_of_surrogate_pairs(client: DialectClient, texts: list[str], heard: str, stream: bool) -> None:
    """JSON.stringify and json.dumps write them as escapes, and cut text anywhere: RFC 8259, section 8.2."""
    assert received_answer(post_scripted(client, ScriptedAnswer(texts=texts), stream), stream).text == heard


@both
def test_halves_in_a_calls_arguments(client: DialectClient, stream: bool) -> None:
    answer = ScriptedAnswer(calls=[Call("c1", "get_weather", ['{"city": "a\ud83d', '\ude00"}'])])
    response = post_scripted(client, answer, stream, tools=[WEATHER])
    assert received_answer(response, stream).calls == (("get_weather", {"city": "a😀"}),)


@both
def test_every_message_has_what_openais_has(client: DialectClient, stream: bool) -> None:
    response = post_scripted(client, ScriptedAnswer(), stream)
    if stream:
        assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks(response.data))
        assert (streamed_text(response.data), finish(response.data)) == ("".join(TEXTS), "stop")
    else:
        message = completion(response.data)["choices"][0]["message"]
        assert (message["role"], message["refusal"], message["annotations"]) == ("assistant", None, [])
