"""Converse and ConverseStream, as Amazon's models answer them, and what they refuse beyond the shapes.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tests.emulators.answers import TEXTS, Call
from tests.emulators.anthropic import rules as anthropic_rules
from tests.emulators.bedrock.answers import Event, Turn, streamed
from tests.emulators.bedrock.event_stream import dumps
from tests.emulators.bedrock.rules import Refused
from tests.emulators.openai.completion import example
from tests.emulators.reply import Piece, Reply
from tests.emulators.rules import misheaded

NO_SUCH_MODEL = "no.such-model"
USER_LAST = re.compile(r"meta\.|mistral\.")
WHOLE_CALLS = re.compile(r"meta\.|mistral\.|unknown\.")
NAMED_TOOL = re.compile(r"anthropic\.|amazon\.nova")
NO_FORMAT = re.compile(r"amazon\.|meta\.|mistral\.mistral-large-24|claude-3|claude-(opus|sonnet)-4-2")
DOCUMENT_NAME = re.compile(r"(?:[A-Za-z0-9()\[\]-]|\s(?!\s))+")


def check(params: Mapping[str, Any]) -> None:
    """Raises Refused for a conversation that Converse does not take."""
    if params["modelId"] == NO_SUCH_MODEL:
        raise Refused("ValidationException", "The provided model identifier is invalid.")
    messages = params["messages"]
    roles = [message["role"] for message in messages]
    if roles[:1] != ["user"]:
        raise Refused("ValidationException", "A conversation must start with a user message. Try again.")
    if any(one == other for one, other in pairwise(roles)):
        raise Refused("ValidationException", "A conversation must alternate between user and assistant roles.")
    pending: list[str] = []
    for at, message in enumerate(messages):
        _check_content(message["content"], f"messages.{at}.content", "toolConfig" in params)
        results = [block["toolResult"]["toolUseId"] for block in message["content"] if "toolResult" in block]
        if not all("toolResult" in block for block in message["content"][: len(results)]):
            raise Refused("ValidationException", f"messages.{at}: toolResult blocks must come first.")
        if sorted(results) != sorted(pending):
            missing = f"Expected toolResult blocks at messages.{at}.content for the following Ids: {pending}"
            raise Refused("ValidationException", f"{missing}, not {results}.")
        pending = [block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block]
    if pending or (roles[-1] == "assistant" and USER_LAST.search(params["modelId"])):
        raise Refused("ValidationException", "A conversation must end with a user message.")
    if roles[-1] == "assistant" and (said := messages[-1]["content"][-1].get("text", "")) != said.rstrip():
        raise Refused("ValidationException", "messages: final assistant content cannot end with trailing whitespace")
    called = [block["toolUse"]["toolUseId"] for each in messages for block in each["content"] if "toolUse" in block]
    if len(called) > len(set(called)):
        raise Refused("ValidationException", f"messages: duplicate Ids in toolUse blocks: {called}")
    _check_tools(params)
    if output := params.get("outputConfig", {}).get("textFormat"):
        if NO_FORMAT.search(params["modelId"]):
            raise Refused("ValidationException", "This model doesn't support the outputConfig.textFormat field.")
        _check_schema(json.loads(output["structure"]["jsonSchema"]["schema"]))


def _check_tools(params: Mapping[str, Any]) -> None:
    for tool in params.get("toolConfig", {}).get("tools", []):
        if wrong := misheaded(tool.get("toolSpec", {}).get("inputSchema", {}).get("json", {"type": "object"})):
            raise Refused("ValidationException", f"The value at toolConfig.tools.0.toolSpec.inputSchema.json: {wrong}")
    choice = params.get("toolConfig", {}).get("toolChoice", {})
    if "any" in choice and "meta." in params["modelId"]:
        raise Refused("ValidationException", "This model doesn't support the toolConfig.toolChoice.any field.")
    if "tool" in choice and not NAMED_TOOL.search(params["modelId"]):
        raise Refused("ValidationException", "This model doesn't support the toolConfig.toolChoice.tool field.")


def check_stream(params: Mapping[str, Any]) -> None:
    """Raises Refused for what ConverseStream does not take, though Converse does."""
    if "toolConfig" in params and WHOLE_CALLS.search(params["modelId"]):
        raise Refused("ValidationException", "This model doesn't support tool use in streaming mode.")


def _check_schema(schema: Any) -> None:
    """The subset of https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html: Anthropic's."""
    try:
        anthropic_rules.check_schema(schema)
    except anthropic_rules.Refused as refused:
        raise Refused("ValidationException", str(refused)) from refused


