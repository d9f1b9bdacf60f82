"""OCI as a provider: when it is configured, its addresses, kept connections, cancellation and errors."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.context import CallContext
from core.errors import Cancelled, UpstreamAuthFailed, UpstreamDown
from core.events import Finish, Text
from core.requests import ChatRequest
from dispatch.sources import oci as entries
from providers.base import Target
from providers.oci import client as service
from providers.oci.auth import Login
from providers.oci.client import Location, OciClient
from providers.oci.provider import OCI
from providers.transport import exchange
from tests.conftest import Served, until
from tests.emulators import ScriptedAnswer, faults, oddities
from tests.emulators.oci.keys import API_KEY, COMPARTMENT, REGION, SECOND_COMPARTMENT, TENANCY, config, config_file
from tests.emulators.oci.lists import ENDPOINT
from tests.emulators.oci.server import OCIUpstream
from tests.support.frames import chat_body, chunks, payloads, post, streamed_text
from tests.support.http import HI, openai_error

GENERIC, COHERE, V2 = "meta.llama-3.3-70b-instruct", "cohere.command-a-03-2025", "cohere.command-a-vision"
RUNNING = ScriptedAnswer(texts=["word "] * 500, frame_delay=0.02)
EACH_STYLE = pytest.mark.parametrize("model", [GENERIC, COHERE, V2], ids=["GENERIC", "COHERE", "COHEREV2"])


@pytest.fixture(scope="module")
def upstream() -> Iterator[OCIUpstream]:
    with OCIUpstream() as server:
        yield server


@pytest.fixture
def client(upstream: OCIUpstream, app_with: Callable[..., Any], tmp_path: Path) -> Any:
    upstream.forget()
    return app_with(**upstream.settings(tmp_path, PROVIDER_NAME="oci", HEARTBEAT=0.1))


def chat(client: Any, model: str, **more: Any) -> Any:
    return client.post("/v1/chat/completions", json={"model": model, "messages": HI, **more})


# when it is one


def entry(**given: Any) -> Any:
    return entries.entry("oci", {}, {}, given)


@pytest.mark.parametrize(
    "settings",
    [
        {"OCI_REGION": REGION},
        {"OCI_CONFIG_REGION": REGION},
        {"OCI_COMPARTMENT": "c"},
        {"OCI_CONFIG_PROFILE": "WORK"},
        {"OCI_CONFIG_FILE": "/etc/oci"},
        {"AUTH_TYPE": "instance_principal"},
        {"OCI_API_KEY": "sk-1"},
    ],
)
def test_it_is_there_once_anything_is_said_of_it(app_with: Callable[..., Any], settings: dict[str, str]) -> None:
    """OCI is the default then; no file is read and no service is asked for that."""
    found = app_with(**settings).get("/v1/providers").get_json()
    assert found["default"] == "oci"
    row = next(row for row in found["providers"] if row["name"] == "oci")
    assert row == {"name": "oci", "available": True, "default_model": entries.DEFAULT_MODEL}


def test_it_is_not_there_unasked(app_with: Callable[..., Any]) -> None:
    error = openai_error(chat(app_with(), COHERE), 400)
    assert error["code"] == "provider_not_configured"
    assert "OCI_REGION" in error["message"]


def test_a_configuration_file_at_its_usual_place_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert entry().missing
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".oci").mkdir()
    assert entry().missing
    config_file(tmp_path / ".oci")
    assert entry().available


@pytest.mark.parametrize(
    ("given", "setting"),
    [
        ({"api_key": "two words"}, "OCI_API_KEY"),
        ({"base_url": "inference.example"}, "OCI_SERVICE_ENDPOINT"),
        ({"region": "us chicago"}, "OCI_REGION"),
        ({"compartment": "\u201cocid1.compartment.oc1..a\u201d"}, "OCI_COMPARTMENT"),
    ],
)
def test_what_can_never_be_used_stops_the_start(given: dict[str, str], setting: str) -> None:
    with pytest.raises(ValueError, match=setting) as caught:
        entry(**given)
    assert "two words" not in str(caught.value)


def test_the_default_model_is_a_setting(client: Any, upstream: OCIUpstream, app_with: Any, tmp_path: Path) -> None:
    body = {"messages": HI}
    assert client.post("/v1/chat/completions", json=body).get_json()["model"] == entries.DEFAULT_MODEL
    other = app_with(**upstream.settings(tmp_path, OCI_MODEL="xai.grok-4"))
    assert other.post("/v1/chat/completions", json=body).get_json()["model"] == "xai.grok-4"


def test_names_of_ocis_models_go_to_oci(upstream: OCIUpstream, app_with: Callable[..., Any], tmp_path: Path) -> None:
    """A vendor's prefix means OCI, whichever provider is the default."""
    other = app_with(**upstream.settings(tmp_path, PROVIDER_NAME="demo"))
    for model in (GENERIC, COHERE, "xai.grok-4", "openai.gpt-5", "google.gemini-2.5-flash"):
        assert chat(other, model).get_json()["model"] == model


