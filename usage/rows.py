"""A record as a row of the table of usage."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

from telemetry.records import RequestRecord
from usage.accounting import total

COLUMNS = (
    "request_id", "started", "hour", "key", "endpoint", "model", "provider", "target", "status", "outcome", "code",
    "duration", "first_token", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "estimated",
    "cost", "unpriced", "attempts", "hedged", "fallbacks", "tokens_saved",
)  # fmt: skip
"""Columns of storage.tables.REQUESTS, in the order of `row_of`."""
STARTED, KEY, COST = COLUMNS.index("started"), COLUMNS.index("key"), COLUMNS.index("cost")
HOUR, DAY = 3600, 86_400
NAME_CHARACTERS = 200
"""Characters of a model's name, which callers choose."""


def row_of(record: RequestRecord) -> list[Any]:
    """The row of a request that asked an upstream. Its tokens are those of all attempts, as its cost is."""
    usage = total(record.attempts) or record.usage
    tokens = (usage.prompt, usage.completion, usage.cached, usage.reasoning) if usage else (None,) * 4
    return [
        record.request_id,
        record.started,
        int(record.started // HOUR),
        record.caller,
        record.endpoint,
        _storable(record.model),
        record.provider,
        _storable(record.target),
        record.status,
        record.outcome,
        record.code,
        record.duration,
        record.ttft,
        *tokens,
        usage is not None and usage.estimated,
        record.cost,
        record.unpriced,
        len(record.attempts),
        record.hedged,
        record.fallbacks,
        record.tokens_saved,
    ]


def _storable(name: str) -> str:
    """Remove the characters that PostgreSQL refuses in text: 0, and halves of surrogate pairs."""
    name = name[:NAME_CHARACTERS]
    return name if name.isascii() and "\0" not in name else name.replace("\0", "").encode(errors="replace").decode()


def day_of(started: float) -> date:
    """The day, in UTC, of a time in Unix seconds."""
    return _day(int(started // DAY))


@lru_cache(maxsize=64)
def _day(number: int) -> date:
    return datetime.fromtimestamp(number * DAY, UTC).date()


def costs_of(rows: Sequence[Sequence[Any]]) -> Mapping[tuple[str, date], float]:
    """The costs of rows by key and day."""
    costs: dict[tuple[str, date], float] = {}
    for row in rows:
        if row[COST]:
            at = row[KEY], day_of(row[STARTED])
            costs[at] = costs.get(at, 0.0) + row[COST]
    return costs
