"""POST /v1/responses as clients use it: OpenAI's package against gunicorn, the demo and emulated upstreams."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from openai import APIError, BadRequestError, NotFoundError, OpenAI

from storage import key_value
from tests.conftest import Served, served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults
from tests.emulators.openai.responses import ResponsesUpstream
from tests.support.frames import error, post
from tests.support.http import openai_error
from tests.support.responses import checked_response, events, final_response, text_of
from views import response_store

WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
TIME = {"type": "function", "name": "get_time"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("demo")
    keys = {"API_KEYS": "ann:key-of-ann,bob:key-of-bob"}
    with served(folder / "log", DATA_DIR=folder, DEMO_PACE_MS=5, WORKERS=2, **keys) as app:
        yield app


def client_of(app: Served, name: str = "ann") -> OpenAI:
    return OpenAI(base_url=app.url, api_key=f"key-of-{name}", max_retries=0, timeout=20)


@pytest.fixture(scope="module")
def client(demo: Served) -> OpenAI:
    return client_of(demo)


# What OpenAI's package makes of it


def test_a_text(client: OpenAI) -> None:
    response = client.responses.create(model="demo", input="say: Good morning.", instructions="Be brief.")
    assert (response.status, response.output_text) == ("completed", "Good morning.")
    assert response.usage
    assert response.usage.total_tokens > 0


def test_a_stream(client: OpenAI) -> None:
    with client.responses.stream(model="demo", input="say: Good morning, all of you.") as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        response = stream.get_final_response()
    assert len(deltas) > 2
    assert "".join(deltas) == response.output_text == "Good morning, all of you."


@pytest.mark.parametrize("store", [True, False])
def test_a_tool_and_its_result(client: OpenAI, store: bool) -> None:
    """By previous_response_id, and by sending everything again."""
    question: Any = {"role": "user", "content": "How is the weather?"}
    first = client.responses.create(model="demo", input=[question], tools=[WEATHER], store=store)
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert "city" in json.loads(call.arguments)
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"}
    if store:
        second = client.responses.create(model="demo", input=[result], tools=[WEATHER], previous_response_id=first.id)
        assert second.previous_response_id == first.id
    else:
        again: Any = [question, *[item.model_dump() for item in first.output], result]
        second = client.responses.create(model="demo", input=again, tools=[WEATHER])
    assert "18 degrees" in second.output_text


def test_structured_output(client: OpenAI) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    form: Any = {"format": {"type": "json_schema", "name": "person", "schema": schema}}
    response = client.responses.create(model="demo", input="A person, please.", text=form)
    assert isinstance(json.loads(response.output_text)["age"], int)


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("none", set()),
        ("required", {"get_weather"}),
        (TIME, {"get_time"}),
        ({"type": "allowed_tools", "mode": "required", "tools": [TIME]}, {"get_time"}),
    ],
)  # fmt: skip
def test_a_choice_of_tools(client: OpenAI, choice: Any, called: set[str]) -> None:
    tools: Any = [WEATHER, {**WEATHER, "name": "get_time"}]
    response = client.responses.create(model="demo", input="How is the weather?", tools=tools, tool_choice=choice)
    assert {item.name for item in response.output if item.type == "function_call"} == called


def test_an_answer_that_is_cut_short(client: OpenAI) -> None:
    response = client.responses.create(model="demo", input="say 100 words", max_output_tokens=5)
    assert (response.status, response.incomplete_details and response.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )


# What is kept


def test_a_response_is_kept_for_its_caller_alone(demo: Served, client: OpenAI) -> None:
    response = client.responses.create(model="demo", input="say: Good morning.")
    assert client.responses.retrieve(response.id).output_text == "Good morning."
    stranger = client_of(demo, "bob")
    with pytest.raises(NotFoundError):
        stranger.responses.retrieve(response.id)
    with pytest.raises(BadRequestError) as wrong:
        stranger.responses.create(model="demo", input="hi", previous_response_id=response.id)
    assert wrong.value.code == "previous_response_not_found"
    client.responses.delete(response.id)
    with pytest.raises(NotFoundError):
        client.responses.retrieve(response.id)
    with pytest.raises(BadRequestError) as gone:
        client.responses.create(model="demo", input="hi", previous_response_id=response.id)
    assert gone.value.code == "previous_response_not_found"


def test_what_a_response_has_answered_can_be_listed(client: OpenAI) -> None:
    first = client.responses.create(model="demo", input="say: Good morning.")
    more: Any = [{"role": "user", "content": "say: Good"}, {"role": "user", "content": "say: Good night."}]
    second = client.responses.create(model="demo", input=more, previous_response_id=first.id)
    listed = list(client.responses.input_items.list(second.id, order="asc", limit=2))
    assert [item.content[0].text for item in listed] == [
        "say: Good morning.", "Good morning.", "say: Good", "say: Good night.",
    ]  # fmt: skip
    newest = client.responses.input_items.list(second.id, limit=1)
    assert ([item.id for item in newest.data], newest.has_more) == ([listed[-1].id], True)
    for wrong in ({"limit": 0}, {"after": "nothing"}):
        with pytest.raises(BadRequestError) as refused:
            client.responses.input_items.list(second.id, **wrong)
        assert refused.value.param == next(iter(wrong))


def test_tokens_are_counted_without_an_answer(client: OpenAI) -> None:
    count = client.responses.input_tokens.count(model="demo", input="word " * 40)
    assert 40 <= count.input_tokens <= 80


def test_an_answer_that_was_cancelled_is_kept_as_far_as_it_came(client: OpenAI) -> None:
    """Its caller has heard that much: the next turn may follow it."""
    with client.responses.stream(model="demo", input="say: " + "word " * 400) as stream:
        for event in stream:
            if event.type == "response.created":
                identifier = event.response.id
            if event.type == "response.output_text.delta":
                break
        client.responses.cancel(identifier)
        for _ in stream:
            pass
    kept = client.responses.retrieve(identifier)
    assert kept.status == "cancelled"
    assert kept.output_text.startswith("word")
    assert len(kept.output_text) < 2000
    follower = client.responses.create(model="demo", input="say: Yes?", previous_response_id=identifier)
    assert follower.output_text == "Yes?"


def test_metadata_has_openais_bounds(client: OpenAI) -> None:
    for metadata in ({str(at): "" for at in range(17)}, {"k" * 65: ""}, {"k": "v" * 513}):
        with pytest.raises(BadRequestError) as wrong:
            client.responses.create(model="demo", input="hi", metadata=metadata)
        assert wrong.value.param == "metadata"


def test_a_kept_response_is_no_stream(client: OpenAI) -> None:
    response = client.responses.create(model="demo", input="hi")
    with pytest.raises(BadRequestError) as wrong:
        list(client.responses.retrieve(response.id, stream=True))
    assert wrong.value.param == "stream"


def test_a_conversation_that_is_too_large_is_not_kept(
    app_with: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_store, "MOST_BYTES", 5000)
    app = app_with(DATA_DIR=tmp_path)
    small = app.post("/v1/responses", json={"input": "say: hi"}).json["id"]
    large = app.post("/v1/responses", json={"input": f"say: {'hi ' * 1000}"}).json["id"]
    assert app.get(f"/v1/responses/{small}").status_code == 200
    assert app.get(f"/v1/responses/{large}").status_code == 404


def test_what_is_not_to_be_stored_is_not(client: OpenAI) -> None:
    response = client.responses.create(model="demo", input="hi", store=False)
    assert response.model_dump()["store"] is False
    with pytest.raises(NotFoundError):
        client.responses.retrieve(response.id)


def test_instructions_are_those_of_one_answer(tmp_path: Path, app_with: Callable[..., Any]) -> None:
    """https://platform.openai.com/docs/api-reference/responses/create: they are not carried over."""
    with OpenAIUpstream() as upstream:
        app = app_with(DATA_DIR=tmp_path, OPENAI_API_KEY=upstream.key, OPENAI_BASE_URL=upstream.base_url)
        first = app.post("/v1/responses", json={"input": "One.", "instructions": "Be brief."}).json
        app.post("/v1/responses", json={"input": "Two.", "previous_response_id": first["id"]})
        messages = upstream.received[-1].json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert (messages[0]["content"], messages[2]["content"]) == ("One.", "Two.")


