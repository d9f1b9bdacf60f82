"""Whatever is sent, the answer is OpenAI's error object with a 4xx: never a 500, never HTML, never silence."""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai import APIStatusError, BadRequestError, NotFoundError

from app import create_app
from config import Settings
from tests.conftest import EVER, Served, environment, served
from tests.emulators import OpenAIUpstream
from tests.support.frames import chat_body, completion, post
from tests.support.http import HI, assert_error, exchange, head, openai_error

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
BOTH = pytest.mark.parametrize("path", [CHAT, EMBEDDINGS])
LIMIT = 20_971_520

NO_JSON = {
    "empty": b"",
    "spaces": b"  \r\n",
    "words": b"hello",
    "a form": b"model=x&messages=hi",
    "half": b'{"messages": [{"role": "user", "content": "hi"}',
    "single quotes": b"{'messages': []}",
    "a comma too many": b'{"messages": [],}',
    "invalid UTF-8": b'{"messages": [{"role": "user", "content": "\xff\xfe"}], "input": "\xff"}',
    "half a character": b'{"messages": [{"role": "user", "content": "\xc3"}], "input": "\xc3"}',
    "UTF-16": '{"messages": []}'.encode("utf-16"),
    "a NUL": b'{"messages": []}\0',
    "a bare line feed in a string": b'{"input": "a\nb", "messages": []}',
    "two values": b"{}{}",
    "deep lists": b"[" * 10_000 + b"]" * 10_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "deep and open": b'{"messages":' + b"[" * 10_000,
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
}
NO_OBJECT = [b"null", b"true", b"1", b'"text"', b"[]", b"[{}]", b"-0.5"]

NO_STRING = [1, True, [], {}, ["a"]]
NO_NUMBER = ["1", True, [], {}, "high"]
NO_WHOLE = [*NO_NUMBER, 1.5]
NO_TRUTH = ["true", 1, 0, [], {}]
NO_LIST = ["a", 1, True, {}]
NO_OBJECTS = ["a", 1, True, [], [1]]
WRONG: dict[str, list[Any]] = {
    "model": NO_STRING,
    "messages": [*NO_LIST, [], ["a"], [1], [[]], [None]],
    "stream": NO_TRUTH,
    "stream_options": NO_OBJECTS,
    "temperature": NO_NUMBER,
    "top_p": NO_NUMBER,
    "n": [*NO_WHOLE, 0, -1, 129, 10**30],
    "stop": [1, True, {}, [1], ["a", None], [["a"]]],
    "max_tokens": NO_WHOLE,
    "max_completion_tokens": NO_WHOLE,
    "frequency_penalty": NO_NUMBER,
    "presence_penalty": NO_NUMBER,
    "seed": NO_WHOLE,
    "logprobs": NO_TRUTH,
    "top_logprobs": NO_WHOLE,
    "logit_bias": NO_OBJECTS,
    "tools": [*NO_LIST, [1], ["a"], [None], [[]]],
    "tool_choice": [1, True, []],
    "parallel_tool_calls": NO_TRUTH,
    "functions": [*NO_LIST, [1], ["a"], [None]],
    "function_call": [1, True, []],
    "response_format": NO_OBJECTS,
    "reasoning_effort": NO_STRING,
    "verbosity": NO_STRING,
    "modalities": [*NO_LIST, [1]],
    "metadata": NO_OBJECTS,
    "user": NO_STRING,
    "provider": NO_STRING,
    "session_id": NO_STRING,
    "include_reasoning": NO_TRUTH,
}
WRONG_MESSAGES: dict[str, tuple[Any, str]] = {
    "no object": ("hi", "messages[0]"),
    "null": (None, "messages[0]"),
    "no role": ({"content": "hi"}, "messages[0].role"),
    "an unknown role": ({"role": "human", "content": "hi"}, "messages[0].role"),
    "a role in capitals": ({"role": "USER", "content": "hi"}, "messages[0].role"),
    "a null role": ({"role": None, "content": "hi"}, "messages[0].role"),
    "a number for a role": ({"role": 1, "content": "hi"}, "messages[0].role"),
    "a list for a role": ({"role": ["user"], "content": "hi"}, "messages[0].role"),
    "an object for a role": ({"role": {"user": 1}, "content": "hi"}, "messages[0].role"),
    "a number for content": ({"role": "user", "content": 1}, "messages[0].content"),
    "an object for content": ({"role": "user", "content": {"type": "text", "text": "hi"}}, "messages[0].content"),
    "a bare string in the parts": ({"role": "user", "content": ["hi"]}, "messages[0].content[0]"),
    "a part without a type": ({"role": "user", "content": [{"text": "hi"}]}, "messages[0].content[0]"),
    "a part of no type": ({"role": "user", "content": [{"type": 1, "text": "hi"}]}, "messages[0].content[0]"),
    "the second part": (
        {"role": "user", "content": [{"type": "text", "text": "hi"}, None]},
        "messages[0].content[1]",
    ),
    "a number for a name": ({"role": "user", "content": "hi", "name": 1}, "messages[0].name"),
    "no list of calls": ({"role": "assistant", "tool_calls": {"id": "a"}}, "messages[0].tool_calls"),
    "no objects for calls": ({"role": "assistant", "tool_calls": ["a"]}, "messages[0].tool_calls[0]"),
    "a number for a call's id": ({"role": "tool", "content": "1", "tool_call_id": 1}, "messages[0].tool_call_id"),
}
WRONG_INPUTS: dict[str, Any] = {
    "nothing": None,
    "an empty text": "",
    "an empty list": [],
    "a list in a list, empty": [[]],
    "a number": 1,
    "an object": {"text": "a"},
    "true": True,
    "objects": [{"text": "a"}],
    "mixed": ["a", 1],
    "mixed with a list": ["a", [1]],
    "mixed with null": ["a", None],
    "fractions": [1.5, 2.5],
    "lists of texts": [["a"], ["b"]],
    "true for a token": [True, False],
    "too many": ["a"] * 2049,
}
WRONG_EMBEDDINGS: dict[str, list[Any]] = {
    "model": NO_STRING,
    "encoding_format": [*NO_STRING, "hex", "FLOAT", ""],
    "dimensions": [*NO_WHOLE, 0, -1],
    "input_type": NO_STRING,
    "user": NO_STRING,
    "provider": NO_STRING,
}
CASES = [(name, value) for name, values in WRONG.items() for value in values]
EMBEDDING_CASES = [(name, value) for name, values in WRONG_EMBEDDINGS.items() for value in values]


