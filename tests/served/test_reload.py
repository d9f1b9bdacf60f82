"""Workers that are replaced: no call is lost by HUP and USR2, and no mistake in .env ends a service. Real gunicorn."""

import http.client
import os
import pwd
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app import create_app
from config import Settings
from server.succession import Succession
from tests.conftest import EVER, Served, _answers, environment, free_port, until
from tests.served.test_server import running
from tests.support.forked import Forked
from tests.support.frames import chat_body, post, streamed_text
from tests.support.http import GUNICORN, fails_to_start

pytestmark = pytest.mark.slow

Serve = Callable[..., Served]
WORDS = 40


class Callers:
    """`count` calls, a few at a time, half of them on connections that are kept; `answers` is what came back."""

    def __init__(self, port: int, count: int = 60, at_once: int = 6) -> None:
        self.answers: list[object] = []
        self._port = port
        self._left = iter(range(count))
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call, args=(n % 2 == 0,), daemon=True) for n in range(at_once)]
        for thread in self._threads:
            thread.start()

    def _call(self, keep: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=EVER)
        while True:
            with self._lock:
                if next(self._left, None) is None:
                    return
            try:
                connection.request("GET", "/v1/models", headers={"Connection": "keep-alive" if keep else "close"})
                response = connection.getresponse()
                response.read()
                self.answers.append(response.status)
            except (OSError, http.client.HTTPException) as error:
                self.answers.append(repr(error))
            time.sleep(0.1)  # so that they last for as long as a reload takes

    def all_answered(self) -> bool:
        for thread in self._threads:
            thread.join(EVER)
        assert self.answers == [200] * len(self.answers)
        return len(self.answers) > 0


class Listener(threading.Thread):
    """Who hears a stream that lasts longer than a reload."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self.status, self.heard = 0, b""
        self.start()

    def run(self) -> None:
        self.status, _, self.heard = post(self._port, chat_body(f"say {WORDS} words", stream=True))

    def heard_all(self) -> bool:
        self.join(EVER)
        assert self.status == 200
        return len(streamed_text(self.heard).split()) == WORDS


# no call is lost


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_loses_no_call(serve: Serve, workers: int) -> None:
    app = serve(WORKERS=workers, DEMO_PACE_MS=100)
    until(lambda: len(app.workers) == workers, "the workers")
    old = set(app.workers)
    listener = Listener(app.port)
    until(lambda: "Booting worker" in app.log(), "the log")
    callers = Callers(app.port, 120)
    time.sleep(0.2)  # so that the stream is under way
    app.process.send_signal(signal.SIGHUP)
    assert callers.all_answered()
    assert len(callers.answers) == 120
    assert listener.heard_all()
    until(lambda: len(app.workers) == workers and not old & set(app.workers), "the old workers to end")
    assert post(app.port, chat_body())[0] == 200


@pytest.mark.parametrize("soon", [False, True], ids=["when the next serves", "at once"])
def test_the_next_master_takes_over_without_losing_a_call(tmp_path: Path, soon: bool) -> None:
    """USR2, and TERM to the old one: https://docs.gunicorn.org/en/stable/signals.html."""
    port = free_port()
    with running(tmp_path / "log", *GUNICORN, port=port, PORT=port, DEMO_PACE_MS=100, THREADS=16) as app:
        assert post(app.port, chat_body())[0] == 200
        (worker,) = app.workers
        listener = Listener(app.port)
        callers = Callers(app.port, 120)
        app.process.send_signal(signal.SIGUSR2)
        until(lambda: len(app.workers) == 2, "the next master")
        (following,) = set(app.workers) - {worker}
        try:
            if not soon:
                until(lambda: app.log().count("Booting worker") == 2, "its worker")
            app.process.send_signal(signal.SIGTERM)
            assert callers.all_answered()
            assert listener.heard_all()
            app.process.wait(EVER)
            assert post(app.port, chat_body())[0] == 200
        finally:
            os.kill(following, signal.SIGTERM)
            until(lambda: not Path(f"/proc/{following}/task").exists() or _is_zombie(following), "its end")


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_worker_fewer_loses_no_call(serve: Serve) -> None:
    """TTOU: SIGTERM to a worker whose siblings go on is no shutdown."""
    app = serve(WORKERS=2, DEMO_PACE_MS=0)
    until(lambda: app.log().count("Booting worker") == 2, "the workers")
    callers = Callers(app.port)
    app.process.send_signal(signal.SIGTTOU)
    assert callers.all_answered()
    until(lambda: len(app.workers) == 1, "one of them to end")


