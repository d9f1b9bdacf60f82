"""The statements on the table of usage: batches written once each, amounts, the last requests, retention."""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from time import time

from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.exc import DataError, IntegrityError

from storage.database import Database
from storage.spool import Batch
from storage.tables import BATCHES, RECENT, REQUESTS, SPENDING
from telemetry.records import RequestRecord
from usage.rows import COLUMNS, costs_of
from usage.timeline import encoded

KEPT_RECENT = 200
"""Of the last requests."""
BATCH_DAYS = 30
"""How long a batch is known to have been written. No spool waits longer."""
SPENDING_DAYS = 62
DELETED_AT_ONCE = 5000
"""Rows, so that no other writer waits for long."""
DAY = 86_400.0


class UsageStore:
    """The table of usage in a database. Its methods raise `failures` when the database cannot be used."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.failures = database.failures

    def write(self, batch: Batch, recent: Sequence[RequestRecord] = ()) -> int:
        """Write a batch, unless it has been written, and the last requests. Returns how many of the batch's rows no
        database would take.
        """
        name, rows = batch
        try:
            with self.database.begin() as connection:
                if rows and self._is_new(connection, name):
                    self._write_rows(connection, rows)
                if recent:
                    self._write_recent(connection, recent)
        except (DataError, IntegrityError):
            if len(rows) <= 1:
                return len(rows)
            return sum(self.write((f"{name}/{at}", [row])) for at, row in enumerate(rows))
        return 0

    def _is_new(self, connection: Connection, name: str) -> bool:
        noted = self.database.insert(connection, BATCHES).on_conflict_do_nothing()
        return bool(connection.execute(noted, {"id": name, "written": time()}).rowcount)

    def _write_rows(self, connection: Connection, rows: Sequence[Sequence[object]]) -> None:
        connection.execute(insert(REQUESTS), [dict(zip(COLUMNS, row, strict=True)) for row in rows])
        if costs := costs_of(rows):
            added = self.database.insert(connection, SPENDING)
            more = {"cost": SPENDING.c.cost + added.excluded.cost}
            # In one order, so that two writers do not wait for each other.
            amounts = [{"key": key, "day": day, "cost": cost} for (key, day), cost in sorted(costs.items())]
            connection.execute(added.on_conflict_do_update(index_elements=["key", "day"], set_=more), amounts)

    def _write_recent(self, connection: Connection, recent: Sequence[RequestRecord]) -> None:
        rows = [
            {
                "request_id": each.request_id,
                "key": each.caller,
                "ended": each.started + each.duration,
                "body": encoded(each),
            }
            for each in recent[-KEPT_RECENT:]
        ]
        connection.execute(insert(RECENT), rows)
        newest = select(func.max(RECENT.c.id)).scalar_subquery()
        connection.execute(delete(RECENT).where(RECENT.c.id <= newest - KEPT_RECENT))

    def check(self) -> None:
        """Find out whether the database can be used."""
        with self.database.begin() as connection:
            connection.execute(select(BATCHES.c.id).limit(1))

    def spending(self, keys: Collection[str]) -> list[tuple[str, date, float]]:
        """What these keys have spent on each day of this month, as (key, day, cost)."""
        first = datetime.now(UTC).date().replace(day=1)
        with self.database.begin() as connection:
            query = select(SPENDING).where(SPENDING.c.key.in_(keys), SPENDING.c.day >= first)
            return [(row.key, row.day, row.cost) for row in connection.execute(query)]

    def recent(self, request_id: str, key: str | None) -> str | None:
        """One of the last requests, of this key or of any, as JSON."""
        query = select(RECENT.c.body).where(RECENT.c.request_id == request_id)
        query = query if key is None else query.where(RECENT.c.key == key)
        with self.database.read() as connection:
            body: str | None = connection.execute(query.order_by(RECENT.c.id.desc()).limit(1)).scalar()
        return body

    def delete_old(self, days: float) -> None:
        """Delete what is older than so many days."""
        before = time() - days * DAY
        old = select(REQUESTS.c.id).where(REQUESTS.c.started < before).limit(DELETED_AT_ONCE)
        deleted = DELETED_AT_ONCE
        while deleted >= DELETED_AT_ONCE:
            with self.database.begin() as connection:
                deleted = connection.execute(delete(REQUESTS).where(REQUESTS.c.id.in_(old))).rowcount
        first_day = datetime.now(UTC).date() - timedelta(SPENDING_DAYS)
        with self.database.begin() as connection:
            connection.execute(delete(BATCHES).where(BATCHES.c.written < time() - BATCH_DAYS * DAY))
            connection.execute(delete(SPENDING).where(SPENDING.c.day < first_day))
            connection.execute(delete(RECENT).where(RECENT.c.ended < before))
