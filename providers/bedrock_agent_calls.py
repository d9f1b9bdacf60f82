"""An agent's return of control as tool calls, and their results as what the agent waits for.

https://docs.aws.amazon.com/bedrock/latest/userguide/agents-returncontrol.html

A call's id holds all that the answer to it needs: session, invocation and place, action and form. So the result may
come to another worker, another replica, or after a restart.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import orjson

from errors import InvalidRequest
from providers import translate
from providers.sessions import Owner, belongs

NAME_CHARACTERS = 64
"""As long a function's name may be in OpenAI's dialect, and of these alone:"""
NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")
YES = frozenset({"confirm", "confirmed", "yes", "true", "ok", "okay"})
NO = frozenset({"deny", "denied", "no", "false", "cancel", "cancelled"})
TRUTHS = {"true": True, "false": False}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Called:
    """What the agent wants done, as a call's id carries it. `path` and `method` are the API form's.

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


def calls(payload: Mapping[str, Any], session: str) -> list[tuple[str, str, str]]:
    """(id, name, arguments) of each call of a returnControl event. Raises KeyError for one that is none."""
    invocation = payload["invocationId"]
    made = []
    for place, member in enumerate(payload["invocationInputs"]):
        given = member.get("functionInvocationInput")
        form = "function" if given is not None else "api"
        given = given if given is not None else member["apiInvocationInput"]
        called = Called(
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
        made.append((_packed(called), _name(called), orjson.dumps(_arguments(given)).decode()))
    return made


def results(messages: Sequence[Mapping[str, Any]], places: Sequence[int], owner: Owner) -> tuple[str, Json]:
    """The session, and the part of its state that answers the calls: `places` are the tool messages.

    Raises InvalidRequest for an id that is none of this agent's calls to this caller, and for a call left unanswered.
    """
    found: dict[Called, str] = {}
    for at in places:
        where = f"messages[{at}].tool_call_id"
        called = _unpacked(str(messages[at].get("tool_call_id") or ""))
        if called is None or not belongs(called.session, owner):
            raise InvalidRequest("There is no such call: its id is none that this agent gave to you.", param=where)
        known = next(iter(found), called)
        if (called.session, called.invocation) != (known.session, known.invocation):
            raise InvalidRequest("The results of calls from different turns cannot go together.", param=where)
        found[called] = translate.text(messages[at].get("content"), f"messages[{at}]")
    _all_answered(messages, places)
    first = next(iter(found))
    in_order = sorted(found, key=lambda called: called.place)
    return first.session, {
        "invocationId": first.invocation,
        "returnControlInvocationResults": [_result(called, found[called]) for called in in_order],
    }


def _all_answered(messages: Sequence[Mapping[str, Any]], places: Sequence[int]) -> None:
    """The agent goes on only when it has all the results."""
    answered = {messages[at].get("tool_call_id") for at in places}
    for at in range(min(places) - 1, -1, -1):
        if messages[at]["role"] == "assistant":
            for position, call in enumerate(messages[at].get("tool_calls") or ()):
                if str(call.get("id")) not in answered:
                    raise InvalidRequest("This call has no result yet.", param=f"messages[{at}].tool_calls[{position}]")
            return


def _result(called: Called, text: str) -> Json:
    result: Json = {"actionGroup": called.group}
    if called.agent:
        result["agentId"] = called.agent
    word = text.strip().strip(".!").lower()
    if called.asks == "USER_CONFIRMATION":  # what is not plainly a yes is none
        result["confirmationState"] = "CONFIRM" if word in YES else "DENY"
    elif called.asks == "USER_CONFIRMATION_AND_RESULT":
        result["confirmationState"] = "DENY" if word in NO else "CONFIRM"
    result["responseBody"] = {"TEXT": {"body": text}}
    if called.path:
        return {"apiResult": {**result, "apiPath": called.path, "httpMethod": called.method, "httpStatusCode": 200}}
    return {"functionResult": {**result, "function": called.function}}


def _name(called: Called) -> str:
    """The function's own name, or one made of an API's method and path; a mere question is `confirm_...`."""
    name = f"{called.method.lower()}_{called.path.strip('/')}" if called.path else called.function or called.group
    name = NOT_IN_NAMES.sub("_", name).strip("_")
    name = f"confirm_{name}" if called.asks == "USER_CONFIRMATION" else name
    return name[:NAME_CHARACTERS]


def _arguments(given: Mapping[str, Any]) -> Json:
    """Parameters, and the body's properties in the API form, each as the type that it is declared to have."""
    listed = list(given.get("parameters") or ())
    for content in ((given.get("requestBody") or {}).get("content") or {}).values():
        listed += content.get("properties") or ()
    return {each["name"]: _typed(each.get("type", "string"), each.get("value")) for each in listed}


def _typed(kind: str, value: str | None) -> Any:
    """A value that came as text; as text where it is not what it says."""
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


def _packed(called: Called) -> str:
    return f"call_{urlsafe_b64encode(orjson.dumps(astuple(called))).decode().rstrip('=')}"


def _unpacked(identifier: str) -> Called | None:
    text = identifier.removeprefix("call_")
    try:
        fields = orjson.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        called = Called(*fields)
    except (ValueError, TypeError):
        return None
    right = isinstance(called.place, int) and all(
        isinstance(each, str)
        for position, each in enumerate(fields)
        if position != 2  # noqa: PLR2004 - the place
    )
    return called if right else None
