"""Anthropic's Messages API, also at other vendors: https://platform.claude.com/docs/en/api/messages

A model with a thinking budget refuses a request whose tool calls come without the thinking before them
(/build-with-claude/thinking, "preserving thinking blocks"). OpenAI's clients do not send it back, so it is stored by
the id of the tool call. If it is not found, thinking is turned off for that request.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import orjson

from core import lenient_json
from core.context import CallContext
from core.errors import ContextTooLong, GatewayError, UpstreamError
from core.events import Events, Usage
from core.json_values import BAD_SHAPE, Json
from core.models import ListedModel
from core.requests import ChatRequest, NativeBody
from providers.anthropic import native
from providers.anthropic.decode import AnthropicDecoder
from providers.anthropic.request import asks_by_tool, to_upstream
from providers.base import Target
from providers.common.answers import answer_events
from providers.common.http_provider import HttpProvider
from providers.common.structured import answer_as_text, format_by_tool
from providers.common.translate import token_count
from providers.transport.client import send
from providers.transport.exchange import (
    log_dropped_parameters,
    parse_json,
    raise_for_status,
    read_body,
    request_id_header,
)
from providers.transport.status_errors import error_body, error_from_response, error_object, for_log, safe_message

VERSION = {"anthropic-version": "2023-06-01"}
STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status of an error object that comes instead of an answer (/api/errors)."""

TOO_LONG = re.compile(r"prompt is too long|exceeds? (the )?context (limit|window)", re.IGNORECASE)
NO_CREDIT = re.compile(r"credit balance is too low", re.IGNORECASE)
REMEMBERED_SECONDS = 3600.0

COUNTERPARTS = {
    "stop": "stop_sequences",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "user": "metadata",
    "safety_identifier": "metadata",
    "service_tier": "service_tier",
}
SUPPORTED_PARAMETERS = {
    "messages", "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "tools", "tool_choice",
    "parallel_tool_calls", "functions", "function_call", "response_format", "reasoning_effort", "thinking",
    "modalities",
}  # fmt: skip
UNCOUNTED = frozenset({
    "max_tokens", "stream", "temperature", "top_p", "top_k", "stop_sequences", "metadata", "service_tier",
})  # fmt: skip
"""Parameters of /v1/messages that /v1/messages/count_tokens refuses."""


