"""Opens the tracer. It has a module of its own, since the tracer's packages are optional and slow to load."""

from logging import getLogger
from typing import TYPE_CHECKING, Any

from core.extras import missing_extra

if TYPE_CHECKING:
    from telemetry.tracing import Tracer

log = getLogger("thinkline")

PROTOCOL = "http/protobuf"


def open_tracer(settings: Any) -> "Tracer | None":
    """Open the tracer; None if traces are not configured. None too if they cannot be sent, with a line in the log."""
    if not settings.sends_traces:
        return None
    if settings.traces_protocol not in ("", PROTOCOL):
        log.error("No traces are sent: OTEL_EXPORTER_OTLP_PROTOCOL is not %s, the one that is spoken here.", PROTOCOL)
        return None
    if package := missing_extra("otel", "opentelemetry"):
        log.error("An address for traces is set (OTEL_*), and none are sent: that needs %s.", package)
        return None
    from telemetry.tracing import Tracer  # noqa: PLC0415 - optional, and slow to load

    try:
        return Tracer(with_words=settings.traces_content)
    except Exception as error:  # noqa: BLE001 - the SDK reads a dozen variables and files, and each fails in its own way
        log.error("No traces are sent, as OTEL_* cannot be used: %s", error)  # noqa: TRY400
        return None
