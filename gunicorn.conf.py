"""gunicorn's settings: threads, so that hundreds of requests may be under way, and no public address without a key.

https://docs.gunicorn.org/en/stable/settings.html
"""

import gc
import logging
import signal
import socket
import struct
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from gunicorn import glogging
from gunicorn.util import parse_address

from app import check, log_start, require_port, warn_of_budgets
from config import EXPORTED, ROOT, SettingError, Settings, env_file
from dispatch.routing.catalogue import Catalogue
from server.file_limits import most_connections, raise_file_limit
from server.succession import Succession
from server.thread_pool import check_threads
from telemetry import logs
from telemetry.metric_files import MetricFiles

log = logging.getLogger("thinkline.settings")


def _load(last: Settings | None) -> tuple[Settings, dict[str, Any], Catalogue]:
    """Load the settings, and check them. `last` are those of a running service. Raises SettingError."""
    found = Settings.load()
    catalogue = check(found)
    if last:
        for host in Settings.bound or (found.host,):
            found.require_key_if_public(host, file_has_keys=_file_has_keys(catalogue))
        if found.address != last.address and not Settings.bound:
            require_port(found.host, found.port)
        if found.threads > last.threads:
            _try_threads(found.threads)
        warn_of_budgets(found, catalogue.contents("file").keys)  # as log_start does at a first start
    return found, logs.config(found), catalogue


def _file_has_keys(catalogue: Catalogue) -> bool:
    return bool(catalogue.contents("file").keys)


def _try_threads(count: int) -> None:
    try:
        check_threads(count)
    except RuntimeError as error:
        raise SettingError(str(error)) from None


last_good = Settings.in_use  # HUP runs this file again, but not the modules that it imports
try:
    settings, logconfig_dict, catalogue = _load(last_good)
except SettingError as error:
    if last_good is None:
        sys.exit(f"Thinkline cannot start. {error}")
    settings, logconfig_dict = last_good, logs.config(last_good)
    settings.export()
    log.error("%s The last good settings stay in use; %s is read again on HUP.", error, env_file())  # noqa: TRY400 - the message says it all
except Exception:  # any fault: gunicorn would end a running service for it
    if last_good is None:
        raise
    settings, logconfig_dict = last_good, logs.config(last_good)
    settings.export()
    log.exception("The last good settings stay in use; %s is read again on HUP.", env_file())
Settings.in_use = settings


class Logger(glogging.Logger):  # type: ignore[misc]
    """gunicorn's logger without access lines: with a logconfig_dict it would format one for each request."""

    def access(self, *arguments: Any) -> None:
        """Log an access line only if an access log is configured: our own line has more."""
        if self.cfg.accesslog:
            super().access(*arguments)


STALLED_SECONDS = 30

# gunicorn trusts no proxy headers, neither for SCRIPT_NAME nor for the scheme. So it need not check for each request
# whether its sender is a trusted proxy.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
forwarded_allow_ips = "*"
logger_class = Logger
wsgi_app = "app:create_app()"
bind = settings.address
workers = settings.workers
worker_class = "server.worker.Worker"  # gthread
threads = settings.threads
WANTED_CONNECTIONS = settings.threads + settings.max_sockets + 2000
files = raise_file_limit()
worker_connections = min(WANTED_CONNECTIONS, most_connections(files, settings.threads))
keepalive = 75
graceful_timeout = int(settings.graceful_timeout)
reload = settings.reload
control_socket_disable = True


def _host(address: Any) -> str:
    """The host of one of gunicorn's addresses; "unix:" for a path, "fd" for a descriptor."""
    if isinstance(address, tuple):
        return str(address[0])
    return "unix:" if isinstance(address, str) else "fd"


def on_starting(server: Any) -> None:
    """Check every address before it is bound, also one of `--bind`, and inherit the page of an earlier master.

    Addresses are bound already in a master that takes over from another (USR2), or gets its sockets from systemd.
    """
    is_bound = server.master_pid or settings.variables.get("LISTEN_FDS") or server.cfg.reuse_port
    if server.cfg.address != [parse_address(bind)]:
        Settings.bound = tuple(map(_host, server.cfg.address))
    server.succession = Succession.inherit(server.cfg.env_orig if server.master_pid else {})
    server.succession.expect(1, server.cfg.workers)
    Settings.processes = server.cfg.workers
    try:
        _try_threads(server.cfg.threads)
        for address in server.cfg.address:
            settings.require_key_if_public(_host(address), file_has_keys=_file_has_keys(catalogue))
            if isinstance(address, tuple) and not is_bound:
                require_port(*address[:2])
    except SettingError as error:
        sys.exit(f"Thinkline cannot start. {error}")
    if server.cfg.is_ssl:
        sys.exit(
            "Thinkline cannot start. It does not speak TLS itself (certfile, keyfile): a web server in front does."
        )
    server.metric_files = _share_metrics()