def cases(found: list[tuple[str, Any]]) -> Any:
    return pytest.mark.parametrize(
        ("name", "value"), found, ids=[f"{name}={json.dumps(value)}" for name, value in found]
    )


@cache
def demo() -> Any:
    return create_app(Settings.load(environment(DEMO_PACE_MS=0, LOG_LEVEL="NONE"))).test_client()


@pytest.fixture(scope="module")
def served_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """gunicorn in front of an upstream that takes anything."""
    log = tmp_path_factory.mktemp("served") / "log"
    with (
        OpenAIUpstream(strict=False) as upstream,
        served(
            log, GROQ_API_KEY=upstream.key, GROQ_BASE_URL=upstream.base_url, PROVIDER_NAME="demo", DEMO_PACE_MS=0
        ) as app,
    ):
        yield app


# what is no request


@BOTH
@pytest.mark.parametrize("kind", NO_JSON)
def test_what_is_no_json(path: str, kind: str) -> None:
    assert openai_error(demo().post(path, data=NO_JSON[kind]), 400)["code"] == "invalid_json"


@BOTH
@pytest.mark.parametrize("body", NO_OBJECT)
def test_what_is_no_object(path: str, body: bytes) -> None:
    details = openai_error(demo().post(path, data=body), 400)
    assert (details["code"], details["message"]) == ("invalid_json", "The body must be a JSON object.")


def test_the_content_type_does_not_matter() -> None:
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert demo().post(CHAT, data=json.dumps({"messages": HI}), content_type=kind).status_code == 200, kind


