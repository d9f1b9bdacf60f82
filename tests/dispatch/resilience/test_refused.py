"""A refused parameter never costs a call: it is left out, and for a while not sent to that model again."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.context import CallContext
from core.errors import UpstreamRejected
from core.events import AnswerStart, Events, Finish, Text
from core.requests import ChatRequest
from dispatch.resilience.refused_parameters import RefusedParameters, without
from providers.base import ParameterRules, Provider, Target
from providers.transport.status_errors import error_from_response
from tests.conftest import environment
from tests.dispatch.sources.test_vendor_rows import answer_of
from tests.emulators import ScriptedAnswer
from tests.emulators.connection import Connection, Received
from tests.emulators.dialects import DIALECTS, Dialect
from tests.emulators.oci.server import OCIUpstream
from tests.emulators.openai.server import OpenAIUpstream
from tests.emulators.server import Server
from tests.support.clock import ManualClock

HI = [{"role": "user", "content": "hi"}]
OPENAI_SETTINGS = {"RETRIES": 0, "BREAKER_FAILURES": 1000}


def openais(name: str, code: str = "unsupported_parameter", said: str = "") -> dict[str, Any]:
    said = said or f"Unsupported parameter: '{name}' is not supported with this model."
    return {"error": {"message": said, "type": "invalid_request_error", "param": name, "code": code}}


def pydantics(*names: str, kind: str = "extra_forbidden", said: str = "Extra inputs are not permitted") -> Any:
    return [{"type": kind, "loc": ["body", *name.split("/")], "msg": said, "input": 1} for name in names]


WORDS: Mapping[str, tuple[int, Callable[[str], Any]]] = {
    "OpenAI, unsupported_parameter": (400, openais),
    "OpenAI, unsupported_value": (
        400,
        lambda name: openais(name, "unsupported_value", f"Unsupported value: '{name}' does not support 0.7 here."),
    ),
    "OpenAI, unknown": (400, lambda name: openais(name, "unknown_parameter", f"Unknown parameter: '{name}'.")),
    "no param": (
        400,
        lambda name: {"error": {"message": f"Unrecognized request argument supplied: {name}", "code": None}},
    ),
    "FastAPI": (422, lambda name: {"detail": pydantics(name)}),
    "Mistral, an object": (
        422,
        lambda name: {"object": "error", "message": {"detail": pydantics(name)}, "type": "invalid_request_error"},
    ),
    "Mistral, a list": (422, lambda name: {"object": "Error", "message": pydantics(name), "code": 3001}),
    "Mistral, a text": (
        422,
        lambda name: {"object": "error", "message": json.dumps({"detail": pydantics(name)}), "code": "1000"},
    ),
    "Groq": (400, lambda name: {"error": {"message": f"property '{name}' is unsupported", "code": None}}),
    "xAI": (
        400,
        lambda name: {
            "code": "Client specified an invalid argument",
            "error": f"Model m does not support parameter {camel(name)}.",
        },
    ),
    "Google": (
        400,
        lambda name: {
            "error": {
                "code": 400,
                "message": f'Invalid JSON payload received. Unknown name "{camel(name)}": Cannot find field.',
            }
        },
    ),
}
"""How vendors say that they do not take a parameter."""


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


@contextmanager
def refusing(refused: Mapping[str, Any], words: str) -> Iterator[Server]:
    """A server that refuses what `refused` names: a parameter, with any value or with one."""
    status, words_of_error = WORDS[words]

    def handle(connection: Connection, received: Received) -> None:
        body = json.loads(received.body)
        for name, value in refused.items():
            if name in body and value in (None, body[name]):
                connection.send(answer_of("application/json", json.dumps(words_of_error(name)), f"{status} No"))
                return
        choice = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
        whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        connection.send(answer_of("application/json", json.dumps(whole)))

    with Server(handle) as server:
        yield server


def requests_to(server: Server) -> list[dict[str, Any]]:
    return [json.loads(each.body) for each in server.received]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("name", ["temperature", "top_p", "presence_penalty", "seed", "stop", "logprobs"])
def test_a_refused_parameter_is_left_out_and_not_sent_again(
    app_with: Callable[..., Any], words: str, name: str, stream: bool
) -> None:
    if words == "no param" and name in ("seed", "stop"):
        pytest.skip("those are words of English too; a sentence must say that a parameter is meant")
    values = {"stop": ["x"], "seed": 7, "logprobs": True}
    body = {"model": "m", "messages": HI, "stream": stream, name: values.get(name, 0.7)}
    with refusing({name: None}, words) as server:
        client = app_with(TOGETHER_API_KEY="k", TOGETHER_BASE_URL=server.url + "/v1", **OPENAI_SETTINGS)
        for number in (2, 3):
            response = client.post("/v1/chat/completions", json=body, buffered=True)
            assert response.status_code == 200, response.data
            assert b"hello" in response.data
            assert len(server.received) == number
        assert name in requests_to(server)[0]
        assert all(name not in each for each in requests_to(server)[1:])


@pytest.mark.parametrize("words", ["OpenAI, unsupported_parameter", "FastAPI", "xAI"])
def test_several_are_left_out_one_after_the_other(app_with: Callable[..., Any], words: str) -> None:
    """A voice platform's temperature and max_tokens, at a model that takes neither."""
    with refusing({"max_tokens": None, "temperature": None}, words) as server:
        client = app_with(AZURE_API_KEY="k", AZURE_BASE_URL=server.url + "/v1", **OPENAI_SETTINGS)
        body = {"model": "my-deployment", "messages": HI, "temperature": 0.7, "max_tokens": 50}
        for number in (3, 4):
            assert client.post("/v1/chat/completions", json=body).status_code == 200
            assert len(server.received) == number
        last = requests_to(server)[-1]
    assert last["max_completion_tokens"] == 50
    assert not {"max_tokens", "temperature"} & last.keys()


