"""A piece of text that is told apart quickly is decoded to the same events as any other event."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from core.errors import GatewayError
from core.events import Event
from core.json_values import BAD_SHAPE
from core.requests import ChatRequest
from providers.oci.chat import generic
from providers.oci.chat.chat import ChatDecoder
from providers.oci.provider import styles
from providers.transport.sse import Frame

GENERIC = styles(4000)["GENERIC"]
TEXT = {"type": "TEXT", "text": "Hi "}
CALL = {"type": "FUNCTION", "id": "call_1", "name": "look_up", "arguments": "{}"}


def make_event(*content: Any, **more: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "ASSISTANT", "content": list(content)}, **more}


EVENTS: Mapping[str, Any] = {
    "a piece": make_event(TEXT),
    "padding": make_event(TEXT, pad="aaaa"),
    "two parts": make_event(TEXT, TEXT),
    "no text": make_event({"type": "TEXT", "text": ""}),
    "null": make_event({"type": "TEXT", "text": None}),
    "a number": make_event({"type": "TEXT", "text": 5}),
    "a picture": make_event({"type": "IMAGE", "imageUrl": {"url": "data:image/png;base64,AA"}}),
    "a text as content": {"index": 0, "message": {"role": "ASSISTANT", "content": "Hi "}},
    "no index": {"message": {"role": "ASSISTANT", "content": [TEXT]}},
    "a second choice": make_event(TEXT) | {"index": 1},
    "a negative index": make_event(TEXT) | {"index": -1},
    "a call": {"index": 0, "message": {"role": "ASSISTANT", "content": [TEXT], "toolCalls": [CALL]}},
    "a finish": make_event(TEXT, finishReason="stop"),
    "usage": make_event(TEXT, usage={"promptTokens": 3, "completionTokens": 4}),
    "logprobs": make_event(TEXT, logprobs={"tokens": ["Hi "], "tokenLogprobs": [-0.1]}),
    "half a pair": make_event({"type": "TEXT", "text": "\ud83d"}),
    "no message": {"index": 0},
    "a list": [],
}


def decode(decoder: ChatDecoder, event: Any) -> list[Event] | str:
    try:
        return list(decoder.events(Frame(b"", json.dumps(event).encode())))
    except (*BAD_SHAPE, GatewayError) as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("choices", [1, 2])
@pytest.mark.parametrize("name", EVENTS)
def test_the_events_are_the_same(name: str, choices: int) -> None:
    request = ChatRequest({"messages": [], "n": choices})
    quick, usual = (
        ChatDecoder(request, "oci", style) for style in (GENERIC, replace(GENERIC, plain_text=lambda _: None))
    )
    for event in (EVENTS["a piece"], EVENTS[name], EVENTS["a piece"], EVENTS["a finish"], EVENTS[name]):
        assert decode(quick, event) == decode(usual, event)
    assert (quick.finished, quick.sound, quick.done) == (usual.finished, usual.sound, usual.done)


def test_only_a_piece_of_text_is_told_apart() -> None:
    found = {name for name, event in EVENTS.items() if isinstance(event, dict) and generic.plain_text(event)}
    assert found == {"a piece", "padding", "a second choice", "half a pair"}
