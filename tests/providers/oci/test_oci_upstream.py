"""The emulated OCI under the real SDK: what Oracle's own client makes of it, so that it mirrors no mistake of ours."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import oci
import pytest
import requests
from oci.auth.signers import InstancePrincipalsSecurityTokenSigner, SecurityTokenSigner
from oci.auth.signers.oke_workload_identity_resource_principal_signer import OkeWorkloadIdentityResourcePrincipalSigner
from oci.exceptions import ServiceError
from oci.generative_ai import GenerativeAiClient
from oci.generative_ai_inference import GenerativeAiInferenceClient, models

from tests.emulators import ScriptedAnswer, certificate
from tests.emulators.answers import TEXTS
from tests.emulators.oci.chat import error
from tests.emulators.oci.keys import API_KEY, COMPARTMENT, TENANCY, config, config_file, private_key, token
from tests.emulators.oci.lists import ENDPOINT, MODEL_ROWS, PAGE
from tests.emulators.oci.principals import POD_TOKEN, Surroundings
from tests.emulators.oci.server import OCIUpstream

LLAMA = "meta.llama-3.3-70b-instruct"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CALLS = [("call_1", "weather", ['{"ci', 'ty":"Bern"}']), ("call_2", "weather", ['{"city":"Basel"}'])]
ONCE = {
    "retry_strategy": oci.retry.NoneRetryStrategy(),
    "circuit_breaker_strategy": oci.circuit_breaker.NoCircuitBreakerStrategy(),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[OCIUpstream]:
    with OCIUpstream() as server:
        yield server


def client(upstream: OCIUpstream, **changes: Any) -> GenerativeAiInferenceClient:
    return made(upstream) if not changes else made.__wrapped__(upstream, **changes)


@cache
def made(upstream: OCIUpstream, **changes: Any) -> GenerativeAiInferenceClient:
    options = {"service_endpoint": upstream.url, **ONCE, **changes}
    return GenerativeAiInferenceClient(options.pop("config", config()), **options)


def on_demand(model: str) -> models.OnDemandServingMode:
    return models.OnDemandServingMode(model_id=model)


def details(request: models.BaseChatRequest, model: str = LLAMA) -> models.ChatDetails:
    return models.ChatDetails(compartment_id=COMPARTMENT, serving_mode=on_demand(model), chat_request=request)


def generic(**more: Any) -> models.GenericChatRequest:
    said = models.UserMessage(content=[models.TextContent(text="hi")])
    return models.GenericChatRequest(messages=[said], **more)


def function(**more: Any) -> models.FunctionDefinition:
    return models.FunctionDefinition(**{"name": "weather", "description": "d", "parameters": WEATHER, **more})


def events(response: Any) -> list[dict[str, Any]]:
    """A stream's events, as far as its finish where it stays open after it."""
    found: list[dict[str, Any]] = []
    for event in response.data.events():
        if event.data == "[DONE]":
            break
        found.append(json.loads(event.data))
        if found[-1].get("finishReason") and "apiFormat" in found[-1]:
            break
    response.data.close()
    return found


