"""OpenAI's invariants by their values: what compatible servers really send, byte for byte, and what the caller gets.

What every dialect has in common is in test_vendors_send.py.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from app import create_app
from config import Settings
from providers.common.tool_calls import ToolCallTracker
from providers.openai_compatible.passthrough import EXAMINED_FRAMES, Passthrough
from providers.transport.sse import Splitter
from tests.conftest import Served, environment, served
from tests.emulators import Connection, Received, Server
from tests.emulators.reply import Piece, Reply, play
from tests.support.frames import chat_body, chunks, completion, error, finish, payloads, streamed_calls, streamed_text

EMBEDDINGS = "/v1/embeddings"
HEAD = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
BODY = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
DONE = b"data: [DONE]\n\n"


class Says(Server):
    """An upstream that answers whatever is asked with these bytes."""

    def __init__(self) -> None:
        super().__init__(self._say)
        self.body, self.kind = b"", ""

    def _say(self, connection: Connection, _: Received) -> None:
        play(connection, Reply((Piece(self.body),), headers={"Content-Type": self.kind}, stream=True))


@pytest.fixture(scope="module")
def upstream() -> Iterator[Says]:
    with Says() as server:
        yield server


@pytest.fixture(scope="module")
def client(upstream: Says) -> Any:
    settings = {"LMSTUDIO_BASE_URL": f"{upstream.url}/v1", "GEMINI_BASE_URL": upstream.url, "GEMINI_API_KEY": "k"}
    values = environment(RETRIES=0, BREAKER_FAILURES=10_000, LOG_LEVEL="NONE", **settings)
    return create_app(Settings.load(values)).test_client()


@pytest.fixture(scope="module")
def app(upstream: Says, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log = tmp_path_factory.mktemp("served") / "log"
    settings = {"LMSTUDIO_BASE_URL": f"{upstream.url}/v1", "RETRIES": 0, "BREAKER_FAILURES": 10_000}
    with served(log, **settings) as started:
        yield started


def data(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def chunk(delta: Any, finish_reason: Any = None, **more: Any) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}], **more}


def calls(*deltas: Any, finish_reason: str = "tool_calls") -> list[dict[str, Any]]:
    return [*(chunk({"tool_calls": [each]}) for each in deltas), chunk({}, finish_reason)]


def whole(message: Any, finish_reason: Any = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}
    return {**BODY, "choices": [choice], "usage": USAGE, **more}


def stream_chat(client: Any, upstream: Says, *frames: Any, **body: Any) -> Any:
    """The response to a stream of these frames, with its end mark."""
    upstream.body, upstream.kind = b"".join(map(data, frames)) + DONE, "text/event-stream"
    return ask(client, stream=True, **body)


def in_one(client: Any, upstream: Says, answer: Any, **body: Any) -> Any:
    upstream.body, upstream.kind = json.dumps(answer).encode(), "application/json"
    return ask(client, **body)


def ask(client: Any, **body: Any) -> Any:
    asked = chat_body(**{"provider": "lmstudio", "model": "m", **body})
    return client.post("/v1/chat/completions", json=asked, buffered=True)


WORDS = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": f"{word} "}) for word in "abcd")]


# Which call a delta belongs to


@pytest.mark.parametrize(
    ("deltas", "wanted"),
    [
        ([{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}], [("f", {})]),
        ([{"index": 0, "id": "c1", "type": "function", "function": {"name": "f"}}], [("f", {})]),
        ([{"index": 0, "id": "c1", "function": {"name": "f", "arguments": None}}], [("f", {})]),
        ([{"index": 0, "id": "c1", "function": {"name": "f", "arguments": {"a": 1}}}], [("f", {"a": 1})]),
        ([{"index": 0, "id": "c1", "function": {"arguments": ""}},
          {"index": 0, "function": {"name": "f", "arguments": '{"a":1}'}}], [("f", {"a": 1})]),
        ([{"index": 0, "id": "c1", "function": {"name": "", "arguments": '{"a"'}},
          {"index": 0, "function": {"name": "f", "arguments": ":1}"}}], [("f", {"a": 1})]),
        ([{"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}},
          {"index": 1, "id": "c1", "function": {"name": "f", "arguments": '{"a":1}'}}], [("f", {"a": 1})]),
        ([{"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}},
          {"index": 1, "id": "c1", "function": {"arguments": '{"a":1}'}}], [("f", {"a": 1})]),
        ([{"index": 0, "id": "c1", "function": {"name": "f"}},
          {"index": 0, "function": {"name": "f", "arguments": '{"a"'}},
          {"index": 0, "function": {"name": "f", "arguments": ":1}"}}], [("f", {"a": 1})]),
        ([{"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a":1}'}},
          {"index": 0, "function": {"name": "f", "arguments": '{"a":2}'}}], [("f", {"a": 1}), ("f", {"a": 2})]),
        ([{"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a":1}'}},
          {"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a":1}'}}], [("f", {"a": 1})]),
        ([{"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}},
          {"index": 1, "id": "c1", "function": {"name": "g", "arguments": '{"a":1}'}}], [("f", {}), ("g", {"a": 1})]),
        ([{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}},
          {"index": 0, "function": {"arguments": '{"a":1}'}}], [("f", {"a": 1})]),
        ([{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
          {"index": 1, "id": "c2", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
         [("f", {"a": 1}), ("f", {"a": 1})]),
    ],
)  # fmt: skip
def test_one_delta_belongs_to_one_call(client: Any, upstream: Says, deltas: list[Any], wanted: Any) -> None:
    """Names come late or again, ids at two indices or not at all, arguments in any shape: each tool acts once."""
    response = stream_chat(client, upstream, chunk({"role": "assistant", "content": None}), *calls(*deltas))
    assert [(name, arguments) for _, name, arguments in streamed_calls(response.data)] == wanted
    assert finish(response.data) == "tool_calls"
    for choices in (chunk["choices"] for chunk in chunks(response.data)):
        for call in choices[0]["delta"].get("tool_calls") or ():
            assert isinstance(call["function"]["arguments"], str)


def test_a_call_that_gets_no_name_is_no_call(client: Any, upstream: Says) -> None:
    nameless = calls({"index": 0, "id": "c1", "function": {"arguments": "{}"}})
    assert stream_chat(client, upstream, *nameless).status_code == 502


def test_calls_are_found_in_time(client: Any) -> None:
    """Two thousand calls, and one of as many pieces, cost no time that grows with their square."""
    found = ToolCallTracker()
    for number in range(2000):
        found.take({"index": number, "id": f"c{number}", "function": {"name": "f", "arguments": ""}})
        found.take({"index": 0, "id": "c0", "function": {"arguments": '{"a": "' if not number else "x"}})
    assert len(found.opened) == 2000
    assert len(found.opened[0].arguments) == 2006


@pytest.mark.parametrize("arguments", [{"a": 1}, '{"a": 1}', '"{\\"a\\": 1}"'])
@pytest.mark.parametrize("beside", [{}, {"foreign": 1}], ids=["pure", "foreign"])
def test_whole_arguments_are_text(client: Any, upstream: Says, arguments: Any, beside: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    message = {"content": None, "refusal": None, "annotations": [], "tool_calls": [call]}
    answer = completion(in_one(client, upstream, whole(message, "tool_calls", **beside)).data)
    (made,) = answer["choices"][0]["message"]["tool_calls"]
    assert json.loads(made["function"]["arguments"]) == {"a": 1}
    assert made["id"] == "c1"


@pytest.mark.parametrize("function", [{"name": "f"}, {"name": "f", "arguments": ""}, {"name": "f", "arguments": None},
                                      {"name": "f", "arguments": "null"}])  # fmt: skip
def test_a_whole_call_without_arguments_has_an_empty_object(client: Any, upstream: Says, function: Any) -> None:
    message = {"content": None, "refusal": None, "annotations": [], "tool_calls": [{"id": "c1", "function": function}]}
    answer = completion(in_one(client, upstream, whole(message, None)).data)
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert answer["choices"][0]["finish_reason"] == "tool_calls"


# Frames that are not OpenAI's


ODD_ENDS = {
    "a null delta": [{**HEAD, "choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]}],
    "no delta": [{**HEAD, "choices": [{"index": 0, "finish_reason": "stop"}]}],
    "no choices": [chunk({}, "stop"), {**HEAD, "usage": USAGE}],
    "null choices": [chunk({}, "stop"), {**HEAD, "choices": None, "usage": USAGE}],
    "no object": [{key: value for key, value in chunk({}, "stop").items() if key not in ("object", "created")}],
    "another object": [chunk({}, "stop") | {"object": "chat.completion"}],
    "a null model": [chunk({}, "stop") | {"model": None}],
    "a time that is none": [chunk({}, "stop") | {"created": "now"}],
    "a fraction of a second": [chunk({}, "stop") | {"created": 1.5}],
    "a text for a usage": [chunk({}, "stop"), {**HEAD, "choices": [], "usage": "x"}],
    "a usage of texts": [chunk({}, "stop"), {**HEAD, "choices": [], "usage": {"prompt_tokens": "1"}}],
    "a negative index": [{**HEAD, "choices": [{"index": -1, "delta": {}, "finish_reason": "stop"}]}],
    "odd logprobs": [chunk({"content": ""}) | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop",
                                                            "logprobs": {"tokens": ["a"]}}]}],
    "a message for a delta": [{**HEAD, "choices": [{"index": 0, "message": {"content": "x"},
                                                    "finish_reason": "stop"}]}],
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_ENDS)
def test_what_goes_out_has_openais_shape(client: Any, upstream: Says, name: str) -> None:
    """openai-python reads choices and deltas without a look: AttributeError, TypeError."""
    options = {"stream_options": {"include_usage": True}}
    response = stream_chat(client, upstream, *WORDS, *ODD_ENDS[name], **options)
    assert (streamed_text(response.data), finish(response.data)) == ("a b c d ", "stop")


def test_a_whole_answer_in_one_frame(client: Any, upstream: Says) -> None:
    """Of a server that does not stream, but names its answer an event."""
    response = stream_chat(client, upstream, whole({"content": "Hi there."}))
    assert (streamed_text(response.data), finish(response.data)) == ("Hi there.", "stop")


@pytest.mark.parametrize("stream", [False, True])
def test_openais_package_takes_it(app: Served, upstream: Says, stream: bool) -> None:
    """The package's own reading, and its accumulation of a stream with calls."""
    frames = [chunk({"role": "assistant", "content": None}), *calls(
        {"index": 0, "id": "c1", "function": {"arguments": ""}},
        {"index": 0, "function": {"name": "get_time", "arguments": None}},
    ), {**HEAD, "choices": None, "usage": USAGE}]  # fmt: skip
    upstream.body, upstream.kind = b"".join(map(data, frames)) + DONE, "text/event-stream"
    tool: Any = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}
    asked: Any = {"model": "lmstudio/m", "messages": [{"role": "user", "content": "hi"}], "tools": [tool]}
    openai: OpenAI = app.client()
    with openai:
        if stream:
            with openai.chat.completions.stream(**asked) as events:
                answer = events.get_final_completion()
        else:
            answer = openai.chat.completions.create(**asked)
    (call,) = answer.choices[0].message.tool_calls or ()
    assert (call.id, call.type, call.function.name, call.function.arguments) == ("c1", "function", "get_time", "{}")
    assert answer.choices[0].finish_reason == "tool_calls"


