"""What is configured, what can be reached, what is wrong, and which setting or line mends it.

    python doctor.py                a table, then what to do
    python doctor.py --json         {"ok": bool, "findings": [{"what", "state", "detail", "mend", "latency_ms"}]}
    python doctor.py --timeout 2    seconds that each provider has to answer

Every configured provider is asked once for its list of models, all at the same time; none is asked to chat. Keys are
not shown. Exit codes: 0 all is fine (warnings allowed), 1 something configured is wrong, 2 the settings cannot be read.
"""

import argparse
import errno
import json
import logging
import os
import re
import resource
import socket
import ssl
import sys
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import errors
from app import furnish
from config import ROOT, SettingError, Settings, is_this_machine
from dispatch import models_file
from dispatch.catalogue import Catalogue, Snapshot
from dispatch.entries import Entry
from dispatch.sources import from_environment
from dispatch.yaml_lines import Place, load
from logs import CREDENTIALS
from providers.base import Call, Timeouts

AT_ONCE, FEW_THREADS, SPARE_FILES = 32, 8, 64
SECRET_CHARACTERS = 8
"""A shorter key may be a plain word, such as Ollama's usual `ollama`, and would blot out names."""
WEB_PAGE = re.compile(r"<(!doctype|html)", re.IGNORECASE)
USER, QUERY = re.compile(r"(\w://)\S*@"), re.compile(r"(\w://[^\s?'\"]*)\?[^\s'\"]*")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and its state: `ok`, `warn` or `fail`; `mend` says what to do when it is not ok."""

    what: str
    state: str
    detail: str
    mend: str = ""
    latency_ms: int | None = None


Asked = tuple[Finding, Collection[str]]
"""What is found about a provider, and the models that it lists."""


@dataclass(frozen=True, slots=True)
class Where:
    """Where things are configured: in a line of the models file, or in a variable. `rows`: line of each model in it."""

    file: str
    upstreams: Mapping[str, str]
    lines: Mapping[Place, int] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)

    def of(self, entry: Entry, option: str) -> str:
        """What to set for another value of a provider's option."""
        name = entry.name.partition("#")[0]
        variable = f"{name.upper().replace('-', '_')}_{option.upper()}"
        value = str(entry.options.get(option, ""))
        also = [other for other, given in self.upstreams.items() if value.startswith(given)]  # as a vendor's SDK has it
        line = self.lines.get(("providers", name, option))
        if not line and variable not in self.upstreams and not also:
            line = self.lines.get(("providers", name))
        if line or option not in entry.options:
            return f"{option} of {name}" + (f" ({self.file}, line {line})" if line else "")
        if name.startswith("list-"):
            return "MODEL_LIST_AUTH_TOKEN" if option == "api_key" else "MODEL_LIST_URL"
        return variable if variable in self.upstreams or not also else also[0]


def examine(settings: Settings, seconds: float) -> list[Finding]:
    """Everything, in the order in which it is shown. Raises SettingError."""
    file, where = _models_file(settings)
    catalogue, lost = _catalogue(settings, usable=file.state == "ok")
    snapshot = catalogue.snapshot
    asked = _ask_all(catalogue, where, seconds)
    missing = [entry for entry in snapshot.entries.values() if entry.missing]
    mine = [entry for entry in missing if ("providers", entry.name) in where.lines]
    others = [entry.name for entry in missing if entry not in mine]
    findings = [look(settings) for look in (_source, _callers, _address, _threads, _gunicorn, _log_file, _data_dir)]
    findings += [file, lost or _default(settings, snapshot), *(finding for finding, _ in asked.values())]
    findings += [Finding(f"provider {each.name}", "warn", "not configured", f"set {each.missing}") for each in mine]
    findings += [_model(name, snapshot, asked, where) for name in where.rows]
    findings += [Finding("others", "ok", f"not configured: {', '.join(others)}")] if others else []
    secrets = {str(entry.options.get("api_key", "")) for entry in snapshot.entries.values()}
    return [without(each, {*secrets, *settings.keys.values(), settings.model_list_auth_token}) for each in findings]


def without(finding: Finding, secrets: Iterable[str] = ()) -> Finding:
    """The finding without what is nobody's business, should an address or a vendor's sentence hold it."""

    def clean(text: str) -> str:
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, "***") if len(secret) >= SECRET_CHARACTERS else text
        return QUERY.sub(r"\1", USER.sub(r"\1***@", CREDENTIALS.sub(r"\1***", text)))

    return replace(finding, detail=clean(finding.detail), mend=clean(finding.mend))


