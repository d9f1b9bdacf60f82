"""An emulated api.cohere.com: chats, embeddings, rerankings, models. As strict as the real one, and scripted.

Messages are read by the types of Cohere's own SDK.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from cohere.types import Document, ResponseFormatV2, Thinking, ToolV2
from cohere.types.chat_message_v2 import ChatMessageV2
from pydantic import TypeAdapter, ValidationError

from tests.emulators.answers import TEXTS, Call, ScriptedAnswer
from tests.emulators.connection import Connection, Received
from tests.emulators.openai.completion import example
from tests.emulators.openai.server import DIMENSIONS, embedding
from tests.emulators.reply import Kind, Piece, Reply, dumps
from tests.emulators.rules import misheaded
from tests.emulators.scripted import NO_SUCH_MODEL, Scripted

MODELS = ("command-a-03-2025", "command-a-reasoning-08-2025", "embed-v4.0", "rerank-v3.5", "command-light")
BATCH = 96
MOST_STOPS = 5
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PAGE = 2


def between(least: float, most: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and least <= value <= most


def one_of(*values: Any) -> Callable[[Any], bool]:
    return lambda value: value in values


def texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def of(kind: Any) -> Callable[[Any], bool]:
    adapter = TypeAdapter(kind)

    def is_valid(value: Any) -> bool:
        try:
            adapter.validate_python(value)
        except ValidationError:
            return False
        return True

    return is_valid


CHAT: Mapping[str, Callable[[Any], bool]] = {
    "model": of(str),
    "messages": of(list[ChatMessageV2]),
    "stream": one_of(True, False),
    "tools": of(list[ToolV2]),
    "strict_tools": one_of(True, False),
    "documents": of(list[str | Document]),
    "citation_options": of(dict[str, str]),
    "response_format": of(ResponseFormatV2),
    "safety_mode": one_of("CONTEXTUAL", "STRICT", "OFF"),
    "max_tokens": between(0, 1 << 31),
    "stop_sequences": lambda value: texts(value) and len(value) <= MOST_STOPS,
    "temperature": between(0, 2),
    "seed": between(0, 1 << 63),
    "frequency_penalty": between(0, 1),
    "presence_penalty": between(0, 1),
    "k": between(0, 500),
    "p": between(0.01, 0.99),
    "logprobs": one_of(True, False),
    "tool_choice": one_of("REQUIRED", "NONE"),
    "thinking": of(Thinking),
    "priority": between(0, 999),
}
EMBED: Mapping[str, Callable[[Any], bool]] = {
    "model": of(str),
    "input_type": one_of("search_document", "search_query", "classification", "clustering", "image"),
    "texts": lambda value: texts(value) and 0 < len(value) <= BATCH,
    "images": lambda value: texts(value) and len(value) == 1 and value[0].startswith("data:image/"),
    "inputs": lambda value: isinstance(value, list) and 0 < len(value) <= BATCH,
    "embedding_types": one_of(["float"]),
    "output_dimension": one_of(256, 512, 1024, 1536),
    "truncate": one_of("NONE", "START", "END"),
    "max_tokens": between(1, 128_000),
    "priority": between(0, 999),
}
RERANK: Mapping[str, Callable[[Any], bool]] = {
    "model": of(str),
    "query": of(str),
    "documents": texts,
    "top_n": between(1, 10_000),
    "max_tokens_per_doc": between(1, 1 << 31),
    "relevant_spans": of(dict[str, Any]),
    "priority": between(0, 999),
}
MESSAGE_KEYS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "tool_plan", "citations"},
    "tool": {"role", "content", "tool_call_id"},
}
MESSAGES = {
    400: "invalid request: message must be at least 1 token long or tool results must be specified.",
    401: "invalid api token",
    403: "your account is not permitted to use this model",
    404: "model 'x' not found, make sure the correct model ID was used and that you have access to the model.",
    429: "You are using a Trial key, which is limited to 20 API calls / minute.",
    498: "blocked output: the request contains a deny-listed token",
    499: "request cancelled",
    500: "internal server error, this has been reported to our developers.",
    503: "the service is unavailable",
    504: "the request took too long",
}
FINISHES = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL", "content_filter": "ERROR_TOXIC"}

_numbers = count(1)


class Refused(Exception):
    """The request is refused, with Cohere's flat error."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message or MESSAGES[status]


