"""An agent of OCI Generative AI Agents, by its endpoint: it keeps its own prompt, tools and memory.

https://docs.oracle.com/en-us/iaas/api/#/en/generative-ai-agents-client/20240531/
"""

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from http import HTTPStatus
from logging import getLogger
from typing import Any

import orjson

from core.context import CallContext, Timeouts
from core.errors import GatewayError, UnknownModel, UpstreamDown, UpstreamRejected, UpstreamTimeout
from core.events import Events, Finish
from core.models import ListedModel
from core.requests import ChatRequest
from providers.base import Provider, Target
from providers.common.agent_input import AgentInput, agent_input, require_agent_can
from providers.common.agent_sessions import Session, SessionLease, SessionOwner
from providers.common.agent_turns import CAUTION, SessionLost, answer_in_session, no_answer
from providers.oci.agents.decode import AgentDecoder
from providers.oci.agents.request import RemoteSession, performed_actions, to_upstream
from providers.oci.auth import Login
from providers.oci.client import OciClient, SignedRequest, closing
from providers.transport.client import Response
from providers.transport.exchange import detect_stream, iter_sse, log_dropped_parameters, parse_json, read_body

SESSION_TTL = 3600.0
"""Seconds of silence after which an endpoint ends a session, unless it was created otherwise."""
SUPPORTED_PARAMETERS = frozenset({"messages", "metadata", "model", "stream", "stream_options"})
ABOUT = "has no such agent endpoint, or does not let us use it (agent_endpoint and region in models.yaml)."
NO_SESSION = "/sessions/thinkline-doctor-has-no-such-session"
DONE = b"[DONE]"
OCID = "ocid1."