def _share_metrics() -> MetricFiles | None:
    try:
        files = MetricFiles()
    except OSError as error:
        log.warning("/metrics shows one worker at a time: no folder for all can be made: %s", error)
        return None
    Settings.share_metrics(str(files.folder))
    return files


def when_ready(server: Any) -> None:
    """Log the address and the default provider; and have a second SIGTERM end the server at once."""
    terms, end = count(), server.handle_term

    def terminate(_: int, frame: Any) -> None:
        server.signal(signal.SIGINT if next(terms) else signal.SIGTERM, frame)

    def handle_term() -> None:
        # Decided in gunicorn's loop: in the signal handler, the pid of a fork under way is not known yet.
        if not server.reexec_pid and not server.master_pid:  # else another master serves, after USR2
            server.succession.stop()
        end()

    server.handle_term = handle_term
    signal.signal(signal.SIGTERM, terminate)
    if worker_connections < WANTED_CONNECTIONS:
        message = "A worker takes %d connections instead of %d: only %d files may be open at a time (ulimit -n)."
        server.log.warning(message, worker_connections, WANTED_CONNECTIONS, files)
    log_start(catalogue, str(server.LISTENERS[0]), settings)


def post_request(worker: Any, request: Any, environ: Any, response: Any) -> None:  # noqa: ARG001 - gunicorn counts them
    """Clear the request's id: later log lines of the thread are not about that request."""
    logs.request_id.set("")


def on_reload(server: Any) -> None:
    """On HUP, note that the next workers take over; and free what only the last settings needed."""
    server.succession.expect(server.worker_age + 1, server.cfg.workers)
    gc.unfreeze()
    gc.collect()


def pre_exec(server: Any) -> None:
    """On USR2, note that the workers of the next master take over, and hand it the page."""
    server.succession.expect(1, server.cfg.workers)
    environ = server.cfg.env_orig  # the environment from before this file was last run
    for name in EXPORTED:
        environ.pop(name, None)
    server.succession.hand_over(environ)
    python, program, *arguments = server.START_CTX["args"]
    if Path(program).name == "__main__.py":  # run as a file, gunicorn's http would hide Python's own
        server.START_CTX["args"] = [python, "-m", "gunicorn", *arguments]


def pre_fork(server: Any, worker: Any) -> None:
    """Give a worker the page that says whether the server stops or others take over. A collection in the worker would
    write to all objects, and so copy the memory that it shares with this process.
    """
    worker.succession = server.succession
    gc.freeze()


def child_exit(server: Any, worker: Any) -> None:
    """Keep the counts of a worker that has ended."""
    if server.metric_files:
        server.metric_files.worker_ended(worker.pid)


def on_exit(server: Any) -> None:
    """Remove the metrics' files: a master that takes over has its own."""
    if server.metric_files:
        server.metric_files.remove()


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn names them
    """With RELOAD, forget our loaded modules, so that a new worker loads the current code."""
    if settings.reload:
        for name, module in list(sys.modules.items()):
            if _is_ours(Path(getattr(module, "__file__", None) or "/")):
                del sys.modules[name]
        with suppress(SyntaxError):  # gunicorn reports it when it loads the app
            import config  # noqa: PLC0415 - as it is now

            config.Settings.in_use = config.Settings.of(settings.variables)
            config.Settings.processes = Settings.processes
            config.Settings.metrics_folder = Settings.metrics_folder


def _is_ours(file: Path) -> bool:
    return file.is_relative_to(ROOT) and "site-packages" not in file.parts


def post_worker_init(worker: Any) -> None:
    """Bound how long a caller may keep a thread by sending nothing: accepted sockets inherit it."""
    for listener in worker.sockets:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", STALLED_SECONDS, 0))
    # Objects that exist now are never freed, so the collector need not look at them: a full collection holds up every
    # stream. The threshold is above the number of objects of hundreds of running requests, since these are no garbage.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    worker.succession.mark_serving(worker.age)
    if ledger := _ledger(worker):
        ledger.start()


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn names them
    """Write the usage before the worker ends."""
    if ledger := _ledger(worker):
        ledger.close()


def _ledger(worker: Any) -> Any:
    services = getattr(worker.wsgi, "extensions", {}).get("thinkline")
    return services and services.ledger
