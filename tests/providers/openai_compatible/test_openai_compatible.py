"""The pass-through: what an OpenAI-shaped upstream is sent, and what the caller gets of its answer."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import process_time
from typing import Any

import pytest

from core.context import CallContext
from core.json_values import BAD_SHAPE
from providers.common.translate import Pictures
from providers.openai_compatible.answer import whole_answer
from providers.openai_compatible.decode import ChunkDecoder, ErrorFrame, events_of_body
from providers.openai_compatible.passthrough import Passthrough, envelope_of
from tests.conftest import Served, served
from tests.emulators import AZURE, DEEPSEEK, GROQ, OPENROUTER, OpenAIUpstream, ScriptedAnswer, Server, faults
from tests.emulators.answers import TEXTS
from tests.support.frames import (
    chat_body,
    chunks,
    completion,
    error,
    finish,
    payloads,
    post,
    streamed_calls,
    streamed_text,
)

DIALECTS = {
    "openai": ScriptedAnswer(),
    "azure": AZURE,
    "deepseek": DEEPSEEK,
    "groq": GROQ,
    "openrouter": OPENROUTER,
    "spaced": ScriptedAnswer(spaced=True),
    "crlf": ScriptedAnswer(crlf=True),
    "comments": ScriptedAnswer(comment="keep-alive"),
    "named": ScriptedAnswer(event="message"),
    "no role": ScriptedAnswer(role=False),
    "no null finish": ScriptedAnswer(null_finish=False),
    "no index": ScriptedAnswer(index=False),
    "usage on finish": ScriptedAnswer(usage_on_finish=True),
    "created varies": ScriptedAnswer(created_varies=True),
    "obfuscation": ScriptedAnswer(obfuscation=True),
    "logprobs": ScriptedAnswer(logprobs=True),
    "role in every frame": ScriptedAnswer(delta_keys={"role": "assistant"}),
}
CALLS = [("call_a", "get_weather", ['{"city"', ': "Pa', 'ris"}']), ("call_b", "get_time", ["{}"])]
CALL_DIALECTS = {
    "openai": ScriptedAnswer(calls=CALLS),
    "together": ScriptedAnswer(calls=CALLS, calls_together=True),
    "from one": ScriptedAnswer(calls=CALLS, first_call_index=1),
    "from minus one": ScriptedAnswer(calls=CALLS, first_call_index=-1),
    "no index": ScriptedAnswer(calls=CALLS, first_call_index=None),
    "no ids": ScriptedAnswer(calls=CALLS, call_ids=False),
    "azure": ScriptedAnswer(calls=CALLS, choice_keys=AZURE.choice_keys, first_frame=AZURE.first_frame),
    "stop beside calls": ScriptedAnswer(calls=CALLS, finish_reason="stop"),
    "words first": ScriptedAnswer(texts=["Let", " me", " look."], calls=CALLS),
}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("get_weather", "get_time")
]


@pytest.fixture(scope="module")
def upstream_and_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenAIUpstream, Served]]:
    """An emulated OpenAI, and the app in front of it."""
    log = tmp_path_factory.mktemp("served") / "log"
    with (
        OpenAIUpstream() as upstream,
        served(
            log,
            OPENAI_API_KEY=upstream.key,
            OPENAI_BASE_URL=upstream.base_url,
            RETRIES=0,
            BREAKER_FAILURES=1000,
        ) as app,
    ):
        yield upstream, app


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_comes_out_as_openais(
    upstream_and_app: tuple[OpenAIUpstream, Served], dialect: str, usage: bool
) -> None:
    """No foreign key, which costs a voice its sound; one [DONE], one finish, usage only when asked for."""
    upstream, app = upstream_and_app
    upstream.always(DIALECTS[dialect])
    options = {"stream_options": {"include_usage": True}} if usage else {}
    status, headers, stream = post(app.port, chat_body(stream=True, **options))
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert streamed_text(stream) == "".join(TEXTS)
    assert finish(stream) == "stop"
    counted = [chunk["usage"]["total_tokens"] for chunk in chunks(stream) if chunk.get("usage")]
    assert counted == ([33] if usage else [])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_whole_answers_of_every_dialect(upstream_and_app: tuple[OpenAIUpstream, Served], dialect: str) -> None:
    upstream, app = upstream_and_app
    upstream.always(DIALECTS[dialect])
    status, _, body = post(app.port, chat_body())
    answer = completion(body)
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == "".join(TEXTS)
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert set(answer["choices"][0]["message"]) <= {"role", "content", "refusal", "annotations"}
    assert "content_filter_results" not in body.decode()
    assert answer["usage"]["total_tokens"] == 33


def test_frames_pass_as_they_came(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    """OpenAI's frames are neither written anew, nor held back, nor cut again."""
    upstream, app = upstream_and_app
    upstream.always(ScriptedAnswer(texts=[f"word{number} " for number in range(40)]))
    direct = post(
        upstream.port,
        chat_body(stream=True, stream_options={"include_usage": True}),
        headers={"Authorization": f"Bearer {upstream.key}"},
    )
    through = post(app.port, chat_body(stream=True, stream_options={"include_usage": True}))
    alike = [json.loads(data) | {"id": ""} for data in payloads(direct[2])]
    assert [json.loads(data) | {"id": ""} for data in payloads(through[2])] == alike


