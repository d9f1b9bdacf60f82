"""ConversationRelay, of Twilio and of Telnyx:
https://www.twilio.com/docs/voice/conversationrelay/websocket-messages
https://developers.telnyx.com/api-reference/websockets/conversationrelay-websocket-channel

The platform sends what the caller says, and the session keeps the conversation. Text goes out token by token; the last
one ends the turn. An interrupted turn gets no frame any more.
"""

from typing import Any

import orjson

from core.json_values import Json
from voice.platform import (
    Begin,
    Command,
    Complaint,
    Interruption,
    KeyPress,
    Output,
    Speech,
    TurnEnded,
    Utterance,
    facts_of,
    string_of,
)
from voice.tools import EndCall, PlaySound, PressDigits, SwitchLanguage, TransferCall

HANDOFF = "live-agent-handoff"
"""The reason code that Twilio's own examples have: https://www.twilio.com/docs/voice/conversationrelay"""


class ConversationRelay:
    """The Platform of ConversationRelay."""

    name = "conversation-relay"
    call_id = ""
    actions = frozenset({"end_call", "transfer_call", "press_digit", "switch_language", "play_sound"})
    remembers = False

    def open(self) -> list[Json]:
        """No frames: the platform sends `setup` first."""
        return []

    def greet(self, text: str) -> list[Json]:
        """The greeting, if the TwiML has no `welcomeGreeting`."""
        return [_text(text, last=True)] if text else []

    def read(self, frame: Json) -> Command | None:
        """Decode a frame. `info` and unfinished prompts mean nothing."""
        match frame["type"]:
            case "setup":
                call = frame.get("callSid") or frame.get("callControlId") or frame["sessionId"]
                return Begin(string_of(call), _facts(frame))
            case "prompt":
                text = string_of(frame["voicePrompt"]).strip()
                return Utterance(text) if text and frame.get("last", True) is not False else None
            case "interrupt":
                heard = frame.get("utteranceUntilInterrupt")
                return Interruption(None if heard is None else string_of(heard))
            case "dtmf":
                return KeyPress(string_of(frame["digit"])[:1]) if frame["digit"] else None
            case "error":
                return Complaint(string_of(frame["description"]))
        return None

    def write(self, turn: int | None, output: Output) -> list[Json]:
        """Encode tokens, and the platform's action behind the last one."""
        match output:
            case Speech():
                return [_text(output.text, last=False)]
            case SwitchLanguage(language):
                return [{"type": "language", "ttsLanguage": language, "transcriptionLanguage": language}]
            case PlaySound(url):
                return [{"type": "play", "source": url}]
            case TurnEnded(action):
                return [_text("", last=True), *_ending(action)]
        return []


def _ending(action: Any) -> list[Json]:
    match action:
        case PressDigits(digits):
            return [{"type": "sendDigits", "digits": digits}]
        case TransferCall(number):
            return [_end(reasonCode=HANDOFF, reason="The caller is to be transferred.", transferNumber=number)]
        case EndCall():
            return [_end(reasonCode="end-call", reason="The conversation is over.")]
    return []


def _end(**handoff: str) -> Json:
    return {"type": "end", "handoffData": orjson.dumps(handoff).decode()}


def _text(token: str, *, last: bool) -> Json:
    return {"type": "text", "token": token, "last": last}


def _facts(setup: Json) -> dict[str, str]:
    """The call's numbers and its custom parameters."""
    facts = {name: setup.get(name) for name in ("from", "to", "direction", "callerName")}
    facts |= setup.get("customParameters") or {}
    return facts_of(facts)
