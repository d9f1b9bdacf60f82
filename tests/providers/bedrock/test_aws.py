"""The client of Amazon's services: credentials, addresses, requests on the wire, and errors."""

import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import config
from config import Settings
from core.context import CallContext, Timeouts
from core.errors import (
    Cancelled,
    ContextTooLong,
    GatewayError,
    InvalidRequest,
    UnknownModel,
    UpstreamAuthFailed,
    UpstreamDown,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from dispatch.sources.aws import agent_rows, agents, models
from providers.base import Provider, Target
from providers.bedrock.client import AwsClient, Operation
from providers.bedrock.errors import aws_error, error_from_event
from tests.emulators import Fault, Phase, Server, faults
from tests.emulators.bedrock.answers import Turn
from tests.emulators.bedrock.server import NOVA, BedrockUpstream
from tests.emulators.connection import Connection, Received

CONVERSE = Operation("bedrock-runtime", "Converse")
CONVERSE_STREAM = Operation("bedrock-runtime", "ConverseStream")
ASKED = {"modelId": NOVA, "messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
PATIENCE = Timeouts(connect=0.5, first_event=5, idle=5)


@pytest.fixture(scope="module")
def running() -> Iterator[BedrockUpstream]:
    with BedrockUpstream() as server:
        yield server


@pytest.fixture
def upstream(running: BedrockUpstream) -> BedrockUpstream:
    running.always(Turn())
    return running


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials of the developer's, and no metadata service."""
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


def target(**details: Any) -> Target:
    return Target(Provider(), NOVA, timeouts=PATIENCE, details=details)


def ask(client: AwsClient, params: dict[str, Any] | None = None, **details: Any) -> dict[str, Any]:
    call = CallContext()
    call.begin(PATIENCE)
    return client.invoke(CONVERSE, params or ASKED, target(**details), call)


def failing(client: AwsClient, kind: type[GatewayError], params: dict[str, Any] | None = None) -> Any:
    with pytest.raises(kind) as raised:
        ask(client, params)
    assert raised.value.message.endswith(".")
    return raised.value


# credentials


def test_keys_of_the_environment(upstream: BedrockUpstream) -> None:
    """The signature, computed anew by the other side, is of what went over the wire."""
    assert ask(AwsClient("aws", upstream.settings))["stopReason"] == "end_turn"


def test_a_session_token_is_signed_too() -> None:
    with BedrockUpstream(session_token="temporary/token+") as upstream:
        assert ask(AwsClient("aws", upstream.settings))["stopReason"] == "end_turn"


def test_a_bedrock_api_key_goes_before_signatures(upstream: BedrockUpstream) -> None:
    ask(AwsClient("aws", {**upstream.settings, "AWS_BEARER_TOKEN_BEDROCK": upstream.token}))
    assert upstream.received[-1].headers["Authorization"] == f"Bearer {upstream.token}"
    bare = {"AWS_REGION": upstream.region, "AWS_ENDPOINT_URL": upstream.url}
    ask(AwsClient("aws", bare, token=upstream.token))
    failing(AwsClient("aws", bare, token="wrong"), UpstreamAuthFailed)


def test_a_profile(upstream: BedrockUpstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys and region of a profile, by AWS_PROFILE; one of models.yaml goes before the environment's keys."""
    (tmp_path / "credentials").write_text(
        f"[voice]\naws_access_key_id = {upstream.access_key}\naws_secret_access_key = {upstream.secret}\n"
    )
    (tmp_path / "config").write_text(f"[profile voice]\nregion = {upstream.region}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    ask(AwsClient("aws", {"AWS_PROFILE": "voice", "AWS_ENDPOINT_URL": upstream.url}))
    others = {"AWS_ACCESS_KEY_ID": "AKIAOTHER", "AWS_SECRET_ACCESS_KEY": "other", "AWS_ENDPOINT_URL": upstream.url}
    ask(AwsClient("aws", others, profile="voice"))
    failing(AwsClient("aws", others, region=upstream.region), UpstreamAuthFailed)


def test_a_role_is_fetched_once_and_again_when_it_runs_out(
    upstream: BedrockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto3's own chain: here a container's role, whose credentials last five minutes and then seven hours."""
    fetched: list[str] = []

    def handler(connection: Connection, received: Received) -> None:
        until = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5 if not fetched else 420)
        fetched.append(received.path)
        answer = {
            "AccessKeyId": upstream.access_key,
            "SecretAccessKey": upstream.secret,
            "Token": "",
            "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        body = json.dumps(answer).encode()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    with Server(handler) as metadata:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{metadata.url}/role")
        client = AwsClient("aws", {"AWS_REGION": upstream.region, "AWS_ENDPOINT_URL": upstream.url})
        for _ in range(3):
            ask(client)
    assert fetched == ["/role", "/role"]


def test_no_credentials_say_what_to_set_and_are_looked_for_again(
    upstream: BedrockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = AwsClient("aws", {"AWS_REGION": upstream.region, "AWS_ENDPOINT_URL": upstream.url})
    assert "AWS_ACCESS_KEY_ID" in failing(client, UpstreamAuthFailed).message
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", upstream.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", upstream.secret)
    failing(client, UpstreamAuthFailed)
    later = monotonic() + 6
    monkeypatch.setattr("providers.bedrock.botocore_clients.monotonic", lambda: later)
    assert ask(client)["stopReason"] == "end_turn"


@pytest.mark.parametrize(
    ("variables", "kind", "says"),
    [
        ({"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s"}, UpstreamError, "AWS_REGION"),
        ({"AWS_PROFILE": "nobody", "AWS_REGION": "eu-central-1"}, UpstreamAuthFailed, "AWS_PROFILE"),
        (
            {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "x", "AWS_ENDPOINT_URL": "nowhere"},
            UpstreamError,
            "AWS_ENDPOINT_URL",
        ),
    ],
)
def test_what_is_configured_wrongly_is_named(variables: dict[str, str], kind: type[GatewayError], says: str) -> None:
    error = failing(AwsClient("aws", variables), kind)
    assert says in error.message
    assert error.status == 502


def test_a_region_that_the_credential_is_not_for(upstream: BedrockUpstream) -> None:
    client = AwsClient("aws", upstream.settings, region="us-west-2")
    failing(client, UpstreamAuthFailed)
    assert ask(client, region=upstream.region)["stopReason"] == "end_turn", "a model's own region"


def test_a_services_own_address_goes_before_the_common_one(upstream: BedrockUpstream) -> None:
    elsewhere = {**upstream.settings, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    ask(AwsClient("aws", {**elsewhere, "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": upstream.url}))
    ask(AwsClient("aws", elsewhere), endpoint=upstream.url)
    failing(AwsClient("aws", elsewhere), UpstreamDown)


def test_an_arn_is_one_segment_of_the_path(upstream: BedrockUpstream) -> None:
    arn = f"arn:aws:bedrock:{upstream.region}:123456789012:inference-profile/eu.{NOVA}"
    ask(AwsClient("aws", upstream.settings), {**ASKED, "modelId": arn})
    assert upstream.received[-1].path.startswith("/model/arn%3Aaws%3Abedrock%3A")
    assert upstream.asked[-1].params["modelId"] == arn


def test_connections_are_kept(upstream: BedrockUpstream) -> None:
    """One client, one connection."""
    client = AwsClient("aws", upstream.settings)
    ask(client)
    before = upstream.accepted
    for _ in range(3):
        ask(client)
    assert upstream.accepted == before


def test_many_threads_share_one_door(upstream: BedrockUpstream) -> None:
    client = AwsClient("aws", upstream.settings)
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(client)["stopReason"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["end_turn"] * 8


# settings


def test_what_stands_in_env_alone_reaches_amazons_sdk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """.env is as good as the environment; what the environment has itself is left, and a changed file counts."""
    file = tmp_path / "env"
    file.write_text("AWS_ROLE_ARN=arn:aws:iam::1:role/a\nAWS_PROFILE=file\nOTHER=x\n")
    environ = {"ENV_FILE": str(file), "AWS_PROFILE": "mine"}
    monkeypatch.setattr(config.os, "environ", environ)
    monkeypatch.setattr(config, "EXPORTED", set())
    assert Settings.load().variables["AWS_PROFILE"] == "mine"
    assert environ == {"ENV_FILE": str(file), "AWS_PROFILE": "mine", "AWS_ROLE_ARN": "arn:aws:iam::1:role/a"}
    file.write_text("AWS_ROLE_ARN=arn:aws:iam::1:role/b\n")
    assert Settings.load().variables["AWS_ROLE_ARN"].endswith("b")
    assert environ["AWS_ROLE_ARN"].endswith("b")


def test_agents_and_models_are_told_of() -> None:
    entry = agents("bedrock", {"agent_id": "A1", "agent_alias_id": "B1", "agents": ("sales=C2/D2",)}, {}, {})
    assert (entry.available, entry.default_model, entry.accepts_any_model) == (True, "bedrock-agent", True)
    assert entry.options["agents"] == {"bedrock-agent": "A1/B1", "sales": "C2/D2"}
    assert [row.name for row in agent_rows({"agents": ("sales=C2/D2",)})] == ["sales"]
    assert agents("bedrock", {"agents": ("sales=C2/D2",)}, {}, {}).default_model == "sales"
    assert agents("bedrock", {}, {}, {}).missing == "AGENT_ID and AGENT_ALIAS_ID"
    assert agents("bedrock", {"agent_id": "A1"}, {}, {}).missing == "AGENT_ALIAS_ID"
    own = agents("mine", {"agent_id": "A1", "agent_alias_id": "B1"}, {}, {"agent_id": "X", "agent_alias_id": "Y"})
    assert own.options["agents"] == {"bedrock-agent": "X/Y"}
    assert "AWS_ACCESS_KEY_ID" in models("bedrock-models", {}, {}, {}).missing
    assert models("bedrock-models", {}, {"AWS_PROFILE": "p"}, {}).available
    assert models("role", {}, {}, {"region": "eu-west-1"}).default_model == "eu.amazon.nova-lite-v1:0"


@pytest.mark.parametrize(
    ("clouds", "variables", "says"),
    [
        ({"agents": ("sales",)}, {}, "AGENTS"),
        ({"agents": ("sales=A1",)}, {}, "AGENTS"),
        ({"agent_id": "A/1"}, {}, "AGENT_ID"),
        ({"agent_id": "A" * 11}, {}, "AGENT_ID"),
        ({}, {"AWS_REGION": "Europe, please"}, "AWS_REGION"),
        ({}, {"AWS_BEARER_TOKEN_BEDROCK": "a b"}, r"\(not shown\)"),
    ],
)
def test_settings_that_make_no_sense(clouds: dict[str, Any], variables: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        agents("bedrock", clouds, variables, {})


# failures


@pytest.mark.parametrize(
    ("name", "status", "message", "kind", "code"),
    [
        ("ThrottlingException", 429, "Too many requests", UpstreamRateLimited, "rate_limit_exceeded"),
        ("ServiceQuotaExceededException", 400, "Quota", UpstreamError, "insufficient_quota"),
        ("AccessDeniedException", 403, "No", UpstreamAuthFailed, "upstream_authentication"),
        ("ExpiredTokenException", 400, "Old", UpstreamAuthFailed, "upstream_authentication"),
        ("ValidationException", 400, "topP is odd", UpstreamRejected, None),
        (
            "ValidationException",
            400,
            "Input is too long for requested model.",
            ContextTooLong,
            "context_length_exceeded",
        ),
        ("ValidationException", 400, "The provided model identifier is invalid.", UnknownModel, "model_not_found"),
        ("ResourceNotFoundException", 404, "Could not find it", UnknownModel, "model_not_found"),
        ("ConflictException", 409, "Busy", UpstreamRejected, None),
        ("ModelTimeoutException", 408, "Slow", UpstreamTimeout, "upstream_timeout"),
        ("ModelErrorException", 424, "It fell", UpstreamDown, "upstream_error"),
        ("ModelNotReadyException", 429, "Wait", UpstreamDown, "upstream_error"),
        ("InternalServerException", 500, "Oh", UpstreamDown, "upstream_error"),
        ("ServiceUnavailableException", 503, "Later", UpstreamDown, "upstream_error"),
        ("SomethingNewException", 418, "What", UpstreamRejected, None),
    ],
)
def test_what_amazons_exceptions_mean(
    name: str, status: int, message: str, kind: type[GatewayError], code: str | None
) -> None:
    """By name, and the same in a stream, where they begin with a small letter."""
    body = json.dumps({"message": message}).encode()
    error = aws_error("aws", status, {"x-amzn-errortype": f"{name}:http://internal.amazon.com/x/"}, body)
    assert (type(error), error.code) == (kind, code)
    assert message in error.log
    if status != 418:
        streamed = error_from_event("aws", {}, {"Code": name[0].lower() + name[1:], "Message": message})
        assert (type(streamed), streamed.code, streamed.message) == (kind, code, error.message)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b'{"__type":"com.amazon.coral.service#UnrecognizedClientException","Message":"Bad token"}'),
        ({"x-amzn-errortype": "UnrecognizedClientException"}, b"<html>"),
    ],
)
def test_other_ways_to_name_an_exception(headers: dict[str, str], body: bytes) -> None:
    assert isinstance(aws_error("aws", 400, headers, body), UpstreamAuthFailed)


def test_an_address_that_is_not_amazons() -> None:
    assert "address" in aws_error("aws", 404, {}, b"<html>Not here</html>").message


def test_what_amazons_model_refuses_names_the_field(upstream: BedrockUpstream) -> None:
    before = len(upstream.received)
    error = failing(
        AwsClient("aws", upstream.settings), InvalidRequest, {**ASKED, "inferenceConfig": {"maxTokens": "all"}}
    )
    assert error.param == "inferenceConfig.maxTokens"
    assert len(upstream.received) == before


# streams


def stream_events(client: AwsClient, call: CallContext | None = None) -> list[Any]:
    call = call or CallContext()
    call.begin(PATIENCE)
    return list(client.stream(CONVERSE_STREAM, ASKED, target(), call, last="metadata"))


def test_a_stream(upstream: BedrockUpstream) -> None:
    upstream.enqueue(Turn(texts=["One", " two"], frame_delay=0.06))
    named = stream_events(AwsClient("aws", upstream.settings), CallContext())
    assert [name for name, _ in named][-2:] == ["messageStop", "metadata"]
    assert named[1] == ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "One"}})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[:200] + bytes([raw[200] ^ 1]) + raw[201:],
        lambda raw: raw[:-7],
        lambda _: b"<html>Welcome</html>",
        lambda _: b'{"message": "odd"}',
    ],
    ids=["a flipped bit", "cut inside a frame", "HTML", "JSON"],
)
def test_a_stream_that_is_none(upstream: BedrockUpstream, spoil: Callable[[bytes], bytes]) -> None:
    """The checksums show a broken frame, and a death inside a frame is no end."""

    def play(connection: Connection, reply: Any) -> None:
        body = spoil(reply.body)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    upstream.enqueue(Turn(fault=Fault("spoilt", "", Phase.MIDDLE, play)))
    with pytest.raises(UpstreamDown):
        stream_events(AwsClient("aws", upstream.settings))


@pytest.mark.parametrize(
    "turn",
    [Turn(delay=30), Turn(first_delay=30), Turn(texts=["x"] * 500, frame_delay=0.02), Turn(fault=faults.stalled)],
    ids=["before headers", "before the first event", "while it streams", "while it is silent"],
)
def test_a_hang_up_ends_it_in_every_phase(upstream: BedrockUpstream, turn: Turn) -> None:
    """A caller's hang-up frees the connection in every phase; botocore itself would keep it."""
    upstream.enqueue(turn)
    count = len(upstream.received)
    client, call = AwsClient("aws", upstream.settings), CallContext()
    call.begin(Timeouts(first_event=60))
    ended = threading.Event()

    def answer() -> None:
        try:
            list(client.stream(CONVERSE_STREAM, ASKED, target(), call))
        except Cancelled:
            ended.set()

    thread = threading.Thread(target=answer)
    thread.start()
    received = upstream.wait_received(count + 1)
    left = monotonic()
    call.cancel()
    assert received.wait_closed(5) - left < 1
    thread.join(5)
    assert ended.is_set()
