"""The emulated api.openai.com itself: what it answers, as the openai package reads it, and what it refuses."""

import json
from time import monotonic

import openai
import pytest

from tests.emulators import AZURE, DEEPSEEK, GROQ, OPENROUTER, OpenAIUpstream, ScriptedAnswer
from tests.emulators.answers import TEXTS, USAGE
from tests.emulators.openai.server import embedding
from tests.emulators.raw import CHAT, ask, frames

SENTENCE = "".join(TEXTS)
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}, "days": {"type": "integer"}},
            "required": ["city", "unit"],
        },
    },
}
CALLS = [("call_a", "weather", ['{"city":', '"Bern"}']), ("call_b", "time", ["{}"])]


@pytest.fixture
def upstream():
    with OpenAIUpstream() as started:
        yield started


@pytest.fixture
def client(upstream):
    with openai.OpenAI(base_url=upstream.base_url, api_key=upstream.key, max_retries=0, timeout=10) as made:
        yield made


def stream_of(upstream, answer, **more):
    upstream.enqueue(answer)
    return ask(upstream, {**CHAT, "stream": True, **more})[1]


# What is answered


def test_a_whole_answer(client):
    answer = client.chat.completions.create(**CHAT)
    assert answer.choices[0].message.content == SENTENCE
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == USAGE["total_tokens"]


def test_a_stream(client):
    with client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    *said, finish, usage = chunks
    assert [chunk.choices[0].delta.content for chunk in said] == ["", *TEXTS]
    assert finish.choices[0].finish_reason == "stop"
    assert (usage.choices, usage.usage.total_tokens) == ([], USAGE["total_tokens"])
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


def test_frames_are_openais_to_the_byte(upstream):
    data = stream_of(upstream, ScriptedAnswer(texts=["Hé"]))
    head = '"object":"chat.completion.chunk","created":1790000000,"model":"gpt-4o-mini-2024-07-18"'
    more = '"service_tier":"default","system_fingerprint":"fp_44709d6fcb"'
    named = frames(data)[0]["id"]
    assert (
        data.decode()
        == "".join(
            f'data: {{"id":"{named}",{head},{more},"choices":[{{"index":0,{rest}}}]}}\n\n'
            for rest in (
                '"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null',
                '"delta":{"content":"Hé"},"logprobs":null,"finish_reason":null',
                '"delta":{},"logprobs":null,"finish_reason":"stop"',
            )
        )
        + "data: [DONE]\n\n"
    )


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
@pytest.mark.parametrize("stream", [False, True])
def test_a_demanded_call(client, choice, stream):
    asked = {**CHAT, "tools": [WEATHER], "tool_choice": choice}
    if stream:
        with client.chat.completions.stream(**asked) as events:
            answer = events.get_final_completion()
    else:
        answer = client.chat.completions.create(**asked)
    call = answer.choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Zürich", "unit": "C"})
    assert answer.choices[0].finish_reason == "tool_calls"


def test_scripted_calls_and_choices(upstream, client):
    upstream.enqueue(ScriptedAnswer(calls=CALLS), ScriptedAnswer(texts=["a", "b"], choices=2))
    with client.chat.completions.stream(**CHAT) as events:
        answer = events.get_final_completion()
    assert [(call.id, call.function.arguments) for call in answer.choices[0].message.tool_calls] == [
        ("call_a", '{"city":"Bern"}'),
        ("call_b", "{}"),
    ]
    with client.chat.completions.stream(**CHAT) as events:
        answer = events.get_final_completion()
    assert [choice.message.content for choice in answer.choices] == ["ab", "ab"]
    with client.chat.completions.stream(**CHAT, n=2, logprobs=True) as events:
        answer = events.get_final_completion()
    assert [len(choice.logprobs.content) for choice in answer.choices] == [len(TEXTS)] * 2


