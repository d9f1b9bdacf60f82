"""The database at DATABASE_URL, by SQLAlchemy. Each process opens it on first use.

unset                   the file usage.sqlite3 in DATA_DIR
sqlite:///var/lib/x.db  another file (sqlite:////var/lib/x.db from the root); a plain path will do
postgresql://           a PostgreSQL server, for several machines; needs the package psycopg
"""

import fcntl
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from logging import getLogger
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, event, inspect, make_url, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DatabaseError, SQLAlchemyError

from core.extras import missing_extra
from storage.migrations import REVISIONS
from storage.sqlite_file import CORRUPT, set_aside
from storage.watchdog import Watchdog

log = getLogger("thinkline.usage")

SQLITE_SECONDS = 1.0
"""Seconds that a statement waits for other processes that use the file."""
CONNECT_SECONDS = 2
"""Seconds that connecting to a server may take: psycopg's least."""
WRITE_SECONDS = 3.0
"""Seconds that writing a batch may take; meanwhile the next batches wait in memory."""
STATEMENT_SECONDS = 10
"""Seconds that the server works on one statement."""
CONNECTIONS = 3
"""For each process: one for the writer, the others for reports."""
PROGRESS_STEPS = 100_000
"""Steps of SQLite's virtual machine between two checks of the time."""
MIGRATION_LOCK = 0x7468696E6B
"""The key of PostgreSQL's advisory lock: "think" in ASCII."""
_migrating = threading.Lock()
"""A lock, since Alembic's context is global in the process. It is held for a bounded time."""
FOLDER = Path(__file__).parent / "migrations"
ALLOWED = "allowed: postgresql://USER:PASSWORD@HOST:5432/NAME, or sqlite:///FILE"


class NewerDatabaseError(SQLAlchemyError):
    """The database has a version that this code does not know."""


class Database:
    """Connections to a database, which is migrated to the current version first. Safe for all threads.

    `where` is its URL without the password. `failures` are what `begin` and statements raise when the database
    cannot be used.
    """

    failures: tuple[type[Exception], ...] = (SQLAlchemyError, OSError)

    def __init__(self, url: URL) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._is_current = False
        self._watchdog = Watchdog()
        self._readers = threading.BoundedSemaphore(CONNECTIONS - 1)
        self.is_shared = url.get_backend_name() == "postgresql"
        self.path = None if self.is_shared else Path(url.database or "")
        self.where = url.render_as_string(hide_password=True)

    @contextmanager
    def begin(self, seconds: float = WRITE_SECONDS) -> Iterator[Connection]:
        """A connection in a transaction of at most `seconds`, which is rolled back when the block raises. Raises
        `failures`.
        """
        try:
            with self._current_engine().connect() as connection, self._limit(connection, seconds), connection.begin():
                yield connection
        except DatabaseError as error:
            self._is_current = False  # check its version again before the next use
            self._replace_if_corrupt(error)
            raise

    def _limit(self, connection: Connection, seconds: float) -> AbstractContextManager[None]:
        """Bound the use of a server's connection. Waits for a file are bounded by SQLITE_SECONDS already."""
        if self.path is not None:
            return nullcontext()
        driver: Any = connection.connection.driver_connection
        return self._watchdog.limit(driver.fileno(), seconds)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """As `begin`, for reports: few at a time, so that the writer always has a connection, and none for longer than
        STATEMENT_SECONDS. Raises `failures`.
        """
        if not self._readers.acquire(timeout=CONNECT_SECONDS):
            raise TimeoutError("too many read from the database at the same time")
        try:
            with self.begin(STATEMENT_SECONDS + 1) as connection:
                if self.path is None:  # the server applies statement_timeout
                    yield connection
                    return
                driver: Any = connection.connection.driver_connection
                until = monotonic() + STATEMENT_SECONDS
                driver.set_progress_handler(lambda: monotonic() > until, PROGRESS_STEPS)
                try:
                    yield connection
                finally:
                    driver.set_progress_handler(None, 0)
        finally:
            self._readers.release()

    def insert(self, connection: Connection, table: Table) -> Any:
        """The dialect's INSERT statement with ON CONFLICT."""
        if connection.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert as insert_postgresql  # noqa: PLC0415 - only there

            return insert_postgresql(table)
        from sqlalchemy.dialects.sqlite import insert as insert_sqlite  # noqa: PLC0415

        return insert_sqlite(table)

    def migrate(self, revision: str = "head", *, down: bool = False) -> None:
        """Migrate the database to a revision. Raises `failures`, and NewerDatabaseError unless `down`."""
        if not down:
            with self._open().begin() as connection:
                if revision_of(connection) == REVISIONS[-1]:
                    return
        from alembic import command  # noqa: PLC0415 - takes time and memory, and few starts need it
        from alembic.config import Config  # noqa: PLC0415

        with _migrating, self._migration_lock(), self._open().begin() as connection:
            if not down and revision_of(connection) == REVISIONS[-1]:
                return  # another process has done it
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            config = Config()
            config.set_main_option("script_location", str(FOLDER))
            config.attributes["connection"] = connection
            self._is_current = False
            if down:
                command.downgrade(config, revision)
            else:
                command.upgrade(config, revision)

    def version(self) -> str:
        """The database's revision; "" without our tables. Raises `failures`."""
        with self._open().connect() as connection, self._limit(connection, WRITE_SECONDS):
            return revision_of(connection)

    def close(self) -> None:
        """Close the connections. The next use opens new ones."""
        with self._lock:
            engine, self._engine, self._is_current = self._engine, None, False
        if engine is not None:
            engine.dispose()

    def _current_engine(self) -> Engine:
        engine = self._open()
        if self._is_current:
            if self.path is None or self.path.exists():
                return engine
            self.close()  # the file was removed
            engine = self._open()
        with engine.connect() as connection, self._limit(connection, WRITE_SECONDS):
            revision = revision_of(connection)
        if revision and revision not in REVISIONS:
            raise NewerDatabaseError(f"its version {revision} is newer than {REVISIONS[-1]}, which this program knows")
        if revision != REVISIONS[-1]:
            self.migrate()
        self._is_current = True
        return engine

    def _open(self) -> Engine:
        with self._lock:
            if self._engine is None:
                if self.path is not None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    if self.path.exists() and not self.path.is_file():  # SQLite would wait for a pipe's other end
                        raise OSError(f"{self.path} is no file")
                self._engine = _engine(self._url)
            return self._engine

    @contextmanager
    def _migration_lock(self) -> Iterator[None]:
        """Lock a file's migration: one process migrates, and the others wait."""
        if self.path is None:
            yield
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with Path(f"{self.path}.lock").open("w", encoding="ascii") as file:
            until = monotonic() + STATEMENT_SECONDS
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if monotonic() > until:
                        raise
                    sleep(0.05)
            yield

    def _replace_if_corrupt(self, error: DatabaseError) -> None:
        if self.path is not None and getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in CORRUPT:
            self.close()
            set_aside(self.path, SQLITE_SECONDS, "the table of usage")