class OciAgent(Provider):
    """One agent's endpoint, under the name `model`; in models.yaml a model's `model` may be another endpoint's OCID.

    `login` are the arguments of Login, the rest is as for OCI (providers/oci/provider.py). `session_ttl`: seconds of
    silence after which the endpoint ends a session.
    """

    acts = True

    def __init__(
        self,
        *,
        name: str,
        model: str,
        agent_endpoint: str,
        login: Mapping[str, Any],
        region: str = "",
        endpoint: str = "",
        proxy: str = "",
        session_ttl: float = SESSION_TTL,
        debug: bool = False,
    ) -> None:
        self.name = name
        self.default_model = model
        self._agent = agent_endpoint
        self._seconds = session_ttl * CAUTION
        signs_in = Login(name, **login, debug=debug)
        self._service = OciClient(name, signs_in, region=region, endpoint=endpoint, proxy=proxy)
        getLogger("oci").setLevel(logging.DEBUG if debug else logging.NOTSET)

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """One turn, in the conversation's session, or in a new one that gets the history."""
        require_agent_can(request)
        turn_input = agent_input(request.messages)
        log_dropped_parameters(self.name, request.body, SUPPORTED_PARAMETERS)
        owner = SessionOwner(call.caller, self._endpoint_of(target))
        lease = SessionLease(call.state, owner, request.conversation_id, turn_input.received, self._seconds)
        answer = partial(self._answer, request, target, call, turn_input, lease)
        before = bool(turn_input.before)
        yield from answer_in_session(
            lease, lambda: answer(lease.open(anything_before=before)), answer, has_history=before
        )

    def warm(self, call: CallContext, timeouts: Timeouts) -> None:
        """Keep a connection to the service open."""
        self._service.warm(self._service.agents(self._service.place({}, call)), call, timeouts)

    def models(self, call: CallContext) -> list[ListedModel]:
        """The agent, if there is a credential to call it with. No request is sent: listing agents needs another
        permission than calling one.
        """
        self._service.place({}, call)
        return [ListedModel(self.default_model, "oci")]

    def check(self, call: CallContext) -> str:
        """Get a session that does not exist: that checks the credential, and runs nothing."""
        try:
            self._service.json(
                self._request(Target(self, self.default_model), "GET", NO_SESSION, b"", call), call, Timeouts()
            )
        except (UnknownModel, UpstreamRejected):
            pass
        return "the credential is accepted; whether there is such an agent shows when it is called"

    def _answer(
        self,
        request: ChatRequest,
        target: Target,
        call: CallContext,
        turn_input: AgentInput,
        lease: SessionLease,
        session: Session,
    ) -> Events:
        """One attempt. Raises SessionLost if the session cannot be continued and the agent has sent nothing yet."""
        remote = self._load(call, session) if session.known else None
        known = remote is not None
        performed = (
            performed_actions(request.messages, turn_input.results, remote.pending)
            if remote and turn_input.results
            else []
        )
        waits = remote is not None and bool(remote.pending)
        if known and turn_input.before and bool(performed) != (waits or bool(turn_input.results)):
            raise SessionLost(self.name, "it waits for other results, or for none", busy=False)
        decoder = AgentDecoder(self.name, streams=request.stream)
        try:
            remote = remote or self._create_session(target, call)
            details = to_upstream(turn_input, remote, performed, known=known, streams=request.stream)
            body = orjson.dumps(target.rules.apply(details))
            with closing(
                self._service.send(self._request(target, "POST", "/actions/chat", body, call), call, target.timeouts)
            ) as reply:
                for event in decoder.from_results(_results(reply, call, streams=request.stream)):
                    lease.begin()
                    if isinstance(event, Finish):
                        # Before the caller receives the end: the next turn may come at once, to another worker.
                        self._store(call, session, RemoteSession(remote.id, tuple(decoder.pending)))
                        lease.save(session, request.messages, decoder.text, decoder.calls)
                    yield event
        except (UpstreamDown, UpstreamTimeout) as error:
            error.retryable = error.retryable and error.upstream_status != HTTPStatus.OK
            raise
        except GatewayError as error:
            if not lease.begun and (lost := _lost(error, self.name, known=known)):
                raise lost from error
            raise

    def _create_session(self, target: Target, call: CallContext) -> RemoteSession:
        """Create a session at OCI."""
        create = self._request(target, "POST", "/sessions", orjson.dumps({"displayName": "thinkline"}), call)
        made, _ = self._service.json(create, call, target.timeouts)
        identifier = made.get("id") if isinstance(made, dict) else None
        if not isinstance(identifier, str) or not identifier:
            raise no_answer(self.name, "a session without an id")
        return RemoteSession(identifier)

    def _request(self, target: Target, method: str, path: str, body: bytes, call: CallContext) -> SignedRequest:
        base = self._service.agents(self._service.place(target.details, call))
        once = path.startswith("/actions/")
        return SignedRequest(
            method, base, f"/agentEndpoints/{self._endpoint_of(target)}{path}", body, about=ABOUT, once=once
        )

    def _endpoint_of(self, target: Target) -> str:
        return target.model if target.model.startswith(OCID) else self._agent

    def _load(self, call: CallContext, session: Session) -> RemoteSession | None:
        found = call.state.get(_key(session)) if call.state is not None else None
        return RemoteSession.loads(found) if found else None

    def _store(self, call: CallContext, session: Session, remote: RemoteSession) -> None:
        if call.state is not None:
            call.state.put(_key(session), remote.dumps(), self._seconds)


def _key(session: Session) -> str:
    return f"oci-agent-session:{session.id}"


def _results(reply: Response, call: CallContext, *, streams: bool) -> Iterator[Any]:
    """The JSON values of a stream's events, or the one of a body; the body decides which it is."""
    is_stream, pieces = detect_stream(reply, expected=streams)
    if not is_stream:
        yield parse_json(read_body(reply, pieces=pieces), reply)
        return
    for frame in iter_sse(reply, pieces, lambda: False, call):
        if frame.data == DONE:
            return
        yield parse_json(frame.data, reply)


def _lost(error: GatewayError, name: str, *, known: bool) -> SessionLost | None:
    """SessionLost for an error that means it. A conflict means that another turn is under way. A `known` session may
    have ended: OCI answers with 404, as for a missing endpoint, where creating a new session fails as well.
    """
    if isinstance(error, UpstreamRejected) and error.status == HTTPStatus.CONFLICT:
        return SessionLost(name, error.log, busy=True)
    gone = isinstance(error, UnknownModel) or (isinstance(error, UpstreamRejected) and "session" in error.log.lower())
    return SessionLost(name, error.log, busy=False) if known and gone else None
