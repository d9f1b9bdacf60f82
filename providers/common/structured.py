"""JSON answers from models without a response format, by a tool that must be called; and forced calls from models
without a tool choice, by a response format. One function changes the request, another changes the events back, so the
caller sees no difference. Pure.
"""

from dataclasses import replace
from typing import Any

from core.errors import InvalidRequest
from core.events import Event, Events, Finish, Text, ToolArguments, ToolCall
from core.requests import ChatRequest
from providers.common.conversation import GO_ON
from providers.common.translate import declared_functions, response_format, tool_choice

ANSWER = "json_answer"
DESCRIPTION = "Gives your answer: call it once, its arguments are the whole answer."
OBJECT: dict[str, Any] = {"type": "object"}
TOOLS = ("tools", "functions", "tool_choice", "function_call", "parallel_tool_calls")


def format_by_tool(request: ChatRequest) -> tuple[ChatRequest, str]:
    """The request with a tool instead of its `response_format`, and that tool's name: "" if the caller requires a tool
    call, which has no format. The caller's own tools stay callable if they were.

    Raises InvalidRequest for a schema that is not an object's.
    """
    _, wanted = response_format(request)
    mode, names = tool_choice(request)
    body = {key: value for key, value in request.body.items() if key != "response_format"}
    own = (
        []
        if mode == "none"
        else [each for each in declared_functions(request.tools) if not names or each["name"] in names]
    )
    if mode == "required" and own:
        return replace(request, body=body), ""
    schema = wanted.get("schema") or OBJECT
    if schema.get("type", "object") != "object":
        raise InvalidRequest("The schema's `type` must be object.", param="response_format.json_schema.schema")
    name = ANSWER
    while any(each["name"] == name for each in own):
        name += "_"
    described = " ".join(filter(None, (DESCRIPTION, str(wanted.get("description") or ""))))
    tool = {"name": name, "description": described, "parameters": schema}
    body = {key: value for key, value in body.items() if key not in TOOLS}
    body["tools"] = [{"type": "function", "function": each} for each in (*own, tool)]
    body["tool_choice"] = "required" if own else {"type": "function", "function": {"name": name}}
    if not own:
        body["parallel_tool_calls"] = False
    elif "parallel_tool_calls" in request.body:
        body["parallel_tool_calls"] = request.body["parallel_tool_calls"]
    return replace(request, body=body), name


def answer_as_text(events: Events, name: str) -> Events:
    """The events with the arguments of the first call of the tool `name` as text. Text beside it is left out, unless
    there is no call.
    """
    texts: list[Event] = []
    answer: ToolCall | None = None
    others: set[int | str] = set()
    for event in events:
        match event:
            case Text():
                texts.append(event)
            case ToolCall() if event.name == name:
                answer = answer or event
            case ToolCall():
                others.add(event.key)
                yield event
            case ToolArguments() if event.key not in others:
                if answer is not None and event.key == answer.key:
                    yield Text(event.text)
            case Finish():
                if answer is None:
                    yield from texts
                only_answer = answer is not None and not others and event.reason == "tool_calls"
                yield Finish("stop") if only_answer else event
            case _:
                yield event


def call_by_format(request: ChatRequest) -> tuple[ChatRequest, str]:
    """The request with the only callable tool's schema as its `response_format`, and that tool's name: "" if more than
    one may be called. New results become user messages: a format needs a turn of the user.
    """
    _, names = tool_choice(request)
    own = [each for each in declared_functions(request.tools) if not names or each["name"] in names]
    if len(own) != 1:
        return request, ""
    body = {key: value for key, value in request.body.items() if key not in TOOLS}
    shape = {"name": own[0]["name"], "schema": own[0]["parameters"] or OBJECT}
    body["response_format"] = {"type": "json_schema", "json_schema": shape}
    if request.messages[-1]["role"] != "user":
        body["messages"] = [*request.messages, {"role": "user", "content": GO_ON}]
    return replace(request, body=body), own[0]["name"]


def answer_as_call(events: Events, name: str) -> Events:
    """The events with the text as the arguments of a call of the tool `name`."""
    opened = False
    for event in events:
        if isinstance(event, (Text, Finish)) and not opened:
            opened = True
            yield ToolCall(0, name)
        if isinstance(event, Text):
            yield ToolArguments(0, event.text)
        elif isinstance(event, Finish):
            yield Finish("tool_calls") if event.reason == "stop" else event
        else:
            yield event
