"""Upgrades behind nginx: of 200 calls none is refused, and streams that run meanwhile are whole. They are done as
docs/operate/upgrade.md says.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import EVER, ROOT, Served, _answers, environment, free_port, until
from tests.served.test_server import running
from tests.support.calls import HEADERS, Calls
from tests.support.frames import chat_body, post
from tests.support.http import GUNICORN
from tests.support.nginx import nginx

pytestmark = [pytest.mark.services, pytest.mark.timeout(150)]

Serve = Callable[..., Served]
SETTINGS = {"API_KEY": "a-key", "DEMO_PACE_MS": 40, "THREADS": 64}


def test_the_next_version_beside_the_old(serve: Serve, tmp_path: Path) -> None:
    old = serve(**SETTINGS)
    with nginx(tmp_path / "nginx", [old.port]) as front, Calls(front.port):
        new = serve(**SETTINGS)
        until(lambda: _is_ready(new.port), "the next version to be ready")
        front.send_to([new.port])
        old.process.send_signal(signal.SIGTERM)
        assert old.process.wait(60) == 0
    assert "Traceback" not in old.log() + new.log()
    assert " path=chat " in new.log()


def test_back_to_the_version_before(serve: Serve, tmp_path: Path) -> None:
    """A rollback is an upgrade, the other way round: the old one need not have ended yet."""
    old, new = serve(**SETTINGS), serve(**SETTINGS)
    with nginx(tmp_path / "nginx", [old.port]) as front, Calls(front.port):
        front.send_to([new.port])
        front.send_to([old.port])
        new.process.send_signal(signal.SIGTERM)
        assert new.process.wait(60) == 0


def test_a_reload(serve: Serve, tmp_path: Path) -> None:
    app = serve(**SETTINGS)
    before = set(app.workers)
    with nginx(tmp_path / "nginx", [app.port]) as front, Calls(front.port):
        app.process.send_signal(signal.SIGHUP)
        until(lambda: app.log().count("Booting worker") == 2, "the next worker")
    until(lambda: not before & set(app.workers), "the worker before to end")


def test_a_new_master(tmp_path: Path) -> None:
    """USR2, then TERM to the old one."""
    port = free_port()
    with running(tmp_path / "log", *GUNICORN, port=port, PORT=port, **SETTINGS) as app:
        with nginx(tmp_path / "nginx", [port]) as front, Calls(front.port):
            (worker,) = app.workers
            app.process.send_signal(signal.SIGUSR2)
            until(lambda: len(app.workers) == 2, "the next master")
            (following,) = set(app.workers) - {worker}
            until(lambda: app.log().count("Booting worker") == 2, "its worker")
            app.process.send_signal(signal.SIGTERM)
            app.process.wait(60)
        os.kill(following, signal.SIGTERM)
        until(lambda: not _answers(port), "its end")


def test_replicas_one_after_another(serve: Serve, tmp_path: Path) -> None:
    """Each gets no further calls before it ends."""
    apps = [serve(**SETTINGS) for _ in range(2)]
    with nginx(tmp_path / "nginx", [app.port for app in apps]) as front, Calls(front.port):
        for position, app in enumerate(apps):
            front.send_to([other.port for other in apps if other is not app])
            app.process.send_signal(signal.SIGTERM)
            assert app.process.wait(60) == 0
            apps[position] = serve(**SETTINGS)
            until(lambda port=apps[position].port: _is_ready(port), "the replica to be ready")  # type: ignore[misc]
            front.send_to([each.port for each in apps])


def test_calls_wait_in_systemds_socket_while_there_is_no_service(tmp_path: Path) -> None:
    """Socket activation: systemd holds the socket, and a call that comes between two processes is answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        port = listener.getsockname()[1]
        first = _activated(listener, tmp_path / "first.log")
        try:
            until(lambda: _is_ready(port), "the service")
            first.terminate()
            assert first.wait(60) == 0
        finally:
            first.kill()
        with ThreadPoolExecutor() as pool:
            waiting = [pool.submit(post, port, chat_body(), headers=HEADERS) for _ in range(5)]
            second = _activated(listener, tmp_path / "second.log")
            try:
                assert [each.result(EVER)[0] for each in waiting] == [200] * 5
            finally:
                second.terminate()
                second.wait(EVER)
    assert "Traceback" not in (tmp_path / "second.log").read_text()


def _activated(listener: socket.socket, log: Path) -> "subprocess.Popen[bytes]":
    """The service as systemd starts it: descriptor 3 is the socket (sd_listen_fds(3))."""
    code = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
    code += f"os.execv(sys.executable, [sys.executable, *{GUNICORN!r}])"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(listener.fileno())],
        cwd=ROOT,
        env=environment(LISTEN_FDS=1, **SETTINGS),
        pass_fds=(listener.fileno(),),
        stderr=log.open("wb"),
    )


def _is_ready(port: int) -> bool:
    return _answers(port) and post(port, chat_body(), headers=HEADERS)[0] == 200