@pytest.mark.parametrize("dialect", CALL_DIALECTS)
def test_tool_calls_of_every_dialect(upstream_and_app: tuple[OpenAIUpstream, Served], dialect: str) -> None:
    """Dense indices from 0, one id and one name each, arguments that are JSON."""
    upstream, app = upstream_and_app
    upstream.always(CALL_DIALECTS[dialect])
    _, _, stream = post(app.port, chat_body(stream=True, tools=TOOLS))
    assert [(name, arguments) for _, name, arguments in streamed_calls(stream)] == [
        ("get_weather", {"city": "Paris"}),
        ("get_time", {}),
    ]
    assert finish(stream) == "tool_calls"
    if dialect == "words first":
        assert streamed_text(stream) == "Let me look."


@pytest.mark.parametrize("dialect", CALL_DIALECTS)
def test_tool_calls_in_whole_answers(upstream_and_app: tuple[OpenAIUpstream, Served], dialect: str) -> None:
    upstream, app = upstream_and_app
    upstream.always(CALL_DIALECTS[dialect])
    answer = completion(post(app.port, chat_body(tools=TOOLS))[2])
    calls = answer["choices"][0]["message"]["tool_calls"]
    assert [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls] == [
        ("get_weather", {"city": "Paris"}),
        ("get_time", {}),
    ]
    assert len({call["id"] for call in calls}) == 2
    assert all(call["id"] for call in calls)
    assert answer["choices"][0]["finish_reason"] == "tool_calls"