def _check_content(content: Sequence[Mapping[str, Any]], where: str, tools: bool) -> None:
    if not content:
        raise Refused("ValidationException", f"The content field at {where} is empty.")
    for block in content:
        if not str(block.get("text", "x")).strip():
            raise Refused("ValidationException", f"The text field in the ContentBlock object at {where} is blank.")
        if ("toolUse" in block or "toolResult" in block) and not tools:
            message = "The toolConfig field must be defined when using toolUse and toolResult content blocks."
            raise Refused("ValidationException", message)
        if document := block.get("document"):
            if not DOCUMENT_NAME.fullmatch(document["name"]):
                raise Refused("ValidationException", f"The document's name at {where} has other characters.")
            if not any("text" in each for each in content):
                raise Refused("ValidationException", f"A text block is needed beside the document at {where}.")


def converse(turn: Turn, params: Mapping[str, Any], stream: bool) -> Reply:
    """The answer to a request."""
    said = _Said(turn, params)
    whole = said.whole()
    if stream:
        return streamed(turn, list(said.events()), whole)
    return Reply(
        (Piece(whole, after=turn.first_delay),),
        headers={"Content-Type": "application/json"},
        whole=whole,
        error=dumps({"message": turn.message}),
    )


class _Said:
    def __init__(self, turn: Turn, params: Mapping[str, Any]) -> None:
        self._turn = turn
        self._calls = list(turn.calls) or _demanded(turn, params)
        self._texts = turn.texts if turn.texts is not None else () if self._calls else TEXTS
        self._reason = turn.stop_reason or ("tool_use" if self._calls else "end_turn")

    def whole(self) -> bytes:
        content: list[dict[str, Any]] = []
        if self._turn.reasoning:
            text = {"text": "".join(self._turn.reasoning), "signature": "c2ln"}
            content.append({"reasoningContent": {"reasoningText": text}})
        if self._texts:
            content.append({"text": "".join(map(str, self._texts))})
        for call in self._calls:
            used = {
                "toolUseId": call.id,
                "name": call.name,
                "input": json.loads("".join(call.arguments).strip() or "{}"),
            }
            content.append({"toolUse": used})
        body = {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": self._reason,
            "metrics": {"latencyMs": 551},
        }
        return dumps(body if self._turn.usage is None else {**body, "usage": self._turn.usage})

    def events(self) -> Iterator[Event]:
        yield "open", "messageStart", {"role": "assistant", "p": "abcdef"}
        for index, (start, deltas) in enumerate(self._blocks()):
            at = {"contentBlockIndex": index}
            if start:
                yield "content", "contentBlockStart", {**at, "start": start}
            for delta in deltas:
                yield "content", "contentBlockDelta", {**at, "delta": delta, "p": "abc"}
            yield "content", "contentBlockStop", at
        yield "finish", "messageStop", {"stopReason": self._reason}
        if self._turn.usage is not None:
            yield "usage", "metadata", {"usage": self._turn.usage, "metrics": {"latencyMs": 551}}

    def _blocks(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """What each block starts with, if it says so, and its deltas."""
        if self._turn.reasoning:
            deltas: list[dict[str, Any]] = [{"reasoningContent": {"text": text}} for text in self._turn.reasoning]
            yield {}, [*deltas, {"reasoningContent": {"signature": "c2ln"}}]
        if self._texts:
            yield {}, [{"text": text} for text in self._texts]
        for call in self._calls:
            start = {"toolUse": {"toolUseId": call.id, "name": call.name}}
            yield start, [{"toolUse": {"input": piece}} for piece in call.arguments]


def _demanded(turn: Turn, params: Mapping[str, Any]) -> list[Call]:
    """The call that the request insists on, unless the turn says something else."""
    config = params.get("toolConfig", {})
    choice = config.get("toolChoice", {})
    if turn.texts is not None or not choice.keys() & {"any", "tool"}:
        return []
    specs = [tool["toolSpec"] for tool in config["tools"] if "toolSpec" in tool]
    spec = next(each for each in specs if each["name"] == choice.get("tool", {}).get("name", each["name"]))
    arguments = json.dumps(example(spec["inputSchema"]["json"]), ensure_ascii=False)
    middle = len(arguments) // 2
    return [Call("tooluse_9pVYmF4jPzWcXqT2nL0s", spec["name"], [arguments[:middle], arguments[middle:]])]
