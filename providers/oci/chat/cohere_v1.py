"""COHERE: the older of Cohere's formats on OCI, for the Command models: a message, its history, Python's type names.

The parameters of models.yaml are applied to the chatRequest, whose names are OCI's.

https://docs.oracle.com/en-us/iaas/api/#/en/generative-ai-inference/20231130/datatypes/CohereChatRequest
"""

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from core.errors import Unsupported
from core.json_values import Json
from core.requests import ChatRequest
from providers.base import Target
from providers.common import structured, translate
from providers.common.conversation import GO_ON, OPENING, conversation, instructions
from providers.oci.chat import answers, common
from providers.oci.chat.tool_schemas import definitions

SUPPORTED_PARAMETERS = common.SUPPORTED_PARAMETERS
"""OpenAI's parameters with a counterpart."""


def call_by_format(request: ChatRequest, name: str) -> tuple[ChatRequest, str]:
    """The format has no forced tool call. So this is the request for the tool's arguments as a JSON answer, and the
    tool's name. Raises Unsupported if several tools are possible; `name` is the model's.
    """
    if translate.tool_choice(request)[0] != "required" or not request.tools:
        return request, ""
    wanted, tool = structured.call_by_format(request)
    if not tool:
        raise Unsupported(f"{name} cannot insist on one of several tools: name the one.", param="tool_choice")
    return wanted, tool


def to_upstream(request: ChatRequest, target: Target, most_tokens: int) -> Json:
    """The chatRequest; `most_tokens` is the limit of on-demand models' answers."""
    common.one_text(request, target)
    turns = _conversation(request)
    sent: Json = {
        "apiFormat": "COHERE",
        **turns,
        **_tools(request, [result["call"]["name"] for result in turns.get("toolResults", ())]),
        **common.cohere_format(request),
        **common.tuning(request, "stopSequences"),
    }
    if (cap := translate.capped_max_tokens(request, target.max_tokens)) is not None:
        sent["maxTokens"] = min(cap, most_tokens)
    return target.rules.apply(sent)


def _conversation(request: ChatRequest) -> Json:
    """The new message, and the history. Results of tools at the end replace the message: OCI refuses both together."""
    history: list[Json] = []
    made: dict[str, Json] = {}
    for turn in conversation(request.messages):
        text = translate.content_text([part for _, part in turn.parts], turn.at)
        if turn.role == "user":
            history.append({"role": "USER", "message": text})
        elif turn.role == "assistant":
            called = {use.id: {"name": use.name, "parameters": use.arguments} for use in turn.calls}
            made.update(called)
            calls = {"toolCalls": list(called.values())} if called else {}
            history.append({"role": "CHATBOT", "message": text, **calls})
        elif history[-1]["role"] == "TOOL":
            history[-1]["toolResults"].append(_result(made[turn.answers], text))
        else:
            history.append({"role": "TOOL", "toolResults": [_result(made[turn.answers], text)]})
    system = "\n\n".join(part["text"] for part in instructions(request.messages))
    return {
        **_now(history),
        **({"chatHistory": history} if history else {}),
        **({"preambleOverride": system} if system else {}),
    }


def _now(history: list[Json]) -> Json:
    """The last turn, removed from the history: an empty message is refused."""
    if not history:
        return {"message": OPENING}
    if history[-1]["role"] == "CHATBOT":
        return {"message": GO_ON}
    last = history.pop()
    return (
        {"message": last["message"]} if last["role"] == "USER" else {"message": "", "toolResults": last["toolResults"]}
    )


def _result(call: Json, text: str) -> Json:
    """A tool's result, with the call that it answers: the whole call identifies it here."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = text
    outputs = value if isinstance(value, list) and value else [value]
    return {"call": call, "outputs": [each if isinstance(each, dict) else {"result": each} for each in outputs]}


def _tools(request: ChatRequest, call_names: Collection[str]) -> Json:
    """There is no toolChoice: for `none` no tools are sent, and a named tool is sent alone. A response format forces a
    call.
    Tools with results are sent in any case: results without their tools are refused
    (https://docs.cohere.com/v1/reference/chat, tool_results).
    """
    functions, mode, chosen = common.tools(request)
    declared = {function["name"]: function for function in common.list_functions(request)}
    wanted = [each["name"] for each in functions if chosen in ("", each["name"])] if mode != "none" else []
    tools = [
        {
            "name": function["name"],
            "description": function["description"],
            "parameterDefinitions": definitions(function),
        }
        for function in (
            declared.get(name, {"name": name, "description": name}) for name in dict.fromkeys([*wanted, *call_names])
        )
    ]
    return {"tools": tools} if tools else {}


def chunk(event: Mapping[str, Any]) -> Json:
    """An event of the stream as one of OpenAI's chunks."""
    return {"choices": [_choice(event, "delta")], "usage": answers.usage(event.get("usage"))}


def body(answer: Mapping[str, Any]) -> Json:
    """A whole chatResponse as OpenAI's body."""
    return {
        "choices": [answers.move_plan(_choice(answer, "message"), "message")],
        "usage": answers.usage(answer.get("usage")),
    }


def _choice(answer: Mapping[str, Any], said_as: str) -> Json:
    calls = [
        {"function": {"name": call["name"], "arguments": call.get("parameters") or {}}}
        for call in answer.get("toolCalls") or ()
    ]
    message = {"content": answer.get("text") or "", "tool_calls": calls}
    return {
        said_as: message,
        "index": 0,
        "finish_reason": answers.finish_reason(answer.get("finishReason"), answer.get("errorMessage")),
    }
