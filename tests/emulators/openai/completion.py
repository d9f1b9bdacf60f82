"""An `Answer` as OpenAI's bytes: frames, or one body.

Formats: OpenAI's published document (CreateChatCompletionResponse, CreateChatCompletionStreamResponse).
"""

import json
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from tests.emulators.answers import TEXTS, Call, ScriptedAnswer
from tests.emulators.reply import Kind, Piece, Reply, dumps

CREATED = 1_790_000_000
FINGERPRINT = "fp_44709d6fcb"

_numbers = count(1)


class Completion:
    """An answer to one request, as frames or as one body."""

    def __init__(self, answer: ScriptedAnswer, body: Mapping[str, Any]) -> None:
        self._answer = answer
        self._calls = [Call(*call) for call in answer.calls] or demanded(answer, body)
        unasked = () if self._calls or answer.refusal else TEXTS
        self._texts = unasked if answer.texts is None else answer.texts
        self._finish = answer.finish_reason or ("tool_calls" if self._calls else "stop")
        self._choices = range(answer.choices or body.get("n") or 1)
        asked = bool((body.get("stream_options") or {}).get("include_usage"))
        self._told = asked and not answer.usage_on_finish
        self._logprobs = answer.logprobs or bool(body.get("logprobs"))
        self._model = f"{body.get('model')}-2024-07-18"
        self._id = f"chatcmpl-CkT5m0uLVQbYxXjzqOeN{next(_numbers):08}"
        self._created = count(CREATED) if answer.created_varies else None

    def frames(self) -> Iterator[Piece]:
        """The stream, frame by frame."""
        delay = self._answer.first_delay
        for piece in self._all_frames():
            if self._answer.comment:
                yield Piece(f": {self._answer.comment}{self._line_end * 2}".encode(), "comment", delay)
                delay = 0.0
            yield Piece(piece.data, piece.kind, delay)
            delay = self._answer.frame_delay

    def whole(self) -> bytes:
        """The one body."""
        answer = self._answer
        message = {
            "role": "assistant",
            "content": "".join(self._texts) if self._texts else None,
            "refusal": "".join(answer.refusal) or None,
            "annotations": [],
            **answer.delta_keys,
        }
        if answer.reasoning:
            message["reasoning_content"] = "".join(answer.reasoning)
        if self._calls:
            message["tool_calls"] = [
                self._named(call) | _function(call, "".join(call.arguments)) for call in self._calls
            ]
        logprobs = self._logprobs_of(*(self._texts))
        choice = {"message": message, "logprobs": logprobs, "finish_reason": self._finish, **answer.choice_keys}
        choices = [{"index": index, **choice} for index in self._choices]
        completion = self._envelope("chat.completion", choices)
        if answer.usage is not None:
            completion["usage"] = answer.usage
        for last in ("service_tier", "system_fingerprint"):
            completion[last] = completion.pop(last)
        return self.dumps(completion).encode()

    def dumps(self, value: object) -> str:
        """As JSON."""
        return dumps(value, separators=None if self._answer.spaced else (",", ":"))

    @property
    def _line_end(self) -> str:
        return "\r\n" if self._answer.crlf else "\n"

    def _all_frames(self) -> Iterator[Piece]:
        answer = self._answer
        if answer.first_frame is not None:
            yield self._frame("open", {**self._envelope("chat.completion.chunk", []), **answer.first_frame})
        for kind, delta, text in self._deltas():
            for index in self._choices:
                yield self._chunk(kind, index, delta, logprobs=self._logprobs_of(text))
        usage = {"usage": answer.usage} if answer.usage_on_finish and answer.usage is not None else {}
        for index in self._choices:
            yield self._chunk("finish", index, {}, finish_reason=self._finish, **usage)
        if self._told and answer.usage is not None:
            yield self._frame("usage", self._envelope("chat.completion.chunk", []) | {"usage": answer.usage})
        yield self._event("done", "[DONE]")

    def _deltas(self) -> Iterator[tuple[Kind, dict[str, Any], str]]:
        """What each choice says, piece by piece: its kind, the delta, and the text that has log probabilities."""
        calls = list(self._call_deltas())
        if self._answer.role:
            role = {"role": "assistant", "content": "" if self._texts else None, "refusal": None}
            if calls and not self._texts and len(self._calls) == 1:
                role |= calls.pop(0)  # as OpenAI opens a single call
            yield "open", role, ""
        for piece in self._answer.reasoning:
            yield "content", {"content": None, "reasoning_content": piece}, ""
        for piece in self._texts:
            yield "content", {"content": piece}, piece
        for piece in self._answer.refusal:
            yield "content", {"refusal": piece}, ""
        for delta in calls:
            yield "content", delta, ""

    def _call_deltas(self) -> Iterator[dict[str, Any]]:
        places = [self._at(place) for place in range(len(self._calls))]
        if self._answer.calls_together and self._calls:
            pairs = zip(places, self._calls, strict=True)
            yield {
                "tool_calls": [at | self._named(call) | _function(call, "".join(call.arguments)) for at, call in pairs]
            }
            return
        for at, call in zip(places, self._calls, strict=True):
            yield {"tool_calls": [at | self._named(call) | _function(call, "")]}
            for piece in call.arguments:
                yield {"tool_calls": [at | {"function": {"arguments": piece}}]}

    def _at(self, place: int) -> dict[str, Any]:
        first = self._answer.first_call_index
        return {} if first is None else {"index": first + place}

    def _named(self, call: Call) -> dict[str, Any]:
        return {"id": call.id} if self._answer.call_ids else {}

    def _chunk(self, kind: Kind, index: int, delta: Mapping[str, Any], **ends: Any) -> Piece:
        answer = self._answer
        choice = {
            "index": index,
            "delta": {**answer.delta_keys, **delta} if kind != "finish" else {},
            "logprobs": ends.get("logprobs"),
            "finish_reason": ends.get("finish_reason"),
            **answer.choice_keys,
        }
        if not answer.index:
            del choice["index"]
        if not answer.null_finish and choice["finish_reason"] is None:
            del choice["finish_reason"]
        chunk = self._envelope("chat.completion.chunk", [choice])
        if self._told or "usage" in ends:
            chunk["usage"] = ends.get("usage")
        return self._frame(kind, chunk)

    def _envelope(self, kind: str, choices: list[Any]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": next(self._created) if self._created else CREATED,
            "model": self._model,
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
            **self._answer.chunk_keys,
        }

    def _frame(self, kind: Kind, chunk: dict[str, Any]) -> Piece:
        if self._answer.obfuscation:
            chunk["obfuscation"] = "aB3xYz9"
        return self._event(kind, self.dumps(chunk))

    def _event(self, kind: Kind, data: str) -> Piece:
        name = f"event: {self._answer.event}{self._line_end}" if self._answer.event else ""
        return Piece(f"{name}data: {data}{self._line_end * 2}".encode(), kind)

    def _logprobs_of(self, *texts: str) -> dict[str, Any] | None:
        if not self._logprobs or not any(texts):
            return None
        tokens = [{"token": text, "logprob": -0.25, "bytes": list(text.encode()), "top_logprobs": []} for text in texts]
        return {"content": tokens, "refusal": None}


