"""An agent's return of control as tool calls, and their results as the agent's session state.

https://docs.aws.amazon.com/bedrock/latest/userguide/agents-returncontrol.html

The data for the answer to a call (session, invocation and place, action and form) are stored under an id that every
client and vendor accepts. So the result may come to another worker or replica, or after a restart. It may also come
from a client with call ids of its own, if the conversation can be identified.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from secrets import token_hex
from typing import Any

import orjson

from core.errors import InvalidRequest
from core.json_values import Json
from core.store import KeyValueStore
from providers.common import translate
from providers.common.agent_sessions import SessionOwner, tag
from providers.common.agent_turns import is_yes

NAME_CHARACTERS = 64
"""The length of a function's name in OpenAI's dialect, and its characters:"""
NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")
NO = frozenset({"deny", "denied", "no", "false", "cancel", "cancelled"})
TRUTHS = {"true": True, "false": False}
ID = re.compile(r"call_agent_([0-9a-f]{12})([0-9a-f]{12})_(0|[1-9]\d?)")
"""40 characters at most: a nonce, the tag of the owner, the place in the invocation."""


@dataclass(frozen=True, slots=True)
class ReturnedControl:
    """A stored action that the agent wants. `path` and `method` are for the API form.

    `asks`: RESULT, USER_CONFIRMATION or USER_CONFIRMATION_AND_RESULT.
    """

    session: str
    invocation: str
    place: int
    asks: str
    agent: str
    group: str
    function: str = ""
    path: str = ""
    method: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """The calls that an agent has made for one caller. Without a store nothing is kept.

    `conversation` is the key of the open invocation, `seconds` how long its session is expected to wait.
    """

    state: KeyValueStore | None
    owner: SessionOwner
    seconds: float

    def keep(self, calls: Sequence[ReturnedControl], conversation: str) -> list[str]:
        """The ids of the calls of one invocation."""
        nonce = token_hex(6)
        if self.state is not None:
            self.state.put(self._key(nonce), orjson.dumps([astuple(each) for each in calls]).decode(), self.seconds)
            self.state.put(conversation, nonce, self.seconds)
        return [f"call_agent_{nonce}{self._tag(nonce)}_{place}" for place in range(len(calls))]

    def recall(self, identifier: str) -> ReturnedControl | None:
        """The call of this id; None if it is unknown."""
        found = ID.fullmatch(identifier)
        made = self._invocation(found[1]) if found else []
        return made[int(found[3])] if found and int(found[3]) < len(made) else None

    def opened(self, conversation: str) -> list[ReturnedControl]:
        """The calls of the invocation that this conversation waits for."""
        return self._invocation((self.state.get(conversation) if self.state is not None else None) or "")

    def is_anothers(self, identifier: str) -> bool:
        """Whether the id was made for another key, or another agent."""
        found = ID.fullmatch(identifier)
        return found is not None and found[2] != self._tag(found[1])

    def _invocation(self, nonce: str) -> list[ReturnedControl]:
        kept = self.state.get(self._key(nonce)) if nonce and self.state is not None else None
        return [ReturnedControl(*each) for each in orjson.loads(kept)] if kept else []

    def _tag(self, nonce: str) -> str:
        return tag(self.owner, nonce)[:12]

    def _key(self, nonce: str) -> str:
        return f"agent-calls:{tag(self.owner, nonce)}:{nonce}"


def calls(payload: Mapping[str, Any], session: str) -> list[tuple[ReturnedControl, str, str]]:
    """(call, name, arguments) of each call of a returnControl event. Raises KeyError for another shape."""
    invocation = payload["invocationId"]
    made = []
    for place, member in enumerate(payload["invocationInputs"]):
        given = member.get("functionInvocationInput")
        form = "function" if given is not None else "api"
        given = given if given is not None else member["apiInvocationInput"]
        called = ReturnedControl(
            session=session,
            invocation=invocation,
            place=place,
            asks=given.get("actionInvocationType", "RESULT"),
            agent=given.get("agentId", ""),
            group=given["actionGroup"],
            function=given.get("function", "") if form == "function" else "",
            path=given.get("apiPath", "") if form == "api" else "",
            method=given.get("httpMethod", "") if form == "api" else "",
        )
        made.append((called, _name(called), orjson.dumps(_arguments(given)).decode()))
    return made


def results(
    messages: Sequence[Mapping[str, Any]], places: Sequence[int], kept: Kept, conversation: str
) -> tuple[str, Json] | None:
    """The session, and the session state with the results: `places` are the tool messages. None if the agent is not
    known to wait for them: its calls have expired, or another vendor has made them.

    Raises InvalidRequest for an id that is none of the assistant's calls or is another caller's, and for a call without
    a result.
    """
    made = _calls_before(messages, places)[1]
    call_ids = [str(call.get("id")) for call in made]
    names = [call["function"].get("name") if isinstance(call.get("function"), dict) else None for call in made]
    opened = kept.opened(conversation)
    waits = [_name(each) for each in opened] == names
    found: dict[ReturnedControl, str] = {}
    forgotten = False
    for at in places:
        where, identifier = f"messages[{at}].tool_call_id", str(messages[at].get("tool_call_id") or "")
        called = kept.recall(identifier)
        if kept.is_anothers(identifier) or (called is None and identifier not in call_ids):
            raise InvalidRequest("There is no such call: its id is none that this agent gave to you.", param=where)
        if called is None and waits:
            called = opened[call_ids.index(identifier)]
        if called is None:
            forgotten = True
            continue
        known = next(iter(found), called)
        if (called.session, called.invocation) != (known.session, known.invocation):
            raise InvalidRequest("The results of calls from different turns cannot go together.", param=where)
        found[called] = translate.content_text(messages[at].get("content"), f"messages[{at}]")
    _require_all_results(messages, places)
    if forgotten:
        return None
    first = next(iter(found))
    in_order = sorted(found, key=lambda called: called.place)
    return first.session, {
        "invocationId": first.invocation,
        "returnControlInvocationResults": [_result(called, found[called]) for called in in_order],
    }


def _calls_before(messages: Sequence[Mapping[str, Any]], places: Sequence[int]) -> tuple[int, list[Mapping[str, Any]]]:
    """The index of the assistant's message before the results, and its calls."""
    at = next((at for at in range(min(places) - 1, -1, -1) if messages[at]["role"] == "assistant"), -1)
    return at, list(messages[at].get("tool_calls") or ()) if at >= 0 else []