# What passes as bytes has been looked at


@pytest.mark.parametrize(
    "content",
    [b"tru", b"123", b'"a\x01b"', b'"a\nb"', b'"\xff\xfe"', b'"\xed\xa0\xbd"', b'"a" "b"', b'"\\x"', b'"\\u12"', b'"a',
     b"{}", b'"a","b":"c"', b"[]", b'"\\ud83d"'],
)  # fmt: skip
@pytest.mark.parametrize("together", [True, False], ids=["one block", "each"])
def test_what_passes_is_json_in_utf8(content: bytes, together: bool) -> None:
    """After good frames, a block in their envelope passes unparsed: what stands in its place must be a JSON string."""
    good = [data(each) for each in WORDS]
    odd = data(json.dumps(chunk({"content": "@"})).encode().replace(b'"@"', content))
    passing = Passthrough("auto", include_reasoning=False, include_usage=False)
    for frame in good:
        list(passing.block(frame))
    assert len(good) > EXAMINED_FRAMES
    block = good[-1] + odd + good[-1] if together else odd
    try:
        events = list(passing.block(block))
    except ValueError:
        return
    assert odd not in b"".join(getattr(event, "data", b"") for event in events)


@pytest.mark.parametrize("padding", [b"a\nb", b"\xff", b'a"b', b"\x01"])
def test_padding_that_passes_is_text(padding: bytes) -> None:
    good = [data(each | {"obfuscation": "aB3"}) for each in WORDS]
    odd = good[-1].replace(b"aB3", padding)
    passing = Passthrough("auto", include_reasoning=False, include_usage=False)
    for frame in good:
        list(passing.block(frame))
    try:
        events = list(passing.block(good[-1] + odd))
    except ValueError:
        return
    assert odd not in b"".join(getattr(event, "data", b"") for event in events)


