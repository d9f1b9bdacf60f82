"""The statements on the table of usage: batches, amounts, the last requests, retention."""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from time import time
from typing import Any

import orjson
from sqlalchemy import Connection, Dialect, delete, insert, select
from sqlalchemy.exc import DataError, IntegrityError

from storage.database import Database
from storage.spool import Batch
from storage.tables import RECENT, REQUESTS, SPENDING, WRITTEN
from telemetry.records import RequestRecord
from usage.record_json import decode, encode
from usage.rows import COLUMNS, costs_of

Row = Sequence[Any]
KEPT_RECENT = 200
"""How many of the last requests are kept."""
SOURCE_DAYS = 30
"""How long the number of a process's last batch is kept. No spool waits longer."""
SPENDING_DAYS = 62
DELETED_AT_ONCE = 5000
"""Rows of one DELETE, so that no other writer waits for long."""
DAY = 86_400.0


class UsageStore:
    """The table of usage in a database. Its methods raise `failures` when the database cannot be used."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.failures = database.failures

    def write(self, batch: Batch, recent: Sequence[RequestRecord] = ()) -> int:
        """Write a batch, unless it has been written before, and the last requests. Returns how many of the batch's rows
        the database refused.
        """
        try:
            self._write(batch, recent, _write_rows)
        except (DataError, IntegrityError):
            refused: list[int] = []
            self._write(batch, (), lambda connection, rows: refused.append(_write_one_by_one(connection, rows)))
            return sum(refused)
        return 0

    def _write(
        self,
        batch: Batch,
        recent: Sequence[RequestRecord],
        write_rows: Callable[[Connection, Sequence[Row]], object],
    ) -> None:
        source, number, rows = batch
        with self.database.begin() as connection:
            if rows and self._is_new(connection, source, number):
                write_rows(connection, rows)
                self._add_spending(connection, rows)
            if recent:
                _write_recent(connection, recent)

    def _is_new(self, connection: Connection, source: str, number: int) -> bool:
        """Note a batch; returns whether it is new."""
        note = self.database.insert(connection, WRITTEN)
        later = note.on_conflict_do_update(
            index_elements=["source"],
            set_={"number": note.excluded.number, "written": note.excluded.written},
            where=WRITTEN.c.number < note.excluded.number,
        ).returning(WRITTEN.c.source)
        noted = connection.execute(later, {"source": source, "number": number, "written": time()})
        return noted.first() is not None

    def _add_spending(self, connection: Connection, rows: Sequence[Row]) -> None:
        if costs := costs_of(rows):
            added = self.database.insert(connection, SPENDING)
            more = {"cost": SPENDING.c.cost + added.excluded.cost}
            # Sorted, so that two writers cannot deadlock.
            amounts = [{"key": key, "day": day, "cost": cost} for (key, day), cost in sorted(costs.items())]
            connection.execute(added.on_conflict_do_update(index_elements=["key", "day"], set_=more), amounts)

    def check(self) -> None:
        """Read from the database, to see whether it can be used."""
        with self.database.begin() as connection:
            connection.execute(select(WRITTEN.c.source).limit(1))

    def spending(self, keys: Collection[str]) -> list[tuple[str, date, float]]:
        """The amounts of these keys on each day of this month, as (key, day, cost)."""
        first = datetime.now(UTC).date().replace(day=1)
        with self.database.begin() as connection:
            query = select(SPENDING).where(SPENDING.c.key.in_(keys), SPENDING.c.day >= first)
            return [(row.key, row.day, row.cost) for row in connection.execute(query)]

    def recent(self, request_id: str, key: str | None) -> RequestRecord | None:
        """One of the last requests, of this key or of any."""
        with self.database.read() as connection:
            for body in connection.execute(select(RECENT.c.body).order_by(RECENT.c.id.desc())).scalars():
                for each in reversed(orjson.loads(body)):
                    if each["request_id"] == request_id and key in (None, each["caller"]):
                        return decode(each)
        return None

    def recent_after(self, last: int) -> tuple[int, list[RequestRecord]]:
        """The last requests of batches after number `last`, oldest first, and the newest number."""
        query = select(RECENT.c.id, RECENT.c.body).where(RECENT.c.id > last).order_by(RECENT.c.id)
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        records = [decode(each) for row in rows for each in orjson.loads(row.body)]
        return (rows[-1].id if rows else last), records

    def delete_old(self, days: float) -> None:
        """Delete rows that are older than `days`."""
        before = time() - days * DAY
        old = select(REQUESTS.c.id).where(REQUESTS.c.started < before).limit(DELETED_AT_ONCE)
        deleted = DELETED_AT_ONCE
        while deleted >= DELETED_AT_ONCE:
            with self.database.begin() as connection:
                deleted = connection.execute(delete(REQUESTS).where(REQUESTS.c.id.in_(old))).rowcount
        first_day = datetime.now(UTC).date() - timedelta(SPENDING_DAYS)
        with self.database.begin() as connection:
            connection.execute(delete(WRITTEN).where(WRITTEN.c.written < time() - SOURCE_DAYS * DAY))
            connection.execute(delete(SPENDING).where(SPENDING.c.day < first_day))
            connection.execute(delete(RECENT).where(RECENT.c.written < before))


def _write_rows(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert rows without SQLAlchemy's processing of each value, which takes longer than the database's."""
    statement = _insertion(connection.dialect)
    if connection.dialect.positional:
        connection.exec_driver_sql(statement, [tuple(row) for row in rows])
    else:
        connection.exec_driver_sql(statement, [dict(zip(COLUMNS, row, strict=True)) for row in rows])


@lru_cache(maxsize=4)
def _insertion(dialect: Dialect) -> str:
    return str(insert(REQUESTS).compile(dialect=dialect, column_keys=list(COLUMNS)))


def _write_one_by_one(connection: Connection, rows: Sequence[Row]) -> int:
    """Insert each row by itself; returns how many were refused."""
    refused = 0
    for row in rows:
        try:
            with connection.begin_nested():
                _write_rows(connection, [row])
        except (DataError, IntegrityError):
            refused += 1
    return refused


def _write_recent(connection: Connection, recent: Sequence[RequestRecord]) -> None:
    bodies = [body for each in recent if (body := encode(each))]
    row = {"requests": len(bodies), "written": time(), "body": b"[%b]" % b",".join(bodies)}
    connection.execute(insert(RECENT), row)
    kept = 0
    for number, requests in connection.execute(select(RECENT.c.id, RECENT.c.requests).order_by(RECENT.c.id.desc())):
        if kept >= KEPT_RECENT:
            connection.execute(delete(RECENT).where(RECENT.c.id <= number))
            break
        kept += requests