@pytest.mark.parametrize(("path", "field"), [(CHAT, "messages"), (EMBEDDINGS, "input")])
@pytest.mark.parametrize("value", [{}, {"model": "x"}, {"messages": None, "input": None}])
def test_what_lacks_the_one_thing_it_needs(path: str, field: str, value: Any) -> None:
    details = openai_error(demo().post(path, json=value), 400)
    assert (details["code"], details["param"]) == ("missing_required_parameter", field)
    assert field in details["message"]


# wrong fields


@cases(CASES)
def test_a_wrong_type_is_named(name: str, value: Any) -> None:
    details = openai_error(demo().post(CHAT, json={"messages": HI, name: value}), 400)
    assert details["code"] == "invalid_value"
    assert details["param"].startswith(name)
    assert name in details["message"]
    assert details["type"] == "invalid_request_error"


@pytest.mark.parametrize("name", [name for name in WRONG if name != "messages"])
def test_a_null_is_a_field_left_out(name: str) -> None:
    assert demo().post(CHAT, json={"messages": HI, name: None}).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", WRONG_MESSAGES)
def test_a_wrong_message_is_found(kind: str, stream: bool) -> None:
    message, param = WRONG_MESSAGES[kind]
    details = openai_error(demo().post(CHAT, json={"messages": [message], "stream": stream}), 400)
    assert details["param"] == param
    later = openai_error(demo().post(CHAT, json={"messages": [*HI, *HI, message]}), 400)
    assert later["param"] == param.replace("[0]", "[2]", 1)


@pytest.mark.parametrize("kind", WRONG_INPUTS)
def test_a_wrong_input_is_named(kind: str) -> None:
    """No text, no tokens: 400, also empty."""
    details = openai_error(demo().post(EMBEDDINGS, json={"input": WRONG_INPUTS[kind]}), 400)
    assert details["param"] == "input"


@cases(EMBEDDING_CASES)
def test_a_wrong_type_in_an_embeddings_request_is_named(name: str, value: Any) -> None:
    details = openai_error(demo().post(EMBEDDINGS, json={"input": "a", name: value}), 400)
    assert (details["code"], details["param"]) == ("invalid_value", name)


@BOTH
def test_an_unknown_provider(path: str) -> None:
    """The error lists the providers that are known."""
    details = openai_error(demo().post(path, json={"messages": HI, "input": "a", "provider": "nobody"}), 400)
    assert (details["code"], details["param"]) == ("unknown_provider", "provider")
    assert all(name in details["message"] for name in ("'nobody'", "openai", "groq", "demo"))
    long = openai_error(demo().post(path, json={"messages": HI, "input": "a", "provider": "x" * 9999}), 400)
    assert len(long["message"]) < 1000


@BOTH
@pytest.mark.parametrize(
    ("provider", "setting"), [("openai", "OPENAI_API_KEY"), ("ollama", "OLLAMA_BASE_URL"), ("azure", "AZURE_BASE_URL")]
)
def test_a_provider_without_its_key(path: str, provider: str, setting: str) -> None:
    """The missing setting is named."""
    details = openai_error(demo().post(path, json={"messages": HI, "input": "a", "provider": provider}), 400)
    assert (details["code"], details["param"]) == ("provider_not_configured", "provider")
    assert setting in details["message"]


# large, deep and odd, and what must not come of it


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("provider", ["demo", "groq"])
@pytest.mark.parametrize("depth", [100, 300, 1000])
@pytest.mark.parametrize(
    "field",
    [
        '"tools": [{"type": "function", "function": {"name": "a", "parameters": {"x": %s}}}]',
        '"response_format": {"type": "json_schema", "json_schema": {"schema": {"x": %s}}}',
        '"messages": [{"role": "assistant", "tool_calls": [{"x": %s}]}, {"role": "user", "content": "hi"}]',
        '"messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "x": %s}]}]',
        '"newer_than_us": %s',
    ],
    ids=["tools", "response_format", "tool_calls", "content", "unknown"],
)
def test_deep_nesting_is_never_a_500(served_app: Served, field: str, depth: int, provider: str) -> None:
    """What is deeper than we can write may be refused, but not fail; a schema a hundred deep is taken."""
    messages = '"messages": [{"role": "user", "content": "hi"}]'
    body = f'{{"provider": "{provider}", {messages}, {field % nested(depth)}}}'
    status, headers, answer = post(served_app.port, body)
    if depth > 100 and status != 200:
        assert_error(status, headers, answer, 400)
    else:
        completion(answer)


