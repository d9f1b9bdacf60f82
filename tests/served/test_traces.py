"""Traces over the wire: to a collector that decodes OTLP, from the caller, and on to the upstream."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import EVER, Served, free_port, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer
from tests.emulators.anthropic.server import AnthropicUpstream
from tests.emulators.faults import stalled_before_headers
from tests.emulators.openai.responses import ResponsesUpstream
from tests.support.collector import Collector, Span
from tests.support.frames import chat_body, post
from tests.support.messages import ask_body

Serve = Callable[..., Served]
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "congo=t61rcWkgMzE"}
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": 50, "RETRIES": 0, "DEMO_PACE_MS": 0}
MODELS = """
providers:
  one: {kind: openai_compatible, base_url: "%s", api_key: test-upstream-key, model: gpt-4o}
models:
  - {name: two-targets, provider: one, model: gpt-4o, fallbacks: [spare]}
  - {name: spare, provider: demo, model: demo}
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        yield server


def spans(collector: Collector, count: int) -> dict[str, Span]:
    """So many spans, by name."""
    until(lambda: len(collector.spans) >= count, f"{count} spans")
    assert len(collector.spans) == count, collector.spans
    return {span.name: span for span in collector.spans}


def test_a_request_and_its_attempt_are_spans_of_the_callers_trace(
    serve: Serve, upstream: OpenAIUpstream, collector: Collector
) -> None:
    app = serve(**upstream.settings(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **QUICK))
    body = chat_body("a secret of the caller's", model="openai/gpt-4o", stream=True, session_id="call-7")
    before = time.time()
    assert post(app.port, body, headers=PARENT)[0] == 200
    found = spans(collector, 2)
    request, attempt = found["chat openai/gpt-4o"], found["chat gpt-4o"]
    assert (request.kind, attempt.kind, request.service) == ("server", "client", "thinkline")
    assert (request.trace_id, request.parent_id, request.state) == (TRACE, CALLER, "congo=t61rcWkgMzE")
    assert (attempt.trace_id, attempt.parent_id) == (TRACE, request.span_id)
    assert before <= request.seconds[0] <= attempt.seconds[0] <= attempt.seconds[1] <= request.seconds[1] + 0.001
    sent = upstream.wait_received(1).headers
    assert sent["traceparent"] == f"00-{TRACE}-{attempt.span_id}-01"
    assert sent["tracestate"] == "congo=t61rcWkgMzE"
    said = request.attributes
    assert (said["gen_ai.operation.name"], said["gen_ai.provider.name"]) == ("chat", "openai")
    assert (said["gen_ai.request.model"], said["gen_ai.response.model"]) == ("openai/gpt-4o", "gpt-4o-2024-07-18")
    assert (said["gen_ai.conversation.id"], said["http.response.status_code"]) == ("call-7", 200)
    assert said["gen_ai.usage.output_tokens"] > 0
    assert said["gen_ai.response.time_to_first_chunk"] > 0
    assert attempt.attributes["thinkline.target"] == "openai/gpt-4o"
    assert not request.failed
    assert b"a secret of the caller" not in collector.raw


ASKED = {
    "bytes that pass": ("/v1/chat/completions", {}, {}),
    "decoded frames": ("/v1/chat/completions", {"chunk_keys": {"foreign": 1}}, {}),
    "cut short": ("/v1/chat/completions", {"finish_reason": "length"}, {}),
    "two choices": ("/v1/chat/completions", {"choices": 2}, {"n": 2}),
    "events of another dialect": ("/v1/messages", {}, {"max_tokens": 9}),
}
"""By name: the path, what is special about the answer, and what about the request."""


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("case", ASKED)
def test_why_an_answer_has_ended_is_told(
    serve: Serve, upstream: OpenAIUpstream, collector: Collector, case: str, stream: bool
) -> None:
    path, answer, more = ASKED[case]
    upstream.always(ScriptedAnswer(**answer))  # type: ignore[arg-type]
    app = serve(**upstream.settings(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **QUICK))
    assert post(app.port, chat_body(model="openai/gpt-4o", stream=stream, **more), path)[0] == 200
    reasons = ["length"] if case == "cut short" else ["stop"] * (2 if case == "two choices" else 1)
    for span in spans(collector, 2).values():
        assert span.attributes["gen_ai.response.finish_reasons"] == reasons, span
        assert span.attributes["gen_ai.response.id"].startswith("chatcmpl-")
        assert span.attributes["gen_ai.response.model"] == "gpt-4o-2024-07-18"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("dialect", ["responses", "messages"])