def refusal(upstream: OCIUpstream, request: Any, **changes: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        client(upstream, **changes).chat(request)
    return caught.value


def test_a_whole_answer(upstream: OCIUpstream) -> None:
    upstream.enqueue(ScriptedAnswer(reasoning=["I greet."], calls=CALLS))
    tools = [function()]
    result = client(upstream).chat(details(generic(tools=tools, tool_choice=models.ToolChoiceAuto()))).data
    (choice,) = result.chat_response.choices
    assert isinstance(result.chat_response, models.GenericChatResponse)
    assert choice.message.reasoning_content == "I greet."
    assert [(call.id, call.name, json.loads(call.arguments)) for call in choice.message.tool_calls] == [
        ("call_1", "weather", {"city": "Bern"}),
        ("call_2", "weather", {"city": "Basel"}),
    ]
    assert choice.finish_reason == "tool_calls"
    assert result.chat_response.usage.total_tokens == 33


def test_a_stream_with_usage(upstream: OCIUpstream) -> None:
    request = generic(is_stream=True, stream_options=models.StreamOptions(is_include_usage=True))
    *said, finish, usage = events(client(upstream).chat(details(request)))
    assert "".join(event["message"]["content"][0]["text"] for event in said) == "".join(TEXTS)
    assert finish["finishReason"] == "stop"
    assert usage["usage"]["completionTokens"] == 14
    assert len({event["pad"] for event in said}) > 1
    assert not {"id", "model", "modelId"} & set().union(*said)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("openai.gpt-4.1", [("call_1", ""), (None, '{"ci'), (None, 'ty":"Bern"}'), ("call_2", ""), (None, "...")]),
        (LLAMA, [("call_1", ""), ("call_1", '{"ci'), ("call_1", 'ty":"Bern"}'), ("call_2", ""), ("call_2", "...")]),
        ("xai.grok-4", [("call_1", '{"city":"Bern"}'), ("call_2", "...")]),
        ("google.gemini-2.5-flash", [(None, '{"city":"Bern"}'), (None, "...")]),
    ],
)
def test_how_each_family_streams_calls(upstream: OCIUpstream, model: str, expected: list[tuple[str, str]]) -> None:
    upstream.enqueue(ScriptedAnswer(calls=CALLS))
    heard = events(client(upstream).chat(details(generic(is_stream=True, tools=[function()]), model)))
    calls = [event["message"]["toolCalls"] for event in heard if "toolCalls" in event["message"]]
    assert all(len(each) == 1 for each in calls)
    last = '{"city":"Basel"}'
    found = [(call.get("id"), call["arguments"].replace(last, "...")) for (call,) in calls]
    assert found == expected


def test_cohere_says_it_twice_and_stays_open(upstream: OCIUpstream) -> None:
    request = models.CohereChatRequest(message="hi", is_stream=True)
    upstream.enqueue(ScriptedAnswer(calls=CALLS, texts=["Let", " me"]))
    *_, finish = heard = events(client(upstream).chat(details(request, "cohere.command-a-03-2025")))
    assert [event.get("text") for event in heard] == ["Let", " me", None, None, "Let me"]
    assert [call["parameters"]["city"] for call in finish["toolCalls"]] == ["Bern", "Basel"]
    assert finish["finishReason"] == "COMPLETE"
    whole = client(upstream).chat(details(models.CohereChatRequest(message="hi"), "cohere.command-a-03-2025")).data
    assert whole.chat_response.text == "".join(TEXTS)


def test_the_second_style_of_cohere(upstream: OCIUpstream) -> None:
    tools = [models.CohereToolV2(type="FUNCTION", function=models.Function(name="weather", parameters=WEATHER))]
    said = models.CohereUserMessageV2(content=[models.CohereTextContentV2(text="hi")])
    request = models.CohereChatRequestV2(messages=[said], tools=tools, tools_choice="REQUIRED")
    result = client(upstream).chat(details(request, "cohere.command-a-reasoning")).data
    assert result.chat_response.finish_reason == "TOOL_CALL"
    assert result.chat_response.message.tool_calls[0].function["name"] == "weather"


@pytest.mark.parametrize(
    ("request_", "model", "message"),
    [
        (generic(tools=[function(parameters={"$ref": "#/x"})]), LLAMA, "$ref"),
        (generic(max_tokens=5), "openai.gpt-5", "max_tokens"),
        (generic(tool_choice=models.ToolChoiceRequired()), LLAMA, "toolChoice"),
        (models.GenericChatRequest(messages=[models.UserMessage(content=[])]), LLAMA, "without content"),
        (models.CohereChatRequest(message="hi"), LLAMA, "COHERE"),
        (models.CohereChatRequest(message="hi", max_tokens=4001), "cohere.command-a-03-2025", "maxTokens"),
    ],
)
def test_what_a_model_does_not_take(upstream: OCIUpstream, request_: Any, model: str, message: str) -> None:
    assert refusal(upstream, details(request_, model)).status == 400
    assert message in upstream.complaints[-1]


