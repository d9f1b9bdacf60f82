"""Amazon Bedrock Agents, by InvokeAgent: an agent that keeps its own prompt, tools and memory.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_agent-runtime_InvokeAgent.html

providers/common/agent_sessions.py finds the session of a turn, and agent_input.py makes a turn of a conversation;
return_control.py has the tool calls, decode.py the events.
"""

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from logging import getLogger
from typing import Any

from core.context import CallContext, Timeouts
from core.errors import GatewayError, InvalidRequest, UnknownModel, Unsupported, UpstreamRejected
from core.events import Events, Finish
from core.json_values import Json
from core.models import ListedModel
from core.requests import ChatRequest
from providers.base import Provider, Target
from providers.bedrock.agents.decode import AgentDecoder
from providers.bedrock.agents.request import FILES, input_file
from providers.bedrock.agents.return_control import Kept, results
from providers.bedrock.client import AwsClient, Operation
from providers.common.agent_input import AgentInput, agent_input, flatten_history, require_agent_can
from providers.common.agent_sessions import Session, SessionLease, SessionOwner
from providers.common.agent_turns import CAUTION, SessionLost, answer_in_session

INVOKE_AGENT = Operation("bedrock-agent-runtime", "InvokeAgent")
NO_SESSION = "??"
"""An id that Amazon refuses: it may have letters, digits and `._:-`."""
SESSION_TTL = 600.0
"""An agent's own default (CreateAgent, idleSessionTTLInSeconds)."""
IDS = re.compile(r"[0-9a-zA-Z]{1,10}/[0-9a-zA-Z]{1,10}")
ABOUT_SESSION = re.compile(r"(?i)session(?!state|attributes)")
OPTIONS = {
    "memoryId",
    "sessionAttributes",
    "promptSessionAttributes",
    "knowledgeBaseConfigurations",
    "promptCreationConfigurations",
    "performanceConfig",
    "latency",
    "applyGuardrailInterval",
    "conversationHistory",
}
"""The keys of the request's `bedrock` object. The names are Amazon's, and `latency` for short."""
OF_THE_SESSION = ("sessionAttributes", "promptSessionAttributes", "knowledgeBaseConfigurations")
SUPPORTED_PARAMETERS = frozenset({"messages", "model", "stream", "stream_options", "metadata"})
log = getLogger("thinkline.providers")


class BedrockAgent(Provider):
    """An account's agents, name -> `agentId/aliasId`: any other name is that of `model`, the default agent. What
    has the form of ids is an agent by its ids; only models.yaml can say so.

    `account` holds the arguments of AwsClient. `trace` has the agents trace, which is where their token counts stand.
    `session_ttl`: seconds of silence after which an agent forgets a session, as it was created.
    """

    acts = True

    def __init__(
        self,
        *,
        agents: Mapping[str, str],
        account: Mapping[str, Any],
        name: str = "bedrock",
        model: str = "bedrock-agent",
        trace: bool = True,
        session_ttl: float = SESSION_TTL,
    ) -> None:
        self.name = name
        self.default_model = model
        self._agents = agents
        self._trace = trace
        self._seconds = session_ttl * CAUTION
        # Bedrock's API keys do not open agents: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-how.html
        variables = {key: value for key, value in account["variables"].items() if key != "AWS_BEARER_TOKEN_BEDROCK"}
        self._client = AwsClient(name, **{**account, "variables": variables, "token": ""})

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """One turn, in the conversation's session, or in a new one that gets the history."""
        options = _options(request)
        turn_input = agent_input(request.messages, input_file)
        self._check_supported(request, turn_input)
        named = target.model if IDS.fullmatch(target.model) else self.default_model
        agent = self._agents.get(target.model) or self._agents.get(named, named)
        about = [options.get("memoryId"), options.get("sessionAttributes")]
        owner = SessionOwner(call.caller, agent, about)
        lease = SessionLease(call.state, owner, request.conversation_id, turn_input.received, self._seconds)
        turn = AgentTurn(
            request, target, call, agent, options, turn_input, lease, Kept(call.state, owner, self._seconds)
        )
        yield from answer_in_session(
            lease,
            lambda: self._answer(turn, *turn.session()),
            partial(self._answer, turn),
            has_history=bool(turn_input.before),
        )

    def warm(self, call: CallContext, timeouts: Timeouts) -> None:
        """Keep a connection to the service open."""
        self._client.warm(INVOKE_AGENT.service, Target(self, self.default_model), call, timeouts)

    def models(self, call: CallContext) -> list[ListedModel]:
        """The agents that have names here, if there are a region and credentials to call them with. No request is
        sent: listing agents needs another permission than calling one.
        """
        self._client.client(INVOKE_AGENT.service, Target(self, self.default_model), call)
        return [ListedModel(name, "amazon") for name in self._agents]

    def check(self, call: CallContext) -> str:
        """Call each agent with an invalid session id: this checks credential and policy, and runs nothing."""
        target = Target(self, self.default_model)
        for ids in self._agents.values():
            agent_id, alias_id = ids.split("/")
            params = {"agentId": agent_id, "agentAliasId": alias_id, "sessionId": NO_SESSION}
            try:
                for _ in self._client.stream(INVOKE_AGENT, params, target, call, once=True):
                    pass
            except UpstreamRejected as error:
                if error.status != HTTPStatus.BAD_REQUEST:
                    raise
        return "the credential is accepted; whether there are such agents shows when they are called"

    def _answer(self, turn: "AgentTurn", session: Session, returned: Json | None = None) -> Events:
        """One attempt. Raises SessionLost if the session cannot be continued and the agent has sent nothing yet."""
        request, target, lease = turn.request, turn.target, turn.lease
        agent_id, alias_id = turn.agent.split("/")
        fixed = {"agentId": agent_id, "agentAliasId": alias_id, "enableTrace": self._trace}
        params = target.rules.apply({**fixed, **to_upstream(turn.input, session, turn.options, returned)})
        keep = partial(turn.kept.keep, conversation=lease.invocation_key(request.messages))
        traced = params.get("enableTrace") is True
        decoder = AgentDecoder(self.name, session.id, keep, traced=traced, streams=request.stream)
        try:
            with closing(self._client.stream(INVOKE_AGENT, params, target, turn.call, once=True)) as stream:
                for event in decoder.from_upstream(stream):
                    lease.begin()
                    if isinstance(event, Finish) and event.reason != "tool_calls":
                        # Before the caller receives the end: the next turn may come at once, to another worker.
                        lease.save(session, request.messages, decoder.text)
                    yield event
        except GatewayError as error:
            if not lease.begun and (lost := _lost(error, self.name, known=session.known, returns=returned is not None)):
                raise lost from error
            raise

    def _check_supported(self, request: ChatRequest, turn_input: AgentInput) -> None:
        """Raise Unsupported for what would be lost, and log the parameters that an agent does not have."""
        require_agent_can(request)
        if len(turn_input.all_files) > FILES:
            raise Unsupported(f"An agent takes {FILES} files at most.", param="messages")
        if dropped := request.body.keys() - SUPPORTED_PARAMETERS:
            log.debug("not sent on", extra={"facts": {"provider": self.name, "parameters": sorted(dropped)}})


