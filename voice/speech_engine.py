"""ElevenLabs' Speech Engine, which dials here:
https://elevenlabs.io/docs/api-reference/speech-engine/speech-engine-upstream

With each turn it sends its own transcript of the conversation. Turns are numbered: frames of older turns are ignored.
"""

from core.json_values import Json
from voice.platform import (
    Begin,
    Command,
    Complaint,
    HangUp,
    Output,
    Reply,
    Speech,
    Transcript,
    TurnEnded,
    number_of,
    string_of,
)

ROLES = {"agent": "assistant", "user": "user"}


class SpeechEngine:
    """The Platform of ElevenLabs' Speech Engine."""

    name = "speech-engine"
    call_id = ""
    actions: frozenset[str] = frozenset()
    remembers = True

    def open(self) -> list[Json]:
        """No frames: the engine sends `init` first."""
        return []

    def greet(self, text: str) -> list[Json]:
        """No frames: the first message is a setting of the engine, and a response must have a turn."""
        return []

    def read(self, frame: Json) -> Command | None:
        """Decode turns, pings and errors."""
        match frame["type"]:
            case "init":
                return Begin(string_of(frame["conversation_id"]))
            case "user_transcript":
                number = frame.get("event_id")
                messages = [
                    {"role": ROLES[each["role"]], "content": string_of(each["content"])}
                    for each in frame.get("user_transcript") or []
                ]
                return Transcript(None if number is None else number_of(number), messages)
            case "ping":
                return Reply([{"type": "pong"}])
            case "close":
                return HangUp()
            case "error":
                return Complaint(string_of(frame["message"]))
        return None

    def write(self, turn: int | None, output: Output) -> list[Json]:
        """Encode pieces of the answer, and its end."""
        match output:
            case Speech():
                return [_response(turn, output.text, final=False)]
            case TurnEnded():
                return [_response(turn, "", final=True)]
        return []


def _response(turn: int | None, content: str, *, final: bool) -> Json:
    return {"type": "agent_response", "content": content, "event_id": turn, "is_final": final}
