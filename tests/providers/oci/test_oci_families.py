"""Every family of models on OCI through the openai client: chat, streams, tools, pictures, formats, parameters.

The emulated OCI refuses whatever the SDK's models do not have, so an answer shows that the request was right.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import openai
import pytest

from app import create_app
from config import Settings
from tests.conftest import environment
from tests.emulators import ScriptedAnswer
from tests.emulators.answers import TEXTS
from tests.emulators.oci.keys import API_KEY
from tests.emulators.oci.server import OCIUpstream
from tests.emulators.openai.server import PIXEL
from tests.support.frames import chunks, finish, streamed_calls, streamed_text

WHOLE_TEXT = "".join(TEXTS)
HI = [{"role": "user", "content": "hi"}]
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}}
SEEN = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, PICTURE]}]
PLACE = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Bern", "Basel"]}}, "required": ["city"]}
NESTED = {
    "type": "object",
    "properties": {
        "place": {"$ref": "#/$defs/place"},
        "days": {"type": "array", "items": {"type": "integer"}},
        "unit": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["place"],
    "$defs": {"place": PLACE},
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "Its weather.", "parameters": PLACE}},
    {"type": "function", "function": {"name": "forecast", "parameters": NESTED}},
]
CALLS = [("call_1", "weather", ['{"ci', 'ty":"Bern"}']), ("call_2", "weather", ['{"city":', '"Basel"}'])]
FORMAT = {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE, "strict": True}}
EVERYTHING = {
    "temperature": 0.3,
    "top_p": 0.9,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.1,
    "seed": 7,
    "stop": "END",
    "max_completion_tokens": 9000,
    "user": "u",
    "metadata": {"a": "b"},
    "logit_bias": {"5": 1},
    "store": False,
    "parallel_tool_calls": True,
    "reasoning_effort": "low",
    "verbosity": "low",
    "service_tier": "auto",
    "logprobs": True,
    "top_logprobs": 2,
    "tools": TOOLS,
    "tool_choice": "auto",
}


class Family(NamedTuple):
    """A model of it, whether it sees, and what OpenAI's parameters are called there (style)."""

    model: str
    style: str = "GENERIC"
    sees: bool = True

    def __str__(self) -> str:
        return self.model


FAMILIES = [
    Family("openai.gpt-4.1"),
    Family("openai.gpt-5"),
    Family("openai.gpt-oss-120b", sees=False),
    Family("meta.llama-3.3-70b-instruct", sees=False),
    Family("meta.llama-4-maverick-17b-128e-instruct-fp8"),
    Family("xai.grok-4"),
    Family("google.gemini-2.5-flash"),
    Family("cohere.command-a-03-2025", "COHERE", sees=False),
    Family("cohere.command-a-vision", "COHEREV2"),
    Family("cohere.command-a-reasoning", "COHEREV2", sees=False),
    Family("reception-llama", sees=False),  # a dedicated endpoint, by its name
]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)


@pytest.fixture(scope="module")
def upstream() -> Iterator[OCIUpstream]:
    with OCIUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def app(upstream: OCIUpstream, tmp_path_factory: pytest.TempPathFactory) -> Any:
    settings = upstream.settings(tmp_path_factory.mktemp("oci"), PROVIDER_NAME="oci", RETRIES=0)
    return create_app(Settings.load(environment(**settings)))


@pytest.fixture(scope="module")
def client(app: Any) -> openai.OpenAI:
    transport = httpx2.WSGITransport(app=app)
    return openai.OpenAI(
        base_url="http://127.0.0.1/v1",
        api_key="unused",
        max_retries=0,
        http_client=httpx2.Client(transport=transport),
    )


def stream_chat(app: Any, model: str, **more: Any) -> bytes:
    """A stream's bytes."""
    body = {"model": model, "messages": HI, "stream": True, **more}
    response = app.test_client().post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.data
    data: bytes = response.data
    return data


def upstream_body(upstream: OCIUpstream) -> Any:
    return upstream.request_json(-1)["chatRequest"]


@every_family
def test_a_whole_answer(client: openai.OpenAI, upstream: OCIUpstream, family: Family) -> None:
    answer = client.chat.completions.create(model=family.model, messages=HI)
    assert answer.choices[0].message.content == WHOLE_TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage
    assert answer.usage.total_tokens == 33
    assert answer.model == family.model
    assert upstream_body(upstream)["apiFormat"] == family.style
    assert "isStream" not in upstream_body(upstream) or not upstream_body(upstream)["isStream"]


