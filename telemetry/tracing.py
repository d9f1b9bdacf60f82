"""Spans for OpenTelemetry: one for each request, and in it one for each attempt. The extra `otel` has the packages.

A sink makes the spans of a request's record once it has ended; a thread sends them. The SDK reads OTEL_* itself: the
sampler, the resource, the batches, the collector and its headers.
"""

import logging
import threading
from collections.abc import Mapping
from time import monotonic
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from core.attempts import Attempt
from core.trace_context import Parent, TraceContext, Words, new_span_id, new_trace_id, parse_parent
from telemetry import genai
from telemetry.records import RequestRecord

LOG_AGAIN_SECONDS = 60.0
"""The time between two log lines that the collector cannot be reached."""
SERVER_ERROR = 500
NAME_CHARACTERS = 200
ATTRIBUTE_CHARACTERS = 2 * genai.MOST_CHARACTERS
EXPORT_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._shared_internal",
)


class Tracer:
    """Begins a request's trace, and sends its spans as a sink of records. To be made after the fork.

    `service` is the service's name if OTEL_SERVICE_NAME sets none. Traces contain the texts of conversations only
    `with_words`.
    """

    def __init__(self, service: str = "thinkline", *, with_words: bool = False) -> None:
        self._with_words = with_words
        resource = Resource.create()
        if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: service}))
        self._resource = resource
        self._sampler = TracerProvider(resource=resource, shutdown_on_exit=False).sampler
        self._processor = BatchSpanProcessor(OTLPSpanExporter())
        self._scope = InstrumentationScope("thinkline")
        for name in EXPORT_LOGGERS:
            logging.getLogger(name).addFilter(_OncePerMinute())

    def begin(self, environ: Mapping[str, Any]) -> TraceContext:
        """Begin a request's trace: the caller's if the request has one, else a new one."""
        parent = parse_parent(environ.get("HTTP_TRACEPARENT", ""), environ.get("HTTP_TRACESTATE", ""))
        trace_id = parent.trace_id if parent else new_trace_id()
        context = None if parent is None else trace.set_span_in_context(NonRecordingSpan(_remote(parent)))
        decision = self._sampler.should_sample(context, int(trace_id, 16), "request", SpanKind.SERVER)
        sampled = decision.decision is Decision.RECORD_AND_SAMPLE
        words = Words() if self._with_words and sampled else None
        return TraceContext(trace_id=trace_id, span_id=new_span_id(), sampled=sampled, parent=parent, words=words)

    def record(self, record: RequestRecord) -> None:
        """Send the spans of a request that has ended; a sink of records."""
        context = record.trace
        if context is None or not context.sampled or not record.endpoint:
            return
        own = _local(context, context.span_id)
        operation = genai.OPERATIONS.get(record.endpoint, record.endpoint)
        for attempt in record.attempts:
            if attempt.span_id:
                self._send(
                    f"{operation} {attempt.target.partition('/')[2]}",
                    _local(context, attempt.span_id),
                    own,
                    kind=SpanKind.CLIENT,
                    start=record.started + attempt.started,
                    end=record.started + (record.duration if attempt.ended is None else attempt.ended),
                    attributes={**_attempt_attributes(attempt, operation), **_answer_attributes(context, attempt)},
                    error=attempt.error if attempt.outcome in ("failed", "late") else "",
                )
        self._send(
            f"{operation} {record.model}".rstrip(),
            own,
            _remote(context.parent) if context.parent else None,
            kind=SpanKind.SERVER,
            start=record.started,
            end=record.started + record.duration,
            attributes=_request_attributes(record, operation, context),
            error=record.error if record.status >= SERVER_ERROR else "",
        )
        if context.words is not None:
            context.words.forget()

    def _send(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        *,
        kind: SpanKind,
        start: float,
        end: float,
        attributes: Mapping[str, Any],
        error: str,
    ) -> None:
        span = ReadableSpan(
            name[:NAME_CHARACTERS],
            context,
            parent,
            self._resource,
            {name: _shorten(value) for name, value in attributes.items() if value not in (None, "")},
            kind=kind,
            status=Status(StatusCode.ERROR, error) if error else Status(),
            start_time=int(start * 1e9),
            end_time=int(max(start, end) * 1e9),
            instrumentation_scope=self._scope,
        )
        self._processor.on_end(span)

    def close(self, seconds: float) -> None:
        """Send the waiting spans, for at most `seconds`."""
        ending = threading.Thread(target=self._processor.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(seconds)


def _shorten(value: Any) -> Any:
    """Bound a text's length: callers choose the names of models and conversations."""
    return value[:ATTRIBUTE_CHARACTERS] if isinstance(value, str) else value


def _request_attributes(record: RequestRecord, operation: str, context: TraceContext) -> dict[str, Any]:
    usage = record.usage
    answering = [each for each in record.attempts if each.first_event is not None]
    answer = answering[-1] if answering else None
    return {
        genai.OPERATION_NAME: operation,
        genai.PROVIDER_NAME: record.provider,
        genai.REQUEST_MODEL: record.model,
        genai.RESPONSE_MODEL: record.target.partition("/")[2],
        genai.CONVERSATION_ID: record.conversation,
        genai.INPUT_TOKENS: usage.prompt if usage else None,
        genai.OUTPUT_TOKENS: usage.completion if usage else None,
        genai.TIME_TO_FIRST_CHUNK: record.ttft,
        genai.HTTP_METHOD: record.method,
        genai.HTTP_STATUS: record.status,
        genai.URL_PATH: record.path,
        genai.ERROR_TYPE: (record.code or str(record.status)) if record.error else None,
        "thinkline.request_id": record.request_id,
        "thinkline.key": record.caller,
        "thinkline.outcome": record.outcome,
        "thinkline.attempts": len(record.attempts),
        "thinkline.hedged": record.hedged or None,
        "thinkline.overhead": record.overhead,
        "thinkline.cost": record.cost,
        **(_answer_attributes(context, answer) if answer else {}),
        **(_words(context.words, answer) if context.words else {}),
    }


def _answer_attributes(context: TraceContext, attempt: Attempt) -> dict[str, Any]:
    """What the upstream has said of an attempt's answer; without its own name of the model, that in the request."""
    facts = context.answers.get(attempt.span_id)
    if facts is None or attempt.first_event is None:
        return {}
    return {
        genai.RESPONSE_ID: facts.id,
        genai.RESPONSE_MODEL: facts.model or attempt.target.partition("/")[2],
        genai.FINISH_REASONS: [reason for _, reason in sorted(facts.reasons)] or None,
    }


def _words(words: Words, answer: Attempt | None) -> dict[str, str]:
    said = "".join(words.said.get(answer.span_id, ())) if answer else ""
    return {
        genai.INPUT_MESSAGES: genai.input_messages(words.asked) if words.asked else "",
        genai.OUTPUT_MESSAGES: genai.output_messages(said) if said else "",
    }


def _attempt_attributes(attempt: Attempt, operation: str) -> dict[str, Any]:
    return {
        genai.OPERATION_NAME: operation,
        genai.PROVIDER_NAME: attempt.provider,
        genai.REQUEST_MODEL: attempt.target.partition("/")[2],
        genai.INPUT_TOKENS: attempt.usage.prompt if attempt.usage else None,
        genai.OUTPUT_TOKENS: attempt.usage.completion if attempt.usage else None,
        genai.TIME_TO_FIRST_CHUNK: None if attempt.first_event is None else attempt.first_event - attempt.started,
        genai.HTTP_STATUS: attempt.status,
        genai.ERROR_TYPE: (attempt.code or attempt.outcome) if attempt.error else None,
        "thinkline.target": attempt.target,
        "thinkline.why": attempt.why,
        "thinkline.outcome": attempt.outcome,
    }


def _local(context: TraceContext, span_id: str) -> SpanContext:
    state = TraceState.from_header([context.parent.state]) if context.parent and context.parent.state else None
    return SpanContext(
        int(context.trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(1), trace_state=state
    )


def _remote(parent: Parent) -> SpanContext:
    flags = TraceFlags(int(parent.sampled))
    state = TraceState.from_header([parent.state]) if parent.state else None
    return SpanContext(
        int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags, trace_state=state
    )


class _OncePerMinute(logging.Filter):
    """Passes one line a minute: an unreachable collector would fill the log."""

    def __init__(self) -> None:
        super().__init__()
        self._again = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = monotonic()
        if now < self._again:
            return False
        self._again = now + LOG_AGAIN_SECONDS
        record.exc_info = record.exc_text = None
        return True
