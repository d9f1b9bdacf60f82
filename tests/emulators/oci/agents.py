"""An emulated agent of OCI Generative AI Agents, strict from the oci package's models: sessions that remember, actions
that must be met.

    with AgentUpstream() as upstream:
        upstream.enqueue(ScriptedAnswer(texts=["Hi"]))        the next chat
        upstream.sessions[...]                                what each session has been told
        upstream.citations, upstream.guardrail, upstream.approval    what goes with each answer
        upstream.session_delay                                seconds that a new session takes

A stream's events are ChatResults with a piece of the text each, as no document says what they are; with `cumulative`,
with all of it so far.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from oci.generative_ai_agent_runtime import models

from tests.emulators.answers import TEXTS, ScriptedAnswer
from tests.emulators.connection import Received
from tests.emulators.oci import chat as oci_chat
from tests.emulators.oci.fields import Misshapen, check
from tests.emulators.oci.keys import REGION, Unsigned, config_file, verify
from tests.emulators.oci.lists import Denied
from tests.emulators.oci.rules import wrong
from tests.emulators.openai.server import _json
from tests.emulators.reply import Piece, Reply, dumps
from tests.emulators.rules import Refused, parse
from tests.emulators.scripted import Scripted

ENDPOINT = "ocid1.genaiagentendpoint.oc1.us-chicago-1.aaaaagentendpoint"
BASE = f"/20240531/agentEndpoints/{ENDPOINT}"
CREATED = "2026-11-30T12:00:00.000Z"
NOT_FOUND = "Authorization failed or requested resource not found."


class AgentUpstream(Scripted):
    """Answers to who signs with the keys of keys.py. `asked` are the ChatDetails that came."""

    chat = "/actions/chat"

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__(tls=tls)
        self.asked: list[dict[str, Any]] = []
        self.sessions: dict[str, list[str]] = {}
        self.complaints: list[str] = []
        self.citations: list[dict[str, Any]] = []
        self.guardrail = ""
        self.approval = False
        self.cumulative = False
        self.session_delay = 0.0
        self._pending: dict[str, list[str]] = {}
        self._numbers = count(1)
        self._folder = TemporaryDirectory(prefix="upstream-oci-agent-")

    @property
    def settings(self) -> dict[str, Any]:
        """The environment of somebody who signs in by a profile."""
        return {"OCI_CONFIG_FILE": config_file(Path(self._folder.name)), "OCI_REGION": REGION}

    def expire(self) -> None:
        """As after the idle time: every session is gone."""
        self.sessions.clear()
        self._pending.clear()

    def answer_to(self, received: Received) -> tuple[ScriptedAnswer, Reply]:
        """Refuse it as the real one would, or answer it as scripted."""
        answer = ScriptedAnswer()
        try:
            if _operation(received) == "/sessions":
                return ScriptedAnswer(delay=self.session_delay), self._create(received)
            details = self._details(received)
            answer = self.next()
            if answer.status != 200 or answer.error is not None:
                failed = _json(answer.status, oci_chat.error(answer.status))
                return answer, replace(failed, error=failed.body)
            reply = self._chat(details, answer)
        except Denied as error:
            self.complaints.append(str(error))
            reply = _json(error.status, {"code": error.code, "message": error.message})
        return answer, reply

    def _create(self, received: Received) -> Reply:
        _check(_body(received), "CreateSessionDetails")
        identifier = f"ocid1.genaiagentsession.oc1.us-chicago-1.{next(self._numbers):08d}"
        self.sessions[identifier] = []
        session = {"id": identifier, "timeCreated": CREATED, "displayName": "thinkline"}
        _check(session, "Session")
        return _json(200, session)

    def _details(self, received: Received) -> dict[str, Any]:
        details = _body(received)
        _check(details, "ChatDetails")
        session = details.get("sessionId", "")
        if session not in self.sessions:
            raise Denied(404, "NotAuthorizedOrNotFound", NOT_FOUND, f"no session {session}")
        performed = details.get("performedActions", [])
        if [each["actionId"] for each in performed] != (self._pending.get(session, []) if performed else []):
            raise wrong(detail=f"the session waits for {self._pending.get(session)}")
        if bool(performed) == bool(details.get("userMessage")):
            raise wrong(detail="either userMessage or performedActions")
        outputs = [each.get("functionCallOutput") or each.get("chosenOption") for each in performed]
        self.sessions[session].append(" ".join(outputs) if performed else details["userMessage"])
        self._pending.pop(session, None)
        self.asked.append(details)
        return details

    def _chat(self, details: Mapping[str, Any], answer: ScriptedAnswer) -> Reply:
        texts = list(answer.texts) if answer.texts is not None else [] if answer.calls else list(TEXTS)
        actions = list(self._actions(answer))
        if actions:
            self._pending[details["sessionId"]] = [each["actionId"] for each in actions]
        result = self._result("".join(texts), actions, answer)
        _check(result, "ChatResult")
        body = dumps(result).encode()
        error = dumps(oci_chat.error(500)).encode()
        if not details.get("shouldStream"):
            headers = {"Content-Type": "application/json"}
            return Reply((Piece(body, after=answer.first_delay),), headers=headers, whole=body, error=error)
        said = ["".join(texts[: at + 1]) if self.cumulative else text for at, text in enumerate(texts)]
        frames = [self._result(text, [], replace(answer, usage=None)) for text in said[:-1]]
        frames.append(self._result(said[-1] if said else "", actions, answer))
        pieces = [
            Piece(
                f"data: {dumps(frame)}\n\n".encode(),
                "finish" if at == len(frames) - 1 else "content",
                answer.frame_delay if at else answer.first_delay,
            )
            for at, frame in enumerate(frames)
        ]
        return Reply(
            tuple(pieces),
            headers={"Content-Type": "text/event-stream"},
            stream=True,
            whole=body,
            error=error,
            error_frame=b"data: " + dumps({"code": "500", "message": "Internal error."}).encode() + b"\n\n",
        )

    def _result(self, text: str, actions: list[dict[str, Any]], answer: ScriptedAnswer) -> dict[str, Any]:
        result: dict[str, Any] = {}
        if text or self.citations:
            content = {"text": text, **({"citations": self.citations} if self.citations else {})}
            result["message"] = {"role": "AGENT", "content": content, "timeCreated": CREATED}
        if actions:
            result["requiredActions"] = actions
        if self.guardrail:
            result["guardrailResult"] = self.guardrail
        if answer.usage is not None:
            counts = {"inputTokenCount": answer.usage["prompt_tokens"]}
            counts["outputTokenCount"] = answer.usage["completion_tokens"]
            usage = [{"usageDetails": counts}]
            result["traces"] = [{"traceType": "GENERATION_TRACE", "generation": "", "usage": usage}]
        return result

    def _actions(self, answer: ScriptedAnswer) -> Iterator[dict[str, Any]]:
        if self.approval:
            asked = {"message": "Send it?", "options": ["APPROVE", "DENY"]}
            yield {"actionId": "approve-1", "requiredActionType": "HUMAN_APPROVAL_REQUIRED_ACTION", **asked}
        for identifier, name, arguments in answer.calls:
            call = {"name": name, "arguments": "".join(arguments)}
            kind = "FUNCTION_CALLING_REQUIRED_ACTION"
            yield {"actionId": f"act.{identifier}", "requiredActionType": kind, "functionCall": call}


def _operation(received: Received) -> str:
    """What is asked for, below the endpoint. Raises Denied."""
    try:
        verify(received)
    except Unsigned as error:
        raise Denied(401, "NotAuthenticated", oci_chat.ERRORS[401][2], str(error)) from error
    path = urlsplit(received.path).path.removeprefix(BASE)
    if received.method != "POST" or path not in ("/sessions", "/actions/chat"):
        raise Denied(404, "NotAuthorizedOrNotFound", NOT_FOUND)
    return path


def _body(received: Received) -> dict[str, Any]:
    try:
        return parse(received.body)
    except Refused as error:
        raise wrong(detail=str(error)) from error


def _check(value: Any, kind: str) -> None:
    try:
        check(value, kind, source=models)
    except Misshapen as error:
        raise wrong(detail=str(error)) from error