@pytest.mark.parametrize("provider", ["demo", "groq"])
@pytest.mark.parametrize(
    "name", ["seed", "max_tokens", "max_completion_tokens", "top_logprobs", "temperature", "foreign"]
)
@pytest.mark.parametrize("value", [2**63, 2**64, 10**30, -(10**30), 1e300, 2.0, -0.0], ids=str)
def test_huge_numbers_are_never_a_500(served_app: Served, name: str, value: float, provider: str) -> None:
    """What is beyond 64 bits can be read, but not written again."""
    status, headers, answer = post(served_app.port, chat_body(provider=provider, **{name: value}))
    if status != 200:
        assert_error(status, headers, answer, 400)


@pytest.mark.parametrize("provider", ["demo", "groq"])
@pytest.mark.parametrize("value", [2**64, 10**30, 4097])
def test_huge_dimensions_are_never_a_500(served_app: Served, value: int, provider: str) -> None:
    status, headers, answer = post(
        served_app.port, {"input": "a", "dimensions": value, "provider": provider}, EMBEDDINGS
    )
    if provider == "demo" or status != 200:
        assert_error(status, headers, answer, 400)


@pytest.mark.parametrize("identifier", [b"\xe9\xe9", "schlüssel".encode(), b"\xb2\xb3"])
def test_a_request_id_of_other_letters_is_never_a_500(served_app: Served, identifier: bytes) -> None:
    """It goes on to the upstream, whose headers are ASCII."""
    raw = json.dumps(chat_body(provider="groq")).encode()
    request = head("X-Request-Id: @", f"Content-Length: {len(raw)}").replace(b"@", identifier) + raw
    status, _, body = exchange(served_app.port, request)
    assert status == 200, body


# paths and methods


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD", "TRACE", "FOO"])
@BOTH
def test_a_wrong_method(path: str, method: str) -> None:
    response = demo().open(path, method=method)
    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}
    if method != "HEAD":
        assert "method" in openai_error(response, 405)["message"]


@pytest.mark.parametrize("path", ["/v1/models", "/models/demo", "/health", "/ready", "/v1/providers"])
def test_a_wrong_method_where_one_reads(path: str) -> None:
    response = demo().post(path, json={})
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    openai_error(response, 405)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "FOO"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/response",
        "/v1/no/completions",
        "/v1/chat",
        "/v1/chat/completion",
        "/v2/chat/completions",
        "/v1/chat/completions/abc",
        "/v1/audio/speech",
        "/favicon.ico",
        "/.env",
        "/../config.py",
        "/static/app.py",
        "/v1/%00",
        "/v1/%ff%fe",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/" + "a" * 3000,
    ],
)
def test_a_wrong_path(path: str, method: str) -> None:
    assert openai_error(demo().open(path, method=method), 404)["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", [CHAT, "/chat/completions", "/v1/v1/chat/completions"])
def test_a_trailing_slash_does_no_harm(path: str) -> None:
    completion(demo().post(f"{path}/", json={"messages": HI}).data)
    assert demo().get("/v1/models/").status_code == 200
    assert demo().get("/health/").status_code == 200


@pytest.mark.parametrize("path", ["/v1//chat/completions", "/v1///chat/completions", "/v1/chat//completions"])
def test_a_doubled_slash_is_answered_here(path: str) -> None:
    """A base URL that ends in `/`, joined by hand. A redirect loses the body, or the key to http behind a tunnel."""
    completion(demo().post(path, json={"messages": HI}).data)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/demo", "/health", "/ready", "/v1/providers"])
def test_head_is_get_without_the_body(path: str) -> None:
    whole, only_head = demo().get(path), demo().head(path)
    assert (only_head.status_code, only_head.data) == (200, b"")
    assert only_head.headers["Content-Length"] == str(len(whole.data))


@pytest.mark.parametrize("path", [CHAT, EMBEDDINGS, "/v1/models", "/health"])
def test_options_tells_the_methods(path: str) -> None:
    response = demo().options(path)
    assert (response.status_code, response.data) == (200, b"")
    assert "OPTIONS" in response.headers["Allow"]