class Anthropic(HttpProvider):
    """One account. `base_url` may end in /v1 or /v1/messages; else /v1 is added, as Anthropic's own SDK does it."""

    headers = VERSION

    def _address(self, base_url: str) -> str:
        return with_version(base_url)

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        return anthropic_error(self.name, status, headers, body, setting=self._vendor.key_setting)

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """POST /v1/messages. The answer passes as bytes if the request came in this dialect."""
        if (own := native.native_of(request)) is not None:
            yield from self._native(request, own, target, call)
            return
        thoughts = _Thoughts(call, target)
        fitted, answer = format_by_tool(request) if asks_by_tool(request, target) else (request, "")
        body = to_upstream(fitted, target, thoughts.recall)
        sent = SUPPORTED_PARAMETERS | {name for name, theirs in COUNTERPARTS.items() if theirs in body}
        log_dropped_parameters(self.name, request.body.keys(), sent)
        headers = request_id_header(call)
        reply = send(self._account, "POST", "/messages", headers, orjson.dumps(body), call, target.timeouts)
        decoder = AnthropicDecoder(partial(error_in_body, self.name), thoughts.keep)
        whole = decoder.whole
        events = answer_events(
            reply, request, self._failure, decoder, lambda data: list(whole(data)), call, forwards=not answer
        )
        yield from answer_as_text(events, answer) if answer else events

    def passes(self, request: ChatRequest, target: Target) -> bool:
        """True for a request in Anthropic's dialect."""
        return native.native_of(request) is not None

    def _native(self, request: ChatRequest, own: NativeBody, target: Target, call: CallContext) -> Events:
        path, body = f"/messages{own.query}", native.to_upstream(request, own, target)
        reply = send(self._account, "POST", path, _headers(own, call), orjson.dumps(body), call, target.timeouts)
        decoder = AnthropicDecoder(partial(error_in_body, self.name), lambda *_: None)
        if request.passthrough == native.DIALECT:
            yield from native.answer_events(reply, request, self._failure, decoder, call)
        else:
            whole = decoder.whole
            yield from answer_events(
                reply, request, self._failure, decoder, lambda data: list(whole(data)), call, forwards=True
            )

    def count_tokens(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """POST /v1/messages/count_tokens."""
        own = native.native_of(request)
        if own is None:
            body, query = to_upstream(request, target, _Thoughts(call, target).recall), ""
            headers = request_id_header(call)
        else:
            body, query, headers = native.to_upstream(request, own, target), own.query, _headers(own, call)
        raw = orjson.dumps({key: value for key, value in body.items() if key not in UNCOUNTED})
        path = f"/messages/count_tokens{query}"
        reply = send(self._account, "POST", path, headers, raw, call, target.timeouts)
        try:
            raise_for_status(reply, self._failure)
            answer = parse_json(read_body(reply), reply)
            yield Usage(token_count(answer["input_tokens"]), 0)
        except BAD_SHAPE as error:
            raise reply.broken(f"{type(error).__name__}: {error}") from error
        finally:
            reply.close()

    def models(self, call: CallContext) -> Sequence[ListedModel]:
        """GET /v1/models, page by page."""

        def models(page: Any) -> list[ListedModel]:
            return [ListedModel(row["id"], "anthropic", _seconds(row.get("created_at"))) for row in page["data"]]

        def next_page(page: Any) -> str:
            return f"&after_id={page['data'][-1]['id']}" if page.get("has_more") and page["data"] else ""

        return self._list_models(call, "/models?limit=1000", models, next_page)


def _headers(own: NativeBody, call: CallContext) -> dict[str, str]:
    """The version and betas of the caller's request, which replace ours."""
    return {**request_id_header(call), **own.headers}


def with_version(address: str) -> str:
    """The address before /messages: with /v1, unless it ends in /messages already."""
    path, mark, query = address.partition("?")
    path = path.rstrip("/")
    if path.endswith("/messages"):
        path = path.removesuffix("/messages")
    elif not path.endswith("/v1"):
        path += "/v1"
    return path + mark + query


class _Thoughts:
    """The thinking behind a caller's tool calls at one model, from one request to the next."""

    def __init__(self, call: CallContext, target: Target) -> None:
        self._state = call.state
        self._prefix = f"anthropic/thinking/{call.caller}/{target.model}/"

    def recall(self, call_id: str) -> list[Json]:
        kept = self._state.get(self._prefix + call_id) if self._state else None
        blocks: list[Json] = orjson.loads(kept) if kept else []
        return blocks

    def keep(self, call_id: str, blocks: list[Json]) -> None:
        if self._state:
            self._state.put(self._prefix + call_id, lenient_json.dumps(blocks).decode(), REMEMBERED_SECONDS)


def anthropic_error(
    name: str, status: int, headers: Mapping[str, str], body: bytes, *, setting: str = ""
) -> GatewayError:
    """The exception for an error response (/api/errors). A 400 may mean that the account has no credit."""
    sentence = str(error_object(body).get("message") or "")
    log = for_log(body)
    if status == 402 or NO_CREDIT.search(sentence):  # noqa: PLR2004
        return UpstreamError(
            f"The account at {name} has no credit left.",
            code="insufficient_quota",
            provider=name,
            upstream_status=status,
            log=log,
        )
    if status == 400 and TOO_LONG.search(sentence):  # noqa: PLR2004
        return ContextTooLong(f"{name} refused the request: {safe_message(sentence)}", param="messages", log=log)
    return error_from_response(name, status, headers, body, setting=setting)


def error_in_body(name: str, error: Any) -> GatewayError:
    """The exception for an error object that came with status 200."""
    status = STATUSES.get(str(error.get("type")), 500) if isinstance(error, dict) else 500
    return anthropic_error(name, status, {}, error_body(error))


def _seconds(created: Any) -> int:
    """RFC 3339 as Unix seconds; 0 for another value."""
    try:
        return max(0, int(datetime.fromisoformat(created).timestamp()))
    except (TypeError, ValueError):
        return 0
