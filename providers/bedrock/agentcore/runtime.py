"""An app at a runtime of Bedrock AgentCore, by InvokeAgentRuntime. The app defines its own payload and answer.

https://docs.aws.amazon.com/bedrock-agentcore/latest/devguide/runtime-invoke-agent.html

A caller who hangs up does not stop the session (StopRuntimeSession): an interruption is a hang-up too, and the session
has the memory that the next words need. The closed connection ends the invocation.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain

import orjson

from core.context import CallContext
from core.errors import GatewayError, UnknownModel, UpstreamAuthFailed, UpstreamRejected
from core.events import Event, Events, Finish
from core.json_values import Json
from core.requests import ChatRequest
from providers.base import Target
from providers.bedrock.agentcore.account import (
    NO_SUCH_SESSION,
    SERVICE,
    AgentCoreProvider,
    request_options,
    session_lost,
    wire_session_id,
)
from providers.bedrock.agentcore.runtime_decode import RuntimeDecoder
from providers.bedrock.client import Operation
from providers.common.agent_input import AgentInput, agent_input, flatten_history, require_agent_can
from providers.common.agent_sessions import Session, SessionLease, SessionOwner
from providers.common.agent_turns import answer_in_session
from providers.transport.client import Response
from providers.transport.exchange import detect_stream, iter_sse, log_dropped_parameters, parse_json, read_body

INVOKE = Operation(SERVICE, "InvokeAgentRuntime")
STOP_SESSION = Operation(SERVICE, "StopRuntimeSession")
OPTIONS: Mapping[str, type] = {"payload": dict, "runtimeUserId": str}
"""The keys of the request's `bedrock` object: more of the app's payload, and Amazon's id of a user."""
SUPPORTED_PARAMETERS = frozenset({"messages", "metadata", "model", "stream", "stream_options"})
SSE_BEGINS = (b"data:", b"event:", b"id:", b"retry:", b":")


class AgentCoreRuntime(AgentCoreProvider):
    """One runtime. The prompt goes to `prompt_field` of the payload, a path of names with dots between them; the
    answer's text is read at `text_path` (runtime_decode.py); the system prompt goes to `system_field`, if that is
    given.
    """

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """One turn, in the conversation's session, or in a new one that gets the history."""
        options = request_options(request, OPTIONS)
        require_agent_can(request)
        turn_input = agent_input(request.messages)
        log_dropped_parameters(self.name, request.body, SUPPORTED_PARAMETERS)
        owner = SessionOwner(call.caller, self._arn_of(target), options.get("runtimeUserId"))
        state = call.state if self._remembers else None
        explicit = request.conversation_id if self._remembers else ""
        lease = SessionLease(state, owner, explicit, turn_input.received, self._seconds)
        answer = partial(self._answer, request, target, call, turn_input, options, lease)
        yield from answer_in_session(
            lease,
            # It makes no tool calls: results belong to another provider's calls.
            lambda: answer(
                lease.fresh() if turn_input.results else lease.open(anything_before=bool(turn_input.before))
            ),
            answer,
            has_history=bool(turn_input.before),
        )

    def check(self, call: CallContext) -> str:
        """Stop a session that does not exist: that checks the credential, and runs nothing."""
        params = {"agentRuntimeArn": self._arn, "runtimeSessionId": NO_SUCH_SESSION}
        try:
            self._client.invoke(STOP_SESSION, params, Target(self, self.default_model), call)
        except (UnknownModel, UpstreamRejected):
            pass
        except UpstreamAuthFailed as error:
            if "AccessDenied" not in error.log:
                raise
            return "not checked: the policy has no bedrock-agentcore:StopRuntimeSession, which would run nothing"
        return "the credential is accepted; whether there is such a runtime shows when it is called"

    def _answer(
        self,
        request: ChatRequest,
        target: Target,
        call: CallContext,
        turn_input: AgentInput,
        options: Json,
        lease: SessionLease,
        session: Session,
    ) -> Events:
        """One attempt. Raises SessionLost if the session is busy and the app has sent nothing yet."""
        payload = target.rules.apply(self._payload(target, turn_input, options, session))
        params = {
            "agentRuntimeArn": self._arn_of(target),
            "runtimeSessionId": wire_session_id(session),
            "contentType": "application/json",
            "payload": orjson.dumps(payload),
            **{key: options[key] for key in ("runtimeUserId",) if key in options},
        }
        if qualifier := self._field(target, "qualifier"):
            params["qualifier"] = qualifier
        decoder = RuntimeDecoder(self.name, self._field(target, "text_path"), streams=request.stream)
        try:
            with self._client.open(INVOKE, params, target, call, once=True) as reply:
                for event in _events(reply, decoder, call, streams=request.stream):
                    lease.begin()
                    if isinstance(event, Finish):
                        # Before the caller receives the end: the next turn may come at once, to another worker.
                        lease.save(session, request.messages, decoder.text)
                    yield event
        except GatewayError as error:
            if (lost := session_lost(error, self.name)) and not lease.begun:
                raise lost from error
            raise

    def _payload(self, target: Target, turn_input: AgentInput, options: Json, session: Session) -> Json:
        prompt = flatten_history(() if session.known else turn_input.before, turn_input.text)
        payload: Json = dict(options.get("payload", {}))
        _put(payload, self._field(target, "prompt_field") or "prompt", prompt)
        if (field := self._field(target, "system_field")) and turn_input.system:
            _put(payload, field, turn_input.system)
        return payload


def _events(reply: Response, decoder: RuntimeDecoder, call: CallContext, *, streams: bool) -> Iterable[Event]:
    """The events of an answer in any of its three forms."""
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/plain":
        pieces = iter(reply)
        first = next(pieces, b"")
        if first.lstrip().startswith(SSE_BEGINS):
            return decoder.from_frames(iter_sse(reply, chain((first,), pieces), lambda: False, call))
        return decoder.from_plain_text(chain((first,), pieces))
    is_stream, body = detect_stream(reply, expected=streams)
    if is_stream:
        return decoder.from_frames(iter_sse(reply, body, lambda: False, call))
    return decoder.from_json(parse_json(read_body(reply, pieces=body), reply))


def _put(payload: Json, path: str, value: str) -> None:
    """Put a value at a path of names; what stands in its way is replaced."""
    *parents, last = path.split(".")
    for name in parents:
        inner = payload.get(name)
        payload[name] = payload = dict(inner) if isinstance(inner, dict) else {}
    payload[last] = value
