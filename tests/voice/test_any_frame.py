"""Whatever JSON a platform sends, its session goes on."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.events import Finish, Text
from tests.support.phone_calls import FakeCall, ScriptedAnswer
from voice.conversation_relay import ConversationRelay
from voice.platform import Platform
from voice.retell import Retell
from voice.speech_engine import SpeechEngine

NAMES = [
    "type",
    "interaction_type",
    "response_id",
    "event_id",
    "transcript",
    "user_transcript",
    "transcript_with_tool_calls",
    "role",
    "content",
    "tool_call_id",
    "name",
    "arguments",
    "call",
    "retell_llm_dynamic_variables",
    "from_number",
    "timestamp",
    "voicePrompt",
    "last",
    "digit",
    "utteranceUntilInterrupt",
    "sessionId",
    "callSid",
    "customParameters",
    "description",
    "message",
    "conversation_id",
]
WORDS = [
    *[
        "response_required",
        "reminder_required",
        "update_only",
        "call_details",
        "ping_pong",
        "setup",
        "prompt",
        "interrupt",
        "dtmf",
        "error",
    ],
    *[
        "info",
        "init",
        "user_transcript",
        "ping",
        "close",
        "agent",
        "user",
        "tool_call_invocation",
        "tool_call_result",
        "id_1",
        "Hello",
    ],
    *("\u0000", "\ud83d", ""),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)
FRAMES = st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6) | VALUES, max_size=6)
PLATFORMS: dict[str, Callable[[], Platform]] = {
    "retell": lambda: Retell("call_1"),
    "relay": ConversationRelay,
    "engine": SpeechEngine,
}


@pytest.mark.parametrize("name", PLATFORMS)
@settings(max_examples=150)
@given(frames=FRAMES)
def test_any_frame_is_understood_or_ignored(name: str, frames: list[Any]) -> None:
    call = FakeCall(PLATFORMS[name]())
    call.socket.run_turn = lambda work: work()  # type: ignore[method-assign]
    call.model.next = lambda: ScriptedAnswer([Text("Yes."), Finish("stop")])  # type: ignore[method-assign]
    for frame in frames:
        call.session.receive(json.dumps(frame))
        json.dumps(call.frames)
    call.session.closed()