# on the wire


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head("Transfer-Encoding: chunked") + body + end


RIGHT = json.dumps({"messages": HI}).encode()


def test_a_chunked_body_is_as_good_as_any(served_app: Served) -> None:
    for pieces in ([RIGHT], [RIGHT[:10], RIGHT[10:]], [RIGHT[at : at + 1] for at in range(len(RIGHT))]):
        status, _, body = exchange(served_app.port, chunked(*pieces))
        assert status == 200
        completion(body)


@pytest.mark.parametrize(
    "request_bytes",
    [
        head("Transfer-Encoding: chunked") + b"zz\r\nabc\r\n0\r\n\r\n",
        head("Transfer-Encoding: chunked") + b"-3\r\nabc\r\n0\r\n\r\n",
        head("Transfer-Encoding: chunked") + b"3\r\nabcXX\r\n0\r\n\r\n",
        chunked(RIGHT, end=b"what\r\n\r\n"),
        head("Transfer-Encoding: chunked") + b"\r\n\r\n",
    ],
    ids=["no size", "a negative size", "longer than said", "no end", "no size at all"],
)
def test_a_malformed_chunked_body(served_app: Served, request_bytes: bytes) -> None:
    """It is the caller's fault: a 400, and then the line is closed, as nobody knows where the next request begins."""
    status, headers, body = exchange(served_app.port, request_bytes + head(method="GET", path="/health"))
    assert_error(status, headers, body, 400)
    assert headers.get("Connection", "").lower() == "close"


@pytest.mark.parametrize(
    "request_bytes",
    [chunked(RIGHT, end=b""), chunked(RIGHT[:9], end=b"f"), head(f"Content-Length: {len(RIGHT) + 1}") + RIGHT],
    ids=["chunked", "chunked, within a chunk", "by length"],
)
def test_a_body_that_breaks_off(served_app: Served, request_bytes: bytes) -> None:
    """Not a time-out, which clients would repeat."""
    with socket.create_connection(("127.0.0.1", served_app.port), EVER) as sock:
        sock.sendall(request_bytes)
        sock.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert_error(response.status, dict(response.getheaders()), response.read(), 400)


def test_a_body_that_is_too_large(served_app: Served) -> None:
    """413 at once, although not all of it was read; the line is closed, or serves on, but never hangs."""
    status, headers, body = exchange(served_app.port, head(f"Content-Length: {30_000_000}") + b" " * 30_000_000)
    details = assert_error(status, headers, body, 413)
    assert details["code"] == "request_too_large"
    assert "MAX_BODY_BYTES" in details["message"]


def test_a_body_that_says_it_is_too_large_is_not_waited_for(served_app: Served) -> None:
    status, headers, body = exchange(served_app.port, head("Content-Length: 30000000"))
    assert_error(status, headers, body, 413)


@pytest.mark.parametrize("kind", ["no JSON", "JSON, and then more"])
def test_a_chunked_body_that_is_too_large(served_app: Served, kind: str) -> None:
    """It is refused, and not cut off and read as if it were whole."""
    piece = b" " * 1_000_000
    status, headers, body = exchange(served_app.port, chunked(RIGHT if kind != "no JSON" else b"x", *[piece] * 30))
    assert assert_error(status, headers, body, 413)["code"] == "request_too_large"


def test_a_body_of_just_the_limit_is_taken(served_app: Served) -> None:
    status, _, body = exchange(served_app.port, head(f"Content-Length: {LIMIT}") + RIGHT.ljust(LIMIT))
    assert status == 200, body
    status, headers, body = exchange(served_app.port, head(f"Content-Length: {LIMIT + 1}") + RIGHT.ljust(LIMIT + 1))
    assert_error(status, headers, body, 413)


