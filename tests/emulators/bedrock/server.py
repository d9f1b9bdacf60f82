"""An emulated Amazon Bedrock: bedrock-runtime, bedrock and bedrock-agent-runtime at one address, strict and scripted.

with BedrockUpstream() as upstream:
    upstream.enqueue(Turn(texts=["Hi", " there"]))     the next Converse, ConverseStream or InvokeAgent
    upstream.always(Turn(exception="ThrottlingException"))   all others, until told otherwise
    app_with(**upstream.settings)                      or boto3, with endpoint_url=upstream.url
    upstream.asked[0].params                           what was asked, blobs as bytes
"""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.emulators import faults
from tests.emulators.bedrock.agent import Agent
from tests.emulators.bedrock.answers import Turn, failed
from tests.emulators.bedrock.converse import check, check_stream, converse
from tests.emulators.bedrock.event_stream import dumps
from tests.emulators.bedrock.guardrails import CHECKS, Guardrails
from tests.emulators.bedrock.rules import Asked, Refused, check_signature, parse_request
from tests.emulators.connection import Connection, Received
from tests.emulators.reply import Piece, Reply, play
from tests.emulators.server import Server

__all__ = ["AGENT", "BedrockUpstream", "Turn"]

REGION = "eu-central-1"
COUNTED = 33
"""Tokens of every prompt that is to be counted."""
AGENT = ("AGENT12345", "ALIAS12345")
NOVA, HAIKU, TITAN = "amazon.nova-lite-v1:0", "anthropic.claude-haiku-4-5-20251001-v1:0", "amazon.titan-image-v2:0"
MODELS = [
    {"modelId": NOVA, "providerName": "Amazon", "outputModalities": ["TEXT"], "inferenceTypesSupported": ["ON_DEMAND"]},
    {
        "modelId": HAIKU,
        "providerName": "Anthropic",
        "outputModalities": ["TEXT"],
        "inferenceTypesSupported": ["INFERENCE_PROFILE"],
    },
    {
        "modelId": TITAN,
        "providerName": "Amazon",
        "outputModalities": ["IMAGE"],
        "inferenceTypesSupported": ["ON_DEMAND"],
    },
]
PROFILES = [f"eu.{HAIKU}", f"global.{HAIKU}", f"eu.{NOVA}"]
PAGE = 2


