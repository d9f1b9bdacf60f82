"""A harness of Bedrock AgentCore, by InvokeHarness: a model, tools and a memory that Amazon runs.

https://docs.aws.amazon.com/bedrock-agentcore/latest/devguide/harness.html
"""

from contextlib import closing
from functools import partial

from core.context import CallContext
from core.errors import GatewayError, UpstreamRejected
from core.events import Events, Finish
from core.json_values import Json
from core.requests import ChatRequest
from providers.base import Target
from providers.bedrock.agentcore.account import (
    SERVICE,
    AgentCoreProvider,
    request_options,
    session_lost,
    wire_session_id,
)
from providers.bedrock.agentcore.harness_decode import HarnessDecoder
from providers.bedrock.agentcore.harness_request import (
    OPTIONS,
    SUPPORTED_PARAMETERS,
    HarnessInput,
    harness_input,
    to_upstream,
)
from providers.bedrock.client import Operation
from providers.common.agent_input import require_agent_can
from providers.common.agent_sessions import Session, SessionLease, SessionOwner
from providers.common.agent_turns import answer_in_session
from providers.transport.exchange import log_dropped_parameters, until_finished

INVOKE_HARNESS = Operation(SERVICE, "InvokeHarness")
NO_SESSION = "?" * 33
"""An id that Amazon refuses: it may have letters, digits, `-` and `_`."""
HELLO = [{"role": "user", "content": [{"text": "?"}]}]


class AgentCoreHarness(AgentCoreProvider):
    """One harness."""

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """One turn, in the conversation's session, or in a new one that gets the history."""
        options = request_options(request, OPTIONS)
        require_agent_can(request)
        turn_input = harness_input(request)
        log_dropped_parameters(self.name, request.body, SUPPORTED_PARAMETERS)
        owner = SessionOwner(call.caller, self._arn_of(target), [options.get("actorId"), request.body.get("user")])
        state = call.state if self._remembers else None
        lease = SessionLease(
            state, owner, request.conversation_id if self._remembers else "", turn_input.received, self._seconds
        )
        answer = partial(self._answer, request, target, call, turn_input, options, lease)
        before = bool(turn_input.history)
        yield from answer_in_session(
            lease, lambda: answer(lease.open(anything_before=before)), answer, has_history=before
        )

    def check(self, call: CallContext) -> str:
        """Call it with an invalid session id: this checks credential and policy, and runs nothing."""
        params = {"harnessArn": self._arn, "runtimeSessionId": NO_SESSION, "messages": HELLO}
        try:
            for _ in self._client.stream(INVOKE_HARNESS, params, Target(self, self.default_model), call, once=True):
                pass
        except UpstreamRejected as error:
            if error.status != 400:  # noqa: PLR2004 - ValidationException
                raise
        return "the credential is accepted; whether there is such a harness shows when it is called"

    def _answer(
        self,
        request: ChatRequest,
        target: Target,
        call: CallContext,
        turn_input: HarnessInput,
        options: Json,
        lease: SessionLease,
        session: Session,
    ) -> Events:
        """One attempt. Raises SessionLost if the session is busy and the harness has sent nothing yet."""
        fixed = {"harnessArn": self._arn_of(target), "runtimeSessionId": wire_session_id(session)}
        if qualifier := self._field(target, "qualifier"):
            fixed["qualifier"] = qualifier
        params = target.rules.apply({**fixed, **to_upstream(request, turn_input, options, known=session.known)})
        decoder = HarnessDecoder(self.name)
        try:
            with closing(self._client.stream(INVOKE_HARNESS, params, target, call, once=True)) as stream:
                for event in decoder.from_upstream(until_finished(stream, lambda: decoder.finished, call)):
                    lease.begin()
                    if isinstance(event, Finish):
                        # Before the caller receives the end: the next turn may come at once, to another worker.
                        lease.save(session, request.messages, decoder.text, decoder.calls)
                    yield event
        except GatewayError as error:
            if (lost := session_lost(error, self.name)) and not lease.begun:
                raise lost from error
            raise