# where it asks


def at(**given: Any) -> OciClient:
    return OciClient("oci", Login("oci", "API_KEY", "/nowhere", "DEFAULT"), **given)


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("us-chicago-1", "us-chicago-1.oci.oraclecloud.com"),
        ("uk-gov-london-1", "uk-gov-london-1.oci.oraclegovcloud.uk"),
        ("ord", "us-chicago-1.oci.oraclecloud.com"),
        ("xx-tomorrow-1", "xx-tomorrow-1.oci.oraclecloud.com"),
    ],
)
def test_the_services_of_a_region(region: str, domain: str) -> None:
    """Inference and the list of models use the same region."""
    place = Location(region, "c")
    assert at().inference(place) == f"https://inference.generativeai.{domain}/20231130"
    assert at().management(place) == f"https://generativeai.{domain}/20231130"
    for endpoint in ("https://private.example/", "https://private.example/20231130"):
        assert at(endpoint=endpoint).inference(place) == "https://private.example/20231130"
        assert at(endpoint=endpoint).management(place) == "https://private.example/20231130"


def test_a_region_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> None:
        raise UpstreamDown("oci cannot be reached.", provider="oci")

    monkeypatch.setattr(service, "send", nobody)
    given = config(region="us-chigaco-1")
    login = Login("oci", "API_KEY", "", "", given)
    provider = OCI(credentials=given, region="us-chigaco-1")
    target = Target(provider, "xai.grok-4", details={"compartment": "c"})
    with pytest.raises(UpstreamAuthFailed, match="OCI_REGION") as caught:
        list(provider.chat(ChatRequest({"messages": HI}), target, CallContext()))
    assert caught.value.param == "OCI_REGION"
    assert OciClient("oci", login).place({}, CallContext()) == Location("us-chigaco-1", TENANCY)


def test_a_place_that_nobody_names(upstream: OCIUpstream, app_with: Callable[..., Any], tmp_path: Path) -> None:
    path = config_file(tmp_path, region="")
    where = app_with(OCI_CONFIG_FILE=path, PROVIDER_NAME="oci")
    error = openai_error(chat(where, GENERIC), 502)
    assert "OCI_REGION" in error["message"]
    assert error["param"] == "OCI_REGION"


def test_the_tenancy_is_the_compartment_where_none_is_set(
    upstream: OCIUpstream, app_with: Callable[..., Any], tmp_path: Path
) -> None:
    where = app_with(**upstream.settings(tmp_path, OCI_COMPARTMENT=""))
    assert chat(where, GENERIC).status_code == 200
    assert upstream.request_json(-1)["compartmentId"] == TENANCY


def test_a_compartment_without_rights_and_an_unknown_model(
    upstream: OCIUpstream, app_with: Callable[..., Any], tmp_path: Path, client: Any
) -> None:
    where = app_with(**upstream.settings(tmp_path, OCI_COMPARTMENT="ocid1.compartment.oc1..elsewhere"))
    for response in (chat(where, GENERIC), chat(client, "xai.grok-99")):
        error = openai_error(response, 404)
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert "OCI_COMPARTMENT" in error["message"]


SEED_001 = f"""
- region: us-ashburn-1
  compartment_id: {SECOND_COMPARTMENT}
  models:
    ondemand:
      - name: command
        model_id: {COHERE}
      - name: llama
        model_id: {GENERIC}
        api_format: OPENAI
    dedicated:
      - name: tuned
        endpoint: {ENDPOINT}
    datascience:
      - name: mistral
        endpoint: DEPLOYMENT
"""


def test_an_oci_access_gateways_file_works(upstream: OCIUpstream, app_with: Callable[..., Any], tmp_path: Path) -> None:
    """Regions have effect; each model has its own compartment; dedicated endpoints, deployments, a chosen style."""
    models = tmp_path / "models.yaml"
    models.write_text(SEED_001.replace("DEPLOYMENT", upstream.deployment))
    where = app_with(**upstream.settings(tmp_path, MODELS_FILE=models))
    assert chat(where, "command").get_json()["model"] == "command"
    asked = upstream.request_json(-1)
    assert asked["compartmentId"] == SECOND_COMPARTMENT
    assert asked["servingMode"] == {"servingType": "ON_DEMAND", "modelId": COHERE}
    assert asked["chatRequest"]["apiFormat"] == "COHERE"
    assert chat(where, "llama").status_code == 200
    assert upstream.received[-1].path == "/openai/v1/chat/completions"
    assert upstream.received[-1].headers["opc-compartment-id"] == SECOND_COMPARTMENT
    assert chat(where, "tuned").status_code == 200
    assert upstream.request_json(-1)["servingMode"] == {"servingType": "DEDICATED", "endpointId": ENDPOINT}
    for stream, path in ((False, "/predict"), (True, "/predictWithResponseStream")):
        response = chat(where, "mistral", stream=stream)
        assert response.status_code == 200, response.data
        assert upstream.received[-1].path.endswith(path)
        assert upstream.request_json(-1)["model"] == "odsc-llm"


