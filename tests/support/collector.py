"""A collector of OpenTelemetry's: it takes OTLP over HTTP, as protobuf, and keeps the spans."""

import gzip
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """A span as it came over the wire; ids are hexadecimal."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    seconds: tuple[float, float]
    failed: bool
    attributes: Mapping[str, Any]
    service: str


class Collector:
    """Listens on 127.0.0.1 until its block ends. `headers` are those of the last request."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.raw = b""
        self.headers: Mapping[str, str] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        assert path == "/v1/traces", path
        assert headers["content-type"] == "application/x-protobuf", headers
        self.headers = headers
        data = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        self.raw += data
        for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
            service = _attributes(resource.resource.attributes)["service.name"]
            self.spans += [_span(span, service) for scope in resource.scope_spans for span in scope.spans]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _span(span: Any, service: str) -> Span:
    return Span(
        name=span.name,
        kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        state=span.trace_state,
        seconds=(span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9),
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
        attributes=_attributes(span.attributes),
        service=service,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return list(map(_value, value.array_value.values)) if kind == "array_value" else getattr(value, kind)