def test_why_an_answer_has_ended_is_told_of_other_dialects_bytes(
    serve: Serve, collector: Collector, tmp_path: Path, dialect: str, stream: bool
) -> None:
    vendor = ResponsesUpstream() if dialect == "responses" else AnthropicUpstream()
    with vendor as upstream:
        kind = "kind: openai_compatible, responses: true" if dialect == "responses" else "vendor: anthropic"
        at = upstream.base_url if isinstance(upstream, ResponsesUpstream) else upstream.url
        (tmp_path / "models.yaml").write_text(
            f"providers: {{own: {{{kind}, base_url: '{at}', api_key: '{upstream.key}'}}}}\n"
            "models: [{name: m, provider: own, model: claude-haiku-4-5}]\n"
        )
        app = serve(MODELS_FILE=tmp_path / "models.yaml", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **QUICK)
        body = {"input": "hi"} if dialect == "responses" else ask_body()
        assert post(app.port, {**body, "model": "m", "stream": stream}, f"/v1/{dialect}")[0] == 200
        for span in spans(collector, 2).values():
            assert span.attributes["gen_ai.response.finish_reasons"] == ["stop"], span


def test_a_caller_who_hangs_up_leaves_no_reason(serve: Serve, upstream: OpenAIUpstream, collector: Collector) -> None:
    upstream.always(ScriptedAnswer(texts=["word "] * 50, frame_delay=0.1))
    app = serve(**upstream.settings(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **QUICK))
    body = chat_body(model="openai/gpt-4o", stream=True)
    with httpx.stream("POST", f"{app.url}/chat/completions", json=body) as response:
        assert "word" in next(line for line in response.iter_lines() if "word" in line)
    said = spans(collector, 2)["chat openai/gpt-4o"].attributes
    assert said["thinkline.outcome"] == "hung_up"
    assert said["gen_ai.response.id"].startswith("chatcmpl-")
    assert "gen_ai.response.finish_reasons" not in said


def test_words_are_told_only_where_a_setting_says_so(
    serve: Serve, upstream: OpenAIUpstream, collector: Collector
) -> None:
    options = {
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
    }
    app = serve(**upstream.settings(**options, **QUICK))
    upstream.always(ScriptedAnswer(texts=["It is ", "noon."]))
    for stream in (False, True):
        collector.spans.clear()
        assert post(app.port, chat_body("What time is it?", model="openai/gpt-4o", stream=stream))[0] == 200
        said = spans(collector, 2)["chat openai/gpt-4o"].attributes
        assert json.loads(said["gen_ai.input.messages"])[-1] == {
            "role": "user",
            "parts": [{"type": "text", "content": "What time is it?"}],
        }
        (answer,) = json.loads(said["gen_ai.output.messages"])
        assert answer == {"role": "assistant", "parts": [{"type": "text", "content": "It is noon."}]}


