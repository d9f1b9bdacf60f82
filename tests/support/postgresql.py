"""A real PostgreSQL server for tests, on a free port of this machine."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

USERS = ("postgres", "nobody")
"""Whom the server runs as where the tests run as root, which it refuses: the first that there is."""
START_SECONDS = 60.0
TUNING = ("fsync=off", "synchronous_commit=on", "shared_buffers=32MB", "max_connections=60")


def _program(name: str) -> str:
    """Debian keeps PostgreSQL's programs out of the PATH."""
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), "")
    assert found, f"{name} is not installed: apt-get install postgresql"
    return found


class Server:
    """PostgreSQL with its data in `folder`. `url` has no database's name."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"postgresql://tests:secret-of-tests@127.0.0.1:{port}"
        self._data = folder / "data"
        self._port = port
        self._user = next((name for name in USERS if _exists(name)), None) if os.getuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        password = folder / "password"
        password.write_text("secret-of-tests")
        if self._user:
            for path in (folder, password):
                shutil.chown(path, self._user)
        options = ["-U", "tests", "--pwfile", str(password), "--auth", "scram-sha-256", "-E", "UTF8", "--locale", "C"]
        self._run([_program("initdb"), "-D", str(self._data), *options, "--no-sync"]).communicate()

    def start(self) -> None:
        """Serve, and return once it answers."""
        settings = [
            f"port={self._port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self._data}",
            *TUNING,
        ]
        flags = [word for setting in settings for word in ("-c", setting)]
        self._process = self._run([_program("postgres"), "-D", str(self._data), *flags])
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, "postgres has ended"
            assert time.monotonic() < deadline, "postgres does not answer"
            time.sleep(0.05)

    def stop(self) -> None:
        """End at once, as a machine does that fails."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(START_SECONDS)
            self._process = None

    def signal_all(self, number: int) -> None:
        """To the server and its processes, one for each connection."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in [self._process.pid, *map(int, children)]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _answers(self) -> bool:
        try:
            psycopg.connect(f"{self.url}/postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, command: list[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=self._user, cwd=self._data.parent
        )


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@contextmanager
def postgresql_server(folder: Path, port: int) -> Iterator[str]:
    """The address of a server that ends with the block."""
    server = Server(folder, port)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
