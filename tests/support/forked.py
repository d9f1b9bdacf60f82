"""Python processes in a hurry: each a fork of one that has loaded the app's modules already.

A new interpreter takes 0.4 s of CPU to load them, and the suite starts more than a hundred that differ by their
settings alone. What a new one does is tested by some real ones, in test_server.py.
"""

import atexit
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from tempfile import TemporaryDirectory

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["gunicorn.app.wsgiapp", "server.worker", "app", "doctor", "requests", __name__])


class Forked:
    """`python *command` from the root, with these variables as its environment; as subprocess.Popen, where tests look.

    What it says goes to files. With the processes that it starts it is a group of its own.
    """

    def __init__(
        self,
        command: Sequence[str],
        variables: Mapping[str, str],
        stdout: Path,
        stderr: Path,
        limit: tuple[int, int] | None = None,
    ) -> None:
        self.args = list(command)
        arguments = (self.args, dict(variables), stdout, stderr, limit)
        self._process = SERVER.Process(target=_become, args=arguments, daemon=True)
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float) -> int:
        """Its exit status, once it has ended."""
        self._process.join(seconds)
        status = self._process.exitcode
        if status is None:
            raise TimeoutExpired(self.args, seconds)
        return status

    def send_signal(self, number: int) -> None:
        """A signal to it alone."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """It and its children are no more."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # ended already, or not begun
        self._process.kill()
        self._process.join()


def run(
    command: Sequence[str], variables: Mapping[str, str], seconds: float, limit: tuple[int, int] | None = None
) -> "CompletedProcess[str]":
    """As subprocess.run, with what was said as text."""
    with TemporaryDirectory() as folder:
        stdout, stderr = Path(folder) / "stdout", Path(folder) / "stderr"
        process = Forked(command, variables, stdout, stderr, limit)
        try:
            status = process.wait(seconds)
        finally:
            process.kill()
        return CompletedProcess(process.args, status, stdout.read_text(), stderr.read_text())


def _become(
    command: list[str], variables: dict[str, str], stdout: Path, stderr: Path, limit: tuple[int, int] | None
) -> None:
    os.setpgid(0, 0)
    threading.Thread(target=_end_with_the_tests, daemon=True).start()
    if limit:
        resource.setrlimit(limit[0], (limit[1], limit[1]))
    os.chdir(Path(__file__).parent.parent.parent)
    os.environ.clear()  # noqa: TID251 - a process of its own, whose environment the test says
    os.environ.update(variables)  # noqa: TID251
    for number, path in ((1, stdout), (2, stderr)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, number)
        os.close(file)
    try:
        if command[0] == "-m":
            sys.argv = command[1:]
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command
            runpy.run_path(command[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends without


def _end_with_the_tests() -> None:
    """Who ends suddenly, cannot end what they started."""
    tests = multiprocessing.parent_process()
    assert tests
    tests.join()
    os.killpg(0, signal.SIGKILL)
