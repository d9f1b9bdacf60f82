"""Retell: https://docs.retellai.com/api-references/llm-websocket"""

from collections.abc import Mapping
from typing import Any

from tests.emulators.platforms.dialer import Dialer, shape

STRING, BOOLEAN, WHOLE = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}
ACTIONS = {
    "end_call": BOOLEAN,
    "transfer_number": {"type": "string", "pattern": r"^\+?[0-9]+$"},
    "digit_to_press": {"type": "string", "pattern": "^[0-9*#w]+$"},
    "no_interruption_allowed": BOOLEAN,
}


def kind(name: str) -> dict[str, Any]:
    return {"response_type": {"const": name}}


SCHEMAS: Mapping[str, Any] = {
    "config": shape({
        **kind("config"),
        "config": shape({}, dict.fromkeys(("auto_reconnect", "call_details", "transcript_with_tool_calls"), BOOLEAN)),
    }),
    "response": shape(
        {**kind("response"), "response_id": WHOLE, "content": STRING, "content_complete": BOOLEAN}, ACTIONS
    ),
    "ping_pong": shape({**kind("ping_pong"), "timestamp": WHOLE}),
    "tool_call_invocation": shape({
        **kind("tool_call_invocation"),
        "tool_call_id": STRING,
        "name": STRING,
        "arguments": STRING,
    }),
    "tool_call_result": shape(
        {**kind("tool_call_result"), "tool_call_id": STRING, "content": STRING}, {"successful": BOOLEAN}
    ),
}  # fmt: skip


class RetellCall(Dialer):
    """A call. Its transcript grows by what both sides say."""

    schemas = SCHEMAS
    key = "response_type"

    def __init__(self, url: str, call_id: str = "call_1", query: str = "", headers: Any = None) -> None:
        super().__init__(f"{url}/{call_id}{query}", headers)
        self.transcript: list[dict[str, Any]] = []
        self.number = 0

    def begins(self) -> str:
        """The config and the begin message."""
        assert self.recv()["response_type"] == "config"
        text, _ = self.hears(0)
        return text

    def says(self, text: str, interaction: str = "response_required") -> int:
        """The caller speaks, and an answer is wanted: its number."""
        self.number += 1
        if text:
            self.transcript.append({"role": "user", "content": text})
        self.send(interaction_type=interaction, response_id=self.number, transcript=self.transcript)
        return self.number

    def hears(self, number: int) -> tuple[str, dict[str, Any]]:
        """The answer of that number, to its end; frames of older ones are dropped, as Retell does."""
        text = ""
        while True:
            frame = self.recv()
            if frame["response_type"] != "response":
                continue
            assert frame["response_id"] <= number, "an answer to nothing"
            if frame["response_id"] < number:
                continue
            text += frame["content"]
            if frame["content_complete"]:
                ways = [name for name in ("end_call", "transfer_number", "digit_to_press") if frame.get(name)]
                assert len(ways) <= 1, frame
                self.transcript.append({"role": "agent", "content": text})
                return text, frame

    def asks(self, text: str) -> str:
        return self.hears(self.says(text))[0]
