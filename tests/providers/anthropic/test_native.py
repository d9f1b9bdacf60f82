"""What came in Anthropic's own dialect passes as it came, in both directions."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app import create_app
from config import Settings
from tests.conftest import Served, environment
from tests.emulators import FAULTS, Fault, ScriptedAnswer
from tests.emulators.anthropic.server import COUNTED, AnthropicUpstream
from tests.support import messages as read
from tests.support.frames import post

QUIET = {"RETRIES": 0, "BREAKER_FAILURES": 10_000, "LOG_LEVEL": "NONE", "FIRST_EVENT_TIMEOUT": 0.3, "IDLE_TIMEOUT": 0.3}
ROWS = """models:
  - {name: opus, provider: anthropic, model: claude-opus-5, max_tokens: 500, aliases: ['claude-opus-*']}
  - {name: haiku, provider: anthropic, model: claude-haiku-4-5, params: {add: {service_tier: standard_only}}}
  - {name: filled, provider: anthropic, model: claude-haiku-4-5, filler_after_ms: 30, filler_text: Hm}
"""


class Line:
    def __init__(self, upstream: AnthropicUpstream, client: Any) -> None:
        self.upstream = upstream
        self.client = client

    def ask(self, path: str = "/v1/messages", headers: dict[str, str] | None = None, **body: Any) -> Any:
        return self.client.post(path, json={**read.ask_body(), **body}, headers=headers or {}, buffered=True)

    def sent(self) -> Any:
        return json.loads(self.upstream.received[-1].body)


def settings_for(upstream: AnthropicUpstream, folder: Path) -> dict[str, object]:
    file = folder / "models.yaml"
    file.write_text(ROWS)
    at = {"ANTHROPIC_API_KEY": upstream.key, "ANTHROPIC_BASE_URL": upstream.url}
    return {**QUIET, **at, "MODELS_FILE": file, "HEARTBEAT": 1}


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with AnthropicUpstream() as upstream:
        values = environment(**settings_for(upstream, tmp_path))
        yield Line(upstream, create_app(Settings.load(values)).test_client())


def test_the_body_goes_as_it_came_but_for_the_model(line: Line) -> None:
    body = read.ask_body(
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
        thinking={"type": "enabled", "budget_tokens": 1500},
        max_tokens=2000,
        cache_control={"type": "ephemeral"},
    )
    line.upstream.always(ScriptedAnswer(reasoning=["Hm."]))
    headers = {"anthropic-version": "2026-10-21", "anthropic-beta": "context-1m,tools-2", "x-api-key": "theirs"}
    response = line.ask("/v1/messages?beta=true", headers, **body)
    assert response.status_code == 200, response.data
    assert line.sent() == body
    received = line.upstream.received[-1]
    assert received.path == "/v1/messages?beta=true"
    names = [name for name, _ in received.headers.items()]
    assert names.count("anthropic-version") == 1
    for name, value in (*list(headers.items())[:2], ("x-api-key", line.upstream.key)):
        assert received.headers[name] == value


def test_without_a_version_ours_is_sent(line: Line) -> None:
    line.ask()
    assert line.upstream.received[-1].headers["anthropic-version"] == "2023-06-01"
    assert "anthropic-beta" not in dict(line.upstream.received[-1].headers.items())


@pytest.mark.parametrize("spaces", [False, True])
@pytest.mark.parametrize("stream", [True, False])
def test_the_answer_comes_as_it_was_said(line: Line, stream: bool, spaces: bool) -> None:
    line.upstream.always(ScriptedAnswer(reasoning=["Hm", "."], crlf=spaces))
    thinking = {"type": "enabled", "budget_tokens": 1500}
    response = line.ask(stream=stream, max_tokens=2000, thinking=thinking)
    message = read.streamed(response.data) if stream else read.whole(response.data)
    assert message["id"].startswith("msg_0000")
    assert message["content"][0]["signature"] in line.upstream.signatures
    again = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": "And?"},
    ]
    assert line.ask(messages=again, max_tokens=2000, thinking=thinking).status_code == 200
    assert line.sent()["messages"] == again


def test_a_name_that_stands_for_another_model_brings_what_that_takes(line: Line) -> None:
    """Thinking within a budget and temperatures are refused by newer models, and rows have caps and rules."""
    line.upstream.always(ScriptedAnswer())
    old = {"thinking": {"type": "enabled", "budget_tokens": 1500}, "max_tokens": 2000}
    assert line.ask(model="opus", **old).status_code == 200
    assert (line.sent()["model"], line.sent()["max_tokens"]) == ("claude-opus-5", 500)
    assert line.sent()["thinking"]["type"] == "adaptive"
    new = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}, "max_tokens": 30_000}
    assert line.ask(model="haiku", **new).status_code == 200
    assert line.sent()["thinking"]["type"] == "enabled"
    assert "output_config" not in line.sent()
    assert line.sent()["service_tier"] == "standard_only"


def test_a_filler_comes_before_the_words(serve: Callable[..., Served], tmp_path: Path) -> None:
    with AnthropicUpstream() as upstream:
        app = serve(**{**settings_for(upstream, tmp_path), "FIRST_EVENT_TIMEOUT": 15})
        upstream.enqueue(ScriptedAnswer(first_delay=0.2))
        message = read.streamed(post(app.port, read.ask_body(model="filled", stream=True), "/v1/messages")[2])
    assert read.text(message).startswith("Hm... Grüße")
    assert [block["type"] for block in message["content"]] == ["text"]


def test_tokens_are_counted_there(line: Line) -> None:
    body = {"max_tokens": 10, "stream": True, "tools": [{"name": "f", "input_schema": {"type": "object"}}]}
    response = line.ask("/v1/messages/count_tokens?beta=true", {"anthropic-beta": "b"}, **body)
    assert read.count(response.data) == COUNTED
    assert line.upstream.received[-1].path == "/v1/messages/count_tokens?beta=true"
    counted = line.client.post("/v1/responses/input_tokens", json={"model": "claude", "input": "hi", "temperature": 1})
    assert counted.json == {"object": "response.input_tokens", "input_tokens": COUNTED}
    line.upstream.always(ScriptedAnswer(status=429), path="/messages/count_tokens")
    assert line.ask("/v1/messages/count_tokens").status_code == 429


def test_anthropics_own_refusals_keep_their_status_and_kind(line: Line) -> None:
    count = len(line.upstream.received)
    response = line.ask(temperature=7)
    assert len(line.upstream.received) == count + 1
    assert (response.status_code, read.error(response.data)["type"]) == (400, "invalid_request_error")
    assert "temperature" in read.error(response.data)["message"]


def test_a_header_that_cannot_be_sent_is_refused(line: Line) -> None:
    response = line.ask(headers={"anthropic-beta": "b\u00e9ta"})
    assert response.status_code == 400
    assert "anthropic-beta" in read.error(response.data)["message"]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_every_fault_is_a_status_before_the_first_word_and_an_event_after_it(line: Line, fault: Fault) -> None:
    line.upstream.always(ScriptedAnswer(fault=fault))
    response = line.ask(stream=True)
    if response.status_code != 200:
        assert response.status_code in (500, 502, 504, 529)
        assert read.error(response.data)["type"] in ("api_error", "timeout_error", "overloaded_error")
        return
    events = read.frames(response.data)
    assert [event["type"] for event in events].count("message_start") == 1
    if events[-1]["type"] == "error":
        assert events[1]["type"] == "content_block_start"
    else:
        read.streamed(response.data)
