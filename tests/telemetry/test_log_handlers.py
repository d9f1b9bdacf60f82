"""Log handlers: a destination that is full, locked or not read delays lines, which are counted, and no request."""

import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from telemetry import log_files, log_handlers
from telemetry.log_files import BackgroundFileHandler
from telemetry.log_handlers import BackgroundHandler, StderrHandler
from tests.conftest import EVER, ROOT, Served, _answers, environment, free_port, until
from tests.support.frames import chat_body, post
from tests.support.http import GUNICORN


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_handlers, "AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(log_files, "LOCK_SECONDS", 0.2)


@contextmanager
def logging_to(handler: BackgroundHandler) -> Iterator[logging.Logger]:
    """A logger of its own, and what the handler says about itself goes there as well."""
    logger = logging.getLogger("thinkline.logs")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        handler.close()


def log_lines(logger: logging.Logger, count: int, size: int = 0) -> None:
    """So many lines, which must take no time."""
    began = time.monotonic()
    for number in range(count):
        logger.info("line %s %s", number, "x" * size)
    assert time.monotonic() - began < 2


def numbers(text: str) -> list[int]:
    return [int(line.split()[1]) for line in text.splitlines() if line.startswith("line ")]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the lock of a log file."""
    with path.with_name(f".__{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_lock_that_another_process_holds_holds_nobody_up(tmp_path: Path) -> None:
    """Nothing is lost of what fits."""
    path = tmp_path / "here"
    with logging_to(BackgroundFileHandler(str(path), 10_000_000, 1)) as logger:
        with locked(path):
            log_lines(logger, 100)
            time.sleep(0.5)  # so that it is tried, and not had
            assert not path.exists() or not path.read_text()
        until(lambda: path.exists() and "again" in path.read_text(), "the lines")
    text = path.read_text()
    assert numbers(text) == list(range(100))
    assert text.count("cannot be written to") == 1


def test_what_a_full_disk_loses_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log_handlers, "MOST_BYTES", 2000)
    path = tmp_path / "here"
    path.symlink_to("/dev/full")
    with logging_to(BackgroundFileHandler(str(path), 10_000_000, 1)) as logger:
        log_lines(logger, 200, 50)
        until(lambda: "cannot be written to" in caplog.text, "it to be told")
        assert "No space left" in caplog.text
        assert "Traceback" not in caplog.text
        path.unlink()  # there is room again
        until(lambda: path.exists() and numbers(path.read_text()), "the first line")
        until(lambda: any("again" in record.getMessage() for record in caplog.records), "the count")
        logger.info("line 1000 last")
        until(lambda: "line 1000 last\n" in path.read_text(), "the last line")
    (back,) = [record for record in caplog.records if "again" in record.getMessage()]
    written = [number for number in numbers(path.read_text()) if number < 1000]
    assert written == list(range(len(written)))
    assert 0 < len(written) < 200
    lost = back.facts["lost"]  # type: ignore[attr-defined]
    assert 200 - len(written) <= lost <= 202 - len(written), "those, and what it said of itself"


@pytest.mark.parametrize("kind", ["a pipe", "a socket"])
def test_a_reader_who_does_not_read_holds_nobody_up(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """docker logs, journald: what is left is whole lines, in order, and the end is there again once they read."""
    monkeypatch.setattr(log_handlers, "MOST_BYTES", 100_000)
    if kind == "a pipe":
        held, writing = os.pipe()
    else:
        ends = socket.socketpair()
        held, writing = (end.detach() for end in ends)
    heard = b""
    try:
        with logging_to(StderrHandler(writing)) as logger:
            log_lines(logger, 2000, 500)

            def read() -> bool:
                nonlocal heard
                heard += os.read(held, 1_000_000)
                return b"again" in heard

            until(read, "the count of those lost")
            logger.info("line 5000 last")
            while b"last\n" not in heard:
                read()
    finally:
        os.close(held)
        os.close(writing)
    found = numbers(heard.decode())
    assert found == [*range(len(found) - 1), 5000]
    assert 100 < len(found) < 2000


def test_who_reads_has_a_line_at_once() -> None:
    """No thread is needed, and others who write there wait as they did."""
    held, writing = os.pipe()
    before = set(threading.enumerate())
    with logging_to(StderrHandler(writing)) as logger:
        logger.info("line 1 now")
        assert os.read(held, 1000) == b"line 1 now\n"
        assert os.get_blocking(writing)
        assert set(threading.enumerate()) <= before
    os.close(held)
    os.close(writing)


def test_a_fork_writes_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "here"
    with logging_to(BackgroundFileHandler(str(path), 10_000_000, 1)) as logger:
        log_lines(logger, 50)
        child = os.fork()
        if not child:
            logger.info("line 50 of the child")
            logger.handlers[0].flush()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        log_lines(logger, 0)
    assert sorted(numbers(path.read_text())) == list(range(51))


def test_what_cannot_be_formatted_fails_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    held, writing = os.pipe()
    with logging_to(StderrHandler(writing)) as logger:
        logger.info("%d", "one")
        logger.info("line 1 now")
        assert os.read(held, 1000) == b"line 1 now\n"
    os.close(held)
    os.close(writing)


# the real thing


def test_answers_do_not_wait_for_the_files_lock(serve: Callable[..., Served], tmp_path: Path) -> None:
    path = tmp_path / "thinkline.log"
    with locked(path):
        app = serve(LOG_FILE=path, DEMO_PACE_MS=0)
        began = time.monotonic()
        for _ in range(20):
            assert post(app.port, chat_body())[0] == 200
        assert time.monotonic() - began < EVER / 2
    until(lambda: path.exists() and path.read_text().count("outcome=done") == 20, "the lines")
    assert "Traceback" not in app.log()


def test_answers_do_not_wait_for_a_full_disk(serve: Callable[..., Served], tmp_path: Path) -> None:
    path = tmp_path / "thinkline.log"
    path.symlink_to("/dev/full")
    app = serve(LOG_FILE=path, DEMO_PACE_MS=0)
    for _ in range(20):
        assert post(app.port, chat_body())[0] == 200
    app.logged("cannot be written to.*No space left")
    until(lambda: app.log().count("outcome=done") == 20, "stderr to have it all")
    assert "Traceback" not in app.log()


@pytest.mark.served
def test_answers_do_not_wait_for_who_reads_the_log() -> None:
    """A pipe has room for a few lines of this kind."""
    port = free_port()
    variables = environment(PORT=port, DEMO_PACE_MS=0, LOG_LEVEL="TRACE", THREADS=8)
    command = [sys.executable, *GUNICORN]
    with subprocess.Popen(command, cwd=ROOT, env=variables, stderr=subprocess.PIPE) as process:
        try:
            until(lambda: _answers(port), "it to serve")
            for _ in range(30):
                assert post(port, chat_body("word " * 4000))[0] == 200
            assert process.stderr
            heard = b""
            while heard.count(b"outcome=done") < 30:
                heard += os.read(process.stderr.fileno(), 1_000_000)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=EVER)
        finally:
            process.kill()
