"""Checks of this machine: which requests are served, the address, the folders, the stores of sessions and usage."""

import os
import socket
import threading
from collections.abc import Callable
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from time import monotonic

from config import ROOT, SettingError, Settings, is_this_machine
from storage.database import open_database
from storage.key_value import RedisStore
from storage.migrations import REVISIONS
from tools.doctor.finding import Finding

FEW_THREADS = 8
SERVERS = ("redis://", "rediss://", "unix://")


def callers(settings: Settings, file_keys: int) -> Finding:
    """Which requests are served: with which keys, and from where. `file_keys` is how many the models file has."""
    try:
        settings.require_key_if_public(settings.host, file_has_keys=bool(file_keys))
    except SettingError as error:
        return Finding("callers", "fail", str(error).partition(". ")[0], "set API_KEY to a secret of your own")
    if count := len(settings.keys) + file_keys:
        return Finding("callers", "ok", f"those who send a key ({count} set)")
    if settings.allow_anonymous:
        return Finding("callers", "warn", "everybody, without a key", "set API_KEY, and unset ALLOW_ANONYMOUS")
    return Finding("callers", "ok", "this machine alone, as no key is set; nobody through a tunnel or a proxy")


def address(settings: Settings) -> Finding:
    """Whether the address is this machine's. Any port is tried, because the service may use its own port already."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, 0), family=family).close()  # any port: the own one may be in use
    except (OSError, UnicodeError) as error:
        return Finding("address", "fail", f"{settings.address}: {error}", "mend HOST")
    return Finding("address", "ok", settings.address + ", this machine's own" * is_this_machine(settings.host))


def machine(settings: Settings) -> list[Finding]:
    """The service's surroundings: threads, gunicorn, folders."""
    folder = ROOT / settings.data_dir
    there = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    kept = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    missed = "fail" if settings.model_list_url else "warn"  # only the list is stored there
    usual = f"{settings.threads} in each worker; workers: {settings.workers}"
    few = ("warn", f"{settings.threads}: further callers wait", "raise THREADS (1280 is usual)")
    data = f"in {settings.data_dir}" + ", which will be made" * (there != folder)
    checks = (
        ("threads", settings.threads >= FEW_THREADS, usual, few),
        ("gunicorn", find_spec("gunicorn"), "is installed", ("fail", "is missing", "pip install -r requirements.txt")),
        ("data", kept, data, (missed, f"{str(there)!r} is no folder that can be written to", "mend DATA_DIR")),
    )
    found = [Finding(what, "ok", good) if fine else Finding(what, *bad) for what, fine, good, bad in checks]
    return [*found, Finding("log", "ok", "on stderr" + f" and in {settings.log_file}" * bool(settings.log_file))]


def sessions(settings: Settings, seconds: float) -> Finding:
    """The store in STATE_URL. The doctor does not open a file; only the service does."""
    if not settings.state_url.startswith(SERVERS):
        return Finding("sessions", "ok", f"kept in a file ({'STATE_URL' if settings.state_url else 'DATA_DIR'})")
    store = RedisStore(settings.state_url)
    trouble, spent = _try(store.check, seconds)
    if trouble:
        return Finding("sessions", "fail", f"kept in Redis: {trouble}", "mend STATE_URL, or start Redis there", spent)
    return Finding("sessions", "ok", "kept in Redis, which can be written to", "", spent)


def usage(settings: Settings, seconds: float, *, budgets: bool) -> Finding:
    """The database in DATABASE_URL, which is not written to. `budgets` is whether a key has one."""
    if not settings.usage_days:
        if budgets:
            return Finding(
                "usage", "warn", "not kept (USAGE_DAYS is 0): no budget of a key is checked", "set USAGE_DAYS"
            )
        return Finding("usage", "ok", "not kept (USAGE_DAYS is 0)")
    try:
        database = open_database(settings.database_url, ROOT / settings.data_dir)
    except ValueError as error:
        return Finding("usage", "fail", str(error), "mend DATABASE_URL")
    if not database.is_shared:
        return Finding("usage", "ok", f"kept in a file ({'DATABASE_URL' if settings.database_url else 'DATA_DIR'})")
    versions: list[str] = []
    trouble, spent = _try(lambda: versions.append(database.version()), seconds)
    if trouble:
        mend = "mend DATABASE_URL, or start PostgreSQL there"
        return Finding("usage", "fail", f"kept in PostgreSQL: {trouble}", mend, spent)
    if versions[0] not in ("", *REVISIONS):
        newer = f"kept in PostgreSQL, by a newer release (version {versions[0]}): records wait"
        return Finding("usage", "fail", newer, "install that release here too", spent)
    return Finding("usage", "ok", "kept in PostgreSQL, which answers", "", spent)


def _try(work: Callable[[], object], seconds: float) -> tuple[str, int]:
    """Run a check for at most `seconds`; returns its failure, "" for none, and the milliseconds that it took."""
    results: SimpleQueue[Exception | None] = SimpleQueue()

    def try_it() -> None:
        try:
            work()
            results.put(None)
        except Exception as error:  # noqa: BLE001 - any failure becomes the finding
            results.put(error)

    started = monotonic()
    threading.Thread(target=try_it, daemon=True).start()  # a server may send a byte at a time
    try:
        error = results.get(timeout=seconds)
        problem = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        trouble = f"{type(error).__name__}: {problem}" if error else ""
    except Empty:
        trouble = f"no answer within {seconds:g} s"
    return trouble, round((monotonic() - started) * 1000)
