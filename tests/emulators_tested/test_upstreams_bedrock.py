"""The emulated Bedrock, as the real boto3 client finds it: what it answers, and what it refuses."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from tests.emulators.answers import TEXTS, Call
from tests.emulators.bedrock.answers import USAGE, Turn
from tests.emulators.bedrock.server import AGENT, HAIKU, NOVA, BedrockUpstream

HELLO = [{"role": "user", "content": [{"text": "Hello"}]}]
TOOL = {"toolSpec": {"name": "now", "inputSchema": {"json": {"type": "object"}}}}


@pytest.fixture(scope="module")
def running() -> Iterator[BedrockUpstream]:
    with BedrockUpstream() as server:
        yield server


@pytest.fixture
def upstream(running: BedrockUpstream) -> BedrockUpstream:
    running.always(Turn())
    running.agent.expire()
    return running


SESSION = boto3.session.Session()


@cache
def client(upstream: BedrockUpstream, service: str, *, checks: bool = True, **given: str) -> Any:
    account = {
        "aws_access_key_id": upstream.access_key,
        "aws_secret_access_key": upstream.secret,
        "region_name": upstream.region,
        **given,
    }
    config = Config(retries={"total_max_attempts": 1}, parameter_validation=checks)
    return SESSION.client(service, endpoint_url=upstream.url, config=config, **account)


def test_converse(upstream: BedrockUpstream) -> None:
    answer = client(upstream, "bedrock-runtime").converse(modelId=NOVA, messages=HELLO)
    assert answer["output"]["message"]["content"] == [{"text": "".join(TEXTS)}]
    assert answer["stopReason"] == "end_turn"
    assert answer["usage"] == USAGE


def test_converse_stream(upstream: BedrockUpstream) -> None:
    upstream.enqueue(Turn(reasoning=["Hm"], texts=["Grü", "ße"], calls=[Call("t1", "now", ['{"a"', ":1}"])]))
    runtime = client(upstream, "bedrock-runtime")
    events = list(runtime.converse_stream(modelId=NOVA, messages=HELLO)["stream"])
    deltas = [event["contentBlockDelta"]["delta"] for event in events if "contentBlockDelta" in event]
    assert [delta["text"] for delta in deltas if "text" in delta] == ["Grü", "ße"]
    assert "".join(delta["toolUse"]["input"] for delta in deltas if "toolUse" in delta) == '{"a":1}'
    assert {"messageStop": {"stopReason": "tool_use"}} in events
    assert events[-1]["metadata"]["usage"] == USAGE


def test_an_exception_in_the_stream_begins_with_a_small_letter(upstream: BedrockUpstream) -> None:
    upstream.enqueue(Turn(texts=["One", " two"], breaks_with="throttlingException", breaks_after=1))
    stream = client(upstream, "bedrock-runtime").converse_stream(modelId=NOVA, messages=HELLO)["stream"]
    with pytest.raises(EventStreamError) as raised:
        list(stream)
    assert raised.value.response["Error"]["Code"] == "throttlingException"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"aws_secret_access_key": "wrong"}, "InvalidSignatureException"),
        ({"aws_access_key_id": "AKIAOTHER"}, "UnrecognizedClientException"),
        ({"aws_session_token": "unasked"}, "UnrecognizedClientException"),
        ({"region_name": "us-west-2"}, "InvalidSignatureException"),
    ],
)
def test_a_wrong_signature_is_refused(upstream: BedrockUpstream, given: dict[str, str], code: str) -> None:
    with pytest.raises(ClientError) as raised:
        client(upstream, "bedrock-runtime", **given).converse(modelId=NOVA, messages=HELLO)
    assert raised.value.response["Error"]["Code"] == code


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"messages": [{"role": "assistant", "content": [{"text": "Hi"}]}]}, "start with a user"),
        ({"messages": HELLO * 2}, "alternate"),
        ({"messages": [{"role": "user", "content": [{"text": " "}]}]}, "blank"),
        ({"messages": [{"role": "user", "content": []}]}, "empty"),
        ({"messages": HELLO, "inferenceConfig": {"temperature": 1.5}}, "out of bounds"),
        ({"messages": HELLO, "toolConfig": {"tools": []}}, "out of bounds"),
        ({"messages": HELLO, "modelId": "no.such-model"}, "model identifier"),
        (
            {"messages": [{"role": "user", "content": [{"toolResult": {"toolUseId": "x", "content": []}}]}]},
            "toolConfig field",
        ),
        (
            {
                "messages": [{"role": "user", "content": [{"toolResult": {"toolUseId": "x", "content": []}}]}],
                "toolConfig": {"tools": [TOOL]},
            },
            "toolResult blocks",
        ),
        ({"messages": [{"role": "user", "content": [{"toolUse": {"toolUseId": "x y", "name": "n"}}]}]}, "missing"),
    ],
)
def test_a_wrong_conversation_is_refused(upstream: BedrockUpstream, params: dict[str, Any], says: str) -> None:
    with pytest.raises(ClientError, match=says):
        client(upstream, "bedrock-runtime", checks=False).converse(**{"modelId": NOVA, **params})


def test_lists(upstream: BedrockUpstream) -> None:
    control = client(upstream, "bedrock")
    models = control.list_foundation_models(byOutputModality="TEXT")["modelSummaries"]
    assert [model["modelId"] for model in models] == [NOVA, HAIKU]
    first = control.list_inference_profiles()
    second = control.list_inference_profiles(nextToken=first["nextToken"])
    assert len(first["inferenceProfileSummaries"]) + len(second["inferenceProfileSummaries"]) == 3
    assert "nextToken" not in second


def invoke(upstream: BedrockUpstream, text: str = "", session: str = "s-1", **given: Any) -> list[dict[str, Any]]:
    agent = client(upstream, "bedrock-agent-runtime", checks=False)
    said = {"inputText": text} if text else {}
    answer = agent.invoke_agent(agentId=AGENT[0], agentAliasId=AGENT[1], sessionId=session, **said, **given)
    return list(answer["completion"])


def text_of(events: list[dict[str, Any]]) -> str:
    return b"".join(event["chunk"]["bytes"] for event in events if "chunk" in event).decode()


STREAMING = {"streamingConfigurations": {"streamFinalResponse": True}}


def test_an_agent_remembers_until_its_session_expires(upstream: BedrockUpstream) -> None:
    assert text_of(invoke(upstream, "I am Ada")) == "I am Ada\n"
    assert text_of(invoke(upstream, "Who am I?")) == "I am Ada\nWho am I?\n"
    assert text_of(invoke(upstream, "Who am I?", session="s-2")) == "Who am I?\n"
    upstream.agent.expire()
    assert text_of(invoke(upstream, "Who am I?")) == "Who am I?\n"
    history = {"messages": [{"role": "user", "content": [{"text": "I am Bob"}]}]}
    assert text_of(invoke(upstream, "Who?", "s-3", sessionState={"conversationHistory": history})) == "I am Bob\nWho?\n"


def test_an_agent_streams_and_traces_only_when_asked(upstream: BedrockUpstream) -> None:
    upstream.always(Turn(texts=[b"Gr\xc3", b"\xbc\xc3\x9fe"], usages=[(10, 5), (20, 7)]))
    assert len(invoke(upstream, "Hi")) == 1
    events = invoke(upstream, "Hi", enableTrace=True, **STREAMING)
    assert text_of(events) == "Grüße"
    assert sum("chunk" in event for event in events) == 2
    outputs = [event["trace"]["trace"]["orchestrationTrace"] for event in events if "trace" in event]
    used = [output["modelInvocationOutput"]["metadata"]["usage"]["inputTokens"] for output in outputs]
    assert used == [10, 20]


def test_an_agent_returns_control_and_takes_results_of_that_invocation_alone(upstream: BedrockUpstream) -> None:
    control = {"functionInvocationInput": {"actionGroup": "clock", "function": "now", "parameters": []}}
    upstream.enqueue(Turn(controls=[control]))
    (event,) = invoke(upstream, "What time is it?")
    invocation = event["returnControl"]["invocationId"]
    result = {"actionGroup": "clock", "function": "now", "responseBody": {"TEXT": {"body": "noon"}}}
    state = {"invocationId": invocation, "returnControlInvocationResults": [{"functionResult": result}]}
    for wrong in ({"invocationId": "inv-other"}, {"returnControlInvocationResults": [{"functionResult": {}}]}):
        with pytest.raises(ClientError, match="ValidationException"):
            invoke(upstream, sessionState={**state, **wrong})
    assert text_of(invoke(upstream, sessionState=state)) == "What time is it?\nnoon\n"
    with pytest.raises(ClientError, match="not known"):
        invoke(upstream, sessionState=state)


@pytest.mark.parametrize("session", ["x", "a/b", "ä1", "x" * 101])
def test_an_agent_refuses_odd_session_ids(upstream: BedrockUpstream, session: str) -> None:
    with pytest.raises(ClientError, match="ValidationException"):
        invoke(upstream, "Hi", session)


def test_an_agents_session_serves_one_at_a_time(upstream: BedrockUpstream) -> None:
    upstream.enqueue(Turn(texts=["One", " two"], frame_delay=0.2))
    agent = client(upstream, "bedrock-agent-runtime")
    whose = {"agentId": AGENT[0], "agentAliasId": AGENT[1], "sessionId": "s-1"}
    first = agent.invoke_agent(**whose, inputText="Hi", **STREAMING)
    with pytest.raises(ClientError, match="ConflictException"):
        agent.invoke_agent(**whose, inputText="Hi again")
    assert text_of(list(first["completion"])) == "One two"


def test_an_unknown_agent(upstream: BedrockUpstream) -> None:
    agent = client(upstream, "bedrock-agent-runtime")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        agent.invoke_agent(agentId="NOBODY", agentAliasId="ALIAS12345", sessionId="s-1", inputText="Hi")
