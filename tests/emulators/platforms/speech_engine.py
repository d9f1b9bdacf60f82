"""ElevenLabs' Speech Engine: https://elevenlabs.io/docs/api-reference/speech-engine/speech-engine-upstream"""

import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import jwt

from tests.emulators.platforms.dialer import Dialer, shape

SCHEMAS: Mapping[str, Any] = {
    "agent_response": shape({
        "type": {"const": "agent_response"},
        "content": {"type": "string"},
        "event_id": {"type": "integer"},
        "is_final": {"type": "boolean"},
    }),
    "pong": shape({"type": {"const": "pong"}}),
}  # fmt: skip


def token(key: str) -> dict[str, str]:
    """The header by which the engine proves that it dials."""
    now = int(time.time())
    claims = {
        "iss": "https://api.elevenlabs.io/convai/speech-engine",
        "sub": "convai_speech_engine_upstream",
        "iat": now,
        "exp": now + 300,
    }
    value = jwt.encode(claims, sha256(key.encode()).digest(), "HS256")
    return {"X-Elevenlabs-Speech-Engine-Authorization": f"Bearer {value}"}


class EngineCall(Dialer):
    """A conversation, from its init on."""

    schemas = SCHEMAS

    def __init__(self, url: str, headers: Any = None, conversation: str = "conv_1") -> None:
        super().__init__(url, headers)
        self.transcript: list[dict[str, str]] = []
        self.number = 0
        self.send(type="init", conversation_id=conversation)

    def says(self, text: str) -> int:
        self.number += 1
        self.transcript.append({"role": "user", "content": text})
        self.send(type="user_transcript", user_transcript=self.transcript, event_id=self.number)
        return self.number

    def hears(self, number: int) -> str:
        """The response of that number, to its end; older ones are dropped."""
        text = ""
        while True:
            frame = self.recv()
            if frame.get("event_id") != number:
                continue
            text += frame["content"]
            if frame["is_final"]:
                assert frame["content"] == ""
                self.transcript.append({"role": "agent", "content": text})
                return text

    def asks(self, text: str) -> str:
        return self.hears(self.says(text))