def test_a_response_expires(tmp_path: Path, app_with: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(key_value, "time", lambda: now)
    app = app_with(DATA_DIR=tmp_path, RESPONSES_TTL=60)
    first = app.post("/v1/responses", json={"input": "hi"}).json["id"]
    now += 59
    assert app.get(f"/v1/responses/{first}").status_code == 200
    now += 2
    assert app.get(f"/v1/responses/{first}").status_code == 404
    response = app.post("/v1/responses", json={"input": "hi", "previous_response_id": first})
    assert openai_error(response, 400)["code"] == "previous_response_not_found"


def test_nothing_is_kept_where_nothing_is_to_be(tmp_path: Path, app_with: Callable[..., Any]) -> None:
    app = app_with(DATA_DIR=tmp_path, RESPONSES_TTL=0)
    first = app.post("/v1/responses", json={"input": "hi"}).json
    assert first["store"] is True
    response = app.post("/v1/responses", json={"input": "hi", "previous_response_id": first["id"]})
    assert openai_error(response, 400)["code"] == "previous_response_not_found"
    assert not list(tmp_path.iterdir())


def test_a_result_of_no_call_is_refused(app_with: Callable[..., Any], tmp_path: Path) -> None:
    app = app_with(DATA_DIR=tmp_path)
    first = app.post("/v1/responses", json={"input": "hi"}).json["id"]
    result = {"type": "function_call_output", "call_id": "call_nobody", "output": "?"}
    response = app.post("/v1/responses", json={"input": [result], "previous_response_id": first})
    assert "call_nobody" in openai_error(response, 400)["message"]


# Cancelling


def test_a_cancelled_answer_frees_the_upstream_and_says_so(demo: Served, client: OpenAI) -> None:
    """From whichever worker: each of several attempts meets one of the two."""
    for _ in range(4):
        seen: list[Any] = []
        with client.responses.create(model="demo", input="say 2000 words", stream=True) as stream:
            for event in stream:
                seen.append(event)
                if event.type == "response.created":
                    cancelled = client_of(demo).responses.cancel(event.response.id)
                    assert cancelled.status == "cancelled"
        assert seen[-1].type == "response.incomplete"
        assert seen[-1].response.status == "cancelled"


def test_only_what_is_under_way_can_be_cancelled(demo: Served, client: OpenAI) -> None:
    response = client.responses.create(model="demo", input="hi")
    with pytest.raises(BadRequestError):
        client.responses.cancel(response.id)
    with pytest.raises(NotFoundError):
        client_of(demo, "bob").responses.cancel(response.id)


def test_a_client_that_aborts_is_noticed(demo: Served, client: OpenAI) -> None:
    ended_before = demo.log().count("outcome=hung_up")
    with client.responses.create(model="demo", input="say 2000 words", stream=True) as stream:
        next(iter(stream))
    until(lambda: demo.log().count("outcome=hung_up") > ended_before, "the hang-up to be noticed")


# Compacting


def test_a_compacted_conversation_goes_on(client: OpenAI) -> None:
    first = client.responses.create(model="demo", input="say: Good morning.")
    compacted = client.responses.compact(model="demo", previous_response_id=first.id, input="And now?")
    assert compacted.object == "response.compaction"
    items: Any = [item.model_dump(exclude_none=True) for item in compacted.output]
    assert [item["role"] for item in items] == ["user", "assistant", "user"]
    assert client.responses.create(model="demo", input=items).status == "completed"


def test_compacting_wants_a_model(app_with: Callable[..., Any]) -> None:
    said = openai_error(app_with().post("/v1/responses/compact", json={"input": "hi"}), 400)
    assert (said["param"], said["code"]) == ("model", "missing_required_parameter")


# What is refused, and what to do instead


@pytest.mark.parametrize(
    ("body", "param", "instead"),
    [
        ({"background": True}, "background", "stream"),
        ({"conversation": "conv_1"}, "conversation", "previous_response_id"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "instructions"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]", "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "RESPONSES_DROP_TOOLS"),
        ({"tools": [WEATHER, {"type": "file_search"}]}, "tools[1].type", "file_search"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]}]},
            "input[0].content[0].image_url",
            "data:",
        ),
        ({"input": [{"role": "user", "content": "hi"}, {"type": "computer_call"}]}, "input[1]", "computer_call"),
        ({"input": []}, "input", "list of items"),
        ({"input": [{"type": "function_call", "call_id": "a", "name": "b"}]}, "input[0].arguments", "string"),
        ({"input": [{"role": "nobody", "content": "hi"}]}, "input[0].role", "user"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "json_schema"),
        ({"tool_choice": {"type": "function", "name": "nothing"}}, "tool_choice.name", "tools"),
        ({"max_output_tokens": "5"}, "max_output_tokens", "number"),
        ({"metadata": {"a": 1}}, "metadata", "strings"),
    ],
)
def test_a_refusal_says_what_to_do(app_with: Callable[..., Any], body: Any, param: str, instead: str) -> None:
    said = openai_error(app_with().post("/v1/responses", json={"input": "hi", **body}), 400)
    assert said["param"] == param
    assert instead in said["message"]


