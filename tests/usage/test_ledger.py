"""The table of usage: written once, in order, by whichever database, and never at a call's expense."""

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import monotonic, time
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from core.attempts import Attempt
from core.events import Usage
from core.extras import missing_extra
from core.trace_context import AnswerFacts, TraceContext
from storage import spool as spools
from storage.database import Database, NewerDatabaseError, open_database, revision_of
from storage.migrations import REVISIONS
from storage.spool import Spool
from storage.tables import METADATA, RECENT, REQUESTS, SPENDING
from telemetry.records import RequestRecord
from tests.conftest import EVER, free_port, until
from tests.support.postgresql import Server
from usage import clock as clocks
from usage import ledger as ledgers
from usage import store as stores
from usage.ledger import Ledger
from usage.reports import Question
from usage.rows import row_of
from usage.store import KEPT_RECENT, UsageStore

DAY = 86_400.0
START = 1_780_272_000.0
"""2026-06-01T00:00:00Z"""
PROMISED, SCHEDULING = 1.0, 0.25
"""Seconds until a killed worker cannot lose a record any more, and what a busy machine may add to them."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("database_url") if request.param == "postgresql" else f"{tmp_path}/usage.sqlite3"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "TRY_AGAIN_SECONDS", 0.1)


def record(number: int = 0, *, key: str = "ann", cost: float | None = 0.25, **more: object) -> RequestRecord:
    usage = Usage(10, 5, cached=2, reasoning=1)
    attempt = Attempt("one/m", "one", 0.0, 0.1, 0.3, "answered", usage=usage, cost=cost)
    facts: dict[str, object] = {
        "request_id": f"turn-{number}",
        "started": START + number,
        "duration": 0.3,
        "method": "POST",
        "endpoint": "chat",
        "caller": key,
        "model": "m",
        "provider": "one",
        "target": "one/m",
        "attempts": (attempt,),
        "ttft": 0.1 + number / 100,
        "usage": usage,
        "cost": cost,
    }
    return RequestRecord(**{**facts, **more})  # type: ignore[arg-type]


@pytest.fixture
def open_ledger(url: str, tmp_path: Path) -> Iterator[Callable[..., Ledger]]:
    """A ledger as a process would have it."""
    opened: list[Ledger] = []

    def start(database: str = "", *, days: float = 40_000) -> Ledger:
        store = UsageStore(open_database(database or url, tmp_path))
        opened.append(Ledger(store, tmp_path / "spool", days=days))
        return opened[-1]

    yield start
    for each in opened:
        each.close()
        each._store.database.close()


def requests(url: str, tmp_path: Path) -> list[str]:
    """The ids in the table, in the order of writing."""
    database = open_database(url, tmp_path)
    with database.begin() as connection:
        found = list(connection.execute(select(REQUESTS.c.request_id).order_by(REQUESTS.c.id)).scalars())
    database.close()
    return found


def spooled(tmp_path: Path) -> str:
    """What all spools hold."""
    return "".join(path.read_text() for path in (tmp_path / "spool").glob(f"*{spools.SUFFIX}"))


def test_all_that_was_noted_is_written_in_order(open_ledger: Callable[..., Ledger], url: str, tmp_path: Path) -> None:
    ledger = open_ledger()
    for number in range(50):
        ledger(record(number))
    until(lambda: not ledger.waiting, "the batch to be written")
    ledger(record(50))
    ledger.close()
    ledger(record(51))  # one that ends after all others
    open_ledger().start()
    until(lambda: len(requests(url, tmp_path)) == 52, "what was spooled last")
    assert requests(url, tmp_path) == [f"turn-{number}" for number in range(52)]


def test_reports_are_the_same_from_each_database(open_ledger: Callable[..., Ledger]) -> None:
    ledger = open_ledger()
    for number in range(100):
        hours = 3600 * (number % 3)
        ledger(record(number, key="bob" if number % 4 == 0 else "ann", started=START + hours, cost=number / 8 or None))
    ledger(record(100, outcome="hung_up", tokens_saved=70, ttft=None, hedged=True, unpriced=True))
    until(lambda: not ledger.waiting, "the rows")
    (row,) = ledger.report(Question(START, START + DAY, None))
    assert row == {
        "requests": 101, "prompt_tokens": 1010, "completion_tokens": 505, "cached_tokens": 202, "reasoning_tokens": 101,
        "estimated_requests": 0, "cost": pytest.approx(sum(range(100)) / 8 + 0.25), "unpriced_requests": 1,
        "attempts": 101, "hedges": 1, "fallbacks": 0, "done": 100, "failed": 0, "hung_up": 1, "tokens_saved": 70,
        "first_token": {"p50": pytest.approx(0.59), "p95": pytest.approx(1.04), "p99": pytest.approx(1.08)},
    }  # fmt: skip
    rows = ledger.report(Question(START, START + DAY, "ann", ("hour", "key")))
    assert [(row["hour"], row["key"]) for row in rows] == [(f"2026-06-01T0{hour}:00:00Z", "ann") for hour in range(3)]
    assert sum(row["requests"] for row in rows) == 76
    assert ledger.report(Question(START, START + DAY, None, ("day",)))[0]["day"] == "2026-06-01"
    assert ledger.report(Question(START + DAY, START + 2 * DAY, None))[0]["requests"] == 0


def test_a_batch_is_written_once(url: str, tmp_path: Path) -> None:
    store = UsageStore(open_database(url, tmp_path))
    batch = ("process-1", 0, [row_of(record(1)), row_of(record(2))])
    store.write(batch)
    store.write(batch)
    assert len(requests(url, tmp_path)) == 2
    with store.database.begin() as connection:
        assert connection.execute(select(SPENDING.c.cost)).scalars().all() == [0.5]
    store.database.close()


def test_a_row_that_no_database_takes_stops_no_other(url: str, tmp_path: Path) -> None:
    store = UsageStore(open_database(url, tmp_path))
    wrong = row_of(record(2))
    wrong[0] = None
    assert store.write(("process-1", 0, [row_of(record(1)), wrong, row_of(record(3))])) == 1
    assert requests(url, tmp_path) == ["turn-1", "turn-3"]
    store.database.close()


@pytest.mark.parametrize("model", ["a\0b", "\ud800", "x" * 5000, "模型", "'; DROP TABLE requests; --"])
def test_any_name_of_a_model_is_kept(open_ledger: Callable[..., Ledger], url: str, tmp_path: Path, model: str) -> None:
    ledger = open_ledger()
    ledger(record(1, model=model))
    until(lambda: len(requests(url, tmp_path)) == 1, "the row")
    assert not ledger.lost


def test_a_database_of_a_newer_version_has_records_wait(
    open_ledger: Callable[..., Ledger], url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = open_database(url, tmp_path)
    database.migrate()
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    ledger = open_ledger()
    ledger(record(1))
    until(lambda: ledger._failing, "the version to be noticed")
    ledger(record(2))
    until(lambda: ledger.waiting == 2 and not ledger._queue, "the spool to have it")
    assert any((tmp_path / "spool").iterdir())
    with pytest.raises(NewerDatabaseError, match="9999"), ledger._store.database.begin():
        pass
    with database._open().begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :head"), {"head": REVISIONS[-1]})
    until(lambda: not ledger.waiting, "the records to be written")
    assert requests(url, tmp_path) == ["turn-1", "turn-2"]
    database.close()


@pytest.mark.thorough
def test_many_processes_migrate_at_once(url: str, tmp_path: Path) -> None:
    databases = [open_database(url, tmp_path) for _ in range(6)]
    failures: list[Exception] = []

    def use(database: Database) -> None:
        try:
            with database.begin() as connection:
                connection.execute(select(func.count()).select_from(REQUESTS))
        except SQLAlchemyError as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for database in databases:
        database.close()
    assert not failures


def test_the_migrations_make_the_tables_that_the_code_uses_and_take_them_back(url: str, tmp_path: Path) -> None:
    database = open_database(url, tmp_path)
    with database.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    database.migrate("base", down=True)
    with database._open().connect() as connection:
        assert revision_of(connection) == ""
    with database.begin() as connection:
        assert revision_of(connection) == REVISIONS[-1]
    database.close()


def test_what_is_too_old_is_deleted(open_ledger: Callable[..., Ledger], url: str, tmp_path: Path) -> None:
    ledger = open_ledger()
    ledger(record(1, started=START - 100 * DAY))
    ledger(record(2))
    until(lambda: not ledger.waiting, "the rows")
    ledger._store.delete_old((time() - START) / DAY + 1)
    assert requests(url, tmp_path) == ["turn-2"]


@pytest.mark.parametrize("days", [400, -400])
def test_a_clock_that_jumps_is_told_of_and_deletes_nothing(
    open_ledger: Callable[..., Ledger],
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    days: int,
) -> None:
    monkeypatch.setattr(ledgers, "RETENTION_SECONDS", 0.0)
    ledger = open_ledger(days=30)
    ledger(record(1, started=time()))
    until(lambda: not ledger.waiting, "the row")
    for module in (clocks, stores):
        monkeypatch.setattr(module, "time", lambda: time() + days * DAY)
    ledger(record(2, started=time() + days * DAY))
    until(lambda: "clock was set by" in caplog.text, "the log to tell of it")
    ledger(record(3, started=time() + days * DAY))
    until(lambda: not ledger.waiting, "the next row")
    assert requests(url, tmp_path) == ["turn-1", "turn-2", "turn-3"]
    assert caplog.text.count("clock was set by") == 1


@pytest.mark.thorough
def test_the_last_two_hundred_are_shared(open_ledger: Callable[..., Ledger]) -> None:
    one, other = open_ledger(), open_ledger()
    for number in range(KEPT_RECENT + 50):
        one(record(number, key="ann" if number % 2 else "bob"))
        if number % 40 == 0:
            until(lambda: not one.waiting, "a batch")
    until(lambda: other.recent.find(f"turn-{KEPT_RECENT + 49}", "ann") is not None, "the last one")
    assert other.recent.find(f"turn-{KEPT_RECENT + 49}", "bob") is None
    assert other.recent.find("turn-1", None) is None
    with other._store.database.begin() as connection:
        assert connection.execute(select(func.sum(RECENT.c.requests))).scalar() < 2 * KEPT_RECENT


def test_another_worker_shows_a_request_as_its_own_would(open_ledger: Callable[..., Ledger]) -> None:
    one, other = open_ledger(), open_ledger()
    answers = {"00f067aa0ba902b7": AnswerFacts("chatcmpl-1", "m", [(0, "stop")])}
    trace = TraceContext(trace_id="4bf92f3577b34da6a3ce929d0e0e4736", span_id="00f067aa0ba902b7", answers=answers)
    ended = {"outcome": "hung_up", "hung_up_at": 0.2, "heartbeats": (0.1,), "error": "no", "code": "c"}
    one(record(7, conversation="call-7", trace=trace, **ended))
    until(lambda: other.recent.find("turn-7", None) is not None, "the other to know it")
    assert other.recent.find("turn-7", None) == one.recent.find("turn-7", None)


def test_a_database_that_hangs_holds_no_record_in_memory(
    open_ledger: Callable[..., Ledger], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger()
    hangs, goes_on, write = threading.Event(), threading.Event(), ledger._store.write

    def hang(*batch: Any) -> int:
        hangs.set()
        assert goes_on.wait(EVER)
        return write(*batch)

    monkeypatch.setattr(ledger._store, "write", hang)
    ledger(record(1))
    assert hangs.wait(EVER)
    for number in range(2, 6):
        ended = monotonic()
        ledger(record(number))
        until(lambda: f"turn-{number}" in spooled(tmp_path), "the file to have it")  # noqa: B023 - called at once
        assert monotonic() - ended < PROMISED + SCHEDULING
    goes_on.set()
    until(lambda: not ledger.waiting, "all rows")
    assert requests(url, tmp_path) == [f"turn-{number}" for number in range(1, 6)]


@pytest.mark.services
def test_postgresql_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    folder = mkdtemp(prefix="thinkline-postgresql-")
    server = Server(Path(folder), free_port())
    server.start()
    ledger = Ledger(UsageStore(open_database(f"{server.url}/postgres", tmp_path)), tmp_path / "spool", days=40_000)
    try:
        ledger(record(1))
        until(lambda: not ledger.waiting, "the first row")
        server.stop()
        for number in range(2, 500):
            ledger(record(number))
        until(lambda: ledger._failing and not ledger._queue, "the spool to have them")
        assert ledger.waiting == 498
        server.start()
        until(lambda: not ledger.waiting, "all rows", 40)
        assert requests(f"{server.url}/postgres", tmp_path) == [f"turn-{number}" for number in range(1, 500)]
    finally:
        ledger.close()
        ledger._store.database.close()
        server.stop()
        rmtree(folder)


@pytest.mark.services
def test_postgresql_that_falls_silent(tmp_path: Path) -> None:
    folder = mkdtemp(prefix="thinkline-postgresql-")
    server = Server(Path(folder), free_port())
    server.start()
    ledger = Ledger(UsageStore(open_database(f"{server.url}/postgres", tmp_path)), tmp_path / "spool", days=40_000)
    try:
        ledger(record(1))
        until(lambda: not ledger.waiting, "the first row")
        server.signal_all(signal.SIGSTOP)
        ledger(record(2))
        until(lambda: ledger._failing, "the silence to be noticed", 30)
        ledger(record(3))
        until(lambda: not ledger._queue, "the spool to have it", 30)
        server.signal_all(signal.SIGCONT)
        until(lambda: not ledger.waiting, "all rows", 40)
        assert requests(f"{server.url}/postgres", tmp_path) == ["turn-1", "turn-2", "turn-3"]
    finally:
        server.signal_all(signal.SIGCONT)
        ledger.close()
        ledger._store.database.close()
        server.stop()
        rmtree(folder)


@pytest.mark.services
def test_postgresql_that_can_only_be_read(
    open_ledger: Callable[..., Ledger], database_url: str, tmp_path: Path
) -> None:
    ledger = open_ledger(database_url)
    ledger(record(1))
    until(lambda: not ledger.waiting, "the first row")
    name = database_url.rpartition("/")[2]
    database = open_database(database_url, tmp_path)
    with database.begin() as connection:
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    ledger._store.database.close()  # new connections are told so
    ledger(record(2))
    until(lambda: ledger._failing, "the failure")
    assert ledger.report(Question(START, START + DAY, None))[0]["requests"] == 1
    with database.begin() as connection:
        connection.execute(text("SET TRANSACTION READ WRITE"))
        connection.execute(text(f"ALTER DATABASE {name} RESET default_transaction_read_only"))
    ledger._store.database.close()
    until(lambda: not ledger.waiting, "the second row")
    database.close()


def test_a_spool_keeps_batches_in_order_and_within_its_bound(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most_bytes=200)
    kept = [name for name in ("a", "b", "c", "d", "e", "f") if spool.append((name, 0, [["x" * 40]]))]
    assert kept == ["a", "b", "c"]
    assert spool.first() == ("a", 0, [["x" * 40]])
    spool.forget_first()
    assert spool.first() == ("b", 0, [["x" * 40]])
    spool.forget_first()
    spool.forget_first()
    assert spool.first() is None
    assert spool.append(("g", 0, []))
    spool.forget_first()
    spool.close()
    assert not list(tmp_path.iterdir())


def test_another_process_writes_what_one_that_died_has_spooled(
    open_ledger: Callable[..., Ledger], url: str, tmp_path: Path
) -> None:
    dead, living = Spool(tmp_path / "spool"), Spool(tmp_path / "spool")
    dead.append(("process-1", 0, [row_of(record(1))]))
    living.append(("process-2", 0, [row_of(record(2))]))
    assert dead._file is not None
    dead._file.write(b'["process-1", 1, [[')  # cut off in the middle
    dead._file.close()  # which also gives its lock back
    open_ledger().start()
    until(lambda: requests(url, tmp_path) == ["turn-1"], "the dead one's record")
    until(lambda: len(list((tmp_path / "spool").glob(f"*{spools.SUFFIX}"))) == 1, "its file to be removed")
    living.close()


def test_where_nothing_can_be_written_records_wait_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "usage.sqlite3").mkdir()
    ledger = Ledger(UsageStore(open_database("", tmp_path)), tmp_path / "file" / "spool", days=400)
    for number in range(10):
        ledger(record(number))
    until(lambda: ledger._backlog.held and not ledger._queue, "the records to be held")
    (tmp_path / "usage.sqlite3").rmdir()
    until(lambda: not ledger.waiting, "the records to be written")
    assert len(requests("", tmp_path)) == 10
    ledger.close()


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be one" * 100, b""])
def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "usage.sqlite3").write_bytes(content)
    ledger = Ledger(UsageStore(open_database("", tmp_path)), tmp_path / "spool", days=400)
    ledger(record(1))
    until(lambda: not ledger.waiting, "the record")
    assert requests("", tmp_path) == ["turn-1"]
    ledger.close()


def test_a_file_that_is_removed_is_made_anew(tmp_path: Path) -> None:
    ledger = Ledger(UsageStore(open_database("", tmp_path)), tmp_path / "spool", days=400)
    ledger(record(1))
    until(lambda: not ledger.waiting, "the record")
    for path in tmp_path.glob("usage.sqlite3*"):
        path.unlink()
    ledger(record(2))
    until(lambda: not ledger.waiting, "the next")
    assert requests("", tmp_path) == ["turn-2"]
    ledger.close()


@pytest.mark.parametrize(
    "address",
    [
        "mysql://root:hunter2@db/x",
        "postgresql://",
        "sqlite://",
        "postgresql://u:hunter2@[bad/x",
        "redis://:hunter2@r/0",
        "hunter2",
        "postgresql:hunter2@db",
    ],
)
def test_an_address_that_makes_no_sense_is_refused_without_its_password(tmp_path: Path, address: str) -> None:
    with pytest.raises(ValueError, match="DATABASE_URL") as caught:
        open_database(address, tmp_path)
    assert "hunter2" not in str(caught.value)


def test_a_missing_driver_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.extras.find_spec", lambda name: None)
    missing_extra.cache_clear()
    with pytest.raises(ValueError, match=r"\[postgres\]"):
        open_database("postgres://user:hunter2@db/x", tmp_path)
    missing_extra.cache_clear()
