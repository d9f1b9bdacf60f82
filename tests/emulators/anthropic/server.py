"""An emulated api.anthropic.com: messages and models. As strict as the real one, and scripted.

with AnthropicUpstream() as upstream:
    upstream.enqueue(Answer(texts=["Hi", " there"]))
    client = anthropic.Anthropic(base_url=upstream.url, api_key=upstream.key)

An `Answer` says what OpenAI's would; here it comes in Anthropic's words. Formats: the SDK's own types, and
https://platform.claude.com/docs/en/build-with-claude/streaming
"""

import json
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from tests.emulators.answers import TEXTS, Call, ScriptedAnswer, value_of
from tests.emulators.anthropic.rules import Refused, check
from tests.emulators.connection import Connection, Received
from tests.emulators.openai.completion import demanded
from tests.emulators.reply import Kind, Piece, Reply, dumps
from tests.emulators.scripted import KEY, NO_SUCH_MODEL, Scripted

VERSIONS = ("2023-06-01", "2026-10-21")
MODELS = ("claude-haiku-4-5", "claude-sonnet-5-5", "claude-opus-5-5")
STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}

COUNTED = 2095
"""Tokens of every prompt that is to be counted."""

_numbers = count(1)


class AnthropicUpstream(Scripted):
    """A server that answers to `key`, as an API key or as a bearer token."""

    chat: ClassVar[str] = "/messages"

    def __init__(self, *, key: str = KEY, tls: bool = False) -> None:
        super().__init__(key=key, tls=tls)
        self.signatures: set[str] = set()

    def identity(self, connection: Connection) -> Mapping[str, str]:
        """Anthropic's own name for the request."""
        return {"request-id": f"req_{connection.number}_{connection.requests}"}

    def answer_to(self, received: Received) -> tuple[ScriptedAnswer, Reply]:
        """Refuse it as the real one would, or answer it as scripted."""
        try:
            self._authorize(received)
            return self._routed(received)
        except Refused as refused:
            return ScriptedAnswer(), _json(refused.status, refused.error)

    def _authorize(self, received: Received) -> None:
        shown = received.headers.get("x-api-key") or received.headers.get("Authorization", "").removeprefix("Bearer ")
        if shown != self.key:
            message = "invalid x-api-key" if shown else "x-api-key header is required"
            raise Refused(message, 401, "authentication_error")
        version = received.headers.get("anthropic-version")
        if version not in VERSIONS:
            message = "header is required" if version is None else f'"{version}" is not a valid version'
            raise Refused(f"anthropic-version: {message}")
        if received.method == "POST" and received.headers.get("Content-Type") != "application/json":
            raise Refused("content-type: application/json is required")

    def _routed(self, received: Received) -> tuple[ScriptedAnswer, Reply]:
        parts = urlsplit(received.path)
        match received.method, parts.path.removeprefix("/v1"):
            case "POST", "/messages":
                return self._message(received)
            case "POST", "/messages/count_tokens":
                return self._counted(received)
            case "GET", "/models":
                return self.next("/models"), _listed(parse_qs(parts.query))
        raise Refused("Not Found", 404, "not_found_error")

    def _message(self, received: Received) -> tuple[ScriptedAnswer, Reply]:
        try:
            body = json.loads(received.body)
        except ValueError:
            raise Refused("The request body is not valid JSON") from None
        check(body, self.signatures)
        if body["model"] == NO_SUCH_MODEL:
            raise Refused(f"model: {NO_SUCH_MODEL}", 404, "not_found_error")
        answer = self.next()
        if answer.status != 200 or answer.error is not None:
            return answer, _failed(answer)
        message = Message(answer, body)
        self.signatures |= set(message.signatures)
        return answer, message.reply()

    def _counted(self, received: Received) -> tuple[ScriptedAnswer, Reply]:
        body = json.loads(received.body)
        for name in ("max_tokens", "stream"):
            if name in body:
                raise Refused(f"{name}: Extra inputs are not permitted")
        check({**body, "max_tokens": 1}, self.signatures)
        answer = self.next("/messages/count_tokens")
        failed = answer.status != 200 or answer.error is not None
        return answer, _failed(answer) if failed else _json(200, {"input_tokens": COUNTED})