def open_database(url: str, folder: Path) -> Database:
    """The database at `url`, or in `folder`. Does not connect yet. Raises ValueError, without the URL's password."""
    scheme, mark, rest = url.partition("://")
    if not url:
        return Database(URL.create("sqlite", database=str(folder / "usage.sqlite3")))
    if not mark and "/" in url:  # a path, and not a word that would become a file unasked
        return Database(URL.create("sqlite", database=url))
    if scheme == "sqlite" and rest.strip("/"):
        return Database(URL.create("sqlite", database=rest.removeprefix("/")))
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg") or not rest:
        raise ValueError(f"DATABASE_URL is none that is known here; {ALLOWED}.")
    if package := missing_extra("postgres", "psycopg"):
        raise ValueError(f"DATABASE_URL is PostgreSQL's, which needs {package}.")
    try:
        urlsplit(url).port  # noqa: B018 - raises for a port that is no number
        return Database(make_url(f"postgresql+psycopg://{rest}"))
    except (ArgumentError, ValueError):  # their messages may hold the password
        raise ValueError(f"DATABASE_URL cannot be read; {ALLOWED}.") from None


def revision_of(connection: Connection) -> str:
    """The database's revision; "" without our tables."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    versions = Table("alembic_version", MetaData(), autoload_with=connection)
    return str(connection.execute(select(versions.c.version_num)).scalar() or "")


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        return create_engine(
            url,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=CONNECT_SECONDS,
            connect_args={
                "connect_timeout": CONNECT_SECONDS,
                "application_name": "thinkline",
                "tcp_user_timeout": CONNECT_SECONDS * 1000,  # if the server disappears
                "options": f"-c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={STATEMENT_SECONDS}s",
            },
        )
    engine = create_engine(
        url,
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=SQLITE_SECONDS,
        connect_args={"timeout": SQLITE_SECONDS, "check_same_thread": False},
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _set_up_sqlite(connection: Any, _: object) -> None:
    """Allow readers beside a writer. A power cut may lose the last rows, but does not corrupt the file. SQLAlchemy
    begins transactions: Python's driver would leave changes of tables out of them.
    """
    connection.isolation_level = None
    cursor = connection.cursor()
    with suppress(sqlite3.OperationalError):  # another process is setting it; the file keeps the mode
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()