ABSURD: dict[str, tuple[bytes, int]] = {
    "150 headers": (head(*(f"X-{number}: y" for number in range(150)), method="GET", path="/v1/models"), 431),
    "a header of 9000 bytes": (head("X-A: " + "y" * 9000, method="GET", path="/v1/models"), 431),
    "a path of 5000 bytes": (head(method="GET", path="/v1/" + "a" * 5000), 414),
    "a space in a header's name": (head("X Bad: 1", method="GET"), 400),
    "a NUL in a header": (head("X-Bad: a\0b", method="GET"), 400),
    "a negative length": (head("Content-Length: -1"), 400),
    "a length in words": (head("Content-Length: many"), 400),
    "two lengths": (head("Content-Length: 5", "Content-Length: 6") + b"abcdef", 400),
    "a length beside chunks": (head("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "an unknown encoding": (head("Transfer-Encoding: brotli"), 501),
    "HTTP/3": (b"GET /v1/models HTTP/3.0\r\nHost: localhost\r\n\r\n", 400),
    "no HTTP": (b"HELLO\r\n\r\n", 400),
    "TLS to a plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
}


@pytest.mark.parametrize("kind", ABSURD)
def test_what_is_no_request_at_all(served_app: Served, kind: str) -> None:
    """gunicorn refuses these before the app sees them; a client that reads JSON must be able to read that too."""
    request, expected = ABSURD[kind]
    status, headers, body = exchange(served_app.port, request)
    assert status in (expected, 400)
    assert_error(status, headers, body, status)


@pytest.mark.parametrize(
    "lines",
    [
        ["Accept: text/html"],
        ["Accept: image/png;q=0"],
        ["Accept-Encoding: zstd"],
        ["Range: bytes=0-1"],
        ["If-None-Match: *"],
        ["Content-Type: ;;;"],
        ["Content-Type: application/json; charset=utf-42"],
        ["Cookie: ====;;;"],
        ["Expect: 100-continue"],
        ["X-HTTP-Method-Override: DELETE"],
        ["Connection: Upgrade", "Upgrade: h2c"],
        ["Content-Encoding: gzip"],
        ["Accept-Language: \xe9"],
        [f"Content-Length: 000{len(RIGHT)}"],
    ],
    ids=lambda lines: lines[0],
)
def test_absurd_headers_change_nothing(served_app: Served, lines: list[str]) -> None:
    length = [] if lines[0].startswith("Content-Length") else [f"Content-Length: {len(RIGHT)}"]
    status, _, body = exchange(served_app.port, head(*lines, *length) + RIGHT)
    assert status == 200, body
    completion(body)


def test_the_line_serves_on_after_each_refusal(served_app: Served) -> None:
    """Nothing above has broken the server, and nothing but what is named was a fault of ours."""
    assert post(served_app.port, chat_body())[0] == 200


# as the openai package sees it


def test_the_openai_package_raises_its_own_errors(served_app: Served) -> None:
    client = served_app.client()
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model="x", messages=[{"role": "human", "content": "hi"}])
    assert (caught.value.code, caught.value.param) == ("invalid_value", "messages[0].role")
    with pytest.raises(BadRequestError):
        client.chat.completions.create(model="x", messages=[], stream=True)
    with pytest.raises(BadRequestError, match="There is no provider 'nobody'"):
        client.chat.completions.create(model="x", messages=HI, extra_body={"provider": "nobody"})
    with pytest.raises(BadRequestError, match="input"):
        client.embeddings.create(model="x", input=[])
    with pytest.raises(NotFoundError) as missing:
        client.models.retrieve("nothing/of/the/kind")
    assert missing.value.code == "model_not_found"
    with pytest.raises(BadRequestError, match="stream"):
        client.responses.create(model="x", input="hi", background=True)
    with pytest.raises(BadRequestError, match="such thing"):
        client.completions.create(model="x", prompt="hi", suffix="there")
    with pytest.raises(APIStatusError) as large:
        client.chat.completions.create(model="x", messages=[{"role": "user", "content": "x" * 30_000_000}])
    assert large.value.status_code == 413


# anything at all

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
WORDS = st.sampled_from([
    "role", "user", "assistant", "tool", "content", "type", "text", "function", "name", "parameters", "properties",
    "required", "object", "json_schema", "schema", "$ref", "#", "items", "enum", "tool_calls", "arguments", "mode",
    "allowed_tools", "image_url", "include_usage", "say hi", "anyOf", "minLength", "maximum", "id",
])  # fmt: skip
JSON = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system", "function"])},
    optional={"content": JSON, "name": JSON, "tool_calls": JSON, "tool_call_id": JSON, "function_call": JSON},
)
FIELDS = dict.fromkeys(sorted({*WRONG, "bedrock", "call", "prediction", "audio"} - {"messages"}), JSON)
RARELY = settings(max_examples=50, deadline=None)