class CohereUpstream(Scripted):
    """Answers under `url` to the bearer of `key`."""

    chat: ClassVar[str] = "/v2/chat"

    @property
    def base_url(self) -> str:
        """What Cohere's SDK calls its base URL."""
        return self.url

    def identity(self, connection: Connection) -> Mapping[str, str]:
        return {
            "x-debug-trace-id": f"{connection.number}{connection.requests}",
            "x-endpoint-monthly-call-limit": "1000",
        }

    def answer_to(self, received: Received) -> tuple[ScriptedAnswer, Reply]:
        try:
            return self._answer_to(received)
        except Refused as refused:
            return ScriptedAnswer(), _json(refused.status, {"id": f"e{next(_numbers)}", "message": refused.message})

    def _answer_to(self, received: Received) -> tuple[ScriptedAnswer, Reply]:
        parts = urlsplit(received.path)
        if (received.method, parts.path) not in (
            ("POST", "/v2/chat"),
            ("POST", "/v2/embed"),
            ("POST", "/v2/rerank"),
            ("GET", "/v1/models"),
        ):
            raise Refused(404, "page not found")
        scheme, _, key = received.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or key != self.key:
            raise Refused(401, "" if key else "no api key supplied")
        answer = self.next(parts.path)
        if received.method == "GET":
            reply = _listed(parse_qs(parts.query))
        else:
            body = _parsed(received.body)
            if body.get("model") == NO_SUCH_MODEL:
                raise Refused(404, MESSAGES[404].replace("'x'", f"'{NO_SUCH_MODEL}'"))
            reply = {"/v2/chat": _chat, "/v2/embed": _embed, "/v2/rerank": _rerank}[parts.path](answer, body)
        return answer, reply if answer.status == 200 and answer.error is None else failed(answer)


def _chat(answer: ScriptedAnswer, body: Mapping[str, Any]) -> Reply:
    _check(body, CHAT, required=("model", "messages"))
    _check_chat(body)
    events = list(_events(answer, body))
    error = failed(ScriptedAnswer()).body
    whole = _dumps(_joined(answer, body))
    delays = (answer.first_delay if at == 0 else answer.frame_delay for at in count())
    pieces = [
        Piece(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _dumps(event)), kind, delay)
        for (kind, event), delay in zip(events, delays, strict=False)
    ]
    frame = b"data: %b\n\n" % error
    pieces.append(Piece(b"data: [DONE]\n\n", "done"))
    stream = bool(body.get("stream"))
    return Reply(
        tuple(pieces) if stream else (Piece(whole, after=answer.first_delay),),
        headers=_typed("text/event-stream" if stream else "application/json"),
        stream=stream,
        whole=whole,
        frames=tuple(pieces),
        error=error,
        error_frame=frame,
    )


def _check_chat(body: Mapping[str, Any]) -> None:
    called: set[str] = set()
    for message in body["messages"]:
        if set(message) - MESSAGE_KEYS[message["role"]]:
            raise Refused(422, f"unknown field: parameter 'messages' has {sorted(message)}")
        if not message.get("content") and not message.get("tool_calls"):
            raise Refused(400)
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            if part["type"] not in ("text", "image_url"):
                raise Refused(400, f"invalid content type {part['type']}")
        called |= {call["id"] for call in message.get("tool_calls", ())}
        if message["role"] == "tool" and message["tool_call_id"] not in called:
            raise Refused(
                400, f"invalid request: toolCallId not found in previous tool calls {message['tool_call_id']}"
            )
    if body["messages"][-1]["role"] not in ("user", "tool", "assistant"):
        raise Refused(400, "invalid request: a user message is needed.")
    _check_tools(body)
    if "thinking" in body and "reasoning" not in body["model"]:
        raise Refused(400, "thinking is not supported by this model")


