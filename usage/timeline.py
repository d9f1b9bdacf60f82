"""The timeline of a request, for `GET /v1/requests/{id}`. Times are in seconds since the request arrived."""

from collections.abc import Iterator
from dataclasses import asdict
from operator import itemgetter
from typing import Any

from core.attempts import Attempt
from core.events import Usage
from telemetry.records import RequestRecord

Json = dict[str, Any]


def timeline(record: RequestRecord) -> Json:
    """Return the request, its attempts, and the marks of its timeline."""
    error = {"code": record.code, "message": record.error} if record.error else None
    filler = None if record.filler_at is None else {"at": _seconds(record.filler_at), "text": record.filler}
    return {
        "object": "request",
        "id": record.request_id,
        "created": _seconds(record.started),
        "key": record.caller or None,
        "call": record.conversation or None,
        "endpoint": record.endpoint,
        "model": record.model,
        "provider": record.provider or None,
        "target": record.target or None,
        "stream": record.stream,
        "status": record.status,
        "outcome": record.outcome,
        "error": error,
        "duration": _seconds(record.duration),
        "headers": _seconds(record.headers),
        "first_token": _seconds(record.ttft),
        "usage": _usage(record.usage),
        "cost": record.cost,
        "filler": filler,
        "hung_up_at": _seconds(record.hung_up_at),
        "tokens_saved": record.tokens_saved,
        "attempts": [_attempt(each) for each in record.attempts],
        "marks": sorted(_marks(record), key=itemgetter("at")),
    }


def _attempt(attempt: Attempt) -> Json:
    return {
        "target": attempt.target,
        "provider": attempt.provider,
        "model": attempt.model,
        "why": attempt.why,
        "started": _seconds(attempt.started),
        "headers": _seconds(attempt.headers),
        "first_token": _seconds(attempt.first_event),
        "ended": _seconds(attempt.ended),
        "outcome": attempt.outcome,
        "status": attempt.status,
        "error": attempt.error or None,
        "deadline": _seconds(attempt.deadline),
        "tokens": attempt.usage.completion if attempt.usage else None,
        "cost": attempt.cost,
    }


def _marks(record: RequestRecord) -> Iterator[Json]:
    for attempt in record.attempts:
        if attempt.why == "retry":
            yield _mark(attempt.started, "retry", f"{attempt.target} is asked again")
        elif attempt.why == "hedge":
            yield _mark(attempt.started, "hedge", f"{attempt.target} is asked as well")
        elif attempt.why == "fallback":
            yield _mark(attempt.started, "fallback", f"{attempt.target} is asked instead")
        if attempt.deadline is not None and _has_missed(attempt, attempt.deadline, record.duration):
            yield _mark(attempt.deadline, "deadline", f"{attempt.target} should have begun by now")
    if record.filler_at is not None:
        yield _mark(record.filler_at, "filler", f"A phrase is said meanwhile: {record.filler}")
    for at in record.heartbeats:
        yield _mark(at, "heartbeat", "A heartbeat keeps the line open")
    if record.hung_up_at is not None:
        yield _mark(record.hung_up_at, "hang_up", "The caller hung up")


def _has_missed(attempt: Attempt, deadline: float, duration: float) -> bool:
    until = attempt.first_event if attempt.first_event is not None else attempt.ended
    return (duration if until is None else until) >= deadline


def _mark(at: float, kind: str, words: str) -> Json:
    return {"at": _seconds(at), "kind": kind, "text": words}


def _usage(usage: Usage | None) -> Json | None:
    if usage is None:
        return None
    counts = asdict(usage)
    estimated = counts.pop("estimated")
    counts.pop("written")
    return {**{f"{name}_tokens": count for name, count in counts.items()}, "estimated": estimated}


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
