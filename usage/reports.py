"""Reports for GET /v1/usage: tokens, costs and times to the first token, in groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, select

from storage.database import Database
from storage.tables import REQUESTS

GROUPS = ("key", "model", "provider", "day", "hour", "outcome")
PERCENTILES = (50, 95, 99)
MOST_GROUPS = 10_000
"""The most rows of a report; further ones are left out."""
DAY, HOUR = 86_400, 3600
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """The question that a report answers. Times are in Unix seconds, `end` exclusive. `key` limits it to one key's
    requests, None to none; `group_by` are some of GROUPS.
    """

    start: float
    end: float
    key: str | None
    group_by: tuple[str, ...] = ()


def report(database: Database, question: Question) -> list[Json]:
    """One object for each group, in order; without `group_by` one for all. Raises the database's `failures`."""
    with database.read() as connection:
        rows = connection.execute(_sums(question)).mappings().all()
        percentiles = _percentiles(connection, question)
    return [_object(dict(row), question.group_by, percentiles) for row in rows]


def _object(row: Mapping[str, Any], groups: Sequence[str], percentiles: Mapping[tuple[Any, ...], Json]) -> Json:
    named = {name: _format_time(name, row[name]) for name in groups}
    sums = {name: value for name, value in row.items() if name not in groups}
    sums = {name: value if value is None or name == "cost" else int(value) for name, value in sums.items()}
    if not sums["unpriced_requests"]:
        sums["cost"] = sums["cost"] or 0.0  # of no requests, or of free ones
    first_token = percentiles.get(tuple(row[name] for name in groups), dict.fromkeys(f"p{p}" for p in PERCENTILES))
    return {**named, **sums, "first_token": first_token}


def _format_time(name: str, value: Any) -> Any:
    """Format days and hours by ISO 8601; other values stay."""
    if name not in ("day", "hour"):
        return value
    moment = datetime.fromtimestamp(value * (DAY if name == "day" else HOUR), UTC)
    return moment.strftime("%Y-%m-%d" if name == "day" else "%Y-%m-%dT%H:00:00Z")


def _group(name: str) -> ColumnElement[Any]:
    if name == "day":
        return (REQUESTS.c.hour // 24).label(name)
    return REQUESTS.c[name].label(name)


def _where(question: Question) -> ColumnElement[bool]:
    columns = REQUESTS.c
    conditions = [columns.started >= question.start, columns.started < question.end]
    return and_(*conditions, *([columns.key == question.key] if question.key is not None else []))


def _sums(question: Question) -> Select[Any]:
    columns, groups = REQUESTS.c, [_group(name) for name in question.group_by]

    def total(column: ColumnElement[Any], label: str) -> ColumnElement[Any]:
        return func.coalesce(func.sum(column), 0).label(label)

    def count(condition: ColumnElement[bool], label: str) -> ColumnElement[Any]:
        return total(case((condition, 1), else_=0), label)

    query = select(
        *groups,
        func.count().label("requests"),
        total(columns.prompt_tokens, "prompt_tokens"),
        total(columns.completion_tokens, "completion_tokens"),
        total(columns.cached_tokens, "cached_tokens"),
        total(columns.reasoning_tokens, "reasoning_tokens"),
        count(columns.estimated, "estimated_requests"),
        func.sum(columns.cost).label("cost"),
        count(columns.unpriced, "unpriced_requests"),
        total(columns.attempts, "attempts"),
        count(columns.hedged, "hedges"),
        total(columns.fallbacks, "fallbacks"),
        count(columns.outcome == "done", "done"),
        count(columns.outcome == "failed", "failed"),
        count(columns.outcome == "hung_up", "hung_up"),
        total(columns.tokens_saved, "tokens_saved"),
    ).where(_where(question))
    return query.group_by(*groups).order_by(*groups).limit(MOST_GROUPS) if groups else query


def _percentiles(connection: Connection, question: Question) -> dict[tuple[Any, ...], Json]:
    """By group, the nearest-rank percentiles of the seconds to the first token, in SQL that both databases have."""
    groups = [_group(name) for name in question.group_by]
    ranked = (
        select(
            *groups,
            REQUESTS.c.first_token,
            func.row_number().over(partition_by=groups or None, order_by=REQUESTS.c.first_token).label("rank"),
            func.count().over(partition_by=groups or None).label("total"),
        )
        .where(_where(question), REQUESTS.c.first_token.is_not(None))
        .subquery()
    )
    names = [ranked.c[name] for name in question.group_by]
    columns = [
        # The first whose rank is at least so many per cent of all.
        func.min(case((ranked.c.rank * 100 >= ranked.c.total * percent, ranked.c.first_token))).label(f"p{percent}")
        for percent in PERCENTILES
    ]
    query = select(*names, *columns)
    rows = connection.execute(query.group_by(*names) if names else query).mappings()
    return {
        tuple(row[name] for name in question.group_by): {f"p{percent}": row[f"p{percent}"] for percent in PERCENTILES}
        for row in rows
    }
