"""Fixtures of all tests: the app under Flask's test client, and under gunicorn on a free port."""

import gc
import logging
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import hypothesis
import psycopg
import pytest
from botocore.loaders import create_loader
from openai import OpenAI
from werkzeug.routing import Rule

from app import create_app
from config import Settings
from core.masking import KNOWN_SECRETS
from dispatch.sources.file_watcher import FileWatcher
from tests.emulators.fault import Fault
from tests.emulators.openai.server import OpenAIUpstream
from tests.support.forked import Forked
from tests.support.postgresql import postgresql_server

# A deadline for each example would be a timed test: a busy machine fails it.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).parent.parent
EVER = 20.0
"""Seconds after which a test that waits for something has failed: far more than any of it takes."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], object], what: str, seconds: float = EVER) -> None:
    """Wait for a condition that will come true, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for: {what}"
        time.sleep(0.005)


class Served:
    """The app under gunicorn: `url` ends in /v1; `log()` is what it has written so far."""

    def __init__(self, port: int, process: Forked, log_path: Path) -> None:
        self.port = port
        self.process = process
        self.url = f"http://127.0.0.1:{port}/v1"
        self._log_path = log_path

    def log(self) -> str:
        return self._log_path.read_text()

    def logged(self, pattern: str) -> re.Match[str]:
        """Wait for a log line."""
        until(lambda: re.search(pattern, self.log()), f"{pattern!r} in the log:\n{self.log()[-3000:]}")
        found = re.search(pattern, self.log())
        assert found
        return found

    @property
    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def threads(self) -> int:
        return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in self.workers)

    def sockets(self) -> int:
        links = [link for pid in self.workers for link in Path(f"/proc/{pid}/fd").iterdir()]
        return sum(_target(link).startswith("socket:") for link in links)

    def client(self, **options: object) -> OpenAI:
        return OpenAI(base_url=self.url, api_key="unused", max_retries=0, timeout=EVER, **options)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def environment(**settings: object) -> dict[str, str]:
    """Only what the test says: nothing of the developer's own environment or .env."""
    home = Path.home()
    here = {"PATH": "/usr/bin:/bin", "ENV_FILE": "/dev/null", "HOME": str(home), "DATA_DIR": str(home / "data")}
    # No test closes the apps that it makes, and each would keep a thread for the table of usage.
    here |= {"WARM": "false", "USAGE_DAYS": "0"}
    return {**here, **{name: str(value) for name, value in settings.items()}}


@contextmanager
def served(log_path: Path, *arguments: str, **settings: object) -> Iterator[Served]:
    """The app under real gunicorn until the block ends, which is sudden."""
    port = free_port()
    usual = {"THREADS": 32, "USAGE_DAYS": 90, "DATA_DIR": log_path.with_name(f"{log_path.name}-data")}
    variables = environment(PORT=port, **{**usual, **settings})
    log_path.write_bytes(b"")
    process = Forked(["-m", "gunicorn", *arguments, "app:create_app()"], variables, log_path, log_path)
    try:
        until(lambda: _answers(port) or process.poll() is not None, "gunicorn to answer")
        assert process.poll() is None, log_path.read_text()
        yield Served(port, process, log_path)
    finally:
        process.kill()  # how it ends in earnest is the matter of test_server.py


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as probe:
            probe.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return probe.recv(15) == b"HTTP/1.1 200 OK"
    except OSError:
        return False


def pytest_collection() -> None:
    """Collect no garbage until the tests are collected: nothing of them is any."""
    gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test-fast` leaves out: what serves by gunicorn, and what examines or waits at length."""
    for item in items:
        names = vars(item.module)  # type: ignore[attr-defined]
        if "serve" in item.fixturenames or names.keys() & {"served", "running"}:  # type: ignore[attr-defined]
            item.add_marker("served")
        fault = item.callspec.params.get("fault") if hasattr(item, "callspec") else None
        if hypothesis.is_hypothesis_test(item.obj) or (isinstance(fault, Fault) and fault.silent):  # type: ignore[attr-defined]
            item.add_marker("thorough")


def pytest_collection_finish() -> None:
    """Keep what has been imported and collected out of all later garbage collections: it stays until the end."""
    gc.freeze()
    gc.enable()


def pytest_sessionfinish() -> None:
    """The same for what the tests have left, which pytest would collect five times."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test finds a developer's own ~/.oci or ~/.aws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session", autouse=True)
def shared_by_all_apps() -> Iterator[None]:
    """Compile each route, and read each of Amazon's service models, once for the thousand apps of the tests."""

    def compile_builder(rule: Rule, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        key = rule.rule, str(rule.defaults), append_unknown
        if key not in builders:
            builders[key] = compile_once(rule, append_unknown)
        return builders[key]

    builders: dict[tuple[str, str, bool], Callable[..., tuple[str, str]]] = {}
    compile_once = Rule._compile_builder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rule, "_compile_builder", compile_builder)
        patch.setattr("botocore.session.create_loader", cache(create_loader))
        yield


@pytest.fixture(scope="module", autouse=True)
def apps_end_with_their_module() -> Iterator[None]:
    """Undo what an app does to its process: threads that look at files, secrets that log lines must not hold, and the
    loggers' handlers, so that no module depends on those before it.
    """

    def start_watching(watcher: FileWatcher) -> None:
        watchers.append(watcher)
        start(watcher)

    logger = logging.getLogger("thinkline")
    watchers, start, secrets = list[FileWatcher](), FileWatcher.start, dict(vars(KNOWN_SECRETS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileWatcher, "start", start_watching)
        yield
    for watcher in watchers:
        watcher.stop()
    vars(KNOWN_SECRETS).update(secrets)
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def collector_off() -> Iterator[None]:
    """What only the garbage collector can free stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as server:
        yield server


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        until(lambda: _listens(port), "redis-server to listen")
        yield f"redis://127.0.0.1:{port}/0"
        process.terminate()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL server's address, without a database's name. The server refuses to run as root."""
    with (
        TemporaryDirectory(prefix="thinkline-postgresql-") as folder,
        postgresql_server(Path(folder), free_port()) as url,
    ):
        yield url


@pytest.fixture
def database_url(postgresql: str) -> str:
    """A new database's address."""
    name = f"thinkline_{uuid4().hex}"
    with psycopg.connect(f"{postgresql}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{postgresql}/{name}"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """serve(SETTING=value, ...): gunicorn with these settings, ended after the test."""
    open_blocks = []

    def start(*arguments: str, **settings: object) -> Served:
        block = served(tmp_path / f"gunicorn{len(open_blocks)}.log", *arguments, **settings)
        open_blocks.append(block)
        return block.__enter__()

    yield start
    for block in reversed(open_blocks):
        block.__exit__(None, None, None)


@pytest.fixture(scope="session")
def app_with() -> Callable[..., object]:
    """app_with(SETTING=value, ...): Flask's test client on an app with these settings."""

    def start(**settings: object) -> object:
        values: Mapping[str, str] = environment(**{"DEMO_PACE_MS": 0, **settings})
        return create_app(Settings.load(values)).test_client()

    return start
