"""Emulated vendors of OpenAI's shape that refuse what OpenAI would take: Mistral, DeepSeek, Groq.

with MistralUpstream() as upstream:
    settings = {"MISTRAL_API_KEY": upstream.key, "MISTRAL_BASE_URL": upstream.base_url}
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from tests.emulators.answers import ScriptedAnswer
from tests.emulators.connection import Received
from tests.emulators.openai.server import OpenAIUpstream
from tests.emulators.reply import Piece, Reply

COMMON = frozenset({
    "model", "messages", "temperature", "top_p", "max_tokens", "stream", "stop", "response_format", "tools",
    "tool_choice", "presence_penalty", "frequency_penalty", "n", "parallel_tool_calls", "prediction",
    "reasoning_effort",
})  # fmt: skip
MISTRALS: Mapping[str, frozenset[str]] = {
    "system": frozenset({"role", "content"}),
    "user": frozenset({"role", "content"}),
    "assistant": frozenset({"role", "content", "tool_calls", "prefix"}),
    "tool": frozenset({"role", "content", "tool_call_id", "name"}),
}
GROQS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})


class _Strict(OpenAIUpstream):
    """Refuses a chat with the status and the body that `complaint` gives for it."""

    def __init__(self) -> None:
        super().__init__(strict=False)

    def refusal(self, body: Mapping[str, Any]) -> tuple[int, Any] | None:
        raise NotImplementedError

    def answer_to(self, received: Received) -> tuple[ScriptedAnswer, Reply]:
        """What is wrong with it, or the answer."""
        if received.path.endswith("/chat/completions") and (wrong := self.refusal(json.loads(received.body))):
            raw = json.dumps(wrong[1]).encode()
            return ScriptedAnswer(), Reply((Piece(raw),), wrong[0], {"Content-Type": "application/json"}, whole=raw)
        return super().answer_to(received)


class MistralUpstream(_Strict):
    """A 422 for whatever it does not list: https://docs.mistral.ai/api/endpoint/chat"""

    def refusal(self, body: Mapping[str, Any]) -> tuple[int, Any] | None:
        """As its validator words it."""
        extra: list[list[str | int]] = [
            ["body", name] for name in body.keys() - COMMON - {"random_seed", "safe_prompt"}
        ]
        for at, message in enumerate(body["messages"]):
            role = message["role"]
            extra += [["body", "messages", at, role, key] for key in message.keys() - MISTRALS.get(role, frozenset())]
            for number, call in enumerate(message.get("tool_calls") or ()):
                where: list[str | int] = ["body", "messages", at, role, "tool_calls", number]
                extra += [[*where, key] for key in call.keys() - {"id", "type", "function"}]
                if not re.fullmatch("[a-zA-Z0-9]{9}", call["id"]):
                    said = f"Tool call id was {call['id']} but must be a-z, A-Z, 0-9, with a length of 9."
                    return 400, {"object": "error", "message": said, "type": "invalid_request_error", "code": 3280}
        detail = [{"type": "extra_forbidden", "loc": loc, "msg": "Extra inputs are not permitted"} for loc in extra]
        return (422, {"object": "error", "message": {"detail": detail}}) if detail else None


class DeepSeekUpstream(_Strict):
    """Four roles; and what was thought before a call comes back: https://api-docs.deepseek.com/guides/thinking_mode"""

    def refusal(self, body: Mapping[str, Any]) -> tuple[int, Any] | None:
        """As it words it."""
        for at, message in enumerate(body["messages"]):
            if message["role"] not in ("system", "user", "assistant", "tool"):
                said = f"messages[{at}].role: unknown variant `{message['role']}`, expected one of `system`, `user`"
                return 422, {"error": {"message": said, "type": "invalid_request_error"}}
            thinks = (body.get("thinking") or {}).get("type", "enabled") == "enabled"
            if thinks and message.get("tool_calls") and not message.get("reasoning_content"):
                said = "The reasoning_content in the thinking mode must be passed back to the API."
                return 400, {"error": {"message": said, "type": "invalid_request_error"}}
        return None


class GroqUpstream(_Strict):
    """A 400 for a key of a message that it does not know."""

    def refusal(self, body: Mapping[str, Any]) -> tuple[int, Any] | None:
        """As it words it."""
        for at, message in enumerate(body["messages"]):
            if unknown := sorted(message.keys() - GROQS):
                said = f"'messages.{at}' : for 'role:{message['role']}' property '{unknown[0]}' is unsupported"
                return 400, {"error": {"message": said, "type": "invalid_request_error"}}
        return None