def test_a_validator_may_name_several_at_once(app_with: Callable[..., Any]) -> None:
    def handle(connection: Connection, received: Received) -> None:
        wrong = json.loads(received.body).keys() & {"store", "user", "max_tokens"}
        error = {"detail": pydantics(*sorted(wrong))}
        whole = {"id": "c", "choices": [{"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}]}
        status = "422 No" if wrong else "200 OK"
        connection.send(answer_of("application/json", json.dumps(error if wrong else whole), status))

    with Server(handle) as server:
        client = app_with(VLLM_BASE_URL=server.url, **OPENAI_SETTINGS)
        body = {"model": "m", "messages": HI, "store": False, "user": "u", "max_tokens": 5}
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        assert len(server.received) == 2
        assert requests_to(server)[1]["max_completion_tokens"] == 5


@pytest.mark.parametrize(
    ("refused", "given", "left"),
    [
        (["max_tokens"], "max_tokens", {"max_completion_tokens"}),
        (["max_completion_tokens"], "max_completion_tokens", {"max_tokens"}),
        (["max_completion_tokens", "max_tokens"], "max_completion_tokens", set()),
        (["max_tokens", "max_completion_tokens"], "max_tokens", set()),
    ],
)
@pytest.mark.parametrize("vendor", ["azure", "deepseek", "together"])
def test_a_cap_goes_by_its_other_name_first(
    app_with: Callable[..., Any], vendor: str, refused: list[str], given: str, left: set[str]
) -> None:
    with refusing(dict.fromkeys(refused), "OpenAI, unsupported_parameter") as server:
        stem = vendor.upper()
        settings = {f"{stem}_API_KEY": "k", f"{stem}_BASE_URL": server.url + "/v1"}
        client = app_with(**settings, **OPENAI_SETTINGS)
        for _ in range(2):
            response = client.post("/v1/chat/completions", json={"model": "m", "messages": HI, given: 50})
            assert response.status_code == 200, response.data
        caps = {name for name in requests_to(server)[-1] if name.startswith("max_")}
    if vendor == "deepseek" and refused == ["max_completion_tokens"]:
        left = {"max_tokens"}
    assert caps == left


def test_a_word_that_is_refused_does_not_cost_the_others(app_with: Callable[..., Any]) -> None:
    """gpt-5 takes no effort of `none`, and takes `low`."""
    with refusing({"reasoning_effort": "none"}, "OpenAI, unsupported_value") as server:
        client = app_with(TOGETHER_API_KEY="k", TOGETHER_BASE_URL=server.url + "/v1", **OPENAI_SETTINGS)
        for effort in ("none", "none", "low"):
            body = {"model": "m", "messages": HI, "reasoning_effort": effort}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        assert [each.get("reasoning_effort") for each in requests_to(server)] == ["none", None, None, "low"]


def test_usage_is_not_asked_of_who_refuses_to_count(app_with: Callable[..., Any]) -> None:
    """`stream_options` is ours, where the caller has not asked."""
    with refusing({"stream_options": None}, "FastAPI") as server:
        client = app_with(LMSTUDIO_BASE_URL=server.url, **OPENAI_SETTINGS)
        for _ in range(2):
            body = {"model": "m", "messages": HI, "stream": True}
            assert client.post("/v1/chat/completions", json=body, buffered=True).status_code == 200
        assert ["stream_options" in each for each in requests_to(server)] == [True, False, False]


CALLERS_OWN: list[tuple[int, Any, str]] = [
    (
        400,
        openais("temperature", "decimal_above_max_value", "Invalid 'temperature': decimal above maximum value."),
        "temperature",
    ),
    (400, openais("max_tokens", "integer_below_min_value", "Invalid 'max_tokens': below minimum."), "max_tokens"),
    (400, openais("temperature", "invalid_type", "Invalid type for 'temperature': expected a decimal."), "temperature"),
    (
        422,
        {"detail": pydantics("temperature", kind="less_than_equal", said="Input should be less than or equal to 1.5")},
        "temperature",
    ),
    (
        422,
        {"detail": pydantics("max_tokens", kind="greater_than", said="Input should be greater than 0")},
        "max_tokens",
    ),
    (
        400,
        openais("messages[0].role", "unsupported_value", "Unsupported value: 'messages[0].role'."),
        "messages[0].role",
    ),
    (400, openais("response_format", "unsupported_parameter"), "response_format"),
    (400, openais("tools", "unsupported_parameter"), "tools"),
    (
        400,
        openais("tools[0].function.parameters", "invalid_function_parameters", "'temperature' is not permitted."),
        "tools[0].function.parameters",
    ),
    (422, {"detail": pydantics("response_format")}, "response_format"),
    (422, {"detail": pydantics("messages/0/user/temperature")}, "messages.0.user.temperature"),
    (400, {"error": {"message": "Invalid schema for function 'f': property 'temperature' is not permitted."}}, ""),
    (400, {"error": {"message": "temperature must be between 0 and 2; other values are not supported."}}, ""),
    (400, {"error": {"message": "Images are not supported by this model.", "code": None}}, ""),
    (400, {"error": {"message": "The user is not supported in this country.", "code": None}}, ""),
]
"""Refusals of a value, and of what is no tuning."""


@pytest.mark.parametrize(("status", "error", "param"), CALLERS_OWN, ids=str)
def test_what_is_the_callers_to_mend_is_asked_once(
    app_with: Callable[..., Any], status: int, error: Any, param: str
) -> None:
    def handle(connection: Connection, received: Received) -> None:
        connection.send(answer_of("application/json", json.dumps(error), f"{status} No"))

    with Server(handle) as server:
        client = app_with(TOGETHER_API_KEY="k", TOGETHER_BASE_URL=server.url + "/v1", **OPENAI_SETTINGS)
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        body = {"model": "m", "messages": HI, "temperature": 9, "max_tokens": 5, "user": "u", "tools": [tool]}
        body["response_format"] = {"type": "json_object"}
        response = client.post("/v1/chat/completions", json=body)
        assert response.status_code == status
        assert len(server.received) == 1
        if param:
            assert response.get_json()["error"]["param"] in (param, "messages[0].user.temperature")


def test_nothing_is_left_out_after_the_first_word() -> None:
    """What was said cannot be said again."""
    asked: list[ChatRequest] = []

    class Late(Provider):
        name = "late"

        def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
            asked.append(request)
            yield Text("hello")
            raise refusal("temperature")

    with pytest.raises(UpstreamRejected):
        list(RefusedParameters(3600).chat(request(), Target(Late(), "m"), CallContext()))
    assert len(asked) == 1


def refusal(name: str) -> UpstreamRejected:
    error = error_from_response("v", 400, {}, json.dumps(openais(name)).encode())
    assert isinstance(error, UpstreamRejected)
    return error


def request(**more: Any) -> ChatRequest:
    return ChatRequest({"model": "m", "messages": HI, "temperature": 0.7, **more}, "m")


class Picky(Provider):
    """Refuses a temperature, after a while."""

    name = "picky"

    def __init__(self) -> None:
        self.asked: list[bool] = []

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        self.asked.append("temperature" in request.body)
        yield AnswerStart()
        if "temperature" in request.body:
            raise refusal("temperature")
        yield Text("hello")
        yield Finish("stop")


def test_it_is_remembered_for_a_while_and_tried_again_then() -> None:
    clock, picky = ManualClock(), Picky()
    refused = RefusedParameters(3600, clock.now)
    for seconds, tries in ((0, [True, False]), (3599, [False]), (1, [True, False]), (3400, [False])):
        clock.advance(seconds)
        picky.asked = []
        assert [each for each in refused.chat(request(), Target(picky, "m"), CallContext()) if isinstance(each, Text)]
        assert picky.asked == tries, clock.now()
    picky.asked = []
    list(refused.chat(request(), Target(picky, "another"), CallContext()))
    assert picky.asked == [True, False], "another model may take it"


def test_0_passes_refusals_on() -> None:
    picky = Picky()
    with pytest.raises(UpstreamRejected):
        list(RefusedParameters(0).chat(request(), Target(picky, "m"), CallContext()))
    assert picky.asked == [True]


def test_what_a_models_own_rules_add_is_left_out_too() -> None:
    """A temperature that models.yaml gives to every request is refused like a caller's."""
    sent: list[dict[str, Any]] = []

    class Ruled(Provider):
        name = "ruled"

        def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
            sent.append(target.rules.apply(request.body))
            if "temperature" in sent[-1]:
                raise refusal("temperature")
            yield Text("hello")

    target = Target(Ruled(), "m", rules=ParameterRules(add={"temperature": 0.3}))
    asked = ChatRequest({"model": "m", "messages": HI}, "m")
    assert list(RefusedParameters(3600).chat(asked, target, CallContext())) == [Text("hello")]
    assert ["temperature" in each for each in sent] == [True, False]


def test_an_upstream_cannot_have_more_left_out_than_tuning() -> None:
    body = {"error": {"message": "No.", "refused": ["messages", "tools", "seed"]}}
    error = error_from_response("v", 400, {}, json.dumps(body).encode())
    assert isinstance(error, UpstreamRejected)
    assert error.refused == ("seed",)


def test_so_many_models_are_remembered_and_no_more() -> None:
    refused = RefusedParameters(3600)
    for number in range(1100):
        list(refused.chat(request(), Target(Picky(), f"m{number}"), CallContext()))
    assert len(refused._known) == 1000


def test_a_request_without_them_is_itself() -> None:
    asked = request()
    assert without(asked, frozenset({("top_p", None)})) is asked
    assert without(asked, frozenset({("temperature", None)})).body == {"model": "m", "messages": HI}
    assert asked.body["temperature"] == 0.7


def test_the_log_says_it_once(serve: Callable[..., Any]) -> None:
    with refusing({"temperature": None}, "OpenAI, unsupported_parameter") as server:
        app = serve(TOGETHER_API_KEY="k", TOGETHER_BASE_URL=server.url + "/v1")
        for _ in range(3):
            app.client().chat.completions.create(model="m", messages=HI, temperature=0.7)
        app.logged("parameters are refused, and left out from now on .*target=together/m .*temperature")
        assert app.log().count("parameters are refused") == 1
        assert len(server.received) == 4


IN_THEIR_WORDS = {
    "anthropic": {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "top_p: Extra inputs are not permitted"},
    },
    "gemini": {"error": {"code": 400, "message": "topP is not supported by this model.", "status": "INVALID_ARGUMENT"}},
    "cohere": {"message": "parameter 'p' or top_p is not supported by this model"},
}


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_every_dialect_leaves_out_what_is_refused(app_with: Callable[..., Any], dialect: Dialect) -> None:
    """OpenAI's models on OCI say it in OpenAI's words, inside OCI's message."""
    inner = openais("top_p")
    error: Any = IN_THEIR_WORDS.get(dialect.name.partition(" ")[0], inner)
    with dialect.upstream() as upstream:
        if "OCI_REGION" in dialect.settings(upstream) or "oci" in dialect.name:
            error = {"code": "400", "message": json.dumps(inner)}
        client = app_with(**OPENAI_SETTINGS, **dialect.settings(upstream))
        upstream.enqueue(ScriptedAnswer(status=400, error=error))
        before = len([each for each in upstream.received if each.method == "POST"])
        body = {"model": dialect.model, "provider": dialect.name, "messages": HI, "top_p": 0.9}
        response = client.post("/v1/chat/completions", json=body)
        assert response.status_code == 200, response.data
        posts = [each.body for each in upstream.received if each.method == "POST"][before:]
    assert len(posts) == 2
    assert b"0.9" in posts[0]
    assert b"0.9" not in posts[1]


@pytest.mark.parametrize("model", ["openai.gpt-oss-120b", "openai.gpt-5", "xai.grok-4"])
def test_a_cap_on_oci_goes_by_its_other_name(app_with: Callable[..., Any], model: str) -> None:
    """GENERIC: as maxCompletionTokens, whether that is known of the model or learned."""
    dialect = next(each for each in DIALECTS if each.name == "oci")
    with dialect.upstream() as upstream:
        client = app_with(**OPENAI_SETTINGS, **dialect.settings(upstream))
        upstream.enqueue(
            ScriptedAnswer(status=400, error={"code": "400", "message": json.dumps(openais("max_tokens"))})
        )
        response = client.post("/v1/chat/completions", json={"model": model, "messages": HI, "max_tokens": 50})
        assert response.status_code == 200, response.data
        sent = [json.loads(each.body) for each in upstream.received if each.method == "POST"]
    assert sent[-1]["chatRequest"]["maxCompletionTokens"] == 50


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_ocis_door_in_openais_dialect_learns_too(app_with: Callable[..., Any], tmp_path: Path, stream: bool) -> None:
    models = tmp_path / "models.yaml"
    models.write_text("models: [{name: new, provider: oci, model: xai.grok-4, api_format: OPENAI}]")
    with OCIUpstream() as upstream:
        client = app_with(**OPENAI_SETTINGS, **upstream.settings(tmp_path, MODELS_FILE=models))
        upstream.enqueue(
            ScriptedAnswer(status=400, error=openais("max_tokens")),
            ScriptedAnswer(status=400, error=openais("temperature", "unsupported_value")),
            path="/chat/completions",
        )
        left = {"role": "assistant", "content": "a", "reasoning_content": "t", "annotations": []}
        messages = [*HI, left, *HI]
        body = {"model": "new", "messages": messages, "max_tokens": 50, "temperature": 0.7, "stream": stream}
        for _ in range(2):
            response = client.post("/v1/chat/completions", json=body, buffered=True)
            assert response.status_code == 200, response.data
        sent = [json.loads(each.body) for each in upstream.received if each.method == "POST"]
    assert len(sent) == 4
    assert sent[-1]["max_completion_tokens"] == 50
    assert not {"max_tokens", "temperature"} & sent[-1].keys()
    assert sent[-1]["messages"][1] == {"role": "assistant", "content": "a"}


def test_an_error_in_a_stream_is_read_as_one_with_a_status(app_with: Callable[..., Any]) -> None:
    """Some servers have sent a 200 before they look at the parameters."""

    def handle(connection: Connection, received: Received) -> None:
        body = json.loads(received.body)
        frames: list[Any] = [openais("temperature")]
        if "temperature" not in body:
            envelope = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
            delta = {"role": "assistant", "content": "hello"}
            frames = [{**envelope, "choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]}]
        data = "".join(f"data: {json.dumps(frame)}\n\n" for frame in frames) + "data: [DONE]\n\n"
        connection.send(answer_of("text/event-stream", data))

    with Server(handle) as server:
        client = app_with(VLLM_BASE_URL=server.url, **OPENAI_SETTINGS)
        body = {"model": "m", "messages": HI, "temperature": 0.7, "stream": True}
        response = client.post("/v1/chat/completions", json=body, buffered=True)
        assert b"hello" in response.data
        assert len(server.received) == 2


def test_the_setting_turns_it_off(app_with: Callable[..., Any], upstream: OpenAIUpstream) -> None:
    assert "REFUSED_PARAMETER_TTL" not in environment()
    client = app_with(**upstream.settings(), REFUSED_PARAMETER_TTL=0)
    upstream.enqueue(ScriptedAnswer(status=400, error=openais("temperature")))
    body = {"model": "gpt-4o-mini", "messages": HI, "temperature": 0.7}
    response = client.post("/v1/chat/completions", json=body)
    assert (response.status_code, response.get_json()["error"]["param"]) == (400, "temperature")
