"""How gunicorn serves the app: threads, so that hundreds of calls may be under way; and no stranger without a key.

https://docs.gunicorn.org/en/stable/settings.html
"""

import gc
import signal
import socket
import struct
import sys
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from gunicorn import glogging

import logs
from app import announce, check_port, furnish
from config import ROOT, SettingError, Settings

try:
    settings = Settings.load()
    logconfig_dict = logs.config(settings)
    house = furnish(settings)  # so that what is wrong stops the start here, in one line
except SettingError as error:
    sys.exit(f"Thinkline cannot start. {error}")


class Logger(glogging.Logger):  # type: ignore[misc]
    """gunicorn's, which with a logconfig_dict makes an access line for each request even if nobody reads it."""

    def access(self, *arguments: Any) -> None:
        """Only when an access log was asked for: our own line says more."""
        if self.cfg.accesslog:
            super().access(*arguments)


STALLED_SECONDS = 30

# gunicorn is to believe no proxy, neither of SCRIPT_NAME nor of the scheme. Then it need not find out, each time,
# whether the sender would be one of those who may tell.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
forwarded_allow_ips = "*"
logger_class = Logger
wsgi_app = "app:create_app()"
bind = settings.address
workers = settings.workers
worker_class = "views.worker.Worker"  # gthread
threads = settings.threads
# gthread closes kept connections when there are more than worker_connections - threads.
worker_connections = settings.threads + 1000
keepalive = 75
graceful_timeout = int(settings.graceful_timeout)
reload = settings.reload
control_socket_disable = True


def _host(address: Any) -> str:
    """The host of one of gunicorn's addresses; "unix:" for a path, and a descriptor could be anywhere."""
    if isinstance(address, tuple):
        return str(address[0])
    return "unix:" if isinstance(address, str) else "fd"


def on_starting(server: Any) -> None:
    """Check every address before it is bound, also one that came by `--bind` (R9).

    It is bound already in a master that takes over from another (USR2), or that systemd hands its sockets.
    """
    is_bound = server.master_pid or settings.variables.get("LISTEN_FDS") or server.cfg.reuse_port
    for address in server.cfg.address:
        try:
            settings.guard(_host(address))
            if isinstance(address, tuple) and not is_bound:
                check_port(*address[:2])
        except SettingError as error:
            sys.exit(f"Thinkline cannot start. {error}")


def when_ready(server: Any) -> None:
    """Say who answers, and where; and have a second SIGTERM end at once what the first lets end in its time."""
    terms = count()

    def terminate(_: int, frame: Any) -> None:
        server.signal(signal.SIGINT if next(terms) else signal.SIGTERM, frame)

    signal.signal(signal.SIGTERM, terminate)
    announce(house, str(server.LISTENERS[0]), settings)


def post_request(worker: Any, request: Any, environ: Any, response: Any) -> None:  # noqa: ARG001 - gunicorn counts them
    """What the thread logs from now on is no longer about that request."""
    logs.request_id.set("")


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn names them
    """With RELOAD a new worker is to have the code as it is now: what this process knows of it is forgotten."""
    if settings.reload:
        for name, module in list(sys.modules.items()):
            if _is_ours(Path(getattr(module, "__file__", None) or "/")):
                del sys.modules[name]


def _is_ours(file: Path) -> bool:
    return file.is_relative_to(ROOT) and "site-packages" not in file.parts


def post_worker_init(worker: Any) -> None:
    """Bound how long a caller may keep a thread by sending or reading nothing: accepted sockets inherit it."""
    for listener in worker.sockets:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            listener.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", STALLED_SECONDS, 0))
    # What is there by now stays: a full collection need not look at it again, and hold up every line for that long. And
    # hundreds of calls under way are no reason to look for garbage: it is looked for after more of it than they are.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
