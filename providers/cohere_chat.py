"""Cohere's second version of a conversation, both ways and pure: https://docs.cohere.com/v2/reference/chat"""

import re
from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import Any

import orjson

from errors import ProxyError, Unsupported, UpstreamDown, UpstreamTimeout
from events import (
    ChatRequest,
    Citation,
    Event,
    Finish,
    FinishReason,
    Reasoning,
    Text,
    ToolArguments,
    ToolCall,
    Usage,
)
from providers.base import Target
from providers.sse import Frame
from providers.translate import (
    Json,
    cap,
    choice,
    functions,
    image_url,
    inlined,
    name,
    only_text_comes_back,
    string,
    text,
    tokens,
    wanted_format,
)
from providers.turns import OPENING, Turn, conversation, instructions

MOST_STOPS = 5
NUMBERS: Mapping[str, tuple[str, float, float]] = {
    "frequency_penalty": ("frequency_penalty", 0.0, 1.0),
    "presence_penalty": ("presence_penalty", 0.0, 1.0),
    "top_p": ("p", 0.01, 0.99),
    "top_k": ("k", 0, 500),
}
"""Ours -> theirs, and its range: it is narrower than OpenAI's, and what is beyond it means its end."""
SAME = ("temperature", "seed", "logprobs")
OWN = ("documents", "citation_options", "safety_mode", "strict_tools", "priority", "thinking", "k", "p")
"""Cohere's own, which callers may give as they are."""
TAKEN = frozenset(
    {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "stop", "n", "modalities"}
    | {"tools", "tool_choice", "functions", "function_call", "response_format", *NUMBERS, *SAME, *OWN}
)
"""What a request can say here; reasoning_effort is taken where the model thinks."""

THINKS = re.compile("reasoning|thinking")
"""Models that think until they are told not to (https://docs.cohere.com/docs/reasoning); others refuse it."""
BUDGETS = {"minimal": 512, "low": 1024, "medium": 8192}

FINISH_REASONS: Mapping[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "ERROR_LIMIT": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
}


def to_upstream(request: ChatRequest, target: Target) -> Json:
    """The body of v2/chat. Raises InvalidRequest and Unsupported."""
    whose = target.provider.name
    only_text_comes_back(request, whose)
    if request.body.get("n", 1) > 1:
        raise Unsupported(f"{whose} gives one answer to a request.", param="n")
    if len(request.stop) > MOST_STOPS:
        raise Unsupported(f"{whose} takes at most {MOST_STOPS} stop sequences.", param="stop")
    body: Json = {"model": target.model, "messages": _messages(request), "stream": request.stream}
    body |= {key: request.body[key] for key in (*SAME, *OWN) if key in request.body}
    for ours, (theirs, least, most) in NUMBERS.items():
        if ours in request.body:
            body[theirs] = min(max(request.body[ours], least), most)
    longest = cap(request, target.max_tokens)
    if longest is not None:
        body["max_tokens"] = longest
    if request.stop:
        body["stop_sequences"] = request.stop
    body |= _tools(request) | _format(request) | _thinking(request, target.model)
    return target.rules.apply(body)


def _messages(request: ChatRequest) -> list[Json]:
    told = "\n\n".join(text([part], "messages") for part in instructions(request.messages))
    turns = conversation(request.messages)
    messages = [{"role": "system", "content": told}] if told else []
    return messages + ([_message(turn) for turn in turns] or [{"role": "user", "content": OPENING}])