def test_an_api_key_alone(upstream: OCIUpstream, app_with: Callable[..., Any]) -> None:
    """It opens /openai/v1 and nothing else: Cohere's models, which are not there, say what they need."""
    settings = {"OCI_API_KEY": API_KEY, "OCI_REGION": REGION, "OCI_COMPARTMENT": COMPARTMENT}
    where = app_with(**settings, OCI_SERVICE_ENDPOINT=upstream.url)
    assert chat(where, "xai.grok-4").status_code == 200
    assert upstream.received[-1].headers["authorization"] == f"Bearer {API_KEY}"
    assert "OCI_CONFIG_FILE" in openai_error(chat(where, COHERE), 502)["message"]
    assert where.get("/v1/models").status_code == 200


def test_an_api_key_wants_a_region(app_with: Callable[..., Any]) -> None:
    where = app_with(OCI_API_KEY=API_KEY, PROVIDER_NAME="oci")
    assert openai_error(chat(where, "xai.grok-4"), 502)["param"] == "OCI_REGION"


def test_an_api_key_beside_a_profile(upstream: OCIUpstream, app_with: Callable[..., Any], tmp_path: Path) -> None:
    """Cohere's models are asked with the profile's signature, in its own compartment."""
    where = app_with(**upstream.settings(tmp_path, OCI_API_KEY=API_KEY, OCI_COMPARTMENT=""))
    assert chat(where, COHERE).status_code == 200
    assert upstream.request_json(-1)["compartmentId"] == TENANCY


def test_no_compression_is_offered(client: Any, upstream: OCIUpstream) -> None:
    """OCI compresses event by event if a client offers it, so compression is not offered."""
    chat(client, GENERIC, stream=True)
    headers = upstream.received[-1].headers
    assert "accept-encoding" not in headers
    assert headers["opc-request-id"]


# what was dropped is told to those who look


