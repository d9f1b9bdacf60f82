"""The processes of a measurement: their cores, their CPU time and memory, and their end."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from tools.bench import answers

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
LOOPBACK = "127.0.0.1"
CHAT_PATH = "/v1/chat/completions"
START_SECONDS = 90.0
STOP_SECONDS = 10.0
UPSTREAM_SECONDS = 1200.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class NotStarted(Exception):
    """A server does not start; the text has the end of its output."""


@dataclass(frozen=True)
class Server:
    """A server under measurement: its port, its first process, and the headers that its callers must send.

    `extra_body` are fields that the bodies of requests to it have besides.
    """

    port: int
    pid: int
    headers: Mapping[str, str] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def pids(self) -> list[int]:
        """Its process and all below it."""
        pids = [self.pid]
        for pid in pids:
            pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return pids

    def cpu_seconds(self) -> float:
        """Their CPU seconds, in user and in kernel (proc(5), fields 14 and 15)."""
        return sum(map(_cpu_seconds, self.pids()))

    def memory_mb(self) -> float:
        """MB: their proportional set sizes, so that what they share counts once."""
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids()]
        return sum(int(text.partition("\nPss:")[2].split()[0]) for text in rollups) * 1024 / 1e6

    def chat_request(self, answer: str, *, stream: bool = True) -> bytes:
        """A chat request. `answer` is what upstream.c answers: bench:whole, bench:burst:2000 ..."""
        system = "You are a friendly voice agent of a pizzeria. Answer in one or two sentences."
        messages = [{"role": "system", "content": system}, {"role": "user", "content": answer}]
        body = {"model": answers.OPENAI_MODEL, "messages": messages, "temperature": 0.7, **self.extra_body}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return answers.http_request(CHAT_PATH, self.headers, body)


def _cpu_seconds(pid: int) -> float:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICKS_PER_SECOND


def choose_cores() -> tuple[int, int]:
    """The core for the server under measurement, and the core for all else: the same if there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


@contextmanager
def pin_to_core(core: int) -> Iterator[None]:
    """Run this process on that core alone while the block lasts; children that it starts inherit that."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def build_programs(folder: Path) -> None:
    """Build `upstream` and `load` there. Raises NotStarted."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise NotStarted("There is no C compiler: cc is not on the PATH.")
    for name in ("upstream", "load"):
        flags = ["-O2", "-Wall", "-Wextra", "-Wno-missing-field-initializers", "-Werror"]
        command = [compiler, *flags, "-o", folder / name, HERE / f"{name}.c"]
        build = subprocess.run(command, check=False, capture_output=True, text=True)
        if build.returncode:
            raise NotStarted(build.stderr)


@contextmanager
def run_upstream(core: int, folder: Path) -> Iterator[Server]:
    """Run upstream.c, built in that folder, on a free port."""
    answers.write_files(folder)
    command = [str(folder / "upstream"), str(folder), str(UPSTREAM_SECONDS)]
    with pin_to_core(core):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()), process.pid)
    finally:
        _stop(process)


def upstream_counts(upstream: Server) -> dict[str, int]:
    """The upstream's counts: opened, hangups, last_hangup_us."""
    connection = HTTPConnection(LOOPBACK, upstream.port, timeout=10)
    connection.request("GET", "/stats")
    counts: dict[str, int] = json.loads(connection.getresponse().read())
    connection.close()
    return counts


@contextmanager
def run_server(
    command: Sequence[str],
    core: int,
    port: int,
    *,
    cwd: Path = ROOT,
    variables: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run a server until the block ends; it has answered a chat request when the block begins. Raises NotStarted."""
    with tempfile.TemporaryFile() as log, pin_to_core(core):
        environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), **(variables or {})}  # noqa: TID251 - no setting
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=log, stderr=log)
        server = Server(port, process.pid, headers or {})
        try:
            if not _wait_for_answer(server, process):
                log.seek(0)
                output = log.read()[-2000:].decode("utf-8", "replace").strip()
                raise NotStarted(output.replace(f"{ROOT}/", "").replace(f"{cwd}/", "") or "It does not answer.")
            yield server
        finally:
            _stop(process)


def _wait_for_answer(server: Server, process: subprocess.Popen[bytes]) -> bool:
    deadline = monotonic() + START_SECONDS
    while monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection((LOOPBACK, server.port), 10) as sock:
                sock.sendall(server.chat_request("bench:whole", stream=False))
                if sock.recv(12) == b"HTTP/1.1 200":
                    return True
        except (OSError, HTTPException):
            pass
        sleep(0.1)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a child. gunicorn stops its workers on SIGTERM; if it is killed, they notice that their parent is gone."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)
    if process.stdout is not None:
        process.stdout.close()


def free_port() -> int:
    """A free port."""
    with socket.create_server((LOOPBACK, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port
