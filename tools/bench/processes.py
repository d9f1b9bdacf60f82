"""The processes of a measurement: who runs on which core, what they have spent, and that they end."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic, sleep
from typing import IO

ROOT = Path(__file__).parent.parent
LOOPBACK = "127.0.0.1"
START_SECONDS = 30.0
STOP_SECONDS = 10.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A server under measurement: its port, and the process whose CPU is counted."""

    port: int
    pid: int

    def cpu(self) -> float:
        """CPU seconds that it has spent, in user and in kernel, all threads together (proc(5), fields 14 and 15)."""
        after_name = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / TICKS_PER_SECOND

    def memory(self) -> float:
        """Resident MB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cores() -> tuple[int, int]:
    """One core for the server under measurement and one for all else; the same when there is but one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


@contextmanager
def upstream(core: int) -> Iterator[Server]:
    """tools/bench/upstream.py on a port of its own choice."""
    command = [sys.executable, str(ROOT / "bench" / "upstream.py")]
    with _child(command, core, {}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()), process.pid)


@contextmanager
def thinkline(core: int, upstream_port: int, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Thinkline in front of that upstream. `settings` are further variables of its environment."""
    variables = {
        "OPENAI_API_KEY": "x",
        "OPENAI_BASE_URL": f"http://{LOOPBACK}:{upstream_port}/v1",
        **(settings or {}),
    }
    with _gunicorn("app:create_app()", core, variables) as server:
        yield server


@contextmanager
def bare(core: int) -> Iterator[Server]:
    """tools/bench/bare.py, served in the same way."""
    with _gunicorn("bare:app", core, {"PYTHONPATH": str(ROOT / "bench")}) as server:
        yield server


@contextmanager
def _gunicorn(application: str, core: int, variables: Mapping[str, str]) -> Iterator[Server]:
    port = _free_port()
    variables = {"ENV_FILE": os.devnull, "WORKERS": "1", **variables, "PORT": str(port)}
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "gunicorn", application]
        with _child(command, core, variables, stderr=log) as process:
            try:
                pid = _worker(process, port)
            except RuntimeError as error:
                log.seek(0)
                error.add_note(log.read()[-3000:].decode("utf-8", "replace"))
                raise
            yield Server(port, pid)


@contextmanager
def _child(
    command: list[str],
    core: int,
    variables: Mapping[str, str],
    stdout: int = subprocess.DEVNULL,
    stderr: IO[bytes] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    with pinned(core):  # a child inherits it, and so does each of its threads
        process = subprocess.Popen(
            command, cwd=ROOT, env={"PATH": os.defpath, **variables}, stdout=stdout, stderr=stderr
        )
    try:
        yield process
    finally:
        _end(process)


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run on that core alone, for a while."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a child, and gunicorn's workers with it: it ends them on SIGTERM, and they see it go."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)
    if process.stdout is not None:
        process.stdout.close()


def _worker(master: subprocess.Popen[bytes], port: int) -> int:
    """The pid of gunicorn's one worker, once it answers. Raises RuntimeError when it does not."""
    children = Path(f"/proc/{master.pid}/task/{master.pid}/children")
    give_up = monotonic() + START_SECONDS
    while monotonic() < give_up and master.poll() is None:
        pids = children.read_text().split()
        if pids and _answers(port):
            return int(pids[0])
        sleep(0.1)
    raise RuntimeError("gunicorn did not start.")


def _answers(port: int) -> bool:
    try:
        get(port, "/health")
    except OSError:
        return False
    return True


def get(port: int, path: str) -> bytes:
    """The body of a small answer. Raises OSError."""
    connection = HTTPConnection(LOOPBACK, port, timeout=START_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port