@pytest.mark.parametrize("content", [b"tru", b'"a\x01b"', b'"\xff\xfe"'])
def test_a_broken_frame_ends_with_an_error(client: Any, upstream: Says, content: bytes) -> None:
    odd = json.dumps(chunk({"content": "@"})).encode().replace(b'"@"', content)
    response = stream_chat(client, upstream, *WORDS, odd, *WORDS[1:], chunk({}, "stop"))
    *_, last = payloads(response.data) if response.status_code == 200 else [response.data.decode()]
    assert error(last.encode())["code"] == "upstream_error"


def test_a_number_is_told_as_a_text(client: Any, upstream: Says) -> None:
    response = stream_chat(client, upstream, *WORDS, chunk({"content": 123}), chunk({}, "stop"))
    assert streamed_text(response.data) == "a b c d 123"


# An upstream's excess


DEEP: Any = "x"
for _ in range(400):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "answer",
    [
        whole({"content": "Hi"}, created=10**30),
        whole({"content": "Hi"}, usage={**USAGE, "prompt_tokens": 10**30}),
        whole({"content": "Hi"}, usage={**USAGE, "prompt_tokens": 2**64 - 1}),
        {"error": {"message": DEEP}},
        {"error": DEEP},
        {"error": {"message": "x", "code": 429, "details": DEEP}},
        whole({"content": {"a": DEEP}}),
        whole({"content": "Hi"}, DEEP, choices=[]),
    ],
    ids=["created", "usage", "usage beside 64 bits", "message", "error", "details", "content", "no choices"],
)
def test_excess_is_the_upstreams_fault(client: Any, upstream: Says, answer: Any) -> None:
    """Never a 500. In a stream a usage comes behind the finish, where it spoils nothing."""
    status = 429 if "'code'" in str(answer)[:60] else 502
    assert in_one(client, upstream, answer).status_code == status
    response = stream_chat(client, upstream, answer)
    if response.status_code == 200:
        assert (streamed_text(response.data), b"usage" in response.data) == ("Hi", False)
    else:
        assert response.status_code == status