def _source(settings: Settings) -> Finding:
    named = settings.variables.get("ENV_FILE", "")
    there = os.access(named or ROOT / ".env", os.R_OK)
    if named and not there:
        return Finding("settings", "warn", f"ENV_FILE is {named!r}, which cannot be read", "mend ENV_FILE, or unset it")
    return Finding("settings", "ok", f"from the environment {'and' if there else 'without'} {named or '.env'}")


def _callers(settings: Settings) -> Finding:
    try:
        settings.guard(settings.host)
    except SettingError as error:
        return Finding("callers", "fail", str(error).partition(". ")[0], "set API_KEY to a secret of your own")
    if settings.keys:
        return Finding("callers", "ok", f"those who send a key (set: {len(settings.keys)})")
    if settings.allow_anonymous:
        return Finding("callers", "warn", "everybody, without a key", "set API_KEY, and unset ALLOW_ANONYMOUS")
    return Finding("callers", "ok", "this machine alone, as no key is set; nobody through a tunnel or a proxy")


def _address(settings: Settings) -> Finding:
    detail = f"{settings.address}, for {'this machine alone' if is_this_machine(settings.host) else 'others too'}"
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        with socket.socket(*found[0][:3]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[0][4])
    except (OSError, UnicodeError) as error:
        if not isinstance(error, OSError) or error.errno != errno.EADDRINUSE:
            return Finding("address", "fail", f"{settings.address}: {error}", "mend HOST or PORT")
        detail += "; taken at present (by Thinkline, if it runs)"
    return Finding("address", "ok", detail)


def _threads(settings: Settings) -> Finding:
    count, files = settings.threads, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if count < FEW_THREADS:
        return Finding("threads", "warn", f"{count}; further callers wait", "raise THREADS (256 is usual)")
    if files != resource.RLIM_INFINITY and 2 * count + SPARE_FILES > files:  # a call has a socket on either side
        mend = f"raise the limit (ulimit -n {4 * count}), or lower THREADS"
        return Finding("threads", "warn", f"{count} need more than the {files} files that a process may open", mend)
    return Finding("threads", "ok", f"{count} calls at once in each worker; workers: {settings.workers}")


def _gunicorn(_: Settings) -> Finding:
    try:
        import_module("gunicorn.workers.gthread")
        version = import_module("gunicorn").__version__
    except ImportError as error:
        return Finding("gunicorn", "fail", f"cannot be imported: {error}", "pip install -r requirements.txt")
    return Finding("gunicorn", "ok", f"{version}, on Python {sys.version.partition(' ')[0]}")


def _log_file(settings: Settings) -> Finding:
    path = Path(settings.log_file or os.devnull)  # that its folder can be written to is a condition of Settings
    if path.is_dir() or (path.exists() and not os.access(path, os.W_OK)):
        return Finding("log", "fail", f"{str(path)!r} cannot be written to", "mend LOG_FILE, or the file's rights")
    return Finding("log", "ok", f"on stderr and in {path}" if settings.log_file else "on stderr alone")


def _data_dir(settings: Settings) -> Finding:
    folder = ROOT / settings.data_dir
    there = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Finding("data", "ok", f"in {settings.data_dir}{'' if there == folder else ', which will be made'}")
    state = "fail" if settings.model_list_url else "warn"
    return Finding("data", state, f"{str(there)!r} is no folder that can be written to", "mend DATA_DIR, or its rights")


def _models_file(settings: Settings) -> tuple[Finding, Where]:
    name, path, where = settings.models_file, ROOT / settings.models_file, Where("", settings.upstreams)
    try:
        known = [entry.name for entry in from_environment(settings.upstreams, demo_pace_ms=0).entries]
    except ValueError as error:
        raise SettingError(str(error)) from None
    if name == Settings.models_file and not path.exists():
        return Finding("models file", "ok", f"there is no {name}"), where
    try:
        listing = models_file.read(path, settings.variables, known)
        data, lines = load(path.read_text(encoding="utf-8"), settings.variables)
    except ValueError as error:
        return Finding("models file", "fail", str(error), "mend that line; what follows is without this file"), where
    rows = {row.name: 1 for row in listing.rows} | _lines_of_models(data, lines)
    detail = f"{name} has {len(listing.entries)} providers and {len(rows)} models"
    return Finding("models file", "ok", detail), Where(name, settings.upstreams, lines, rows)