@every_family
def test_a_stream(app: Any, upstream: OCIUpstream, family: Family) -> None:
    """The text once, one finish, the usage when asked for, one end; and as it came, piece by piece."""
    data = stream_chat(app, family.model, stream_options={"include_usage": True})
    assert streamed_text(data) == WHOLE_TEXT
    assert finish(data) == "stop"
    found = chunks(data)
    pieces = [chunk["choices"][0]["delta"].get("content") for chunk in found if chunk["choices"]]
    assert [piece for piece in pieces if piece] == list(TEXTS)
    assert found[-1]["usage"]["completion_tokens"] == 14


@every_family
def test_one_call_and_several(app: Any, upstream: OCIUpstream, family: Family) -> None:
    """Each call at its own index, with an id of its own, and arguments that are JSON."""
    for calls in (CALLS[:1], CALLS, [CALLS[0], CALLS[0]]):
        for together in (False, True):
            upstream.enqueue(ScriptedAnswer(texts=["Let me see."], calls=unlike(calls), calls_together=together))
            data = stream_chat(app, family.model, tools=TOOLS)
            found = streamed_calls(data)
            assert [name for _, name, _ in found] == ["weather"] * len(calls)
            assert [arguments["city"] for *_, arguments in found] == [json.loads("".join(c[2]))["city"] for c in calls]
            assert len({identifier for identifier, *_ in found}) == len(calls)
            assert streamed_text(data) == "Let me see."
            assert finish(data) == "tool_calls"


def unlike(calls: list[Any]) -> list[Any]:
    """The same calls, with ids that are not."""
    return [(f"call_{number}", *call[1:]) for number, call in enumerate(calls)]


@every_family
def test_a_call_and_its_result(client: openai.OpenAI, upstream: OCIUpstream, family: Family) -> None:
    """The ids find their way back, also those that we made, and several results belong to their calls."""
    upstream.enqueue(ScriptedAnswer(calls=CALLS))
    answer = client.chat.completions.create(model=family.model, messages=HI, tools=TOOLS).choices[0]
    assert answer.finish_reason == "tool_calls"
    calls = answer.message.tool_calls or []
    assert len({call.id for call in calls}) == 2
    results = [{"role": "tool", "tool_call_id": call.id, "content": f"sun {call.id}"} for call in calls]
    history = [*HI, answer.message.model_dump(exclude_none=True), *results]
    last = client.chat.completions.create(model=family.model, messages=history, tools=TOOLS)
    assert last.choices[0].message.content == WHOLE_TEXT
    body = json.dumps(upstream_body(upstream))
    assert all(f"sun {call.id}" in body for call in calls)


@every_family
def test_a_tool_that_must_be_called(client: openai.OpenAI, upstream: OCIUpstream, family: Family) -> None:
    """Where a style has no word for it, its arguments are asked for as JSON; one of several cannot be asked for so."""
    named = {"type": "function", "function": {"name": "forecast"}}
    for choice in ("required", named, "none", "auto"):
        if choice == "required" and family.style == "COHERE":
            with pytest.raises(openai.BadRequestError) as refused:
                client.chat.completions.create(model=family.model, messages=HI, tools=TOOLS, tool_choice=choice)
            assert refused.value.param == "tool_choice"
            continue
        answer = client.chat.completions.create(model=family.model, messages=HI, tools=TOOLS, tool_choice=choice)
        calls = answer.choices[0].message.tool_calls
        if choice in ("none", "auto"):
            assert not calls
        else:
            assert calls
            assert choice == "required" or calls[0].function.name == "forecast"


@every_family
def test_a_picture(app: Any, upstream: OCIUpstream, family: Family) -> None:
    """Sent where the family sees, refused by the field's name where it would be lost; never fetched by us."""
    response = app.test_client().post("/v1/chat/completions", json={"model": family.model, "messages": SEEN})
    if family.sees:
        assert response.status_code == 200, response.data
        (part,) = [
            part for part in upstream_body(upstream)["messages"][0]["content"] if part["type"].startswith("IMAGE")
        ]
        assert part["imageUrl"] == {"url": PICTURE["image_url"]["url"], "detail": "LOW"}
    else:
        assert response.status_code == 400
        assert response.get_json()["error"]["param"].startswith("messages[0].content")