def test_a_result_must_belong_to_a_call(upstream: OCIUpstream) -> None:
    """An id that is lost on the way back is OCI's "toolCallId not found"."""
    result = models.ToolMessage(tool_call_id="call_9", content=[models.TextContent(text="sun")])
    said = [models.UserMessage(content=[models.TextContent(text="hi")]), result]
    assert "toolCallId not found" in refusal(upstream, details(models.GenericChatRequest(messages=said))).message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("chatRequest.stream", True),
        ("chatRequest.topK", "five"),
        ("chatRequest.temperature", None),
        ("chatRequest.messages.0.role", "user"),
        ("chatRequest.messages.0.content.0.type", "INPUT_TEXT"),
        ("chatRequest.messages.0.content", "hi"),
        ("chatRequest.reasoningEffort", "XHIGH"),
        ("chatRequest.responseFormat", {"type": "JSON_SCHEMA", "jsonSchema": {"name": "n", "strict": True}}),
        ("chatRequest.tools", [{"type": "FUNCTION", "function": {"name": "n"}}]),
        ("servingMode.servingType", "on_demand"),
        ("compartment_id", COMPARTMENT),
    ],
)
def test_unknown_fields_are_refused_anywhere(upstream: OCIUpstream, path: str, value: Any) -> None:
    body = client(upstream).base_client.sanitize_for_serialization(details(generic()), "ChatDetails")
    place: Any = body
    *way, last = path.split(".")
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    url = f"{upstream.url}/20231130/actions/chat"
    response = requests.post(url, json=body, auth=oci.Signer(**signer_options()), timeout=5)
    assert response.status_code == 400
    assert response.json() == {"code": "400", "message": "Please pass in correct format of request."}
    assert upstream.complaints[-1].startswith("." + way[0] if way else "." + last)


def signer_options() -> dict[str, Any]:
    found = config()
    content = found.pop("key_content")
    del found["region"]
    return {**found, "private_key_file_location": None, "private_key_content": content}


def test_errors_in_both_spellings(upstream: OCIUpstream) -> None:
    failure = error(400, message="No such value.", inner=("reasoning_effort", "unsupported_value"))
    upstream.enqueue(
        ScriptedAnswer(status=429),
        ScriptedAnswer(status=500, error=error(500, named=True)),
        ScriptedAnswer(status=400, error=failure),
    )
    throttled = refusal(upstream, details(generic()))
    assert (throttled.status, throttled.code) == (429, "429")
    assert "Retry-After" not in throttled.headers
    assert throttled.request_id
    assert refusal(upstream, details(generic())).code == "InternalServerError"
    inner = json.loads(refusal(upstream, details(generic())).message)
    assert inner["error"]["param"] == "reasoning_effort"


@pytest.mark.parametrize(
    ("model", "compartment", "code"),
    [("meta.llama-9", COMPARTMENT, "404"), (LLAMA, f"{COMPARTMENT}x", "NotAuthorizedOrNotFound")],
)
def test_what_is_not_there(upstream: OCIUpstream, model: str, compartment: str, code: str) -> None:
    asked = details(generic(), model)
    asked.compartment_id = compartment
    refused = refusal(upstream, asked)
    assert (refused.status, refused.code) == (404, code)


@pytest.mark.parametrize(
    "changes",
    [
        {"config": config(fingerprint="00:" * 15 + "00")},
        {"config": {"region": "us-chicago-1"}, "signer": SecurityTokenSigner("x.y.z", private_key())},
        {"config": {"region": "us-chicago-1"}, "signer": SecurityTokenSigner(token(private_key(), -10), private_key())},
        {
            "config": {"region": "us-chicago-1"},
            "signer": SecurityTokenSigner(token(private_key("session")), private_key()),
        },
    ],
    ids=["fingerprint", "no token", "expired", "another's token"],
)
def test_who_is_not_let_in(upstream: OCIUpstream, changes: dict[str, Any]) -> None:
    refused = refusal(upstream, details(generic()), **changes)
    assert (refused.status, refused.code) == (401, "NotAuthenticated")


def test_a_changed_body_is_noticed(upstream: OCIUpstream) -> None:
    request = requests.Request("POST", f"{upstream.url}/20231130/actions/chat", json={"a": 1}).prepare()
    signed = oci.Signer(**signer_options())(request)
    signed.body = b'{"a": 2}'
    response = requests.Session().send(signed, timeout=5)
    assert response.status_code == 401


