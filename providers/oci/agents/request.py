"""A turn with an agent of OCI as ChatDetails. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from core.errors import InvalidRequest
from core.json_values import Json
from providers.common.agent_input import AgentInput, flatten_history
from providers.common.agent_turns import is_yes
from providers.common.translate import content_text

IDS = re.compile(r"[a-zA-Z0-9_-]{1,40}")
"""The form of a call's id that all clients and vendors accept."""
APPROVAL = "HUMAN_APPROVAL_REQUIRED_ACTION"


@dataclass(frozen=True, slots=True)
class PendingAction:
    """An action that the agent waits for: its id, and its requiredActionType."""

    id: str
    kind: str


@dataclass(frozen=True, slots=True)
class RemoteSession:
    """A session at OCI, and the actions that it waits for, in the order of the calls."""

    id: str
    pending: tuple[PendingAction, ...] = ()

    def dumps(self) -> str:
        """For the store."""
        return orjson.dumps([self.id, [[action.id, action.kind] for action in self.pending]]).decode()

    @classmethod
    def loads(cls, text: str) -> "RemoteSession":
        """From the store."""
        identifier, pending = orjson.loads(text)
        return cls(identifier, tuple(PendingAction(*each) for each in pending))


def to_upstream(
    turn_input: AgentInput, session: RemoteSession, performed: Sequence[Json], *, known: bool, streams: bool
) -> Json:
    """The turn as ChatDetails; `known`: the session has the history. `performed` are the results it waits for."""
    details: Json = {"shouldStream": streams, "sessionId": session.id}
    if performed:
        return {**details, "performedActions": list(performed)}
    return {**details, "userMessage": flatten_history(() if known else turn_input.before, turn_input.text)}


def performed_actions(
    messages: Sequence[Mapping[str, Any]], places: Sequence[int], pending: Sequence[PendingAction]
) -> list[Json]:
    """The results in the messages at `places`, as the agent that waits for them has them; [] if they are not what it
    waits for. Raises InvalidRequest for a call without a result.
    """
    at = next((at for at in range(min(places) - 1, -1, -1) if messages[at]["role"] == "assistant"), -1)
    calls = list(messages[at].get("tool_calls") or ()) if at >= 0 else []
    results = {str(messages[place].get("tool_call_id") or ""): place for place in places}
    if len(calls) != len(pending):
        return []
    performed = []
    for position, (call, action) in enumerate(zip(calls, pending, strict=True)):
        place = results.get(str(call.get("id")))
        if place is None:
            raise InvalidRequest("This call has no result yet.", param=f"messages[{at}].tool_calls[{position}]")
        text = content_text(messages[place].get("content"), f"messages[{place}]")
        performed.append(_performed_action(action, text))
    return performed


def _performed_action(action: PendingAction, text: str) -> Json:
    made = {"actionId": action.id, "performedActionType": action.kind.replace("_REQUIRED_", "_PERFORMED_")}
    if action.kind == APPROVAL:
        return {**made, "chosenOption": "APPROVE" if is_yes(text) else "DENY"}
    return {**made, "functionCallOutput": text}
