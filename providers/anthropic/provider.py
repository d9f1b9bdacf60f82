"""Anthropic's Messages, and whoever else speaks that dialect: https://platform.claude.com/docs/en/api/messages

Thinking must come back with the calls that it led to, or a model that thinks within a budget refuses the next request
(/build-with-claude/thinking, "preserving thinking blocks"). OpenAI's clients know nothing of it: it is kept in the
call's state by the id of the tool call, and where it is not found, such a model is asked not to think.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import orjson

from core import lenient_json
from core.context import CallContext, Timeouts
from core.errors import ContextTooLong, GatewayError, UpstreamError
from core.events import Events
from core.json_values import BAD_SHAPE, Json
from core.models import ListedModel
from core.requests import ChatRequest
from providers.anthropic.decode import AnthropicDecoder
from providers.anthropic.request import asks_by_tool, to_upstream
from providers.base import Provider, Target
from providers.common.answers import answer_events
from providers.common.structured import answer_as_text, format_by_tool
from providers.transport.client import send, warm
from providers.transport.endpoint import Endpoint
from providers.transport.exchange import log_dropped_parameters, request_id_header, request_json
from providers.transport.status_errors import error_from_response, error_object, for_log, safe_message, written
from providers.vendors import Vendor

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
"""What an error is that comes in the place of an answer (/api/errors)."""

TOO_LONG = re.compile(r"prompt is too long|exceeds? (the )?context (limit|window)", re.IGNORECASE)
NO_CREDIT = re.compile(r"credit balance is too low", re.IGNORECASE)
REMEMBERED_SECONDS = 3600.0
PAGES = 20

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


class Anthropic(Provider):
    """One account. `base_url` may end in /v1 or /v1/messages; else /v1 is added, as Anthropic's own SDK does it."""

    def __init__(
        self, vendor: Vendor, *, base_url: str, name: str = "", api_key: str = "", model: str = "", proxy: str = ""
    ) -> None:
        self.name = name or vendor.name
        self.default_model = model or vendor.model
        self._account = Endpoint(self.name, versioned(base_url), {**vendor.credential(api_key), **VERSION}, proxy)
        self._failure = partial(anthropic_error, self.name, setting=vendor.key_setting)

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """Ask, and tell what comes."""
        thoughts = _Thoughts(call, target)
        fitted, answer = format_by_tool(request) if asks_by_tool(request, target) else (request, "")
        body = to_upstream(fitted, target, thoughts.recall)
        sent = SUPPORTED_PARAMETERS | {name for name, theirs in COUNTERPARTS.items() if theirs in body}
        log_dropped_parameters(self.name, request.body.keys(), sent)
        raw = orjson.dumps(body)
        reply = send(self._account, "POST", "/messages", request_id_header(call), raw, call, target.timeouts)
        reading = AnthropicDecoder(partial(error_in_body, self.name), thoughts.keep)
        events = answer_events(reply, request, self._failure, reading, lambda whole: list(reading.whole(whole)), call)
        yield from answer_as_text(events, answer) if answer else events

    def warm(self, call: CallContext, timeouts: Timeouts) -> None:
        """Keep a connection open there."""
        warm(self._account, call, timeouts)

    def models(self, call: CallContext) -> Sequence[ListedModel]:
        """GET /v1/models, page by page."""
        return self._models(call)

    def _models(self, call: CallContext) -> list[ListedModel]:
        found: list[ListedModel] = []
        after = ""
        for _ in range(PAGES):
            path = f"/models?limit=1000{after}"
            page = request_json(self._account, "GET", path, b"", call, Timeouts(), self._failure)
            try:
                found += [ListedModel(row["id"], "anthropic", _seconds(row.get("created_at"))) for row in page["data"]]
                if not page.get("has_more") or not page["data"]:
                    break
                after = f"&after_id={page['data'][-1]['id']}"
            except BAD_SHAPE as error:
                raise UpstreamError(
                    f"{self.name} sent something that is not an answer.", provider=self.name, log=f"models: {error}"
                ) from error
        return found


def versioned(address: str) -> str:
    """What stands before /messages: the address with /v1, unless it says itself where the messages are."""
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
    """The exception for an error answer (/api/errors). An account without credit is told of by a 400."""
    said = str(error_object(body).get("message") or "")
    log = for_log(body)
    if status == 402 or NO_CREDIT.search(said):  # noqa: PLR2004
        return UpstreamError(
            f"The account at {name} has no credit left.",
            code="insufficient_quota",
            provider=name,
            upstream_status=status,
            log=log,
        )
    if status == 400 and TOO_LONG.search(said):  # noqa: PLR2004
        return ContextTooLong(f"{name} refused the request: {safe_message(said)}", param="messages", log=log)
    return error_from_response(name, status, headers, body, setting=setting)


def error_in_body(name: str, error: Any) -> GatewayError:
    """The exception for an error object that came with status 200."""
    status = STATUSES.get(str(error.get("type")), 500) if isinstance(error, dict) else 500
    return anthropic_error(name, status, {}, written(error))


def _seconds(created: Any) -> int:
    """RFC 3339 in Unix seconds; 0 for what is none."""
    try:
        return max(0, int(datetime.fromisoformat(created).timestamp()))
    except (TypeError, ValueError):
        return 0