def test_thinking_is_held_back_unless_asked_for(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    """Read aloud, a model's thinking costs the voice its sound."""
    upstream, app = upstream_and_app
    upstream.always(DEEPSEEK)
    assert b"reasoning" not in post(app.port, chat_body(stream=True))[2]
    assert b"reasoning" not in post(app.port, chat_body())[2].replace(b"reasoning_tokens", b"")
    asked = post(app.port, chat_body(stream=True, include_reasoning=True))[2]
    thoughts = [
        choice["delta"].get("reasoning_content") or ""
        for data in payloads(asked)
        for choice in json.loads(data)["choices"]
    ]
    assert "".join(thoughts) == "They greet me."
    body = json.loads(post(app.port, chat_body(include_reasoning=True))[2])
    assert body["choices"][0]["message"]["reasoning_content"] == "They greet me."


def test_every_parameter_reaches_the_upstream(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    """None is dropped. The emulated OpenAI refuses what is not its own."""
    upstream, app = upstream_and_app
    upstream.always(ScriptedAnswer())
    given = {
        "temperature": 0.3, "top_p": 0.9, "n": 1, "stop": ["x", "y"], "max_tokens": 40,
        "presence_penalty": 0.1, "frequency_penalty": 0.2, "logit_bias": {"50256": -100}, "user": "u", "seed": 7,
        "tools": TOOLS, "tool_choice": "auto",
        "parallel_tool_calls": False, "response_format": {"type": "text"}, "metadata": {"k": "v"}, "store": False,
        "reasoning_effort": "low", "verbosity": "low", "service_tier": "auto", "logprobs": True, "top_logprobs": 2,
    }  # fmt: skip
    assert post(app.port, chat_body(**given))[0] == 200
    sent = upstream.received[-1].json
    assert {key: sent[key] for key in given} == given
    assert upstream.received[-1].headers["Authorization"] == f"Bearer {upstream.key}"


def test_what_platforms_add_is_not_sent_on(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    """Vapi's and ElevenLabs' keys, nulls, a metadata that is not string to string, and a limit of minus one."""
    upstream, app = upstream_and_app
    upstream.always(ScriptedAnswer())
    extras = {
        "call": {"id": "c"}, "phoneNumber": {}, "customer": {}, "user_id": "u", "elevenlabs_extra_body": {"a": 1},
        "session_id": "s", "bedrock": {}, "metadata": {"nested": {}}, "temperature": None, "max_tokens": -1,
        "customKeyOfAnAssistant": 1, "provider": "openai",
    }  # fmt: skip
    assert post(app.port, chat_body(**extras))[0] == 200
    assert set(upstream.received[-1].json) == {"model", "messages"}


def test_usage_is_asked_for_and_kept_to_ourselves(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    upstream, app = upstream_and_app
    upstream.always(ScriptedAnswer())
    post(app.port, chat_body(stream=True, user="count-me"))
    assert upstream.received[-1].json["stream_options"] == {"include_usage": True}
    app.logged(r"stream=True .*prompt_tokens=19 completion_tokens=14")


def test_a_wrong_address_is_our_misconfiguration(serve: Callable[..., Served], upstream: OpenAIUpstream) -> None:
    """A base URL without its path is no unknown model of the caller's."""
    app = serve(OPENAI_API_KEY=upstream.key, OPENAI_BASE_URL=upstream.url)
    status, _, body = post(app.port, chat_body())
    assert (status, error(body)["code"]) == (502, "upstream_error")
    assert "address" in error(body)["message"]


def test_several_choices(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    upstream, app = upstream_and_app
    for answer in (ScriptedAnswer(choices=3), ScriptedAnswer(choices=3, chunk_keys={"x_groq": {}})):
        upstream.always(answer)
        stream = post(app.port, chat_body(stream=True, n=3))[2]
        assert [streamed_text(stream, index) for index in range(3)] == ["".join(TEXTS)] * 3
        assert len(completion(post(app.port, chat_body(n=3))[2])["choices"]) == 3


@pytest.mark.parametrize(
    ("status", "ours", "code"),
    [(400, 400, "invalid_value"), (401, 502, "upstream_authentication"), (403, 502, "upstream_authentication"),
     (422, 422, None), (429, 429, "rate_limit_exceeded"), (500, 502, "upstream_error"), (502, 502, "upstream_error"),
     (503, 503, "upstream_error"), (504, 504, "upstream_timeout"), (529, 503, "upstream_error")],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_an_upstreams_error_keeps_its_meaning(
    upstream_and_app: tuple[OpenAIUpstream, Served], status: int, ours: int, code: str, stream: bool
) -> None:
    """A true status, streaming too; our credential's failure is never the caller's 401."""
    upstream, app = upstream_and_app
    upstream.always(ScriptedAnswer(status=status))
    got, headers, body = post(app.port, chat_body(stream=stream))
    upstream.always(ScriptedAnswer())
    assert got == ours
    assert headers["content-type"] == "application/json"
    if status != 422:
        assert error(body)["code"] == code
    assert headers["x-should-retry"] == "false"
    assert upstream.key not in body.decode()
    assert "sk-" not in body.decode()


def test_an_unknown_model_is_a_404(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    """OpenAI-shaped rows pass any name on, and give back the upstream's 404."""
    _, app = upstream_and_app
    status, _, body = post(app.port, chat_body() | {"model": "no-such-model"})
    assert (status, error(body)["code"]) == (404, "model_not_found")


def test_what_they_say_of_the_callers_request_reaches_the_caller(
    upstream_and_app: tuple[OpenAIUpstream, Served],
) -> None:
    upstream, app = upstream_and_app
    refusal = {
        "message": "Invalid 'temperature' for key sk-abc123456789.",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": "decimal_above_max_value",
    }
    upstream.enqueue(ScriptedAnswer(status=400, error=refusal))
    status, _, body = post(app.port, chat_body())
    failure = error(body)
    assert (status, failure["param"], failure["code"]) == (400, "temperature", "decimal_above_max_value")
    assert "Invalid 'temperature'" in failure["message"]
    assert "abc123" not in failure["message"]


def test_a_busy_upstream_says_when(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    upstream, app = upstream_and_app
    upstream.always(ScriptedAnswer(status=429, headers={"Retry-After": "30"}))
    status, headers, _ = post(app.port, chat_body(stream=True))
    upstream.always(ScriptedAnswer())
    assert (status, headers["retry-after"], headers["x-should-retry"]) == (429, "30", "false")


def test_connections_are_kept(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    """A new connection per request costs 40 to 130 ms of the first word."""
    upstream, app = upstream_and_app
    upstream.always(ScriptedAnswer())
    post(app.port, chat_body(stream=True))
    before = upstream.accepted
    for stream in (True, False) * 5:
        assert post(app.port, chat_body(stream=stream))[0] == 200
    assert upstream.accepted == before


def test_a_lump_is_cut_at_words(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    """An upstream that does not stream is cut at words, and the pieces join to the exact text."""
    from tests.emulators import oddities  # noqa: PLC0415

    upstream, app = upstream_and_app
    upstream.enqueue(ScriptedAnswer(texts=["  Two  spaces,\n a new line, and a tab\t."], fault=oddities.lump))
    stream = post(app.port, chat_body(stream=True))[2]
    assert streamed_text(stream) == "  Two  spaces,\n a new line, and a tab\t."
    assert len(chunks(stream)) > 8


def test_a_request_id_goes_through(upstream_and_app: tuple[OpenAIUpstream, Served]) -> None:
    upstream, app = upstream_and_app
    upstream.always(ScriptedAnswer())
    _, headers, _ = post(app.port, chat_body(), headers={"X-Request-Id": "turn-42"})
    assert headers["x-request-id"] == "turn-42"
    assert upstream.received[-1].headers["x-request-id"] == "turn-42"
    app.logged("request_id=turn-42 .*outcome=done")


def test_thinking_that_nobody_hears_is_no_sign_of_life(serve: Callable[..., Served], upstream: OpenAIUpstream) -> None:
    """An upstream that thinks for long, unheard, leaves the line as silent as one that says nothing."""
    app = serve(**upstream.settings(), HEADERS_AFTER=0.3, HEARTBEAT=0.3)
    upstream.enqueue(ScriptedAnswer(reasoning=["hm "] * 40, frame_delay=0.05, delta_keys={"reasoning_content": None}))
    stream = post(app.port, chat_body(stream=True))[2]
    assert streamed_text(stream) == "".join(TEXTS)
    assert stream.count(b": keep-alive\n\n") >= 4
    assert b"hm" not in stream


@pytest.mark.parametrize("dialect", ["groq", "azure", "openai"])
def test_a_stream_that_breaks_before_its_first_word_is_tried_again(
    serve: Callable[..., Served], upstream: OpenAIUpstream, dialect: str
) -> None:
    """Whichever dialect it is in, a role is no answer yet."""
    app = serve(**upstream.settings())
    upstream.enqueue(replace(DIALECTS[dialect], texts=["", ""], fault=faults.cut), DIALECTS[dialect])
    status, _, stream = post(app.port, chat_body(stream=True))
    assert (status, streamed_text(stream)) == (200, "".join(TEXTS))
    app.logged("attempts=2")


def test_a_choice_that_comes_late_is_waited_for() -> None:
    """With n=2 an answer is not whole when its first choice is."""
    passing = Passthrough("auto", include_reasoning=False, include_usage=False, choices=2)
    first = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    whole = {"index": 0, "delta": {"role": "assistant", "content": "a"}, "logprobs": None, "finish_reason": "stop"}
    for index in (0, 1):
        assert not passing.finished
        list(
            passing.block(b"data: " + json.dumps({**first, "choices": [{**whole, "index": index}]}).encode() + b"\n\n")
        )
    assert passing.finished


ODD = [
    {"choices": [{"index": [], "delta": {"content": "x"}}]},
    {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": [1]}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": {}, "id": "a", "function": {"name": "f"}}]}}]},
    {"choices": [{"index": 0, "delta": {"annotations": 5}}]},
    {"choices": [{"index": 0, "delta": {"content": [{"text": 5}]}}]},
    {"choices": [5]},
    {"choices": 5},
    [],
    5,
]


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize("stream", [False, True])
def test_nonsense_of_an_upstreams_is_no_fault_of_ours(odd: Any, stream: bool) -> None:
    """It becomes a 502 by way of one of NONSENSE, never a 500."""
    raw = json.dumps(odd).encode()
    try:
        if stream:
            list(Passthrough("auto", include_reasoning=False, include_usage=False).block(b"data: " + raw + b"\n\n"))
        else:
            list(whole_answer(odd, raw, "auto", CallContext(), include_reasoning=False, pictures=Pictures()))
    except (*BAD_SHAPE, ErrorFrame):
        pass


def test_an_answer_before_the_body_was_read_is_the_answer(
    serve: Callable[..., Served], upstream: OpenAIUpstream
) -> None:
    """An upstream that refuses a large body at its head, and closes, has said what is wrong."""

    def refuse(connection: Any, _: Any) -> None:
        connection.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 29\r\n\r\n" + b'{"error":{"message":"large"}}')
        connection.close()

    with Server(refuse) as early:
        app = serve(OPENAI_API_KEY="k", OPENAI_BASE_URL=f"{early.url}/v1", RETRIES=0)
        status, _, body = post(app.port, chat_body("x" * 2_000_000))
    assert (status, error(body)["type"]) == (413, "invalid_request_error")


@pytest.mark.parametrize("after", ["9" * 400, "-5", "soon", "1e999", "Fri, 31 Dec 2099 23:59:59 GMT"])
def test_an_odd_retry_after_is_bounded(serve: Callable[..., Served], upstream: OpenAIUpstream, after: str) -> None:
    app = serve(**upstream.settings())
    upstream.always(ScriptedAnswer(status=429, headers={"Retry-After": after}))
    status, headers, _ = post(app.port, chat_body())
    assert status == 429
    assert int(headers.get("retry-after", "1")) <= 3600


def _called(count: int) -> list[dict[str, Any]]:
    return [{"index": at, "id": f"call_{at}", "function": {"name": "f", "arguments": "{}"}} for at in range(count)]


@pytest.mark.parametrize("in_one", [False, True])
def test_more_calls_than_an_answer_has_are_none(in_one: bool) -> None:
    """20,000 of them took a minute, as each was compared with all before it."""
    reader = ChunkDecoder()
    calls = _called(20_000)
    begun = process_time()
    body = {"choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}
    chunks_of_it = ({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]} for call in calls)
    events = events_of_body(body) if in_one else (event for chunk in chunks_of_it for event in reader.events(chunk))
    with pytest.raises(ValueError, match="tool calls"):
        list(events)
    assert process_time() - begun < 1


def test_a_vast_frame_is_read_once() -> None:
    frame = b'data: {"id":"a","choices":[{"delta":{"content":"' + b"x\\n" * 5_000_000 + b'"}}]}'
    begun = process_time()
    envelope_of(frame)
    assert process_time() - begun < 2