def test_each_attempt_is_a_span(serve: Serve, upstream: OpenAIUpstream, collector: Collector, tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(MODELS % f"{upstream.url}/v1")
    upstream.always(ScriptedAnswer(status=500))
    app = serve(MODELS_FILE=tmp_path / "models.yaml", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **QUICK)
    assert post(app.port, chat_body(model="two-targets"))[0] == 200
    found = spans(collector, 3)
    request, failed, answered = found["chat two-targets"], found["chat gpt-4o"], found["chat demo"]
    assert {failed.parent_id, answered.parent_id} == {request.span_id}
    assert request.parent_id == ""
    assert (failed.failed, answered.failed, request.failed) == (True, False, False)
    assert (failed.attributes["error.type"], answered.attributes["thinkline.why"]) == ("upstream_error", "fallback")


@pytest.mark.parametrize("sampled", [True, False])
def test_the_caller_decides_whether_its_trace_is_kept(
    serve: Serve, upstream: OpenAIUpstream, collector: Collector, sampled: bool
) -> None:
    app = serve(**upstream.settings(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **QUICK))
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-{int(sampled):02}"}
    assert post(app.port, chat_body(model="openai/gpt-4o"), headers=headers)[0] == 200
    assert upstream.wait_received(1).headers["traceparent"].endswith(f"-{int(sampled):02}")
    assert post(app.port, chat_body(model="demo/demo"))[0] == 200
    until(lambda: len(collector.spans) >= (4 if sampled else 2), "spans")
    assert any(span.trace_id == TRACE for span in collector.spans) == sampled


def test_a_refusal_has_a_span_and_settings_may_come_from_the_file(
    serve: Serve, collector: Collector, tmp_path: Path
) -> None:
    env = tmp_path / ".env"
    env.write_text(
        f"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT={collector.url}/v1/traces\nOTEL_SERVICE_NAME=front desk\n"
        "OTEL_EXPORTER_OTLP_HEADERS=x-own-key=the-collectors-secret\nOTEL_BSP_SCHEDULE_DELAY=50\n"
    )
    app = serve(ENV_FILE=env, API_KEY="a-good-key-for-callers")
    assert post(app.port, chat_body())[0] == 401
    (span,) = spans(collector, 1).values()
    assert (span.name, span.service) == ("chat", "front desk")
    assert (span.attributes["error.type"], span.attributes["http.response.status_code"]) == ("missing_api_key", 401)
    assert collector.headers["x-own-key"] == "the-collectors-secret"
    assert "the-collectors-secret" not in app.log()


def test_what_waits_is_sent_at_the_end(serve: Serve, collector: Collector) -> None:
    app = serve(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, DEMO_PACE_MS=0, OTEL_BSP_SCHEDULE_DELAY=60_000)
    assert post(app.port, chat_body())[0] == 200
    app.process.send_signal(15)
    app.process.wait(EVER)
    assert len(collector.spans) == 2


@pytest.mark.parametrize("silent", [False, True], ids=["nothing listens", "never answers"])
def test_a_collector_that_is_away_holds_up_nobody(serve: Serve, upstream: OpenAIUpstream, silent: bool) -> None:
    """Neither a call nor the end of the server."""
    upstream.always(ScriptedAnswer(fault=stalled_before_headers))
    away = upstream.url if silent else f"http://127.0.0.1:{free_port()}"
    app = serve(OTEL_EXPORTER_OTLP_ENDPOINT=away, OTEL_BSP_SCHEDULE_DELAY=10, DEMO_PACE_MS=0)
    for _ in range(5):
        assert post(app.port, chat_body())[0] == 200
    ends = time.monotonic()
    app.process.send_signal(15)
    app.process.wait(EVER)
    assert time.monotonic() - ends < 10
    assert app.log().count("opentelemetry") <= 2


def test_without_an_address_nothing_is_traced(serve: Serve, upstream: OpenAIUpstream) -> None:
    app = serve(**upstream.settings(OTEL_SERVICE_NAME="front desk", **QUICK))
    assert post(app.port, chat_body(model="openai/gpt-4o"), headers=PARENT)[0] == 200
    assert "traceparent" not in upstream.wait_received(1).headers


def test_variables_that_cannot_be_used_are_told_of(serve: Serve, collector: Collector) -> None:
    options = {"OTEL_EXPORTER_OTLP_TIMEOUT": "soon", "OTEL_TRACES_SAMPLER": "nonsense", "OTEL_BSP_MAX_QUEUE_SIZE": 1}
    app = serve(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, DEMO_PACE_MS=0, **options)
    assert post(app.port, chat_body())[0] == 200
    app.logged("ERROR .*No traces are sent, as OTEL_. cannot be used")


def test_grpc_is_told_of_and_the_service_runs(serve: Serve, collector: Collector) -> None:
    app = serve(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_EXPORTER_OTLP_PROTOCOL="grpc", DEMO_PACE_MS=0)
    assert post(app.port, chat_body())[0] == 200
    app.logged("ERROR .*No traces are sent: OTEL_EXPORTER_OTLP_PROTOCOL is not http/protobuf")