def check(path: str, body: Any) -> None:
    """Answered, or refused in OpenAI's way: never a fault of ours, also in the middle of a stream."""
    response = demo().post(path, data=json.dumps(body, ensure_ascii=False).encode())
    if response.status_code != 200:
        assert 400 <= response.status_code < 500, (body, response.data)
        openai_error(response, response.status_code)
    assert b"Something went wrong here." not in response.data


@RARELY
@given(JSON)
@example(10**40)
def test_any_json_is_answered_or_refused(body: Any) -> None:
    check(CHAT, body)
    check(EMBEDDINGS, body)


@RARELY
@given(st.fixed_dictionaries({"messages": st.just(HI)}, optional=FIELDS))
def test_any_value_of_any_fields_is_answered_or_refused(body: Any) -> None:
    check(CHAT, body)


@pytest.mark.parametrize("name", sorted({*WRONG, "bedrock", "prediction"} - {"messages"}))
@settings(max_examples=10, deadline=None)
@given(value=JSON, stream=st.booleans())
def test_any_value_of_one_field_is_answered_or_refused(name: str, value: Any, stream: bool) -> None:
    check(CHAT, {"messages": HI, "stream": stream, name: value})


@RARELY
@given(st.lists(MESSAGE | JSON, max_size=3), st.booleans())
@example([{"role": []}], False)
@example([{"role": {}}], True)
def test_any_messages_are_answered_or_refused(messages: Any, stream: bool) -> None:
    check(CHAT, {"messages": messages, "stream": stream})


@RARELY
@given(
    st.fixed_dictionaries(
        {
            "type": st.just("function"),
            "function": st.fixed_dictionaries(
                {"name": st.text(min_size=1)}, optional={"parameters": JSON, "description": JSON}
            ),
        }
    ),
    st.sampled_from(["auto", "required", "none"]) | JSON,
    st.booleans(),
)
def test_any_tool_is_called_or_refused(tool: Any, choice: Any, stream: bool) -> None:
    check(CHAT, {"messages": HI, "tools": [tool], "tool_choice": choice, "stream": stream})


@RARELY
@given(JSON)
def test_any_schema_is_answered_or_refused(schema: Any) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    check(CHAT, {"messages": HI, "response_format": wanted})


@RARELY
@given(st.fixed_dictionaries({"input": JSON}, optional=dict.fromkeys(WRONG_EMBEDDINGS, JSON)))
def test_any_embeddings_request_is_answered_or_refused(body: Any) -> None:
    check(EMBEDDINGS, body)


def test_refusals_are_no_faults_in_the_log(served_app: Served) -> None:
    """Last in this file: whatever was sent above, our own code has not failed."""
    assert "Traceback" not in served_app.log(), served_app.log()[served_app.log().index("Traceback") :][:3000]


def test_the_limit_can_be_set(app_with: Callable[..., Any]) -> None:
    client = app_with(MAX_BODY_BYTES=100)
    assert client.post(CHAT, data=RIGHT).status_code == 200
    assert openai_error(client.post(CHAT, data=RIGHT.ljust(101)), 413)["code"] == "request_too_large"


# what is refused costs next to nothing


