"""An app at a runtime of Bedrock AgentCore, by InvokeAgentRuntime. What it takes and answers is the app's own affair.

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
from providers.common.agent_input import AgentInput, agent_input, flattened, require_agent_can
from providers.common.agent_sessions import Session, SessionLease, SessionOwner
from providers.common.agent_turns import answer_in_session
from providers.transport.client import Response
from providers.transport.exchange import detect_stream, iter_sse, log_dropped_parameters, parse_json, read_body

INVOKE = Operation(SERVICE, "InvokeAgentRuntime")
STOP_SESSION = Operation(SERVICE, "StopRuntimeSession")
OPTIONS: Mapping[str, type] = {"payload": dict, "runtimeUserId": str}
"""What a caller may say in the body's `bedrock` object: more of the app's payload, and Amazon's id of a user."""
SUPPORTED_PARAMETERS = frozenset({"messages", "metadata", "model", "stream", "stream_options"})
SSE_BEGINS = (b"data:", b"event:", b"id:", b"retry:", b":")


class AgentCoreRuntime(AgentCoreProvider):
    """One runtime. The words go to `prompt_field` of the payload, a path of names with dots between them; the answer's
    text is read at `text_path` (runtime_decode.py); the system prompt goes to `system_field`, if that is given.
    """

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """One turn, in the conversation's session, or in a new one that is told what was said before."""
        options = request_options(request, OPTIONS)
        require_agent_can(request)
        asked = agent_input(request.messages)
        log_dropped_parameters(self.name, request.body, SUPPORTED_PARAMETERS)
        owner = SessionOwner(call.caller, self._arn_of(target), options.get("runtimeUserId"))
        state = call.state if self._remembers else None
        explicit = request.conversation_id if self._remembers else ""
        lease = SessionLease(state, owner, explicit, asked.heard, self._seconds)
        answer = partial(self._answer, request, target, call, asked, options, lease)
        yield from answer_in_session(
            lease,
            # It makes no tool calls: results are of another provider's.
            lambda: answer(lease.fresh() if asked.results else lease.open(anything_before=bool(asked.before))),
            answer,
            has_history=bool(asked.before),
        )

    def check(self, call: CallContext) -> str:
        """Stop a session that there is not: that runs nothing."""
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
        asked: AgentInput,
        options: Json,
        lease: SessionLease,
        session: Session,
    ) -> Events:
        """One attempt. Raises SessionLost when the session is busy, and nothing was heard yet."""
        payload = target.rules.apply(self._payload(target, asked, options, session))
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
                        # Before the caller hears of the end: the next turn may come at once, to another worker.
                        lease.save(session, request.messages, decoder.said)
                    yield event
        except GatewayError as error:
            if (lost := session_lost(error, self.name)) and not lease.begun:
                raise lost from error
            raise

    def _payload(self, target: Target, asked: AgentInput, options: Json, session: Session) -> Json:
        prompt = flattened(() if session.known else asked.before, asked.text)
        payload: Json = dict(options.get("payload", {}))
        _put(payload, self._field(target, "prompt_field") or "prompt", prompt)
        if (field := self._field(target, "system_field")) and asked.system:
            _put(payload, field, asked.system)
        return payload


def _events(reply: Response, decoder: RuntimeDecoder, call: CallContext, *, streams: bool) -> Iterable[Event]:
    """The answer's events, whichever of three forms it has."""
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