def _check_tools(body: Mapping[str, Any]) -> None:
    for tool in body.get("tools", ()):
        if not NAME.fullmatch(tool["function"]["name"]):
            raise Refused(400, "invalid tool name: it must not begin with a digit, and have letters, digits and _ only")
        if wrong := misheaded(tool["function"]["parameters"]):
            raise Refused(400, wrong)
    if "tool_choice" in body and "tools" not in body:
        raise Refused(400, "tool_choice needs tools")
    if "response_format" in body and "tools" in body:
        raise Refused(400, "response_format is not supported with tools")


def _calls_and_texts(answer: ScriptedAnswer, body: Mapping[str, Any]) -> tuple[list[Call], Sequence[str]]:
    calls = [Call(*call) for call in answer.calls]
    if not calls and answer.texts is None and body.get("tool_choice") == "REQUIRED":
        function = body["tools"][0]["function"]
        calls = [Call("tick_3hp1", function["name"], [json.dumps(example(function["parameters"]))])]
    unasked = () if calls else TEXTS
    return calls, unasked if answer.texts is None else answer.texts


def _events(answer: ScriptedAnswer, body: Mapping[str, Any]) -> Iterator[tuple[Kind, dict[str, Any]]]:
    calls, said = _calls_and_texts(answer, body)
    opening = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    yield "open", {"id": f"c{next(_numbers)}", "type": "message-start", "delta": {"message": opening}}
    index = 0
    for name, pieces in (("thinking", answer.reasoning), ("text", said)):
        if not pieces:
            continue
        yield "open", _content("content-start", index, {"type": name, name: ""})
        for piece in pieces:
            event = _content("content-delta", index, {name: piece})
            if body.get("logprobs") and name == "text":
                event["logprobs"] = {"text": piece, "token_ids": [1, 2], "logprobs": [-0.25, -0.5]}
            yield "content", event
        yield "content", {"type": "content-end", "index": index}
        index += 1
    for place, call in enumerate(calls):
        function = {"name": call.name, "arguments": ""}
        whole = {"id": call.id, "type": "function", "function": function}
        yield "content", {"type": "tool-call-start", "index": place, "delta": {"message": {"tool_calls": whole}}}
        for piece in call.arguments:
            delta = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
            yield "content", {"type": "tool-call-delta", "index": place, "delta": delta}
        yield "content", {"type": "tool-call-end", "index": place}
    for place, citation in enumerate(answer.choice_keys.get("citations", ())):
        yield "content", {"type": "citation-start", "index": place, "delta": {"message": {"citations": citation}}}
        yield "content", {"type": "citation-end", "index": place}
    yield "finish", {"type": "message-end", "delta": {"finish_reason": _finish(answer, calls), "usage": _usage(answer)}}


def _content(kind: str, index: int, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": kind, "index": index, "delta": {"message": {"content": content}}}


def _joined(answer: ScriptedAnswer, body: Mapping[str, Any]) -> dict[str, Any]:
    calls, said = _calls_and_texts(answer, body)
    content = [{"type": "thinking", "thinking": "".join(answer.reasoning)}] if answer.reasoning else []
    content += [{"type": "text", "text": "".join(said)}] if said else []
    message: dict[str, Any] = {"role": "assistant", **({"content": content} if content else {})}
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": "".join(call.arguments)}}
            for call in calls
        ]
    if citations := answer.choice_keys.get("citations"):
        message["citations"] = citations
    usage = {"finish_reason": _finish(answer, calls), "usage": _usage(answer)}
    logprobs = [{"text": each, "token_ids": [1, 2], "logprobs": [-0.25, -0.5]} for each in said]
    chances = {"logprobs": logprobs} if body.get("logprobs") else {}
    return {"id": f"c{next(_numbers)}", "message": message, **usage, **chances}