def _require_all_results(messages: Sequence[Mapping[str, Any]], places: Sequence[int]) -> None:
    """Raise unless all calls have results: the agent goes on only with all of them."""
    result_ids = {messages[at].get("tool_call_id") for at in places}
    at, call_ids = _calls_before(messages, places)
    for position, call in enumerate(call_ids):
        if str(call.get("id")) not in result_ids:
            raise InvalidRequest("This call has no result yet.", param=f"messages[{at}].tool_calls[{position}]")


def _result(called: ReturnedControl, text: str) -> Json:
    result: Json = {"actionGroup": called.group}
    if called.agent:
        result["agentId"] = called.agent
    word = text.strip().strip(".!").lower()
    if called.asks == "USER_CONFIRMATION":
        result["confirmationState"] = "CONFIRM" if is_yes(text) else "DENY"
    elif called.asks == "USER_CONFIRMATION_AND_RESULT":
        result["confirmationState"] = "DENY" if word in NO else "CONFIRM"
    result["responseBody"] = {"TEXT": {"body": text}}
    if called.path:
        return {"apiResult": {**result, "apiPath": called.path, "httpMethod": called.method, "httpStatusCode": 200}}
    return {"functionResult": {**result, "function": called.function}}


def _name(called: ReturnedControl) -> str:
    """The function's own name, or one made of an API's method and path; for a mere confirmation `confirm_...`."""
    name = f"{called.method.lower()}_{called.path.strip('/')}" if called.path else called.function or called.group
    name = NOT_IN_NAMES.sub("_", name).strip("_")
    name = f"confirm_{name}" if called.asks == "USER_CONFIRMATION" else name
    return name[:NAME_CHARACTERS]


def _arguments(given: Mapping[str, Any]) -> Json:
    """The parameters, and the body's properties in the API form, each with its declared type."""
    listed = list(given.get("parameters") or ())
    for content in ((given.get("requestBody") or {}).get("content") or {}).values():
        listed += content.get("properties") or ()
    return {each["name"]: _convert(each.get("type", "string"), each.get("value")) for each in listed}


def _convert(kind: str, value: str | None) -> Any:
    """A value from text; the text itself if it does not have the declared type."""
    if value is None:
        return None
    try:
        match kind.lower():
            case "integer":
                return int(value)
            case "number":
                return orjson.loads(value)
            case "boolean":
                return TRUTHS.get(value.strip().lower(), value)
            case "array" | "object":
                return orjson.loads(value)
    except ValueError:
        pass
    return value