def test_embeddings_models_and_images(client):
    vectors = [embedding("a"), embedding("b")]
    for encoding in ("float", "base64", None):
        given = {"encoding_format": encoding} if encoding else {}
        answer = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"], **given)
        decoded = [row.embedding for row in answer.data]
        if encoding != "base64":
            assert decoded == vectors
    assert (
        len(client.embeddings.create(model="m", input="a", dimensions=3, encoding_format="float").data[0].embedding)
        == 3
    )
    assert "gpt-4o-mini" in [model.id for model in client.models.list()]
    assert client.models.retrieve("gpt-4o").id == "gpt-4o"
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.models.retrieve("no/such")
    assert client.images.generate(model="dall-e-3", prompt="a cat").data[0].url
    assert client.images.generate(model="gpt-image-1", prompt="a cat").data[0].b64_json
    with pytest.raises(openai.BadRequestError, match="style"):
        client.images.generate(model="gpt-image-1", prompt="a cat", style="vivid")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ScriptedAnswer(spaced=True), b'"finish_reason": null'),
        (ScriptedAnswer(crlf=True), b'"finish_reason":null}]}\r\n\r\ndata: {'),
        (ScriptedAnswer(comment="keep-alive"), b"\n\n: keep-alive\n\ndata: "),
        (ScriptedAnswer(event="chunk"), b"\n\nevent: chunk\ndata: {"),
        (ScriptedAnswer(usage_on_finish=True), b'"finish_reason":"stop"}],"usage":{"prompt_tokens":19'),
        (ScriptedAnswer(refusal=["No", "."]), b'"delta":{"refusal":"No"}'),
        (ScriptedAnswer(finish_reason="length"), b'"finish_reason":"length"'),
        (ScriptedAnswer(obfuscation=True), b'"obfuscation":"'),
        (ScriptedAnswer(logprobs=True), b'"logprobs":{"content":[{"token":" we","logprob":'),
        (ScriptedAnswer(calls=CALLS, first_call_index=1), b'"tool_calls":[{"index":2,"id":"call_b"'),
        (ScriptedAnswer(calls=CALLS, first_call_index=-1), b'"tool_calls":[{"index":-1,"id":"call_a"'),
        (ScriptedAnswer(calls=CALLS, first_call_index=None), b'"tool_calls":[{"id":"call_a"'),
        (ScriptedAnswer(calls=CALLS, call_ids=False), b'"tool_calls":[{"index":0,"type":"function"'),
        (
            ScriptedAnswer(calls=CALLS, calls_together=True),
            b'"arguments":"{\\"city\\":\\"Bern\\"}"}},{"index":1,"id":"call_b"',
        ),
        (ScriptedAnswer(calls=CALLS, texts=["Hm"]), b'"delta":{"content":"Hm"}'),
        (AZURE, b'"choices":[],"prompt_filter_results":[{'),
        (AZURE, b'"finish_reason":null,"content_filter_results":{"hate"'),
        (DEEPSEEK, b'"delta":{"reasoning_content":"They","content":null}'),
        (GROQ, b'"x_groq":{"id":'),
        (OPENROUTER, b": OPENROUTER PROCESSING\n\ndata: {"),
        (OPENROUTER, b'"provider":"Mistral"'),
    ],
)
def test_dialects(upstream, answer, expected):
    assert expected in stream_of(upstream, answer)


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        (ScriptedAnswer(null_finish=False), b'"finish_reason":null'),
        (ScriptedAnswer(index=False), b'"index"'),
        (ScriptedAnswer(role=False), b'"role"'),
        (ScriptedAnswer(usage=None), b'"total_tokens"'),
    ],
)
def test_what_a_dialect_leaves_out(upstream, answer, missing):
    data = stream_of(upstream, answer, stream_options={"include_usage": True})
    assert missing not in data
    assert b"[DONE]" in data


def test_created_varies(upstream):
    chunks = frames(stream_of(upstream, ScriptedAnswer(created_varies=True)))
    assert len({chunk["created"] for chunk in chunks}) == len(chunks)


def test_foreign_keys_in_a_whole_answer(upstream):
    upstream.enqueue(DEEPSEEK, AZURE)
    message = json.loads(ask(upstream)[1])["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == (SENTENCE, "They greet me.")
    assert "content_filter_results" in json.loads(ask(upstream)[1])["choices"][0]


def test_delays(upstream):
    started = monotonic()
    stream_of(upstream, ScriptedAnswer(texts=["a", "b"], delay=0.1, first_delay=0.1, frame_delay=0.05))
    assert 0.1 + 0.1 + 4 * 0.05 <= monotonic() - started < 3
    upstream.enqueue(ScriptedAnswer(delay=0.1, first_delay=0.1))
    started = monotonic()
    ask(upstream)
    assert 0.2 <= monotonic() - started < 3


# What is refused


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({"call": {"id": 1}}, "unknown_parameter", "call"),
        ({"temperature": None}, "invalid_type", "temperature"),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
        ({"n": True}, "invalid_type", "n"),
        ({"stop": None}, "invalid_type", "stop"),
        ({"metadata": {"a": 1}}, "invalid_type", "metadata.a"),
        ({"messages": []}, "empty_array", "messages"),
        ({"messages": [{"role": "bot", "content": ""}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "tool", "tool_call_id": "x", "content": ""}]}, None, "messages[0].role"),
        ({"stream_options": {"include_usage": True}}, None, "stream_options"),
        ({"tool_choice": "auto"}, None, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, None, "tool_choice"),
    ],
)
def test_strictness(upstream, more, code, param):
    response, data = ask(upstream, {**CHAT, **more})
    error = json.loads(data)["error"]
    assert (response.status, error["code"], error["param"]) == (400, code, param)
    assert error.keys() == {"message", "type", "param", "code"}


def test_the_unknown_parameter_in_openais_words(upstream):
    assert json.loads(ask(upstream, {**CHAT, "call": 1})[1]) == {
        "error": {
            "message": "Unrecognized request argument supplied: call",
            "type": "invalid_request_error",
            "param": "call",
            "code": "unknown_parameter",
        }
    }


def test_a_lenient_vendor():
    with OpenAIUpstream(strict=False, base="/openai/v1", models=["m"]) as upstream:
        assert ask(upstream, {**CHAT, "call": None}, path="/openai/v1/chat/completions")[0].status == 200


def test_keys_models_and_addresses(upstream):
    response, data = ask(upstream, key="sk-wrong")
    assert (response.status, json.loads(data)["error"]["code"]) == (401, "invalid_api_key")
    assert b"sk-proj-********wxyz" in data
    response, data = ask(upstream, {**CHAT, "model": "no-such-model"})
    assert (response.status, json.loads(data)["error"]["code"]) == (404, "model_not_found")
    assert ask(upstream, path="/v1/responses")[0].status == 404
    assert ask(upstream, [])[0].status == 400


def test_scripted_failures(upstream, client):
    upstream.always(ScriptedAnswer(status=503))
    upstream.enqueue(
        ScriptedAnswer(status=429, headers={"Retry-After": "7"}), ScriptedAnswer(status=418, error={"oops": 1})
    )
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(**CHAT)
    assert caught.value.response.headers["retry-after"] == "7"
    response, data = ask(upstream)
    assert (response.status, data) == (418, b'{"oops":1}')
    assert ask(upstream, {**CHAT, "stream": True})[0].status == 503
    upstream.enqueue(ScriptedAnswer(status=500), path="/embeddings")
    with pytest.raises(openai.InternalServerError):
        client.embeddings.create(model="m", input="a")