@every_family
@pytest.mark.parametrize("format_", [FORMAT, {"type": "json_object"}], ids=["schema", "object"])
def test_a_format(client: openai.OpenAI, upstream: OCIUpstream, family: Family, format_: dict[str, Any]) -> None:
    """JSON of a schema and of any."""
    upstream.enqueue(ScriptedAnswer(texts=['{"city":', '"Bern"}']))
    answer = client.chat.completions.create(model=family.model, messages=HI, response_format=format_)
    assert json.loads(answer.choices[0].message.content or "") == {"city": "Bern"}
    asked = upstream_body(upstream)["responseFormat"]
    if format_ is FORMAT:
        assert asked.get("schema", asked.get("jsonSchema", {}).get("schema")) == PLACE
    else:
        assert asked == {"type": "JSON_OBJECT"}


@every_family
def test_every_parameter_at_once(app: Any, upstream: OCIUpstream, family: Family) -> None:
    """None is lost that has a counterpart, none is sent that has not, and none is refused."""
    assert streamed_text(stream_chat(app, family.model, **EVERYTHING)) == WHOLE_TEXT
    body = upstream_body(upstream)
    assert (body["temperature"], body["topP"], body["seed"]) == (0.3, 0.9, 7)
    assert body["stop" if family.style == "GENERIC" else "stopSequences"] == ["END"]
    cap = "maxCompletionTokens" if family.model.startswith("openai.gpt-5") else "maxTokens"
    assert body[cap] == (9000 if family.style == "GENERIC" else 4000)
    assert len({"maxTokens", "maxCompletionTokens"} & body.keys()) == 1


@every_family
def test_thinking_is_heard_only_when_asked_for(app: Any, upstream: OCIUpstream, family: Family) -> None:
    if family.style == "COHERE":
        return  # has no such thing
    for asked in (False, True):
        upstream.enqueue(ScriptedAnswer(reasoning=["I", " think"], texts=["So."]))
        data = stream_chat(app, family.model, include_reasoning=asked)
        assert (b"reasoning_content" in data) == asked
        assert b"So." in data


def test_several_answers(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="xai.grok-4", messages=HI, n=3)
    assert [choice.message.content for choice in answer.choices] == [WHOLE_TEXT] * 3


@pytest.mark.parametrize("model", ["openai.gpt-4.1", "xai.grok-4"])
@pytest.mark.parametrize("key", [{}, {"OCI_API_KEY": API_KEY}], ids=["signed", "by key"])
def test_the_openai_path(upstream: OCIUpstream, tmp_path: Path, model: str, key: dict[str, str]) -> None:
    """OCI's own /openai/v1: passed through, signed or with a Generative AI API key; the compartment always told."""
    file = tmp_path / "models.yaml"
    file.write_text("providers: {oci: {api_format: OPENAI}}\n")
    settings = upstream.settings(tmp_path, PROVIDER_NAME="oci", MODELS_FILE=file, **key)
    app = create_app(Settings.load(environment(**settings)))
    data = stream_chat(app, model, stream_options={"include_usage": True}, tools=TOOLS)
    assert streamed_text(data) == WHOLE_TEXT
    received = upstream.received[-1]
    assert received.path == "/openai/v1/chat/completions"
    assert received.headers["Authorization"].startswith("Bearer" if key else "Signature")


@pytest.mark.parametrize("stream", [True, False])
def test_a_deployment_of_data_science(upstream: OCIUpstream, tmp_path: Path, stream: bool) -> None:
    """The kind `datascience`: signed, in OpenAI's dialect, and truly streamed."""
    file = tmp_path / "models.yaml"
    file.write_text(
        "- region: us-chicago-1\n"
        "  compartment_id: ocid1.compartment.oc1..aaaacompartment\n"
        "  models:\n"
        f"    datascience: [{{name: my-llama, endpoint: '{upstream.deployment}'}}]\n"
    )
    app = create_app(Settings.load(environment(**upstream.settings(tmp_path, MODELS_FILE=file))))
    response = app.test_client().post(
        "/v1/chat/completions", json={"model": "my-llama", "messages": HI, "stream": stream}
    )
    assert response.status_code == 200, response.data
    text = streamed_text(response.data) if stream else response.get_json()["choices"][0]["message"]["content"]
    assert text == WHOLE_TEXT
    assert upstream.received[-1].path.endswith("/predictWithResponseStream" if stream else "/predict")
