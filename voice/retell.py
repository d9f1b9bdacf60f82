"""Retell's custom LLM socket: https://docs.retellai.com/api-references/llm-websocket

Retell dials with the call's id in the path. With each turn it sends its own transcript of the conversation, and it
accepts only frames with the newest response_id. Both sides ignore frames of unknown types.
"""

from typing import Any

from core.json_values import Json
from voice.conversation import SILENT
from voice.platform import (
    Command,
    Describe,
    Output,
    Reply,
    Speech,
    ToolEnded,
    ToolStarted,
    Transcript,
    TurnEnded,
    facts_of,
    number_of,
    string_of,
)
from voice.tools import EndCall, PressDigits, TransferCall

ROLES = {"agent": "assistant", "user": "user"}


class Retell:
    """The Platform of Retell."""

    name = "retell"
    actions = frozenset({"end_call", "transfer_call", "press_digit"})
    remembers = True

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id

    def open(self) -> list[Json]:
        """The settings for Retell: reconnect after a lost connection, send the facts and the calls of tools."""
        config = {"auto_reconnect": True, "call_details": True, "transcript_with_tool_calls": True}
        return [{"response_type": "config", "config": config}]

    def greet(self, text: str) -> list[Json]:
        """The begin message. With an empty one the caller speaks first."""
        return [self._response(0, text, complete=True)]

    def read(self, frame: Json) -> Command | None:
        """Decode turns, facts and pings. `update_only` has nothing that the next turn does not have."""
        match frame["interaction_type"]:
            case "response_required":
                return Transcript(number_of(frame["response_id"]), messages_of(frame))
            case "reminder_required":
                remind = {"role": "user", "content": SILENT}
                return Transcript(number_of(frame["response_id"]), [*messages_of(frame), remind])
            case "call_details":
                return Describe(_facts(frame["call"]))
            case "ping_pong":
                return Reply([{"response_type": "ping_pong", "timestamp": frame.get("timestamp")}])
        return None

    def write(self, turn: int | None, output: Output) -> list[Json]:
        """Encode responses, and the tools that Retell shows beside the transcript."""
        match output:
            case Speech():
                return [self._response(turn, output.text)]
            case TurnEnded(EndCall()):
                return [self._response(turn, "", complete=True, end_call=True)]
            case TurnEnded(TransferCall(number)):
                return [self._response(turn, "", complete=True, transfer_number=number)]
            case TurnEnded(PressDigits(digits)):
                return [self._response(turn, "", complete=True, digit_to_press=digits)]
            case TurnEnded():
                return [self._response(turn, "", complete=True)]
            case ToolStarted():
                call = {"tool_call_id": output.id, "name": output.name, "arguments": output.arguments}
                return [{"response_type": "tool_call_invocation", **call}]
            case ToolEnded():
                result = {"tool_call_id": output.id, "content": output.content, "successful": output.succeeded}
                return [{"response_type": "tool_call_result", **result}]
        return []

    def _response(self, turn: int | None, content: str, *, complete: bool = False, **action: Any) -> Json:
        head = {"response_type": "response", "response_id": turn, "content": content, "content_complete": complete}
        return {**head, "end_call": False, **action}


def messages_of(frame: Json) -> list[Json]:
    """The transcript as a chat's messages, with calls of tools, each followed by its result."""
    entries = frame.get("transcript_with_tool_calls") or frame["transcript"]
    results = {each["tool_call_id"]: each for each in entries if each.get("role") == "tool_call_result"}
    messages: list[Json] = []
    for entry in entries:
        role, identifier = entry["role"], entry.get("tool_call_id")
        if role in ROLES:
            _append(messages, {"role": ROLES[role], "content": string_of(entry["content"])})
        elif role == "tool_call_invocation" and identifier in results:
            function = {"name": string_of(entry["name"]), "arguments": string_of(entry["arguments"])}
            call = {"id": string_of(identifier), "type": "function", "function": function}
            content = string_of(results[identifier]["content"])
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": identifier, "content": content})
    return messages


def _append(messages: list[Json], message: Json) -> None:
    """Add an utterance; two in a row of the same side become one message."""
    last = messages[-1] if messages else {}
    if last.get("role") == message["role"] and last.get("content") and "tool_calls" not in last:
        last["content"] += f" {message['content']}"
    elif message["content"]:
        messages.append(message)


def _facts(call: Json) -> dict[str, str]:
    """The call's numbers and its dynamic variables."""
    facts = {name: call.get(f"{name}_number") for name in ("from", "to")}
    facts |= call.get("retell_llm_dynamic_variables") or {}
    return facts_of(facts)