def test_openais_own_tools_are_left_out_where_that_is_set(app_with: Callable[..., Any]) -> None:
    app = app_with(RESPONSES_DROP_TOOLS="true")
    tool = {"type": "image_generation"}
    response = app.post("/v1/responses", json={"input": "hi", "tools": [tool], "tool_choice": tool})
    assert checked_response(response.json)["tools"] == [tool]


def test_a_vendors_refusal_names_the_callers_own_field(app_with: Callable[..., Any]) -> None:
    """Vendors' translations read a chat, and this caller sent none."""
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    app = app_with(ANTHROPIC_API_KEY="unused")
    items = [{"role": "user", "content": "hi"}, call]
    said = openai_error(app.post("/v1/responses", json={"input": items, "provider": "anthropic"}), 400)
    assert said["param"].startswith("input[1]")


# The whole house


def test_a_filler_is_heard_first_and_is_no_part_of_the_conversation(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    with OpenAIUpstream() as upstream:
        upstream.always(ScriptedAnswer(texts=["Here I am."], first_delay=0.3))
        settings = {"OPENAI_API_KEY": upstream.key, "OPENAI_BASE_URL": upstream.base_url, "FILLER_AFTER_MS": 50}
        app = serve(DATA_DIR=tmp_path, **settings)
        response = final_response(post(app.port, {"input": "hi", "stream": True}, "/v1/responses")[2])
        assert text_of(response) == "One moment... Here I am."
        post(app.port, {"input": "And?", "previous_response_id": response["id"]}, "/v1/responses")
        assert "One moment" not in json.dumps(upstream.received[-1].json)


def test_markdown_is_taken_out_for_a_voice(app_with: Callable[..., Any]) -> None:
    with OpenAIUpstream() as upstream:
        upstream.always(ScriptedAnswer(texts=["**He", "llo**"]))
        app = app_with(OPENAI_API_KEY=upstream.key, OPENAI_BASE_URL=upstream.base_url)
        response = app.post("/v1/responses", json={"input": "hi", "stream": True, "speech": True}, buffered=True)
        assert text_of(final_response(response.data)) == "Hello"


def test_a_heartbeat_keeps_the_line_and_breaks_no_event(serve: Callable[..., Served]) -> None:
    with OpenAIUpstream() as upstream:
        upstream.always(ScriptedAnswer(texts=["Here."], first_delay=0.4))
        settings = {"OPENAI_API_KEY": upstream.key, "OPENAI_BASE_URL": upstream.base_url}
        app = serve(**settings, HEADERS_AFTER=0.05, HEARTBEAT=0.05)
        data = post(app.port, {"input": "hi", "stream": True}, "/v1/responses")[2]
    assert data.startswith(b":")
    assert text_of(final_response(data)) == "Here."


def test_the_next_target_answers_and_is_named(app_with: Callable[..., Any], tmp_path: Path) -> None:
    with OpenAIUpstream() as first, OpenAIUpstream() as second:
        first.always(ScriptedAnswer(status=503))
        rows = {
            "providers": {
                "one": {"base_url": first.base_url, "api_key": first.key},
                "two": {"base_url": second.base_url, "api_key": second.key},
            },
            "models": [
                {"name": "m", "provider": "one", "model": "gpt-4o", "fallbacks": ["n"]},
                {"name": "n", "provider": "two", "model": "gpt-4o"},
            ],
        }
        file = tmp_path / "models.yaml"
        file.write_text(yaml.safe_dump(rows))
        app = app_with(MODELS_FILE=file, DATA_DIR=tmp_path, RETRIES=0)
        response = app.post("/v1/responses", json={"input": "hi", "model": "m", "stream": True}, buffered=True)
    assert response.headers["x-upstream"] == "two/gpt-4o"
    assert final_response(response.data)["status"] == "completed"


# Upstreams that have it themselves


@pytest.fixture
def native(tmp_path: Path, app_with: Callable[..., Any]) -> Iterator[tuple[Any, ResponsesUpstream]]:
    with ResponsesUpstream() as upstream:
        provider = {"base_url": upstream.base_url, "api_key": upstream.key, "responses": True}
        rows = {"providers": {"own": provider}, "models": [{"name": "m", "provider": "own", "model": "gpt-5"}]}
        file = tmp_path / "models.yaml"
        file.write_text(yaml.safe_dump(rows))
        yield app_with(MODELS_FILE=file, DATA_DIR=tmp_path, RETRIES=0, IDLE_TIMEOUT=1), upstream


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_what_such_an_upstream_says_passes_byte_for_byte(native: Any, stream: bool) -> None:
    app, upstream = native
    body = {"input": "hi", "model": "m", "stream": stream, "tools": [{"type": "web_search"}], "include": ["x"]}
    response = app.post("/v1/responses", json=body, buffered=True)
    assert response.data.removesuffix(b"data: [DONE]\n\n") == upstream.sent
    assert upstream.received[-1].path == "/v1/responses"
    assert upstream.received[-1].json == {**body, "model": "gpt-5"}


def test_a_conversation_goes_on_where_it_is_known(native: Any) -> None:
    app, upstream = native
    first = final_response(
        app.post("/v1/responses", json={"input": "One.", "model": "m", "stream": True}, buffered=True).data
    )
    second = {"input": "Two.", "model": "m", "previous_response_id": first["id"]}
    assert app.post("/v1/responses", json=second).status_code == 200
    assert upstream.received[-1].json == {**second, "model": "gpt-5"}


def test_another_provider_is_sent_the_conversation(native: Any) -> None:
    app, _ = native
    first = app.post("/v1/responses", json={"input": "say: One.", "model": "m"}).json
    body = {"input": "say: Two.", "provider": "demo", "previous_response_id": first["id"]}
    assert text_of(app.post("/v1/responses", json=body).json) == "Two."


@pytest.mark.parametrize("event", ["error", "response.failed"])
def test_a_failure_before_the_first_word_has_a_status(native: Any, event: str) -> None:
    app, upstream = native
    upstream.fails(event, after=2)
    response = app.post("/v1/responses", json={"input": "hi", "model": "m", "stream": True}, buffered=True)
    assert response.status_code == 502
    assert "secret of the vendor" not in response.text
    assert error(response.data)["code"] == "upstream_error"


@pytest.mark.parametrize("event", ["error", "response.failed", ""])
def test_a_failure_after_it_ends_the_stream_with_an_error(native: Any, event: str) -> None:
    """Numbered where the upstream has stopped; "" is a stream that breaks off."""
    app, upstream = native
    upstream.fails(event, after=5)
    response = app.post("/v1/responses", json={"input": "hi", "model": "m", "stream": True}, buffered=True)
    *_, answer, failed = events(response.data)
    assert (answer["type"], failed["type"]) == ("error", "response.failed")
    assert "secret of the vendor" not in response.text


def test_a_filler_wants_a_stream_of_ours(native: Any) -> None:
    """Bytes could not be put behind a phrase: then the chat endpoint of the same upstream is asked."""
    app, upstream = native
    body = {"input": "hi", "model": "m", "stream": True, "speech": True}
    assert app.post("/v1/responses", json=body, buffered=True).status_code == 200
    assert upstream.received[-1].path == "/v1/chat/completions"


def test_hanging_up_frees_such_an_upstream(native: Any) -> None:
    app, upstream = native
    upstream.stalls(after=5)
    heard = threading.Event()

    def listen() -> None:
        response = app.post("/v1/responses", json={"input": "hi", "model": "m", "stream": True})
        next(iter(response.response))
        heard.set()
        response.close()

    listener = threading.Thread(target=listen)
    listener.start()
    assert heard.wait(20)
    upstream.received[-1].wait_closed(20)
    listener.join(20)


# From the outside


def test_the_stream_of_a_stranger_to_our_types(client: OpenAI) -> None:
    """Bytes as they are on the wire: each event has its name, and the last line is [DONE]."""
    raw = client.responses.with_streaming_response.create(model="demo", input="say: Hi there.", stream=True)
    with raw as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert text_of(final_response(response.read())) == "Hi there."


def test_an_error_is_the_packages_own(client: OpenAI) -> None:
    with pytest.raises(APIError) as wrong:
        client.responses.create(model="demo", input="hi", background=True)
    assert wrong.value.param == "background"


def test_a_broken_stream_raises_in_the_package(serve: Callable[..., Served]) -> None:
    with OpenAIUpstream() as upstream:
        upstream.always(ScriptedAnswer(fault=faults.cut))
        app = serve(OPENAI_API_KEY=upstream.key, OPENAI_BASE_URL=upstream.base_url, RETRIES=0)
        with pytest.raises(APIError):
            list(app.client().responses.create(model="gpt-4o-mini", input="hi", stream=True))