def _body(before: str, item: str, after: str, size: int = 2_000_000) -> bytes:
    return (before + item * (size // len(item)) + after).encode()


VAST = {
    "zeros for messages": (CHAT, _body('{"messages":[', "0,", "0]}")),
    "empty messages": (CHAT, _body('{"messages":[', "{},", "{}]}")),
    "nulls for messages": (CHAT, _body('{"messages":[', "null,", "0]}")),
    "a wrong message after many": (CHAT, _body('{"messages":[', '{"role":"user","content":"a"},', "0]}")),
    "messages of a wrong role": (CHAT, _body('{"messages":[', '{"role":"x"},', "0]}", 100_000)),
    "zeros for parts": (CHAT, _body('{"messages":[{"role":"user","content":[', "0,", "0]}]}")),
    "too many parts": (CHAT, _body('{"messages":[{"role":"user","content":[', '{"type":"text"},', "0]}]}")),
    "zeros for calls": (CHAT, _body('{"messages":[{"role":"assistant","tool_calls":[', "0,", "0]}]}")),
    "zeros for tools": (CHAT, _body('{"messages":[],"tools":[', "0,", "0]}")),
    "a wrong tool after many": (CHAT, _body('{"messages":[],"tools":[', "{},", "0]}")),
    "zeros for functions": (CHAT, _body('{"messages":[],"functions":[', "0,", "0]}")),
    "zeros for modalities": (CHAT, _body('{"messages":[],"modalities":[', "0,", "0]}")),
    "too much to stop at": (CHAT, _body('{"messages":[],"stop":[', '"a",', "0]}", 20_000_000)),
    "lists in lists": (CHAT, _body('{"messages":[', "[" * 200 + "]" * 200 + ",", "0]}")),
    "commas in a text": (CHAT, _body('{"messages":"', ",", '"}')),
    "many fields": (CHAT, orjson.dumps({"messages": [], **{f"field {at}": at for at in range(100_000)}})),
    "many fields of a message": (
        CHAT,
        orjson.dumps({"messages": [{"role": "x", **{f"field {at}": at for at in range(100_000)}}]}),
    ),
    "a long key": (CHAT, _body('{"messages":0,"', "k", '":0}')),
    "a long number": (CHAT, _body('{"messages":[],"seed":', "1", "}")),
    "a long role": (CHAT, _body('{"messages":[{"role":"', "x", '"}]}')),
    "numbers to embed": (EMBEDDINGS, _body('{"input":[', "1,", "1]}")),
    "lists to embed": (EMBEDDINGS, _body('{"input":[', "[1],", "[1]]}")),
    "texts to embed": (EMBEDDINGS, _body('{"input":[', '"a",', "0]}")),
    "numbers to rank": ("/v1/rerank", _body('{"query":"a","documents":[', "0,", "0]}")),
}


@pytest.mark.parametrize("kind", VAST)
def test_a_vast_mistake_costs_next_to_nothing(kind: str) -> None:
    """A megabyte of zeros for messages took 8 s, each of which was every caller's."""
    path, body = VAST[kind]
    begun = time.process_time()
    answer = demo().post(path, data=body)
    assert time.process_time() - begun < 1
    assert len(openai_error(answer, 400)["message"]) < 500


@pytest.mark.parametrize(
    ("setting", "path", "body", "param"),
    [
        ("MAX_MESSAGES", CHAT, {"messages": HI * 4}, "messages"),
        ("MAX_ITEMS", CHAT, {"messages": HI, "tools": [{}] * 4}, "tools"),
        ("MAX_ITEMS", CHAT, {"messages": HI, "stop": ["a"] * 4}, "stop"),
        (
            "MAX_ITEMS",
            CHAT,
            {"messages": [*HI, {"role": "user", "content": [{"type": "text", "text": "a"}] * 4}]},
            "messages[1].content",
        ),
        ("MAX_ITEMS", CHAT, {"messages": [{"role": "assistant", "tool_calls": [{}] * 4}]}, "messages[0].tool_calls"),
        ("MAX_INPUTS", EMBEDDINGS, {"input": ["a"] * 4}, "input"),
        ("MAX_DOCUMENTS", "/v1/rerank", {"query": "a", "documents": ["a"] * 4}, "documents"),
        ("MAX_VALUES", CHAT, {"messages": HI, "other": [1, 2, 3]}, None),
    ],
)
def test_how_much_may_be_listed_is_a_setting(
    app_with: Callable[..., Any], setting: str, path: str, body: Any, param: str | None
) -> None:
    details = openai_error(app_with(**{setting: 3}).post(path, json=body), 400)
    assert details["param"] == param
    assert setting in details["message"]
    assert setting not in app_with(**{setting: 30}).post(path, json=body).text