def test_a_session_token_is_let_in(upstream: OCIUpstream) -> None:
    signer = SecurityTokenSigner(token(private_key("session")), private_key("session"))
    assert client(upstream, config={"region": "us-chicago-1"}, signer=signer).chat(details(generic())).status == 200


def test_embeddings_and_ranks(upstream: OCIUpstream) -> None:
    asked = models.EmbedTextDetails(
        inputs=["a", "b"],
        serving_mode=on_demand("cohere.embed-v4.0"),
        compartment_id=COMPARTMENT,
        output_dimensions=256,
    )
    found = client(upstream).embed_text(asked).data
    assert [len(vector) for vector in found.embeddings] == [256, 256]
    assert found.usage.total_tokens == 2
    asked.inputs = ["a"] * 97
    with pytest.raises(ServiceError):
        client(upstream).embed_text(asked)
    ranked = models.RerankTextDetails(
        input="when do you open",
        documents=["no", "we open at nine"],
        top_n=1,
        serving_mode=on_demand("cohere.rerank-v4.0-fast"),
        compartment_id=COMPARTMENT,
    )
    (rank,) = client(upstream).rerank_text(ranked).data.document_ranks
    assert rank.index == 1


def test_the_lists(upstream: OCIUpstream) -> None:
    management = GenerativeAiClient(config(), service_endpoint=upstream.url, **ONCE)
    assert len(management.list_models(TENANCY).data.items) == PAGE
    rows = oci.pagination.list_call_get_all_results(management.list_models, TENANCY).data
    assert len(rows) == len(MODEL_ROWS)
    assert rows[3].time_on_demand_retired.year == 2025
    chats = oci.pagination.list_call_get_all_results(management.list_models, TENANCY, capability=["CHAT"]).data
    assert 0 < len(chats) < len(rows)
    endpoints = management.list_endpoints(COMPARTMENT).data.items
    assert next(each.id for each in endpoints if each.lifecycle_state == "ACTIVE") == ENDPOINT


def test_an_instance_and_a_pod_get_tokens(
    upstream: OCIUpstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Surroundings() as around:
        monkeypatch.setenv("OCI_METADATA_BASE_URL", around.metadata)
        instance = InstancePrincipalsSecurityTokenSigner(federation_endpoint=around.federation)
    with Surroundings(tls=True) as around:

        class Provider:
            def get_sa_token(self) -> str:
                return POD_TOKEN

        pod = OkeWorkloadIdentityResourcePrincipalSigner(
            Provider(), str(certificate()[0]), "127.0.0.1", around.port, retry_strategy=oci.retry.NoneRetryStrategy()
        )
    for signer in (instance, pod):
        answer = client(upstream, config={"region": "us-chicago-1"}, signer=signer).chat(details(generic()))
        assert answer.status == 200


def test_a_deployment_and_the_openai_path(upstream: OCIUpstream) -> None:
    body = {"model": "odsc-llm", "messages": [{"role": "user", "content": "hi"}]}
    signed = oci.Signer(**signer_options())
    whole = requests.post(upstream.deployment, json=body, auth=signed, timeout=5)
    assert whole.json()["choices"][0]["message"]["content"] == "".join(TEXTS)
    streaming = {**body, "stream": True}
    assert requests.post(upstream.deployment, json=streaming, auth=signed, timeout=5).status_code == 409
    stream = requests.post(f"{upstream.deployment}WithResponseStream", json=streaming, auth=signed, timeout=5)
    assert stream.text.endswith("data: [DONE]\n\n")
    key = {"Authorization": f"Bearer {API_KEY}"}
    asked = {**body, "model": "xai.grok-4"}
    assert (
        requests.post(f"{upstream.openai_url}/chat/completions", json=asked, headers=key, timeout=5).status_code == 404
    )
    placed = {**key, "opc-compartment-id": COMPARTMENT}
    answer = requests.post(f"{upstream.openai_url}/chat/completions", json=asked, headers=placed, timeout=5)
    assert answer.json()["object"] == "chat.completion"


def test_the_config_file_is_the_sdks(upstream: OCIUpstream, tmp_path: Path) -> None:
    found = oci.config.from_file(str(config_file(tmp_path, passphrase="secret")), "DEFAULT")
    assert client(upstream, config=found).chat(details(generic())).status == 200
