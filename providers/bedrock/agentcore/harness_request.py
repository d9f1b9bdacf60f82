"""A chat request as InvokeHarness takes it: Converse's messages, and the caller's tools as inline functions. Pure.

The service's model is botocore's bedrock-agentcore. A harness remembers its session's turns, so it gets the new
messages alone; but it does not remember a turn that ended in a call of an inline function, so that comes back with its
results.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidRequest
from core.json_values import Json
from core.requests import ChatRequest
from providers.common.conversation import OPENING, TEXTS, Message, instructions, merge_same_role
from providers.common.conversation import conversation as in_turns
from providers.common.history import RESULTS
from providers.common.translate import content_text, declared_functions, fit_id, tool_choice

SUPPORTED_PARAMETERS = frozenset({
    "functions", "max_completion_tokens", "max_tokens", "messages", "metadata", "model", "stream", "stream_options",
    "tool_choice", "tools", "user",
})  # fmt: skip
"""Parameters with a counterpart. The others only tune the answer, and are dropped."""
OPTIONS: Mapping[str, type] = {
    "actorId": str,
    "runtimeUserId": str,
    "maxIterations": int,
    "timeoutSeconds": int,
}
"""The keys of the request's `bedrock` object, by Amazon's names."""
IDS = re.compile(r"[a-zA-Z0-9_-]{1,64}")
NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class HarnessInput:
    """A conversation. `system` are its instructions, `history` the earlier messages, `new` those for a session that has
    the history; `received` are the request's messages that a session must have received to belong to the conversation.
    """

    system: list[Json]
    history: list[Message]
    new: list[Message]
    received: Sequence[Mapping[str, Any]]


def harness_input(request: ChatRequest) -> HarnessInput:
    """The request's conversation. Raises InvalidRequest and Unsupported with the field's name."""
    messages = request.messages
    last = max((at for at, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    answers = any(message["role"] in RESULTS for message in messages[last + 1 :])
    first_new = last if answers else last + 1
    turns = in_turns(messages)
    new = [turn for turn in turns if _index(turn) >= first_new]
    if not new and turns and last == len(messages) - 1:
        raise InvalidRequest(
            "An agent answers to what a user says: the last message must have a user's words.", param="messages"
        )
    words = (content_text([part], "messages") for part in instructions(messages))
    system = [{"text": text} for text in words if text]
    return HarnessInput(system, [turn for turn in turns if _index(turn) < first_new], new, messages[: last + 1])


def to_upstream(request: ChatRequest, turn_input: HarnessInput, options: Json, *, known: bool) -> Json:
    """The parameters of InvokeHarness, but for harness and session; `known`: the session has the history."""
    functions = [] if tool_choice(request)[0] == "none" else declared_functions(request.tools)
    params: Json = {
        "messages": _messages(turn_input.new if known else [*turn_input.history, *turn_input.new], resumes=known),
        "systemPrompt": turn_input.system,
        "tools": [_inline_function(function) for function in functions],
        "maxTokens": request.max_tokens,
        "actorId": request.body.get("user"),
        **options,
    }
    return {key: value for key, value in params.items() if value}


def _index(turn: Message) -> int:
    found = NUMBER.search(turn.at)
    return int(found[0]) if found else 0


def _messages(turns: Sequence[Message], *, resumes: bool) -> list[Json]:
    """The messages of one role together. A conversation begins with the user, unless it `resumes` one."""
    merged = merge_same_role(("assistant" if turn.role == "assistant" else "user", _content(turn)) for turn in turns)
    if not merged or (merged[0][0] != "user" and not resumes):
        merged.insert(0, ("user", [{"text": OPENING}]))
    return [{"role": role, "content": content} for role, content in merged]


def _content(turn: Message) -> list[Json]:
    texts = [{"text": content_text([part], where)} for where, part in turn.parts if _is_text(part, where)]
    if turn.role == "tool":
        failed = {"status": "error"} if turn.failed else {}
        return [{"toolResult": {"toolUseId": fit_id(turn.answers, IDS), "content": texts, **failed}}]
    uses = [
        {"toolUse": {"toolUseId": fit_id(use.id, IDS), "name": use.name, "input": use.arguments}} for use in turn.calls
    ]
    return [*texts, *uses]


def _is_text(part: Json, where: str) -> bool:
    if part["type"] not in TEXTS:
        raise InvalidRequest(f"A harness takes text alone, no part of type {part['type']!r}.", param=where)
    return True


def _inline_function(function: Json) -> Json:
    schema = {"type": "object", "properties": {}, **(function.get("parameters") or {})}
    described = {"description": function.get("description") or function["name"], "inputSchema": schema}
    return {"type": "inline_function", "name": function["name"], "config": {"inlineFunction": described}}
