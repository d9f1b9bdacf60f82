"""InvokeAgent, as Amazon's agents answer it: sessions that remember, and returns of control that must be met.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_agent-runtime_InvokeAgent.html
"""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.emulators.bedrock.answers import Event, Turn, streamed
from tests.emulators.bedrock.rules import Refused
from tests.emulators.reply import Reply


@dataclass
class Session:
    """What an agent knows of a conversation. `history` is (role, text), `pending` the id of an open invocation."""

    history: list[tuple[str, str]] = field(default_factory=list)
    pending: str = ""
    controls: tuple[Mapping[str, Any], ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)
    busy: bool = False


class Agent:
    """One agent's alias. `sessions` are by id; unscripted, it says what its session holds, one user text a line."""

    def __init__(self, agent_id: str, alias_id: str) -> None:
        self.agent_id = agent_id
        self.alias_id = alias_id
        self.sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._numbers = count(1)

    def expire(self) -> None:
        """As after the idle time: every session is forgotten."""
        with self._lock:
            self.sessions.clear()

    def begin(self, params: Mapping[str, Any]) -> Session:
        """The session that a request is of, busy from now on. Raises Refused."""
        state = params.get("sessionState", {})
        results = state.get("returnControlInvocationResults")
        with self._lock:
            session = self.sessions.get(params["sessionId"])
            if session is None:
                session = Session(_previous_turns(state))
                if not results:
                    self.sessions[params["sessionId"]] = session
            if session.busy:
                raise Refused("ConflictException", "The session is in use by another request.", 409)
            if results:
                _check_results(session, state, results)
            elif not params.get("inputText"):
                raise Refused("ValidationException", "The input text can't be empty.")
            session.busy = True
        session.attributes |= state.get("sessionAttributes", {})
        said = _bodies(results) if results else params["inputText"]
        session.history.append(("tool" if results else "user", said))
        session.pending, session.controls = "", ()
        return session

    def end(self, params: Mapping[str, Any], session: Session) -> None:
        """The request is over."""
        with self._lock:
            session.busy = False
            if params.get("endSession"):
                self.sessions.pop(params["sessionId"], None)

    def answer(self, turn: Turn, params: Mapping[str, Any], session: Session) -> Reply:
        """The answer to a request whose session has begun."""
        texts = [text.encode() if isinstance(text, str) else text for text in _texts(turn, session)]
        if turn.controls:
            session.pending = f"inv-{self.agent_id}-{next(self._numbers)}"
            session.controls = tuple(turn.controls)
        session.history.append(("assistant", b"".join(texts).decode("utf-8", "replace")))
        if not params.get("streamingConfigurations", {}).get("streamFinalResponse"):
            texts = [b"".join(texts)] if texts else []
        headers = {
            "x-amzn-bedrock-agent-content-type": "application/json",
            "x-amz-bedrock-agent-session-id": params["sessionId"],
        }
        return streamed(turn, list(self._events(turn, params, session, texts)), **headers)

    def _events(self, turn: Turn, params: Mapping[str, Any], session: Session, texts: list[bytes]) -> Iterator[Event]:
        traces = params.get("enableTrace", False)
        for tokens in turn.usages if traces else ():
            used = {"inputTokens": tokens[0], "outputTokens": tokens[1]}
            output = {"traceId": "t-0", "metadata": {"usage": used}, "rawResponse": {"content": "{}"}}
            yield "open", "trace", self._trace(params, {"orchestrationTrace": {"modelInvocationOutput": output}})
        if turn.guardrail and traces:
            yield "open", "trace", self._trace(params, {"guardrailTrace": {"action": "INTERVENED", "traceId": "t-0"}})
        for at, text in enumerate(texts):
            last = {"attribution": {"citations": turn.citations}} if turn.citations and at == len(texts) - 1 else {}
            yield "content", "chunk", {"bytes": text, **last}
        if turn.files:
            yield "content", "files", {"files": turn.files}
        if turn.controls:
            yield "finish", "returnControl", {"invocationId": session.pending, "invocationInputs": turn.controls}

    def _trace(self, params: Mapping[str, Any], trace: Mapping[str, Any]) -> dict[str, Any]:
        whose = {"agentId": self.agent_id, "agentAliasId": self.alias_id, "sessionId": params["sessionId"]}
        return {**whose, "trace": trace}


def _previous_turns(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The history that a new session is given."""
    messages = state.get("conversationHistory", {}).get("messages", [])
    return [(each["role"], "".join(part["text"] for part in each["content"])) for each in messages]


def _texts(turn: Turn, session: Session) -> list[str | bytes]:
    if turn.texts is not None:
        return list(turn.texts)
    if turn.controls:
        return []
    lines = [text for role, text in session.history if role != "assistant"]
    return [f"{text}\n" for text in lines]


def _check_results(session: Session, state: Mapping[str, Any], results: list[Mapping[str, Any]]) -> None:
    """The results of exactly the invocation that is open. Raises Refused."""
    if not session.pending or state.get("invocationId") != session.pending:
        raise Refused("ValidationException", f"Invocation id {state.get('invocationId')} is not known to the session.")
    wanted = sorted(_named(control) for control in session.controls)
    if sorted(_named(result) for result in results) != wanted:
        raise Refused("ValidationException", f"The results do not match the invocation inputs {wanted}.")


def _named(each: Mapping[str, Any]) -> tuple[str, str]:
    """Action group and function (or path) of an invocation input or of a result."""
    ((_, inner),) = each.items()
    return inner["actionGroup"], inner.get("function") or f"{inner.get('httpMethod')} {inner.get('apiPath')}"


def _bodies(results: list[Mapping[str, Any]]) -> str:
    inner = [next(iter(result.values())) for result in results]
    return " ".join(body["body"] for each in inner for body in each.get("responseBody", {}).values())