class Message:
    """An answer to one request, as events or as one body."""

    def __init__(self, answer: ScriptedAnswer, body: Mapping[str, Any]) -> None:
        self._answer = answer
        self._stream = bool(body.get("stream"))
        self._calls = [Call(*call) for call in answer.calls] or demanded(answer, _in_openais_words(body))
        self._texts = [*(() if self._calls or answer.refusal else TEXTS)] if answer.texts is None else [*answer.texts]
        finish = answer.finish_reason or ("tool_calls" if self._calls else "stop")
        self._stop = STOPS.get(finish, finish)
        self._number = next(_numbers)
        self._model = body["model"]
        self.signatures = [f"signature-{self._number}"] if answer.reasoning else []

    def reply(self) -> Reply:
        """As it was asked for."""
        whole = dumps(self._message(self._content(), self._stop, self._usage())).encode()
        frames = tuple(self._pieces())
        answer = self._answer
        return Reply(
            pieces=frames if self._stream else (Piece(whole, after=answer.first_delay),),
            headers={"Content-Type": "text/event-stream; charset=utf-8" if self._stream else "application/json"},
            stream=self._stream,
            delay=answer.delay,
            whole=whole,
            frames=frames,
            error=_failed(ScriptedAnswer(status=500)).body,
            error_frame=self._event("error", {"error": _error(529)}, "content").data,
        )

    def _content(self) -> list[dict[str, Any]]:
        answer = self._answer
        content: list[dict[str, Any]] = []
        if answer.reasoning:
            thinking = "".join(answer.reasoning)
            content.append({"type": "thinking", "thinking": thinking, "signature": self.signatures[0]})
        if said := "".join([*self._texts, *answer.refusal]):
            content.append({"type": "text", "text": said, "citations": None})
        for call in self._calls:
            given = value_of(call)
            content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given})
        return content

    def _message(self, content: Any, stop: str | None, usage: Any) -> dict[str, Any]:
        return {
            "id": f"msg_{self._number:024}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": usage,
        }

    def _usage(self, output: int | None = None) -> dict[str, Any]:
        usage = self._answer.usage or {}
        cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        written = 3 if cached else 0
        thought = usage.get("completion_tokens_details", {}).get("reasoning_tokens", 0)
        return {
            "input_tokens": usage.get("prompt_tokens", 0) - cached - written,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": cached,
            "output_tokens": usage.get("completion_tokens", 0) if output is None else output,
            "output_tokens_details": {"thinking_tokens": thought} if output is None and thought else None,
            "service_tier": "standard",
        }

    def _pieces(self) -> Iterator[Piece]:
        delay = self._answer.first_delay
        for piece in self._events():
            yield Piece(piece.data, piece.kind, delay)
            delay = self._answer.frame_delay

    def _events(self) -> Iterator[Piece]:
        yield self._event("message_start", {"message": self._message([], None, self._usage(1))}, "open")
        blocks = self._blocks()
        for index, (block, deltas) in enumerate(blocks):
            yield self._event("content_block_start", {"index": index, "content_block": block}, "open")
            if not index:
                yield self._event("ping", {}, "open")
            for delta in deltas:
                yield self._event("content_block_delta", {"index": index, "delta": delta}, "content")
            yield self._event("content_block_stop", {"index": index}, "open")
        usage = {key: value for key, value in self._usage().items() if key != "service_tier"}
        end = {"delta": {"stop_reason": self._stop, "stop_sequence": None}, "usage": usage}
        yield self._event("message_delta", end, "finish")
        yield self._event("message_stop", {}, "done")

    def _blocks(self) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        answer = self._answer
        blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
        if answer.reasoning:
            deltas = [{"type": "thinking_delta", "thinking": each} for each in answer.reasoning]
            deltas.append({"type": "signature_delta", "signature": self.signatures[0]})
            blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas))
        if said := [*self._texts, *answer.refusal]:
            blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": each} for each in said]))
        for call in self._calls:
            pieces = [""] if "".join(call.arguments) == "{}" else ["", *call.arguments]
            deltas = [{"type": "input_json_delta", "partial_json": each} for each in pieces]
            blocks.append(({"type": "tool_use", "id": call.id, "name": call.name, "input": {}}, deltas))
        return blocks

    def _event(self, name: str, data: Mapping[str, Any], kind: Kind) -> Piece:
        end = "\r\n" if self._answer.crlf else "\n"
        comment = f": {self._answer.comment}{end * 2}" if self._answer.comment else ""
        return Piece(f"{comment}event: {name}{end}data: {dumps({'type': name, **data})}{end * 2}".encode(), kind)


def _in_openais_words(body: Mapping[str, Any]) -> dict[str, Any]:
    """The tools of a request, as `demanded` reads them."""
    choice = body.get("tool_choice", {"type": "auto"})
    chosen = {"any": "required", "tool": {"function": {"name": choice.get("name")}}}.get(choice["type"], choice["type"])
    tools = [{"function": {**tool, "parameters": tool.get("input_schema")}} for tool in body.get("tools", [])]
    return {"tool_choice": chosen, "tools": tools}


def _failed(answer: ScriptedAnswer) -> Reply:
    status = 529 if answer.status == 503 else answer.status
    return _json(status, {"type": "error", "error": _error(status)} if answer.error is None else answer.error)


def _error(status: int) -> dict[str, str]:
    kind = KINDS.get(status, "api_error")
    return {"type": kind, "message": kind.replace("_", " ").capitalize()}


def _listed(query: Mapping[str, list[str]]) -> Reply:
    """One page of models; two at most, so that there are several."""
    after = query.get("after_id", [""])[0]
    first = MODELS.index(after) + 1 if after else 0
    page = MODELS[first : first + min(2, int(query.get("limit", ["20"])[0]))]
    rows = [
        {"type": "model", "id": name, "display_name": name.title(), "created_at": "2025-10-01T00:00:00Z"}
        | {"lifecycle": "active"}
        for name in page
    ]
    more = first + len(page) < len(MODELS)
    return _json(200, {"data": rows, "has_more": more, "first_id": page[0], "last_id": page[-1]})


def _json(status: int, value: object) -> Reply:
    data = dumps(value).encode()
    return Reply((Piece(data),), status, {"Content-Type": "application/json"}, whole=data, error=data)