def _message(turn: Turn) -> Json:
    if turn.role == "tool":  # an empty content is refused, and a result is a JSON object by the page
        return {"role": "tool", "tool_call_id": turn.answers, "content": _text(turn) or "{}"}
    if turn.role == "user":
        content = [_part(part, where) for where, part in turn.parts]
        if all(part["type"] == "text" for part in content):
            return {"role": "user", "content": "".join(part["text"] for part in content)}
        return {"role": "user", "content": content}
    said = _text(turn)
    if not turn.calls:
        return {"role": "assistant", "content": said}
    calls = [
        {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": _json(use.arguments)}}
        for use in turn.calls
    ]
    # What is said before a call is its plan there.
    return {"role": "assistant", "tool_calls": calls, **({"tool_plan": said} if said else {})}


def _text(turn: Turn) -> str:
    return text([part for _, part in turn.parts], turn.at)


def _part(part: Mapping[str, Any], where: str) -> Json:
    match part["type"]:
        case "text" | "input_text":
            return {"type": "text", "text": text([part], where)}
        case "image_url":
            url, detail = image_url(part, where)
            return {"type": "image_url", "image_url": {"url": url, **({"detail": detail} if detail else {})}}
        case kind:
            raise Unsupported(f"A part of type {kind!r} cannot be sent to Cohere.", param=where)


def _tools(request: ChatRequest) -> Json:
    """Of tools that alone may be called, only those are declared: a choice there has no names."""
    mode, names = choice(request)
    declared = [
        {"name": each["name"], **({"description": each["description"]} if each.get("description") else {})}
        | {"parameters": inlined(each.get("parameters")) or {"type": "object", "properties": {}}}
        for each in functions(request.tools)
        if not names or each["name"] in names
    ]
    if not declared:
        return {}
    forced = {} if mode == "auto" else {"tool_choice": "NONE" if mode == "none" else "REQUIRED"}
    return {"tools": [{"type": "function", "function": each} for each in declared], **forced}


def _format(request: ChatRequest) -> Json:
    kind, described = wanted_format(request)
    if kind == "text":
        return {}
    schema = {"json_schema": inlined(described["schema"])} if described else {}
    return {"response_format": {"type": "json_object", **schema}}


def _thinking(request: ChatRequest, model: str) -> Json:
    effort = request.body.get("reasoning_effort")
    if effort is None or "thinking" in request.body or not THINKS.search(model):
        return {}
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    budget = {"token_budget": BUDGETS[effort]} if effort in BUDGETS else {}
    return {"thinking": {"type": "enabled", **budget}}


class Reading:
    """A streamed answer as it is read (exchange.Reading): frames whose data have a `type`, then [DONE].

    `failed` makes the exception of an error in the place of an answer.
    """

    def __init__(self, failed: Callable[[Any], ProxyError]) -> None:
        self.finished = False
        self.done = False
        self._failed = failed
        self._argued: dict[Any, bool] = {}

    def events(self, frame: Frame) -> Iterator[Event]:
        """What a frame says."""
        if frame.data == b"[DONE]":
            self.done = True
        if self.done or self.finished:
            return
        data = orjson.loads(frame.data)
        kind, delta = data.get("type", ""), data.get("delta") or {}
        message = delta.get("message") or {}
        match kind:
            case "content-start" | "content-delta":
                yield from _content(message.get("content") or {}, _logprobs([data.get("logprobs")]))
            case "tool-plan-delta":
                yield Reasoning(string(message["tool_plan"]))
            case "tool-call-start" | "tool-call-delta" | "tool-call-end":
                yield from self._call(kind, data["index"], message.get("tool_calls") or {})
            case "citation-start":
                yield from _citations(message.get("citations"))
            case "message-end":
                if delta.get("error") and delta.get("finish_reason") not in FINISH_REASONS:
                    raise UpstreamDown("The model could not finish its answer.", log=str(delta["error"]))
                yield from _end(delta)
                self.finished = True
            case "" | "error":
                raise self._failed(data)

    def _call(self, kind: str, key: int, call: Mapping[str, Any]) -> Iterator[Event]:
        function = call.get("function") or {}
        if (kind == "tool-call-start") == (key in self._argued):
            raise ValueError(f"{kind} of the call {key!r}")
        if kind == "tool-call-start":
            self._argued[key] = False
            yield ToolCall(key, name(function["name"]), string(call.get("id") or ""))
        if piece := function.get("arguments"):
            self._argued[key] = True
            yield ToolArguments(key, string(piece))
        if kind == "tool-call-end" and not self._argued[key]:
            yield ToolArguments(key, "{}")


def events_of_body(body: Any) -> Iterator[Event]:
    """An answer in one piece. Raises translate.NONSENSE for what is none."""
    message = body["message"]
    logprobs = _logprobs(body.get("logprobs") or [])
    if message.get("tool_plan"):
        yield Reasoning(string(message["tool_plan"]))
    for part in message.get("content") or ():
        yield from _content(part, logprobs)
        if part.get("text"):
            logprobs = None
    for key, call in enumerate(message.get("tool_calls") or ()):
        yield ToolCall(key, name(call["function"]["name"]), string(call.get("id") or ""))
        yield ToolArguments(key, string(call["function"].get("arguments") or "{}"))
    yield from _citations(message.get("citations"))
    yield from _end(body)


def _content(part: Mapping[str, Any], logprobs: Json | None) -> Iterator[Event]:
    if part.get("thinking"):
        yield Reasoning(string(part["thinking"]))
    if part.get("text"):
        yield Text(string(part["text"]), logprobs=logprobs)


def _end(told: Mapping[str, Any]) -> Iterator[Event]:
    """Why it ended, and what it took."""
    reason = told["finish_reason"]
    if reason == "TIMEOUT":
        raise UpstreamTimeout("The model did not finish its answer in time.", log=reason)
    if reason not in FINISH_REASONS:
        raise UpstreamDown("The model could not finish its answer.", log=str(reason))
    yield Finish(FINISH_REASONS[reason])
    if found := usage(told.get("usage")):
        yield found


def usage(told: Any) -> Usage | None:
    """Tokens as the model counts them; those that are billed leave out what Cohere itself puts into the prompt."""
    if not isinstance(told, dict):
        return None
    counts = told.get("tokens") or told.get("billed_units")
    if not isinstance(counts, dict):
        return None
    return Usage(
        _count(counts.get("input_tokens")), _count(counts.get("output_tokens")), _count(told.get("cached_tokens"))
    )


def _count(value: Any) -> int:
    """Counts are floats there."""
    return tokens(int(value)) if isinstance(value, float) and isfinite(value) else tokens(value)


def _citations(told: Any) -> Iterator[Event]:
    """A span may have several sources, each a document of the request's or a tool's result."""
    for citation in told if isinstance(told, list) else [told] if told else []:
        for source in citation.get("sources") or ():
            known = source.get("document") or source.get("tool_output") or {}
            title = str(known.get("title") or source.get("id") or "")
            yield Citation(
                str(known.get("url") or ""), title, tokens(citation.get("start")), tokens(citation.get("end"))
            )


def _logprobs(items: list[Any]) -> Json | None:
    """One entry for each piece of text: its tokens have no texts of their own."""
    content = [
        {
            "token": string(item.get("text") or ""),
            "logprob": float(sum(item["logprobs"])),
            "bytes": list((item.get("text") or "").encode()),
            "top_logprobs": [],
        }
        for item in items
        if item and item.get("logprobs")
    ]
    return {"content": content, "refusal": None} if content else None


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