def test_what_has_no_counterpart_is_named_in_one_debug_line(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[Any] = []
    monkeypatch.setattr(exchange.log, "debug", lambda _, extra: names.append(extra["facts"]))
    assert chat(client, COHERE, user="u", logit_bias={}, top_p=0.5).status_code == 200
    assert names == [{"provider": "oci", "parameters": ["logit_bias", "user"]}]


def test_a_failure_is_logged_with_ocis_own_id(
    upstream: OCIUpstream, app_with: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Their support desk asks for it: also of an answer that was accepted, and went wrong later."""
    where = app_with(**upstream.settings(tmp_path))
    for answer in (
        ScriptedAnswer(status=400),
        ScriptedAnswer(fault=faults.malformed),
        ScriptedAnswer(fault=faults.error_frame),
    ):
        upstream.enqueue(answer)
        response = chat(where, GENERIC, stream=True)
        given = response.headers["x-request-id"]
        assert response.data
        lines = [line for line in capfd.readouterr().err.splitlines() if "outcome=failed" in line]
        assert [f"opc-request-id {given}/" in line for line in lines] == [True], lines


@pytest.mark.parametrize(("setting", "lines"), [("true", 1), ("false", 0)])
def test_what_debug_oci_sdk_shows(
    upstream: OCIUpstream, app_with: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], setting: str, lines: int
) -> None:
    """Each request with its answer's status and id; nothing that it was signed with, and nothing that was said."""
    where = app_with(**upstream.settings(tmp_path, DEBUG_OCI_SDK=setting))
    assert chat(where, GENERIC).status_code == 200
    answer = [line for line in capfd.readouterr().err.splitlines() if " oci.requests: " in line]
    assert len(answer) == lines
    for line in answer:
        assert "address=" + upstream.url + "/20231130/actions/chat status=200 opc_request_id=" in line
        assert "ignature" not in line


# lines: kept, freed, told the truth


@EACH_STYLE
def test_a_caller_who_leaves_ends_the_upstream(upstream: OCIUpstream, tmp_path: Path, model: str) -> None:
    """Before the first token and in the middle of a stream."""
    provider = OCI(
        config_file=str(config_file(tmp_path)), region=REGION, compartment=COMPARTMENT, endpoint=upstream.url
    )
    list(provider.chat(ChatRequest({"messages": HI}), Target(provider, model), CallContext()))  # signed in from here on
    for answer in (ScriptedAnswer(delay=30), ScriptedAnswer(fault=faults.stalled_after_headers), RUNNING):
        upstream.enqueue(answer)
        call, before = CallContext(), len(upstream.received)
        events = provider.chat(ChatRequest({"messages": HI}, stream=True), Target(provider, model), call)
        if answer is RUNNING:
            assert any(isinstance(event, Text) for event in events)
        left = time.monotonic() + 0.1
        threading.Timer(0.1, call.cancel).start()
        with pytest.raises(Cancelled):
            list(events)
        closed = upstream.received[before].wait_closed()
        assert closed - left < 1


@EACH_STYLE
def test_a_silent_upstream_is_bridged(
    serve: Callable[..., Served], upstream: OCIUpstream, tmp_path: Path, model: str
) -> None:
    app = serve(**upstream.settings(tmp_path, PROVIDER_NAME="oci", HEARTBEAT=0.1))
    upstream.enqueue(ScriptedAnswer(texts=["well", " then"], frame_delay=0.35))
    _, _, stream = post(app.port, chat_body(model=model, stream=True))
    assert stream.count(b": keep-alive") >= 2
    assert streamed_text(stream) == "well then"


@EACH_STYLE
def test_a_429_is_a_429_within_the_budget(client: Any, upstream: OCIUpstream, model: str) -> None:
    """The SDK's own retries once cost 16 seconds of silence."""
    upstream.enqueue(*[ScriptedAnswer(status=429)] * 3)
    began = time.monotonic()
    error = openai_error(chat(client, model, stream=True), 429)
    assert error["code"] == "rate_limit_exceeded"
    assert time.monotonic() - began < 3
    upstream.enqueue(ScriptedAnswer(status=429))
    assert chat(client, model, stream=True).status_code == 200


@pytest.mark.parametrize("model", [COHERE, V2])
def test_a_stream_that_is_held_open_is_left(client: Any, upstream: OCIUpstream, model: str) -> None:
    """Cohere's say no [DONE]; the emulated one keeps the connection until we leave."""
    began = time.monotonic()
    response = chat(client, model, stream=True, stream_options={"include_usage": True})
    assert '"usage"' in payloads(response.data)[-1]
    assert time.monotonic() - began < 2
    upstream.received[-1].wait_closed()


@pytest.mark.thorough
def test_a_usage_that_never_comes_is_not_waited_for(client: Any, upstream: OCIUpstream) -> None:
    upstream.enqueue(ScriptedAnswer(usage=None, fault=oddities.held_after_finish))
    began = time.monotonic()
    response = chat(client, GENERIC, stream=True, stream_options={"include_usage": True})
    assert '"finish_reason":"stop"' in payloads(response.data)[-1]
    assert time.monotonic() - began < 3


@EACH_STYLE
def test_connections_are_kept(client: Any, upstream: OCIUpstream, model: str) -> None:
    """One connection for one answer after another."""
    chat(client, model)
    before = upstream.accepted
    for _ in range(3):
        assert chat(client, model).status_code == 200
    assert upstream.accepted == before


def test_the_first_token_comes_at_once(client: Any, upstream: OCIUpstream, tmp_path: Path) -> None:
    """The upstream's own pace, and no buffer in between."""
    chat(client, GENERIC)
    upstream.enqueue(ScriptedAnswer(texts=["one", " two"], frame_delay=1.0))
    response = client.post(
        "/v1/chat/completions", json={"model": GENERIC, "messages": HI, "stream": True}, buffered=False
    )
    began = time.monotonic()
    heard = b""
    for data in response.response:
        heard += data
        if b'"one"' in heard:
            break
    assert time.monotonic() - began < 0.7
    response.close()
    until(lambda: upstream.received[-1].closed_at is not None, "the upstream to be freed")


def test_a_lump_is_cut_at_words(client: Any, upstream: OCIUpstream) -> None:
    """A whole answer where a stream was asked for."""
    upstream.enqueue(ScriptedAnswer(texts=["a lump of words"], fault=oddities.lump))
    response = chat(client, GENERIC, stream=True)
    pieces = [chunk["choices"][0]["delta"].get("content") for chunk in chunks(response.data)]
    assert [piece for piece in pieces if piece] == ["a ", "lump ", "of ", "words"]


def test_events_end_with_their_finish(upstream: OCIUpstream, tmp_path: Path) -> None:
    provider = OCI(config_file=str(config_file(tmp_path)), compartment=COMPARTMENT, endpoint=upstream.url)
    events = list(provider.chat(ChatRequest({"messages": HI}, stream=True), Target(provider, COHERE), CallContext()))
    assert sum(isinstance(event, Finish) for event in events) == 1