def _finish(answer: ScriptedAnswer, calls: Sequence[Call]) -> str:
    given = answer.finish_reason or ("tool_calls" if calls else "stop")
    return FINISHES.get(given, given)


def _usage(answer: ScriptedAnswer) -> dict[str, Any]:
    """What is billed is less than what the model reads: Cohere's own preamble is free."""
    usage = answer.usage or {}
    prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return {
        "billed_units": {"input_tokens": float(prompt - 3), "output_tokens": float(completion)},
        "tokens": {"input_tokens": float(prompt), "output_tokens": float(completion)},
        "cached_tokens": float(cached),
    }


def _embed(_: ScriptedAnswer, body: Mapping[str, Any]) -> Reply:
    _check(body, EMBED, required=("model", "input_type"))
    given = [body[key] for key in ("texts", "images", "inputs") if key in body]
    if len(given) != 1:
        raise Refused(400, "invalid request: exactly one of texts, images, or inputs must be provided")
    if ("images" in body) != (body["input_type"] == "image"):
        raise Refused(400, "invalid request: input_type image goes with images")
    size = body.get("output_dimension", DIMENSIONS)
    vectors = [embedding(_key(each), size) for each in given[0]]
    meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": float(len(vectors))}}
    made = {"embeddings": {"float": vectors}, "meta": meta, "response_type": "embeddings_by_type"}
    return _json(200, {"id": "e1", **made})


def _key(given: Any) -> str:
    """The text, or the picture's URL, of an input."""
    if isinstance(given, str):
        return given
    (content,) = given["content"]
    return str(content["text"] if content["type"] == "text" else content["image_url"]["url"])


def _rerank(_: ScriptedAnswer, body: Mapping[str, Any]) -> Reply:
    _check(body, RERANK, required=("model", "query", "documents"))
    asked = set(body["query"].split())
    scores = [(len(asked & set(each.split())) / len(asked), at) for at, each in enumerate(body["documents"])]
    best = sorted(scores, key=lambda each: -each[0])[: body.get("top_n")]
    results = [{"index": at, "relevance_score": score} for score, at in best]
    return _json(200, {"id": "r1", "results": results, "meta": {"billed_units": {"search_units": 1.0}}})


def _listed(query: Mapping[str, Any]) -> Reply:
    """Pages of two, whatever is asked for."""
    start = int(query.get("page_token", ["0"])[0])
    rows = [
        {"name": name, "endpoints": ["chat"], "is_deprecated": name == "command-light"}
        for name in MODELS[start : start + PAGE]
    ]
    following = {"next_page_token": str(start + PAGE)} if start + PAGE < len(MODELS) else {}
    return _json(200, {"models": rows, **following})


def failed(answer: ScriptedAnswer) -> Reply:
    status = answer.status if answer.status != 200 else 500
    message = MESSAGES.get(status, MESSAGES[500])
    reply = _json(status, answer.error or {"id": f"e{next(_numbers)}", "message": message})
    return Reply(reply.pieces, answer.status, reply.headers, whole=reply.body, error=reply.body)


def _check(body: Mapping[str, Any], fields: Mapping[str, Callable[[Any], bool]], *, required: Sequence[str]) -> None:
    for name, value in body.items():
        if name not in fields:
            raise Refused(422, f"unknown field: parameter '{name}' is not a valid field")
        if not fields[name](value):
            raise Refused(400, f"invalid type or value: parameter '{name}'")
    for name in required:
        if name not in body:
            raise Refused(400, f"invalid request: parameter '{name}' is required")


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        body: dict[str, Any] = json.loads(data)
    except ValueError:
        raise Refused(400, "invalid json syntax") from None
    if None in body.values():
        raise Refused(400, "This emulation takes no nulls.")
    return body


def _json(status: int, value: object) -> Reply:
    data = _dumps(value)
    return Reply((Piece(data),), status, _typed("application/json"), whole=data, error=data)


def _typed(kind: str) -> dict[str, str]:
    return {"Content-Type": kind}


def _dumps(value: object) -> bytes:
    return dumps(value).encode()