class BedrockUpstream(Server):
    """A server that answers to the signature of `access_key`, or to the bearer of `token`, in one region."""

    def __init__(self, *, session_token: str = "", tls: bool = False) -> None:
        super().__init__(self._handle, tls=tls)
        self.access_key, self.secret, self.session_token = "AKIATESTTESTTEST", "test/upstream+secret", session_token
        self.token = "bedrock-api-key-test"
        self.region = REGION
        self.asked: list[Asked] = []
        self.agents = {AGENT: Agent(*AGENT), ("OTHER12345", "ALIAS12345"): Agent("OTHER12345", "ALIAS12345")}
        self.guardrails = Guardrails()
        self._queue: deque[Turn] = deque()
        self._default = Turn()
        self._script = threading.Lock()

    @property
    def agent(self) -> Agent:
        """The agent AGENT."""
        return self.agents[AGENT]

    @property
    def settings(self) -> dict[str, str]:
        """The environment of somebody who uses it."""
        variables = {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_SESSION_TOKEN": self.session_token,
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL": self.url,
        }
        return {name: value for name, value in variables.items() if value}

    def enqueue(self, *turns: Turn) -> None:
        """Answer the next requests so. A request that is refused uses up none."""
        with self._script:
            self._queue.extend(turns)

    def always(self, turn: Turn) -> None:
        """Answer so whenever the queue is empty. With faults.refused nothing listens, until the next `always`."""
        with self._script:
            self._default = turn
        if turn.fault is faults.refused:
            self.refuse()
        else:
            self.listen()

    def _handle(self, connection: Connection, received: Received) -> None:
        try:
            self._authorize(received)
            request = parse_request(received)
            self.asked.append(request)
            if request.operation == "InvokeAgent":
                self._invoke(connection, request.params)
            elif request.operation in ("Converse", "ConverseStream"):
                check(request.params)
                if request.operation == "ConverseStream":
                    check_stream(request.params)
                turn = self._next()
                self._play(connection, turn, converse(turn, request.params, request.operation == "ConverseStream"))
            elif request.operation in CHECKS:
                play(connection, self.guardrails.answer(request))
            elif request.operation == "CountTokens":
                self._count(connection, request.params)
            else:
                play(connection, _listed(request))
        except Refused as refused:
            play(connection, failed(refused.exception, refused.message, refused.status))

    def _count(self, connection: Connection, params: Mapping[str, Any]) -> None:
        if "anthropic." not in params["modelId"]:
            raise Refused("ValidationException", "The provided model doesn't support counting tokens.")
        check({**params["input"]["converse"], "modelId": params["modelId"]})
        body = dumps({"inputTokens": COUNTED})
        play(connection, Reply((Piece(body),), 200, {"Content-Type": "application/json"}))

    def _invoke(self, connection: Connection, params: Mapping[str, Any]) -> None:
        agent = self.agents.get((params["agentId"], params["agentAliasId"]))
        if agent is None:
            raise Refused("ResourceNotFoundException", "Failed to retrieve resource because it doesn't exist.", 404)
        session = agent.begin(params)
        try:
            turn = self._next()
            self._play(connection, turn, agent.answer(turn, params, session))
        finally:
            agent.end(params, session)

    def _play(self, connection: Connection, turn: Turn, reply: Reply) -> None:
        if turn.exception:
            reply = failed(turn.exception, turn.message)
        headers = {**reply.headers, "x-amzn-RequestId": f"req-{connection.number}-{connection.requests}"}
        reply = replace(reply, headers={**headers, **turn.headers}, delay=turn.delay)
        (turn.fault.play if turn.fault else play)(connection, reply)

    def _authorize(self, received: Received) -> None:
        if received.headers.get("Authorization", "").startswith("Bearer "):
            if received.headers["Authorization"] != f"Bearer {self.token}":
                raise Refused("UnrecognizedClientException", "The bearer token is invalid.", 403)
            return
        check_signature(received, self.access_key, self.secret, self.region, self.session_token)

    def _next(self) -> Turn:
        with self._script:
            return self._queue.popleft() if self._queue else self._default


def _listed(request: Asked) -> Reply:
    """ListFoundationModels, and ListInferenceProfiles with pages."""
    if request.operation == "ListFoundationModels":
        modality = request.params.get("byOutputModality")
        arn = f"arn:aws:bedrock:{REGION}::foundation-model/"
        rows = [each for each in MODELS if modality in (None, *each["outputModalities"])]
        lifecycle = {"modelLifecycle": {"status": "ACTIVE"}, "responseStreamingSupported": True}
        body = {"modelSummaries": [{**each, **lifecycle, "modelArn": f"{arn}{each['modelId']}"} for each in rows]}
    elif request.operation == "ListInferenceProfiles":
        start = int(request.params.get("nextToken", "0"))
        shown = PROFILES[start : start + PAGE]
        body = {"inferenceProfileSummaries": [_profile(name) for name in shown]}
        if start + PAGE < len(PROFILES):
            body["nextToken"] = str(start + PAGE)
    else:
        raise Refused("UnknownOperationException", "", 404)
    return Reply((Piece(dumps(body)),), headers={"Content-Type": "application/json"})


def _profile(name: str) -> dict[str, Any]:
    return {
        "inferenceProfileName": name.partition(".")[2].partition(".")[0],
        "inferenceProfileId": name,
        "inferenceProfileArn": f"arn:aws:bedrock:{REGION}:123456789012:inference-profile/{name}",
        "models": [{"modelArn": f"arn:aws:bedrock:{REGION}::foundation-model/{name.partition('.')[2]}"}],
        "status": "ACTIVE",
        "type": "SYSTEM_DEFINED",
        "createdAt": "2026-10-01T12:00:00Z",
    }