@dataclass(frozen=True, slots=True)
class AgentTurn:
    """One turn with an agent. `agent` is `agentId/aliasId`, `kept` the tool calls that sessions wait for."""

    request: ChatRequest
    target: Target
    call: CallContext
    agent: str
    options: Json
    input: AgentInput
    lease: SessionLease
    kept: Kept

    def session(self) -> tuple[Session, Json | None]:
        """The session to continue, and the results of tools if it waits for these."""
        turn_input = self.input
        if not turn_input.results:
            return self.lease.open(anything_before=bool(turn_input.before)), None
        messages, key = self.request.messages, self.lease.invocation_key(turn_input.received[:-1])
        if waiting := results(messages, turn_input.results, self.kept, key):
            return Session(waiting[0], known=True), waiting[1]
        return self.lease.fresh(), None


def _lost(error: GatewayError, name: str, *, known: bool, returns: bool) -> SessionLost | None:
    """SessionLost for an error that means it. ConflictException means that another turn is under way; only the message
    tells that a `known` session has expired. A session to which results are returned may no longer wait for them.
    """
    busy = isinstance(error, UpstreamRejected) and error.status == 409  # noqa: PLR2004 - ConflictException
    names_session = isinstance(error, (UpstreamRejected, UnknownModel)) and ABOUT_SESSION.search(error.log)
    gone = known and (names_session or (returns and isinstance(error, UpstreamRejected)))
    if not (busy or gone):
        return None
    return SessionLost(name, error.log, busy=busy)


def _options(request: ChatRequest) -> Json:
    options = request.extras.get("bedrock", {})
    if not isinstance(options, dict):
        raise InvalidRequest("`bedrock` must be an object.", param="bedrock")
    if unknown := sorted(options.keys() - OPTIONS):
        raise InvalidRequest(
            f"An agent has no {', '.join(unknown)}; known are {', '.join(sorted(OPTIONS))}.",
            param=f"bedrock.{unknown[0]}",
        )
    for key in ("sessionAttributes", "promptSessionAttributes"):
        attributes = options.get(key, {})
        if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
            raise InvalidRequest("Attributes are an object of strings.", param=f"bedrock.{key}")
    if not isinstance(options.get("conversationHistory", False), bool):
        raise InvalidRequest("Must be true or false.", param="bedrock.conversationHistory")
    return options


def to_upstream(turn_input: AgentInput, session: Session, options: Json, returned: Json | None = None) -> Json:
    """The turn as InvokeAgent has it, but for the agent's ids. `returned` are the results that the agent waits for."""
    state: Json = {key: options[key] for key in OF_THE_SESSION if key in options}
    if turn_input.system:
        state["promptSessionAttributes"] = {
            "system_prompt": turn_input.system,
            **options.get("promptSessionAttributes", {}),
        }
    # Without it an agent answers in one piece; it wants the permission bedrock:InvokeModelWithResponseStream.
    streaming: Json = {"streamFinalResponse": True}
    if "applyGuardrailInterval" in options:
        streaming["applyGuardrailInterval"] = options["applyGuardrailInterval"]
    body: Json = {"sessionId": session.id, "streamingConfigurations": streaming}
    if returned is not None:
        state |= returned  # with it, Amazon ignores inputText
    else:
        before = () if session.known else turn_input.before
        if options.get("conversationHistory") and before and turn_input.text:
            state["conversationHistory"] = {
                "messages": [{"role": role, "content": [{"text": words}]} for role, words in before]
            }
            before = ()
        body["inputText"] = flatten_history(before, turn_input.text)
        if files := turn_input.files if session.known else turn_input.all_files:
            state["files"] = list(files)
    if state:
        body["sessionState"] = state
    for key in ("memoryId", "promptCreationConfigurations"):
        if key in options:
            body[key] = options[key]
    performance = options.get("performanceConfig") or ({"latency": options["latency"]} if "latency" in options else {})
    if performance:
        body["bedrockModelConfigurations"] = {"performanceConfig": performance}
    return body