def chat(answer: ScriptedAnswer, body: Mapping[str, Any], error: bytes) -> Reply:
    """The answer to a chat request; `error` is the body that faults may send instead."""
    completion = Completion(answer, body)
    stream = bool(body.get("stream"))
    whole, frames = completion.whole(), tuple(completion.frames())
    return Reply(
        pieces=frames if stream else (Piece(whole, after=answer.first_delay),),
        headers={"Content-Type": "text/event-stream; charset=utf-8" if stream else "application/json"},
        stream=stream,
        delay=answer.delay,
        whole=whole,
        frames=frames,
        error=error,
        error_frame=b"data: %b\n\n" % error,
    )


def _function(call: Call, arguments: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": call.name, "arguments": arguments}}


def demanded(answer: ScriptedAnswer, body: Mapping[str, Any]) -> list[Call]:
    """The call that the request insists on, unless the answer says something else."""
    choice = body.get("tool_choice")
    if answer.texts is not None or answer.refusal or choice in (None, "none", "auto"):
        return []
    named = choice["function"]["name"] if isinstance(choice, dict) and "function" in choice else None
    functions = [tool["function"] for tool in body.get("tools", []) if "function" in tool]
    for function in functions:
        if named in (None, function["name"]):
            arguments = json.dumps(example(function.get("parameters", {})), ensure_ascii=False, separators=(",", ":"))
            middle = len(arguments) // 2
            return [Call("call_9pVYmF4jPzWcXqT2nL0sKd8R", function["name"], [arguments[:middle], arguments[middle:]])]
    return []


def example(schema: Mapping[str, Any]) -> Any:
    """The least value that a JSON Schema of a tool's parameters allows."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: example(properties.get(name, {})) for name in schema.get("required", [])}
    return {"string": "Zürich", "integer": 1, "number": 1.5, "boolean": True, "array": [], "null": None}[kind]