def test_who_is_replaced_waits_for_those_who_take_over() -> None:
    succession = Succession()
    succession.expect(3, 2)
    assert not succession.wait_for_stop(0.1), "only for so long"
    succession.mark_serving(3)
    began = time.monotonic()
    threading.Timer(0.5, lambda: succession.mark_serving(6)).start()  # the one of age 4 died while it booted
    assert not succession.wait_for_stop(EVER)
    assert 0.4 < time.monotonic() - began < EVER / 2
    threading.Timer(0.1, succession.stop).start()
    assert succession.wait_for_stop(EVER)


# a mistake costs no call


MISTAKES = {
    "a word for a number": ("RETRIES=many\n", "RETRIES is 'many'"),
    "no setting": ("THREADS 16\n", "line 1 cannot be read"),
    "no end of quotes": ('\nAPI_KEY="mine\n', "line 2 cannot be read"),
    "a provider without its key": ("PROVIDER_NAME=groq\n", "GROQ_API_KEY"),
    "a public address without a key": ("HOST=0.0.0.0\n", "HOST is '0.0.0.0'"),
    "a log in no folder": ("LOG_FILE=/nowhere/at/all.log\n", "LOG_FILE"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_env_costs_no_call(serve: Serve, tmp_path: Path, case: str) -> None:
    """HUP, and a worker that dies after it: the last good settings stay, and what is mended is taken."""
    text, expected = MISTAKES[case]
    file = tmp_path / "mine.env"
    file.write_text("API_KEY=first-key\nDEMO_PACE_MS=0\n")
    app = serve(ENV_FILE=file)
    (worker,) = app.workers
    file.write_text(text)
    app.process.send_signal(signal.SIGHUP)
    found = app.logged(r"ERROR .*thinkline\.settings.*last good.*")[0]
    assert expected in found
    assert str(file) in found
    until(lambda: len(app.workers) == 1 and worker not in app.workers, "the next worker")
    assert _status(app, "first-key") == 200
    assert _status(app, "") == 401
    (worker,) = app.workers
    os.kill(worker, signal.SIGKILL)
    until(lambda: len(app.workers) == 1 and worker not in app.workers, "the next worker")
    assert _status(app, "first-key") == 200
    file.write_text("API_KEY=second-key\nDEMO_PACE_MS=0\n")
    app.process.send_signal(signal.SIGHUP)
    until(lambda: _status(app, "second-key") == 200, "the mended file to be read")
    assert app.process.poll() is None
    assert "Traceback" not in app.log()


def _status(app: Served, key: str) -> int:
    return post(app.port, chat_body(), headers={"Authorization": f"Bearer {key}"})[0]


def test_an_address_that_is_taken_costs_no_call(serve: Serve, tmp_path: Path) -> None:
    """gunicorn would end."""
    other = serve()
    file = tmp_path / "mine.env"
    file.write_text("DEMO_PACE_MS=0\n")
    port = free_port()
    file.write_text(f"PORT={port}\n")
    log = tmp_path / "log"
    log.touch()
    process = Forked(GUNICORN, environment(ENV_FILE=file), log, log)
    app = Served(port, process, log)
    try:
        app.logged("Thinkline answers at")
        file.write_text(f"PORT={other.port}\n")
        process.send_signal(signal.SIGHUP)
        app.logged(rf"PORT is {other.port}, where another program listens already")
        assert post(port, chat_body())[0] == 200
        assert process.poll() is None
    finally:
        process.kill()


def test_siblings_have_the_same_settings(serve: Serve, tmp_path: Path) -> None:
    """Without HUP nothing of .env is read: a worker that replaces another knows what its siblings know."""
    file = tmp_path / "mine.env"
    file.write_text("API_KEY=first-key\nDEMO_PACE_MS=0\n")
    app = serve(ENV_FILE=file, WORKERS=2)
    until(lambda: len(app.workers) == 2, "two workers")
    file.write_text("API_KEY=second-key\nDEMO_PACE_MS=0\n")
    killed = app.workers[0]
    os.kill(killed, signal.SIGKILL)
    until(lambda: len(app.workers) == 2 and killed not in app.workers, "another worker")
    assert {_status(app, "first-key") for _ in range(20)} == {200}


@pytest.mark.parametrize("command", [GUNICORN, ("app.py",)], ids=["gunicorn", "python app.py"])
@pytest.mark.parametrize("kind", ["a line", "a pipe", "a folder"])
def test_env_that_cannot_be_read_stops_the_start(command: tuple[str, ...], tmp_path: Path, kind: str) -> None:
    """In one sentence, and without waiting for whoever would write into a pipe."""
    file = tmp_path / "mine.env"
    if kind == "a pipe":
        os.mkfifo(file)
    elif kind == "a folder":
        file.mkdir()
    else:
        file.write_text("# mine\n\nPORT=0\nsk-secret and more\n")
    said = fails_to_start(*command, ENV_FILE=file)
    assert f"{file}{', line 4' if kind == 'a line' else ''} cannot be read" in said
    assert "secret" not in said


@pytest.mark.parametrize("command", [GUNICORN, ("app.py",)], ids=["gunicorn", "python app.py"])
@pytest.mark.parametrize("setting", ["LOG_FILE", "MODELS_FILE"])
@pytest.mark.parametrize("kind", ["a pipe", "a folder"])
def test_what_is_no_file_stops_the_start(command: tuple[str, ...], tmp_path: Path, setting: str, kind: str) -> None:
    path = tmp_path / "odd"
    os.mkfifo(path) if kind == "a pipe" else path.mkdir()
    assert str(path) in fails_to_start(*command, **{setting: path})


@pytest.mark.parametrize("workers", [1, 2])
def test_too_few_threads_stop_the_start(workers: int) -> None:
    """Also a limit of memory is one of threads: each has its stack."""
    said = fails_to_start(*GUNICORN, limit=(resource.RLIMIT_AS, 1_500_000_000), THREADS=4000, WORKERS=workers)
    assert "THREADS is 4000" in said


def test_a_worker_that_cannot_boot_is_tried_again(serve: Serve, tmp_path: Path) -> None:
    """A service that runs is not ended for it. More THREADS than there may be are not taken on HUP."""
    file = tmp_path / "mine.env"
    file.write_text("THREADS=200\n")
    app = serve(ENV_FILE=file, THREADS="", DEMO_PACE_MS=0)
    (worker,) = app.workers
    _limit_memory(app.process.pid, 150_000_000)  # less than the stacks of the threads that a worker begins with
    file.write_text("THREADS=1000\n")
    app.process.send_signal(signal.SIGHUP)
    app.logged("ERROR .*THREADS is 1000, and the system allows .*last good settings")
    os.kill(worker, signal.SIGKILL)
    app.logged("a worker cannot boot, and is tried again: can't start new thread")
    _limit_memory(app.process.pid, None)
    until(lambda: _answers(app.port), "the service to be back")
    assert app.process.poll() is None


def _limit_memory(pid: int, more: int | None) -> None:
    """So many bytes of memory more than it has; its children inherit the limit."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    soft = resource.RLIM_INFINITY if more is None else pages * resource.getpagesize() + more
    resource.prlimit(pid, resource.RLIMIT_AS, (soft, resource.RLIM_INFINITY))


def test_a_home_that_cannot_be_known_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user has none; another's may not be looked into."""
    settings = Settings.load(environment())
    look = os.stat

    def refuse(path: Any, *more: Any, **rest: Any) -> os.stat_result:
        if ".oci" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, *more, **rest)

    monkeypatch.setattr(os, "stat", refuse)
    create_app(settings)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", lambda _: {}["nobody"])
    create_app(settings)


def test_the_line_of_a_mistake_is_told(tmp_path: Path) -> None:
    file = tmp_path / "mine.env"
    file.write_text("# mine\nHOST=127.0.0.1\n\n\nPORT=eighty\n")
    assert f"PORT is 'eighty' ({file}, line 5); allowed" in fails_to_start(*GUNICORN, ENV_FILE=file, PORT="")