def _lines_of_models(data: Any, lines: Mapping[Place, int]) -> dict[str, int]:
    if not isinstance(data, dict):
        return {}
    found = {given["name"]: lines["models", at] for at, given in enumerate(data.get("models", []))}
    for provider, given in data.get("providers", {}).items():
        names = (given or {}).get("models", {})
        found |= {f"{provider}/{name}": lines["providers", provider, "models", name] for name in names}
    return found


def _catalogue(settings: Settings, *, usable: bool) -> tuple[Catalogue, Finding | None]:
    settings = settings if usable else replace(settings, models_file=os.devnull)
    try:
        return furnish(settings).catalogue, None
    except SettingError as error:
        mend = "mend PROVIDER_NAME, or unset it" if usable else "mend the models file first"
        lost = Finding("default", "fail", str(error), mend)
        return furnish(replace(settings, provider_name="")).catalogue, lost


def _default(settings: Settings, snapshot: Snapshot) -> Finding:
    name = snapshot.default
    if settings.provider_name:
        return Finding("default", "ok", f"{name}, as PROVIDER_NAME says")
    if snapshot.entries[name].kind == "demo":
        mend = "for a real provider, put a line such as OPENAI_API_KEY=sk-... into .env"
        return Finding("default", "warn", f"{name}, which is built in: no other provider is configured", mend)
    return Finding("default", "ok", f"{name}, the first that is configured (PROVIDER_NAME is unset)")


def _ask_all(catalogue: Catalogue, where: Where, seconds: float) -> dict[str, Asked]:
    entries = catalogue.snapshot.available()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda entry: _ask(catalogue, entry, where, seconds), entries)
        return {entry.name: each for entry, each in zip(entries, found, strict=True)}


def _ask(catalogue: Catalogue, entry: Entry, where: Where, seconds: float) -> Asked:
    what, started, models = f"provider {entry.name}", monotonic(), list[str]()
    call = Call(heartbeat=seconds)
    call.begin(Timeouts(seconds, seconds, seconds, seconds))
    timer = threading.Timer(seconds, call.hang_up)  # also while it connects, which the call's deadlines do not cover
    timer.start()
    try:
        models += [model.id for model in catalogue.provider(entry.name).models(call)]
        state, detail, mend = _listed(models, entry, where)
    except Exception as error:  # noqa: BLE001 - one provider's fault must not hide the others
        state, detail, mend = _trouble(error, entry, where, seconds)
    finally:
        timer.cancel()
    return Finding(what, state, detail, mend, round((monotonic() - started) * 1000)), models


def _listed(models: Sequence[str], entry: Entry, where: Where) -> tuple[str, str, str]:
    model, count = entry.default_model, f"{len(models)} model{'s' * (len(models) != 1)}"
    if model and not _has(models, model):
        return "warn", f"{model} is not in its list ({count})", f"set {where.of(entry, 'model')}"
    return "ok", f"{count}, {model} among them" if model else f"{count}, none of them the default", ""


def _has(models: Collection[str], name: str) -> bool:
    """Whether a list has a model: some lists have `models/` before it, others `:latest` after it."""
    return any(name in (each, each.rpartition("/")[2], each.partition(":")[0]) for each in models)


def _trouble(error: Exception, entry: Entry, where: Where, seconds: float) -> tuple[str, str, str]:
    """State, detail and mend of what a provider raised: the first rule that holds."""
    cause, text = error.__cause__ or error, str(error).rstrip(".")
    status = getattr(error, "upstream_status", getattr(error, "status", 0)) or 0
    log, base = getattr(error, "log", ""), urlsplit(str(entry.options.get("base_url", "/v1")))
    way = f"mend {where.of(entry, 'proxy')}" if entry.options.get("proxy") else f"mend {where.of(entry, 'base_url')}"
    key, versioned = f"set {where.of(entry, 'api_key')}", "/v" in base.path
    there = f"mend {where.of(entry, 'base_url')}{'' if versioned else ': the address may lack /v1'}"
    no_list = status in (404, 405)
    rules = (
        (isinstance(cause, socket.gaierror | UnicodeError), "fail", f"{text}: no such host", f"{way}, or see to DNS"),
    )
    return next(rule[1:] for rule in rules if rule[0])
