"""COHERE: the older of Cohere's two styles on OCI, for the Command models: a message, its history, Python's type names.

The parameters of models.yaml are applied to the chatRequest, whose names are OCI's.

https://docs.oracle.com/en-us/iaas/api/#/en/generative-ai-inference/20231130/datatypes/CohereChatRequest
"""

from collections.abc import Mapping
from typing import Any

import orjson

from errors import InvalidRequest
from events import ChatRequest
from providers import translate
from providers.base import Target
from providers.oci import answers, common
from providers.oci.common import Json
from providers.oci.schema import definitions

TAKEN = frozenset({
    *common.SAME, "functions", "function_call", "max_completion_tokens", "max_tokens", "messages", "model", "n",
    "response_format", "stop", "stream", "stream_options", "tools",
})  # fmt: skip
"""OpenAI's parameters that have a counterpart here. `tool_choice` has only half of one: see `_tools`."""


def to_upstream(request: ChatRequest, target: Target, most_tokens: int) -> Json:
    """The chatRequest; `most_tokens` is what on-demand models answer with at most."""
    common.no_choices(request)
    sent: Json = {
        "apiFormat": "COHERE",
        **_conversation(request),
        **_tools(request),
        **common.cohere_format(request),
        **common.tuning(request, "stopSequences"),
    }
    if (cap := common.cap(request, target, most_tokens)) is not None:
        sent["maxTokens"] = cap
    return target.rules.apply(sent)


def _conversation(request: ChatRequest) -> Json:
    """What is said now, and what was before. Results of tools at the end stand in the place of a message: together,
    they are refused.
    """
    preamble: list[str] = []
    history: list[Json] = []
    made: dict[str, Json] = {}
    for where, message in common.conversation(request):
        said = translate.text(message.get("content"), where)
        role = message["role"]
        if role in ("system", "developer"):
            if history:
                history.append({"role": "SYSTEM", "message": said})
            else:
                preamble.append(said)
        elif role == "assistant":
            calls = {each: {"name": name, "parameters": given} for each, name, given in common.calls(message, where)}
            made.update(calls)
            turn: Json = {"role": "CHATBOT", "message": said}
            history.append({**turn, "toolCalls": list(calls.values())} if calls else turn)
        elif role == "tool":
            result = _result(message, said, made, where)
            if history and history[-1]["role"] == "TOOL":
                history[-1]["toolResults"].append(result)
            else:
                history.append({"role": "TOOL", "toolResults": [result]})
        else:
            history.append({"role": "USER", "message": said})
    return _now(preamble, history)


def _now(preamble: list[str], history: list[Json]) -> Json:
    if not history:
        now: Json = {"message": preamble.pop()}  # instructions alone: they are what there is to answer
    elif history[-1]["role"] == "TOOL":
        now = {"message": "", "toolResults": history.pop()["toolResults"]}
    elif history[-1]["role"] == "CHATBOT":
        now = {"message": "Continue."}  # an empty one is refused
    else:
        now = {"message": history.pop()["message"]}
    if preamble:
        now["preambleOverride"] = "\n\n".join(preamble)
    return {**now, "chatHistory": history} if history else now


def _result(message: Mapping[str, Any], said: str, made: Mapping[str, Json], where: str) -> Json:
    """A tool's result with the call that it answers: here it is the call itself that says which (N11)."""
    call = made.get(message.get("tool_call_id", ""))
    if call is None:
        raise InvalidRequest("No tool call before has this `tool_call_id`.", param=f"{where}.tool_call_id")
    try:
        value = orjson.loads(said)
    except orjson.JSONDecodeError:
        value = said
    outputs = value if isinstance(value, list) and value else [value]
    return {"call": call, "outputs": [each if isinstance(each, dict) else {"result": each} for each in outputs]}


def _tools(request: ChatRequest) -> Json:
    """There is no toolChoice: none sends no tools, a named one sends that alone (N12). What must be cannot be said."""
    choice, name, declared = common.chosen(request)
    if choice == "none":
        return {}
    tools: list[Json] = []
    for function in declared:
        if name in ("", function["name"]):
            told = {"name": function["name"], "description": str(function.get("description") or function["name"])}
            tools.append({**told, "parameterDefinitions": definitions(function)})
    return {"tools": tools} if tools else {}


def chunk(event: Mapping[str, Any]) -> Json:
    """An event of the stream as one of OpenAI's chunks."""
    return {"choices": [_choice(event, "delta")], "usage": answers.usage(event.get("usage"))}


def body(answer: Mapping[str, Any]) -> Json:
    """A whole chatResponse as OpenAI's body."""
    return {"choices": [_choice(answer, "message")], "usage": answers.usage(answer.get("usage"))}


def _choice(answer: Mapping[str, Any], said_as: str) -> Json:
    calls = [
        {"function": {"name": call["name"], "arguments": orjson.dumps(call.get("parameters") or {}).decode()}}
        for call in answer.get("toolCalls") or ()
    ]
    said = {"content": answer.get("text") or "", "tool_calls": calls}
    return {
        said_as: said,
        "index": 0,
        "finish_reason": answers.finish(answer.get("finishReason"), answer.get("errorMessage")),
    }
