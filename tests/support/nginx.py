"""nginx before the app, with the files of deploy/nginx."""

import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import EVER, ROOT, _listens, free_port, until

MAP = "map $http_upgrade $thinkline_connection { default upgrade; '' ''; }"


class Nginx:
    """nginx on a free port, before the apps on `ports`."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self.port = free_port()
        self._folder = folder
        self._config = folder / "nginx.conf"
        self._write(ports)
        command = [
            shutil.which("nginx") or "/usr/sbin/nginx",
            "-p",
            str(folder),
            "-c",
            str(self._config),
            "-g",
            "daemon off;",
        ]
        self._process = subprocess.Popen(command, stderr=(folder / "nginx.log").open("wb"))
        until(lambda: _listens(self.port), "nginx to listen")

    def send_to(self, ports: Sequence[int]) -> None:
        """Calls from now on go to these; returns when none goes elsewhere. Those under way end where they are."""
        old = self._workers()
        self._write(ports)
        self._process.send_signal(signal.SIGHUP)
        # A worker that was told to end accepts nothing: its title says so.
        until(lambda: all(_is_ending(pid) for pid in old) and self._workers() - old, "nginx to take the new file")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(EVER)

    def _workers(self) -> set[int]:
        pid = self._process.pid
        return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}

    def _write(self, ports: Sequence[int]) -> None:
        temporary = " ".join(
            f"{kind}_temp_path {self._folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        servers = " ".join(f"server 127.0.0.1:{port};" for port in ports)
        self._config.write_text(
            f"pid {self._folder}/nginx.pid; worker_processes 1; events {{ worker_connections 1000; }}\n"
            f"http {{ access_log off; {temporary} {MAP}\n"
            f"upstream thinkline {{ {servers} }}\n"
            f"server {{ listen 127.0.0.1:{self.port};\n"
            f"location / {{ include {ROOT}/deploy/nginx/proxy.conf; proxy_pass http://thinkline; }} }} }}\n"
        )


def _is_ending(pid: int) -> bool:
    try:
        return b"shutting down" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return True


@contextmanager
def nginx(folder: Path, ports: Sequence[int]) -> Iterator[Nginx]:
    """nginx before the apps on `ports`, until the block ends."""
    folder.mkdir()
    found = Nginx(folder, ports)
    try:
        yield found
    finally:
        found.stop()
