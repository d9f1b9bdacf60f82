"""Cohere in its own dialect. What all dialects have in common is asked in tests/dialects/test_dialects.py."""

import base64
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import cohere
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import create_app
from config import Settings
from core.errors import GatewayError, UpstreamTimeout
from core.events import Citation, Finish, Reasoning, Text, Usage
from dispatch.sources.model_list_parser import parse_model_list
from providers import build
from providers.base import ParameterRules, Provider, Target
from providers.cohere.decode import CohereDecoder, events_of_body, usage
from providers.cohere.provider import cohere_error
from providers.cohere.request import to_upstream
from providers.transport.sse import Frame
from schemas.chat.encode import ChunkEncoder
from schemas.chat.fold import fold
from schemas.chat.request import load_chat
from tests.conftest import environment
from tests.emulators import Call, OpenAIUpstream, ScriptedAnswer
from tests.emulators.answers import TEXTS
from tests.emulators.cohere.server import MODELS, CohereUpstream
from tests.emulators.openai.server import PIXEL, embedding
from tests.support.conversations import AFTERWARDS, HI, PERSON, TIME, WEATHER
from tests.support.frames import chunks, completion, streamed_calls, streamed_text
from tests.support.http import openai_error

COMMAND, THINKER = "command-a-03-2025", "command-a-reasoning-08-2025"
PICTURE = f"data:image/png;base64,{PIXEL}"
LOOK = Call("get_weather_k3", "get_weather", ['{"city": ', '"Zürich"}'])
OPENING_HOURS = {"id": "hours", "data": {"title": "Hours", "url": "https://example.com/hours", "text": "We open at 9."}}
CITED = {
    "start": 3,
    "end": 9,
    "text": "open at",
    "sources": [
        {"type": "document", "id": "hours", "document": {"id": "hours", **OPENING_HOURS["data"]}},
        {"type": "tool", "id": "get_weather_k3:0", "tool_output": {"sky": "fair"}},
    ],
    "type": "TEXT_CONTENT",
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[CohereUpstream]:
    with CohereUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def client(upstream: CohereUpstream) -> Any:
    values = environment(COHERE_API_KEY=upstream.key, COHERE_BASE_URL=upstream.url, RETRIES=0, BREAKER_FAILURES=9999)
    return create_app(Settings.load(values)).test_client()


def chat(client: Any, model: str = COMMAND, messages: Any = HI, **more: Any) -> Any:
    return client.post("/v1/chat/completions", json={"model": model, "messages": messages, **more})


def upstream_body(
    model: str = COMMAND, *, rules: ParameterRules | None = None, most: int | None = None, **body: Any
) -> dict[str, Any]:
    """What goes to Cohere for such a request, without what is always there."""
    provider = Provider()
    provider.name = "cohere"
    target = Target(provider, model, rules=rules or ParameterRules(), max_tokens=most)
    found = to_upstream(load_chat(json.dumps({"messages": HI, **body}).encode()), target)
    assert found.pop("model") == model
    assert found.pop("stream") is body.get("stream", False)
    if "messages" not in body:
        assert found.pop("messages") == HI
    return found


# What is sent


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"temperature": 0, "seed": 7, "logprobs": True}, {"temperature": 0, "seed": 7, "logprobs": True}),
        ({"top_p": 1, "top_k": 900}, {"p": 0.99, "k": 500}),
        ({"frequency_penalty": -1, "presence_penalty": 2}, {"frequency_penalty": 0.0, "presence_penalty": 1.0}),
        ({"max_tokens": 9, "max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": PERSON}}},
            {"response_format": {"type": "json_object", "json_schema": PERSON}},
        ),
        ({"user": "u", "n": 1, "logit_bias": {"1": 2}, "parallel_tool_calls": False, "top_logprobs": 3}, {}),
        ({"documents": [OPENING_HOURS], "safety_mode": "OFF"}, {"documents": [OPENING_HOURS], "safety_mode": "OFF"}),
    ],
    ids=" ".join,
)
def test_parameters(body: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each by its own name there and within its range; what has no counterpart is left out."""
    assert upstream_body(**body) == expected


@pytest.mark.parametrize(
    ("model", "body", "expected"),
    [
        (THINKER, {"reasoning_effort": "none"}, {"type": "disabled"}),
        (THINKER, {"reasoning_effort": "low"}, {"type": "enabled", "token_budget": 1024}),
        (THINKER, {"reasoning_effort": "high"}, {"type": "enabled"}),
        (THINKER, {}, None),
        (COMMAND, {"reasoning_effort": "high"}, None),
        (THINKER, {"reasoning_effort": "high", "thinking": {"type": "disabled"}}, {"type": "disabled"}),
    ],
)
def test_how_much_it_thinks(model: str, body: dict[str, Any], expected: Any) -> None:
    assert upstream_body(model, **body).get("thinking") == expected


@pytest.mark.parametrize(
    ("choice", "names", "expected"),
    [
        ("auto", ["get_weather", "get_time"], None),
        ("none", ["get_weather", "get_time"], "NONE"),
        ("required", ["get_weather", "get_time"], "REQUIRED"),
        ({"type": "function", "function": {"name": "get_time"}}, ["get_time"], "REQUIRED"),
    ],
    ids=str,
)
def test_tool_choice(choice: Any, names: list[str], expected: str | None) -> None:
    """A named tool is the only one that is declared."""
    body = upstream_body(tools=[WEATHER, TIME, {"type": "web_search"}], tool_choice=choice)
    assert [each["function"]["name"] for each in body["tools"]] == names
    assert body.get("tool_choice") == expected


def test_a_tool_always_has_parameters() -> None:
    (tool,) = upstream_body(tools=[{"type": "function", "function": {"name": "tick"}}])["tools"]
    assert tool["function"] == {"name": "tick", "parameters": {"type": "object", "properties": {}}}


def test_messages() -> None:
    content = [
        {"type": "text", "text": "Look: "},
        {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
    ]
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": content},
        {"role": "assistant", "content": [{"type": "text", "text": "A dot"}, {"type": "refusal", "refusal": "."}]},
        *AFTERWARDS,
    ]
    system, look, dot, asked, calling, *results = upstream_body(messages=talk)["messages"]
    assert system == {"role": "system", "content": "Be brief.\n\nBe kind."}
    assert look["content"] == content
    assert dot == {"role": "assistant", "content": "A dot."}
    assert asked == AFTERWARDS[0]
    assert (calling["tool_plan"], "content" in calling) == ("Let me look.", False)
    assert [(each["id"], each["function"]["arguments"]) for each in calling["tool_calls"]] == [
        ("call_one", '{"city":"Zürich"}'),
        ("call_two", '{"zone":"CET"}'),
    ]
    assert results == AFTERWARDS[2:]


def test_an_empty_result_is_one() -> None:
    empty = [*AFTERWARDS[:2], *({**each, "content": ""} for each in AFTERWARDS[2:])]
    assert [each["content"] for each in upstream_body(messages=empty)["messages"][2:]] == ["{}", "{}"]


def test_rules_come_last() -> None:
    rules = ParameterRules(update={"p": 0.5}, add={"citation_options": {"mode": "OFF"}}, delete=("seed",))
    assert upstream_body(rules=rules, seed=1, top_p=0.9) == {"p": 0.5, "citation_options": {"mode": "OFF"}}
    assert upstream_body(most=50, max_tokens=99) == {"max_tokens": 50}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"stop": list("abcdef")}, "stop"),
        ({"modalities": ["audio"]}, "modalities"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "messages[0].content[0]",
        ),
        ({"messages": AFTERWARDS[:2]}, "messages[1].tool_calls[0]"),
    ],
    ids=str,
)
def test_what_would_be_lost_is_refused(client: Any, upstream: CohereUpstream, body: dict[str, Any], param: str) -> None:
    before = len(upstream.received)
    assert openai_error(chat(client, **body), 400)["param"] == param
    assert len(upstream.received) == before


# What comes back


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("COMPLETE", "stop"),
        ("STOP_SEQUENCE", "stop"),
        ("MAX_TOKENS", "length"),
        ("ERROR_TOXIC", "content_filter"),
        ("ERROR", None),
        ("TIMEOUT", None),
        ("SOMETHING_NEW", None),
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_why_it_ended(client: Any, upstream: CohereUpstream, reason: str, finish: str | None, stream: bool) -> None:
    """Cohere's own words for it do not leak, and its failures are errors."""
    upstream.enqueue(ScriptedAnswer(texts=[], finish_reason=reason))
    answer = chat(client, stream=stream)
    if finish is None:
        openai_error(answer, 504 if reason == "TIMEOUT" else 502)
    elif stream:
        assert [each["choices"][0]["finish_reason"] for each in chunks(answer.data)][-1] == finish
    else:
        assert completion(answer.data)["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_citations(client: Any, upstream: CohereUpstream, stream: bool) -> None:
    """Each source of a span, as OpenAI's annotations; a tool's result is one without an address."""
    upstream.enqueue(ScriptedAnswer(texts=["We open at 9."], choice_keys={"citations": [CITED]}))
    answer = chat(client, stream=stream, documents=[OPENING_HOURS])
    if stream:
        deltas = [each["choices"][0]["delta"] for each in chunks(answer.data)]
        found = [each for delta in deltas for each in delta.get("annotations", [])]
    else:
        found = completion(answer.data)["choices"][0]["message"]["annotations"]
    span = {"start_index": 3, "end_index": 9}
    assert [each["url_citation"] for each in found] == [
        {"url": "https://example.com/hours", "title": "Hours", **span},
        {"url": "", "title": "get_weather_k3:0", **span},
    ]
    assert upstream.received[-1].json["documents"] == [OPENING_HOURS]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_probabilities(client: Any, stream: bool) -> None:
    answer = chat(client, logprobs=True, stream=stream)
    if stream:
        found = [each["choices"][0]["logprobs"] for each in chunks(answer.data) if each["choices"][0]["logprobs"]]
        entries = [entry for each in found for entry in each["content"]]
    else:
        entries = completion(answer.data)["choices"][0]["logprobs"]["content"]
    assert [(each["token"], each["logprob"]) for each in entries] == [(text, -0.75) for text in TEXTS]


def read(*events: dict[str, Any]) -> list[Any]:
    reading = CohereDecoder(lambda given: GatewayError(str(given)))
    found = [event for each in events for event in reading.events(Frame(b"", json.dumps(each).encode()))]
    assert reading.finished == any(each.get("type") == "message-end" for each in events)
    return found


def test_a_plan_is_thinking() -> None:
    """It is no part of the answer: read aloud, it ruins a call."""
    delta = {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will look."}}}
    assert read(delta) == [Reasoning("I will look.")]
    calls = [{"id": "t", "type": "function", "function": {"name": "tick", "arguments": ""}}]
    body = {"message": {"tool_plan": "I will look.", "tool_calls": calls}, "finish_reason": "TOOL_CALL"}
    message = completion(fold(events_of_body(body), "m"))["choices"][0]["message"]
    assert (message["content"], message["tool_calls"][0]["function"]["arguments"]) == (None, "{}")


def test_a_call_without_arguments_is_still_json() -> None:
    """Cohere sends no piece at all."""
    call = {"id": "t", "type": "function", "function": {"name": "tick", "arguments": ""}}
    start = {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": call}}}
    end = {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}}
    encoder = ChunkEncoder("m")
    events = read(start, {"type": "tool-call-end", "index": 0}, end)
    assert streamed_calls(b"".join(map(encoder.encode, events)) + encoder.end()) == [("t", "tick", {})]


def test_nothing_follows_a_finish() -> None:
    """Whatever a gateway repeats, an answer ends once."""
    spoken = {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hi"}}}}
    end = {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}
    assert read(spoken, end, spoken, end) == [Text("Hi"), Finish("stop")]


def test_an_event_of_tomorrow_is_passed_over_and_an_error_is_not() -> None:
    assert read({"type": "weather-report"}) == []
    with pytest.raises(GatewayError, match="boom"):
        read({"message": "boom"})
    with pytest.raises(UpstreamTimeout):
        read({"type": "message-end", "delta": {"finish_reason": "TIMEOUT"}})


def test_tokens_are_those_that_the_model_read() -> None:
    counts = {"billed_units": {"input_tokens": 5.0, "output_tokens": 7.0}}
    assert usage(counts) == Usage(5, 7)
    assert usage({**counts, "tokens": {"input_tokens": 70.0, "output_tokens": 8.0}, "cached_tokens": 64.0}) == Usage(
        70, 8, 64
    )
    assert usage(None) is None


# Failures


def failing(status: int, message: str = "x") -> GatewayError:
    return cohere_error("cohere", status, {}, json.dumps({"id": "e", "message": message}).encode())


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (failing(401, "invalid api token"), (502, "upstream_authentication")),
        (failing(402), (502, "upstream_authentication")),
        (failing(404, "model 'x' not found"), (404, "model_not_found")),
        (failing(422, "unknown field"), (422, None)),
        (failing(400, "too many tokens: size limit exceeded by 11326 tokens."), (400, "context_length_exceeded")),
        (failing(429), (429, "rate_limit_exceeded")),
        (failing(498, "deny-listed token"), (400, "content_filter")),
        (failing(499), (502, "upstream_error")),
        (failing(501), (502, "upstream_error")),
        (failing(503), (503, "upstream_error")),
        (failing(504), (504, "upstream_timeout")),
    ],
    ids=str,
)
def test_failures(found: GatewayError, expected: tuple[int, str | None]) -> None:
    assert (found.status, found.code) == expected


def test_a_wrong_key(upstream: CohereUpstream) -> None:
    values = environment(COHERE_API_KEY="wrong-key", COHERE_BASE_URL=upstream.url, RETRIES=0)
    answer = chat(create_app(Settings.load(values)).test_client())
    assert openai_error(answer, 502)["code"] == "upstream_authentication"
    assert b"wrong-key" not in answer.data


# Addresses


def test_the_list_of_models_pays_with_its_own_token() -> None:
    """The list's token goes with the list's own scheme."""
    (entry,) = parse_model_list(
        [{"model_version": "m", "handle": "/cohere/v2/chat"}], "https://h.example/l", "tok"
    ).entries
    provider: Any = build("cohere", dict(entry.options))
    raw = provider._account.request("POST", "/v2/chat", {}, b"")
    assert raw.startswith(b"POST /cohere/v2/chat HTTP/1.1\r\n")
    assert b"Authorization: OAuth tok\r\n" in raw


def test_its_openai_shaped_endpoint_is_still_one(app_with: Callable[..., Any]) -> None:
    with OpenAIUpstream(base="/compatibility/v1") as compatible:
        client = app_with(COHERE_API_KEY=compatible.key, COHERE_BASE_URL=compatible.base_url)
        assert completion(chat(client).data)["choices"][0]["message"]["content"] == "".join(TEXTS)


# Embeddings, ranking, models


def embed(client: Any, model: str = "embed-v4.0", **body: Any) -> Any:
    return client.post("/v1/embeddings", json={"model": model, "provider": "cohere", **body})


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_in_batches(client: Any, upstream: CohereUpstream, encoding: str) -> None:
    """All the vectors, in order, in the format that was asked for."""
    before = len(upstream.received)
    texts = [f"text {at}" for at in range(200)]
    data = embed(client, input=texts, encoding_format=encoding, dimensions=256).get_json()
    found = upstream.received[before:]
    assert [len(each.json["texts"]) for each in found] == [96, 96, 8]
    assert {each.json["input_type"] for each in found} == {"search_document"}
    assert data["usage"] == {"prompt_tokens": 200, "total_tokens": 200}
    vectors = [each["embedding"] for each in data["data"]]
    if encoding == "base64":
        vectors = [list(struct.unpack("<256f", base64.b64decode(each))) for each in vectors]
    assert vectors == [embedding(text, 256) for text in texts]


@pytest.mark.parametrize(
    ("given", "expected"),
    [("query", "search_query"), ("CLASSIFICATION", "classification"), ("clustering", "clustering")],
)
def test_what_embeddings_are_for(client: Any, upstream: CohereUpstream, given: str, expected: str) -> None:
    assert embed(client, input="a", input_type=given).status_code == 200
    assert upstream.received[-1].json["input_type"] == expected


@pytest.mark.parametrize(("model", "requests"), [("embed-v4.0", 1), ("embed-multilingual-v3.0", 3)])
def test_pictures_are_embedded(client: Any, upstream: CohereUpstream, model: str, requests: int) -> None:
    """The third version takes one alone, the fourth among texts."""
    before = len(upstream.received)
    picture = {"type": "image_url", "image_url": {"url": PICTURE}}
    data = embed(client, model, input=["a", picture, "b"]).get_json()
    assert [row["embedding"] for row in data["data"]] == [embedding(each) for each in ("a", PICTURE, "b")]
    assert len(upstream.received) - before == requests


@pytest.mark.parametrize("given", [[[1, 2]], [{"type": "image_url", "image_url": "https://example.com/y.png"}]])
def test_what_it_does_not_embed(client: Any, given: Any) -> None:
    """An address is not fetched by us."""
    assert openai_error(embed(client, input=given), 400)["param"] == "input[0]"


def test_ranking(client: Any, upstream: CohereUpstream) -> None:
    asked = {"model": "rerank-v3.5", "query": "when do you open", "documents": ["the high street", "we open at 9"]}
    more = {"top_n": 1, "max_tokens_per_doc": 99, "max_chunks_per_doc": 3, "return_documents": True}
    answer = client.post("/v1/rerank", json={**asked, **more}).get_json()
    assert [(each["index"], each["document"]["text"]) for each in answer["results"]] == [(1, "we open at 9")]
    assert upstream.received[-1].json == {**asked, "top_n": 1, "max_tokens_per_doc": 99}


def test_models_page_by_page(client: Any) -> None:
    """Without those that Cohere itself advises against."""
    listed = [each["id"] for each in client.get("/v1/models").get_json()["data"]]
    assert listed == [name for name in MODELS if name != "command-light"]


# Cohere's own SDK


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK's own
def test_coheres_sdk_understands_the_emulation(upstream: CohereUpstream) -> None:
    """So that it is no mirror of ours."""
    theirs = cohere.ClientV2(api_key=upstream.key, base_url=upstream.url, max_retries=0)
    whole = theirs.chat(model=COMMAND, messages=[cohere.UserChatMessageV2(content="hi")])
    assert whole.message.content
    assert (whole.message.content[0].text, whole.finish_reason) == ("".join(TEXTS), "COMPLETE")  # type: ignore[union-attr]
    upstream.enqueue(ScriptedAnswer(reasoning=["Hm"], texts=["Look"], calls=[LOOK]))
    events = list(theirs.chat_stream(model=THINKER, messages=[cohere.UserChatMessageV2(content="hi")]))
    assert [each.type for each in events] == [
        "message-start", "content-start", "content-delta", "content-end", "content-start", "content-delta",
        "content-end", "tool-call-start", "tool-call-delta", "tool-call-delta", "tool-call-end", "message-end",
    ]  # fmt: skip
    vectors = theirs.embed(model="embed-v4.0", texts=["a"], input_type="search_query", embedding_types=["float"])
    assert vectors.embeddings.float_ == [embedding("a")]
    ranks = theirs.rerank(model="rerank-v3.5", query="b", documents=["a", "b"])
    assert [each.index for each in ranks.results] == [1, 0]
    assert [each.name for each in theirs.models.list().models] == list(MODELS[:2])
    upstream.enqueue(ScriptedAnswer(status=429))
    with pytest.raises(cohere.TooManyRequestsError):
        theirs.chat(model=COMMAND, messages=[cohere.UserChatMessageV2(content="hi")])


def test_we_ask_as_coheres_sdk_does(upstream: CohereUpstream, client: Any) -> None:
    """The same conversation by both ways is the same JSON."""
    theirs = cohere.ClientV2(api_key=upstream.key, base_url=upstream.url, max_retries=0)
    function = cohere.ToolCallV2Function(name="get_weather", arguments='{"city":"Zürich"}')
    theirs.chat(
        model=COMMAND,
        messages=[
            cohere.SystemChatMessageV2(content="Be brief."),
            cohere.UserChatMessageV2(content="hi"),
            cohere.AssistantChatMessageV2(tool_calls=[cohere.ToolCallV2(id="c", type="function", function=function)]),
            cohere.ToolChatMessageV2(tool_call_id="c", content="fair"),
        ],
        tools=[cohere.ToolV2(type="function", function=cohere.ToolV2Function(**WEATHER["function"]))],
        tool_choice="REQUIRED",
        temperature=0.5,
        p=0.9,
        k=5,
        max_tokens=99,
        stop_sequences=["END"],
    )
    call = {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Zürich"}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "fair"},
    ]
    asked = {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "max_tokens": 99, "stop": "END"}
    chat(client, messages=messages, tools=[WEATHER], tool_choice="required", **asked)
    sdks, ours = (each.json for each in upstream.received[-2:])
    assert ours == sdks
    assert upstream.received[-1].path == upstream.received[-2].path


# Whatever it says

TEXT_BLOCK = st.tuples(st.sampled_from(["text", "thinking"]), st.lists(st.text(), max_size=3))
CALLS = st.lists(st.tuples(st.sampled_from("fg"), st.dictionaries(st.text(), st.text()), st.integers(0, 9)), max_size=3)


def frames(blocks: Any, calls: Any) -> Iterator[dict[str, Any]]:
    for index, (kind, pieces) in enumerate(blocks):
        for piece in pieces:
            yield {"type": "content-delta", "index": index, "delta": {"message": {"content": {kind: piece}}}}
    for index, (name, arguments, cut) in enumerate(calls):
        call = {"id": f"c{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        yield {"type": "tool-call-start", "index": index, "delta": {"message": {"tool_calls": call}}}
        raw = json.dumps(arguments)
        for piece in (raw[:cut], raw[cut:]):
            delta = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
            yield {"type": "tool-call-delta", "index": index, "delta": delta}
        yield {"type": "tool-call-end", "index": index}
    yield {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL" if calls else "COMPLETE"}}


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT_BLOCK, max_size=3), CALLS)
def test_text_stays_text_and_calls_stay_calls(blocks: Any, calls: Any) -> None:
    """Dense indices, one finish, and every text and argument as it was."""
    events = read(*frames(blocks, calls))
    encoder = ChunkEncoder("m")
    stream = b"".join(map(encoder.encode, events)) + encoder.end()
    assert streamed_text(stream) == "".join(piece for kind, pieces in blocks if kind == "text" for piece in pieces)
    assert [(name, arguments) for _, name, arguments in streamed_calls(stream)] == [
        (name, each) for name, each, _ in calls
    ]
    thought = "".join(event.text for event in events if isinstance(event, Reasoning))
    assert thought == "".join(piece for kind, pieces in blocks if kind == "thinking" for piece in pieces)
    assert not any(isinstance(event, Citation) for event in events)