def test_logprobs_nested_too_deeply_are_the_upstreams_fault(client: Any, upstream: Says) -> None:
    answer = whole({"content": "Hi"})
    answer["choices"][0]["logprobs"] = {"content": [DEEP], "foreign": None}
    assert completion(in_one(client, upstream, answer).data)["choices"][0]["logprobs"] is None
    entry = {"token": "Hi", "logprob": 0, "bytes": DEEP, "top_logprobs": []}
    answer["choices"][0]["logprobs"] = {"content": [entry]}
    answer["foreign"] = 1
    assert error(in_one(client, upstream, answer).data)["code"] == "upstream_error"


# Carriage returns


def test_frames_that_end_by_carriage_returns_are_not_late() -> None:
    splitter = Splitter()
    assert splitter.feed(b"data: a\r\r") == b"data: a\n\n"
    assert splitter.feed(b"data: b\r\n\r") == b"data: b\n\n"
    assert splitter.feed(b"\ndata: c\r\r") == b"data: c\n\n"


# JSON that others write


@pytest.mark.parametrize(
    ("raw", "heard"),
    [
        (b'"hi \\ud83d there"', "hi \ufffd there"),
        (b'"\\ude00"', "\ufffd"),
        (b'"\\ud83d\\ude00 \\\\ud83d"', "😀 \\ud83d"),
        (b'"\\uD83D\\n"', "\ufffd\n"),
    ],
)
def test_requests_with_halves_of_pairs_are_read(client: Any, upstream: Says, raw: bytes, heard: str) -> None:
    upstream.body, upstream.kind = json.dumps(whole({"content": "ok"})).encode(), "application/json"
    body = json.dumps(chat_body("@", provider="lmstudio", model="m")).encode().replace(b'"@"', raw)
    assert client.post("/v1/chat/completions", data=body).status_code == 200
    assert upstream.received[-1].json["messages"][0]["content"] == heard


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"1e999"])
def test_numbers_that_are_none_are_read_where_they_do_no_harm(client: Any, upstream: Says, number: bytes) -> None:
    upstream.body, upstream.kind = json.dumps(whole({"content": "ok"})).encode(), "application/json"
    schema = {"type": "object", "properties": {"a": {"type": "number", "default": "@"}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    for body, status in ((chat_body(tools=tools), 200), (chat_body(temperature="@"), 400)):
        raw = json.dumps({**body, "provider": "lmstudio", "model": "m"}).encode().replace(b'"@"', number)
        response = client.post("/v1/chat/completions", data=raw)
        assert response.status_code == status, response.data
    assert error(response.data)["param"] == "temperature"


@pytest.mark.parametrize("stream", [False, True])
def test_answers_with_numbers_that_are_none(client: Any, upstream: Says, stream: bool) -> None:
    usage = b'{"prompt_tokens":NaN,"completion_tokens":2,"total_tokens":Infinity}'
    upstream.body = json.dumps(whole({"content": "Hi"}, usage="@")).encode().replace(b'"@"', usage)
    upstream.kind = "application/json"
    assert completion(ask(client).data)["usage"]["total_tokens"] == 2


# Embeddings


@pytest.mark.parametrize(
    "rows",
    [
        [{"embedding": [0.5]}, {"embedding": [1.5]}],
        [{"index": 1, "embedding": [1.5]}, {"index": 0, "embedding": [0.5]}],
        [{"index": None, "embedding": [0.5]}, {"index": None, "embedding": [1.5]}],
        [{"index": 0, "embedding": [0.5]}, {"index": 0, "embedding": [1.5]}],
    ],
)
@pytest.mark.parametrize("usage", [{}, {"usage": None}, {"usage": {"prompt_tokens": None}}, {"usage": {}}], ids=str)
def test_embeddings_without_indices_and_usage(client: Any, upstream: Says, rows: Any, usage: Any) -> None:
    upstream.body, upstream.kind = json.dumps({"object": "list", "data": rows, **usage}).encode(), "application/json"
    asked = {"input": ["a", "b"], "model": "m", "provider": "lmstudio", "encoding_format": "base64"}
    response = client.post(EMBEDDINGS, json=asked)
    assert response.status_code == 200, response.data
    assert [row["embedding"] for row in response.json["data"]] == ["AAAAPw==", "AADAPw=="]
    assert response.json["usage"] == {"prompt_tokens": 0, "total_tokens": 0}
    assert upstream.received[-1].json["encoding_format"] == "float"


# Pictures


PICTURE = "data:image/png;base64,iVBORw0KGgo="
PARTS = [{"type": "text", "text": "Here."}, {"type": "image_url", "image_url": {"url": PICTURE}}]
IMAGES = [{"type": "image_url", "image_url": {"url": PICTURE}}]


def gemini(*parts: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": [*parts]}, "finishReason": "STOP"}
    return {"candidates": [candidate], "usageMetadata": {"candidatesTokenCount": 1290}}


BLOB = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}


def request_image(client: Any, upstream: Says, provider: str, text: str, stream: bool, **body: Any) -> Any:
    if provider == "gemini":
        answer = gemini(*([{"text": text}] if text else []), BLOB)
        upstream.body = data(answer) if stream else json.dumps(answer).encode()
    else:
        said = {"content": text, "images": IMAGES}
        first = chunk({"role": "assistant", **said})
        upstream.body = data(first) + data(chunk({}, "stop")) if stream else json.dumps(whole(said)).encode()
    upstream.kind = "text/event-stream" if stream else "application/json"
    return ask(client, provider=provider, model="gemini-2.5-flash-image", stream=stream, **body)


both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
drawers = pytest.mark.parametrize("provider", ["gemini", "lmstudio"])


@both
@drawers
@pytest.mark.parametrize("text", ["", "Here."])
def test_pictures_come_where_they_are_asked_for(
    client: Any, upstream: Says, provider: str, text: str, stream: bool
) -> None:
    """In OpenRouter's shape: OpenAI's has no place for them."""
    response = request_image(client, upstream, provider, text, stream, modalities=["text", "image"])
    if stream:
        found = [json.loads(each)["choices"][0]["delta"] for each in payloads(response.data)]
        assert [each["images"] for each in found if "images" in each] == [IMAGES]
        assert "".join(each.get("content") or "" for each in found) == text
    else:
        message = completion(response.data)["choices"][0]["message"]
        assert (message["content"], message["images"]) == (text, IMAGES)
    if provider == "gemini":
        assert upstream.received[-1].json["generationConfig"]["responseModalities"] == ["TEXT", "IMAGE"]


@both
@drawers
def test_a_picture_beside_a_text_that_nobody_asked_for_is_left_out(
    client: Any, upstream: Says, provider: str, stream: bool
) -> None:
    response = request_image(client, upstream, provider, "Here.", stream)
    text = streamed_text(response.data) if stream else completion(response.data)["choices"][0]["message"]["content"]
    assert text == "Here."
    assert b"images" not in response.data


@both
def test_pictures_among_the_parts_of_a_content(client: Any, upstream: Says, stream: bool) -> None:
    if stream:
        response = stream_chat(client, upstream, chunk({"content": PARTS}), chunk({}, "stop"), modalities=["image"])
        found = [json.loads(each)["choices"][0]["delta"] for each in payloads(response.data)]
        assert [each["images"] for each in found if "images" in each] == [IMAGES]
    else:
        answer = completion(in_one(client, upstream, whole({"content": PARTS}), modalities=["image"]).data)
        assert answer["choices"][0]["message"]["content"] == "Here."
        assert answer["choices"][0]["message"]["images"] == IMAGES


@both
def test_a_picture_alone_among_the_parts_is_an_error(client: Any, upstream: Says, stream: bool) -> None:
    if stream:
        response = stream_chat(client, upstream, chunk({"content": PARTS[1:]}), chunk({}, "stop"))
    else:
        response = in_one(client, upstream, whole({"content": PARTS[1:]}))
    assert (response.status_code, error(response.data)["param"]) == (400, "modalities")


@both
@drawers
def test_a_picture_alone_that_nobody_asked_for_is_an_error(
    client: Any, upstream: Says, provider: str, stream: bool
) -> None:
    response = request_image(client, upstream, provider, "", stream)
    assert (response.status_code, error(response.data)["param"]) == (400, "modalities")
