"""Twilio's ConversationRelay, and Telnyx's, which has the same frames:
https://www.twilio.com/docs/voice/conversationrelay/websocket-messages
"""

import json
from collections.abc import Mapping
from typing import Any

from twilio.request_validator import RequestValidator

from tests.emulators.platforms.dialer import Dialer, shape

STRING, BOOLEAN, WHOLE = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}
SCHEMAS: Mapping[str, Any] = {
    "text": shape(
        {"type": {"const": "text"}, "token": STRING, "last": BOOLEAN},
        {"lang": STRING, "interruptible": BOOLEAN, "preemptible": BOOLEAN},
    ),
    "play": shape(
        {"type": {"const": "play"}, "source": {"type": "string", "pattern": "^https?://"}},
        {"loop": WHOLE, "preemptible": BOOLEAN, "interruptible": BOOLEAN},
    ),
    "sendDigits": shape({"type": {"const": "sendDigits"}, "digits": {"type": "string", "pattern": "^[0-9w*#]+$"}}),
    "language": shape({"type": {"const": "language"}}, {"ttsLanguage": STRING, "transcriptionLanguage": STRING}),
    "end": shape({"type": {"const": "end"}}, {"handoffData": STRING}),
}
SETUP = {
    "type": "setup",
    "sessionId": "VX00000000000000000000000000000001",
    "accountSid": "AC00000000000000000000000000000001",
    "parentCallSid": "",
    "callSid": "CA00000000000000000000000000000001",
    "from": "+14151234567",
    "to": "+18881234567",
    "forwardedFrom": "",
    "callType": "PSTN",
    "callerName": "",
    "direction": "inbound",
    "callStatus": "RINGING",
    "customParameters": {"name": "Ann"},
}
TELNYX = {
    **SETUP,
    "sessionId": "3f1c2f5e-0000-0000-0000-000000000001",
    "accountSid": "3f1c2f5e-0000-0000-0000-000000000002",
    "callControlId": "v3:abc",
    "callSessionId": "428c31b6-0000-0000-0000-000000000001",
    "callLegId": "428c31b6-0000-0000-0000-000000000002",
}


def signed(url: str, token: str) -> dict[str, str]:
    """The header by which Twilio proves that it dials."""
    return {"X-Twilio-Signature": RequestValidator(token).compute_signature(url, {})}


class RelayCall(Dialer):
    """A call, from its setup on."""

    schemas = SCHEMAS

    def __init__(self, url: str, headers: Any = None, setup: Any = None) -> None:
        super().__init__(url, headers)
        self.send(**(setup or SETUP))

    def says(self, text: str) -> None:
        self.send(type="prompt", voicePrompt=text, lang="en-US", last=True)

    def interrupts(self, heard: str) -> None:
        self.send(type="interrupt", utteranceUntilInterrupt=heard, durationUntilInterruptMs=460)

    def hears(self) -> str:
        """What is spoken, to the last token."""
        text = ""
        while True:
            frame = self.recv()
            if frame["type"] == "text":
                text += frame["token"]
                if frame["last"]:
                    return text

    def asks(self, text: str) -> str:
        self.says(text)
        return self.hears()

    def ends(self) -> dict[str, Any]:
        """The session ends; what is handed over."""
        frame = self.recv()
        assert frame["type"] == "end", frame
        found: dict[str, Any] = json.loads(frame["handoffData"])
        return found
