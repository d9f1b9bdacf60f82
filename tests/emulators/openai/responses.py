"""An emulated upstream that has /v1/responses itself, besides what OpenAI's has: its frames are its own.

with ResponsesUpstream() as upstream:
    upstream.fails("response.failed", after=5)      so many events of the next answers come before it
    upstream.sent                                   the bytes of its latest answer
"""

import json
from collections.abc import Mapping
from typing import Any

from tests.emulators.answers import ScriptedAnswer
from tests.emulators.connection import Received
from tests.emulators.openai.server import OpenAIUpstream
from tests.emulators.reply import Piece, Reply
from tests.emulators.rules import parse

SECRET = "secret of the vendor"
TEXTS = ("Here", " I", " am.")


class ResponsesUpstream(OpenAIUpstream):
    """Answers TEXTS, in the order of events that OpenAI's documentation has."""

    def __init__(self) -> None:
        super().__init__(strict=False)
        self.sent = b""
        self._number = 0
        self._failure: tuple[str, int] | None = None
        self._silence: int | None = None

    def fails(self, event: str, *, after: int) -> None:
        """End with this event, "" for none, after so many others."""
        self._failure = (event, after)

    def stalls(self, *, after: int) -> None:
        """Say nothing more after so many events."""
        self._silence = after

    def answer_to(self, received: Received) -> tuple[ScriptedAnswer, Reply]:
        if received.path != "/v1/responses":
            return super().answer_to(received)
        self._authorize(received)
        body = parse(received.body)
        self._number += 1
        response = _response(body, f"resp_upstream_{self._number}")
        if not body.get("stream"):
            self.sent = json.dumps(response, indent=1).encode()
            return ScriptedAnswer(), Reply((Piece(self.sent),), 200, {"Content-Type": "application/json"})
        pieces = [_frame(number, event) for number, event in enumerate(_events(response))]
        if self._failure:
            event, after = self._failure
            pieces = pieces[:after]
            if event:
                pieces.append(_frame(after, _failure(event, response)))
        self.sent = b"".join(pieces)
        silent = len(pieces) if self._silence is None else self._silence
        waits = {silent: 30.0} if self._failure is None else {self._failure[1]: 0.3}
        made = tuple(Piece(data, after=waits.get(at, 0.0)) for at, data in enumerate(pieces))
        return ScriptedAnswer(), Reply(made, 200, {"Content-Type": "text/event-stream"}, stream=True)


def _frame(number: int, event: Mapping[str, Any]) -> bytes:
    kind = event["type"]
    data = json.dumps({"type": kind, "sequence_number": number, **event}, separators=(", ", ": "))
    return f"event: {kind}\ndata: {data}\n\n".encode()


def _failure(event: str, response: Mapping[str, Any]) -> dict[str, Any]:
    wrong = {"code": "server_error", "message": SECRET}
    if event == "error":
        return {"type": "error", "param": None, **wrong}
    return {"type": event, "response": {**response, "status": "failed", "error": wrong, "output": []}}


def _response(body: Mapping[str, Any], identifier: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": "".join(TEXTS), "annotations": [], "logprobs": []}
    message = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]}
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 12,
    }
    return {
        "id": identifier, "object": "response", "created_at": 1767225600, "completed_at": 1767225601,
        "status": "completed", "incomplete_details": None, "model": "gpt-5-2026", "output": [message], "error": None,
        "previous_response_id": body.get("previous_response_id"), "instructions": body.get("instructions"),
        "tools": [], "tool_choice": "auto", "truncation": "disabled", "parallel_tool_calls": True,
        "text": {"format": {"type": "text"}}, "top_p": 1.0, "presence_penalty": 0, "frequency_penalty": 0,
        "top_logprobs": 0, "temperature": 1.0, "reasoning": None, "usage": usage, "max_output_tokens": None,
        "max_tool_calls": None, "store": True, "background": False, "service_tier": "default", "metadata": {},
        "safety_identifier": None, "prompt_cache_key": None,
    }  # fmt: skip


def _events(response: Mapping[str, Any]) -> list[dict[str, Any]]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None, "completed_at": None}
    (message,) = response["output"]
    (part,) = message["content"]
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    added = {**message, "status": "in_progress", "content": []}
    return [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": added},
        {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **at, "delta": text, "logprobs": []} for text in TEXTS),
        {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": message},
        {"type": "response.completed", "response": response},
    ]
