"""What is configured, what can be reached, what is wrong, and which setting or line mends it.

    python doctor.py                a table, then what to do
    python doctor.py --json         {"ok": bool, "findings": [{"what", "state", "detail", "mend", "latency_ms"}]}
    python doctor.py --timeout 2    seconds that each provider has to answer

Every configured provider is asked once for its list of models, all at the same time; none is asked to chat. Exit codes:
0 all is fine (warnings allowed), 1 something configured is wrong, 2 the settings cannot be read. No key is shown.
"""

import argparse
import json
import logging
import os
import re
import socket
import ssl
import sys
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial, reduce
from importlib.util import find_spec
from operator import getitem
from time import monotonic

import errors
from app import furnish
from config import ROOT, SettingError, Settings, is_this_machine
from dispatch import models_file
from dispatch.catalogue import Catalogue
from dispatch.entries import Entry
from dispatch.model_list import Limits, ModelList
from dispatch.snapshot import Snapshot
from dispatch.yaml_lines import Place, load
from logs import CREDENTIALS
from providers.base import Call, Timeouts

AT_ONCE, FEW_THREADS, LONGEST = 32, 8, 600.0
KEY_CHARACTERS = 8  # a shorter key may be a plain word, such as Ollama's usual `ollama`, and would blot out names
SERVER_ERRORS, TOO_LATE = 500, (errors.HungUp, errors.UpstreamTimeout)
WEB_PAGE, VARIABLE = re.compile(r"<(!doctype|html)", re.IGNORECASE), re.compile(r"\b[A-Z]+(?:_[A-Z]+)+\b")
Asked = tuple["Finding", Collection[str]]  # of a provider, and the models that it lists
USER, QUERY = re.compile(r"(\w://)\S*@"), re.compile(r"(\w://[^\s?'\"]*)\?[^\s'\"]*")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and its state: `ok`, `warn` or `fail`; `mend` says what to do when it is not ok."""

    what: str
    state: str
    detail: str
    mend: str = ""
    latency_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Where:
    """Where things are configured: in a line of the models file, or in a variable. `rows` are the file's models."""

    file: str
    upstreams: Mapping[str, str]
    lines: Mapping[Place, int] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)

    def of(self, entry: Entry, option: str) -> str:
        """What to set for another value of a provider's option."""
        name, value = entry.name.partition("#")[0], str(entry.options.get(option, ""))
        if name.startswith("list-"):
            return "MODEL_LIST_AUTH_TOKEN" if option == "api_key" else "MODEL_LIST_URL"
        if option not in entry.options:
            return f"{'the credentials' if option == 'api_key' else 'the address'} of {name}"
        stem = name.upper().replace("-", "_")
        variable = f"{stem}_{option.upper()}"
        if variable not in self.upstreams:  # a vendor's own SDK may spell it otherwise
            also = (each for each, given in self.upstreams.items() if each.startswith(stem) and value.startswith(given))
            variable = next(also, variable)
        own = None if variable in self.upstreams else self.lines.get(("providers", name))
        line = self.lines.get(("providers", name, option), own)
        return f"{option} of {name} ({self.file}, line {line})" if line else variable


def examine(settings: Settings, seconds: float) -> list[Finding]:
    """Everything, in the order in which it is shown. Raises SettingError."""
    file, where = _models_file(settings)
    catalogue, lost = _catalogue(settings, usable=file.state == "ok")
    listed = _model_list(settings, catalogue, seconds)
    snapshot = catalogue.snapshot
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = dict(pool.map(lambda each: (each.name, _ask(catalogue, each, where, seconds)), snapshot.available()))
    findings = [Finding("settings", "ok", "can be read"), _callers(settings), _address(settings), *_machine(settings)]
    findings += [file, *listed, lost or _default(settings, snapshot), *(finding for finding, _ in asked.values())]
    findings += [_model(name, snapshot, asked, where) for name in where.rows]
    missing = {entry.name: entry.missing for entry in snapshot.entries.values() if entry.missing}
    others = [name + f" (needs {it})" * (("providers", name) in where.lines) for name, it in missing.items()]
    findings.append(Finding("others", "ok", f"not configured: {', '.join(others) or 'none'}"))
    secrets = {str(entry.options.get("api_key", "")) for entry in snapshot.entries.values()}
    return [without(each, {*secrets, *settings.keys.values(), settings.model_list_auth_token}) for each in findings]


def without(finding: Finding, secrets: Iterable[str] = ()) -> Finding:
    """The finding without what is nobody's business, should an address or a vendor's sentence hold it."""
    known = "|".join(re.escape(each) for each in sorted(secrets, key=len, reverse=True) if len(each) >= KEY_CHARACTERS)
    texts = [CREDENTIALS.sub(r"\1***", text) for text in (finding.detail, finding.mend)]
    texts = [re.sub(known, "***", text) for text in texts] if known else texts
    detail, mend = (QUERY.sub(r"\1", USER.sub(r"\1***@", text)) for text in texts)
    return replace(finding, detail=detail, mend=mend)


def _callers(settings: Settings) -> Finding:
    try:
        settings.guard(settings.host)
    except SettingError as error:
        return Finding("callers", "fail", str(error).partition(". ")[0], "set API_KEY to a secret of your own")
    if settings.keys:
        return Finding("callers", "ok", f"those who send a key ({len(settings.keys)} set)")
    if settings.allow_anonymous:
        return Finding("callers", "warn", "everybody, without a key", "set API_KEY, and unset ALLOW_ANONYMOUS")
    return Finding("callers", "ok", "this machine alone, as no key is set; nobody through a tunnel or a proxy")


def _address(settings: Settings) -> Finding:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, 0), family=family).close()  # at any port: its own may be served already
    except (OSError, UnicodeError) as error:
        return Finding("address", "fail", f"{settings.address}: {error}", "mend HOST")
    return Finding("address", "ok", settings.address + ", this machine's own" * is_this_machine(settings.host))


def _machine(settings: Settings) -> list[Finding]:
    folder = ROOT / settings.data_dir
    there = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    kept = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    missed = "fail" if settings.model_list_url else "warn"  # nothing but the list is kept there
    usual = f"{settings.threads} in each worker; workers: {settings.workers}"
    few = ("warn", f"{settings.threads}: further callers wait", "raise THREADS (256 is usual)")
    data = f"in {settings.data_dir}" + ", which will be made" * (there != folder)
    checks = (
        ("threads", settings.threads >= FEW_THREADS, usual, few),
        ("gunicorn", find_spec("gunicorn"), "is installed", ("fail", "is missing", "pip install -r requirements.txt")),
        ("data", kept, data, (missed, f"{str(there)!r} is no folder that can be written to", "mend DATA_DIR")),
    )
    found = [Finding(what, "ok", good) if fine else Finding(what, *bad) for what, fine, good, bad in checks]
    return [*found, Finding("log", "ok", "on stderr" + f" and in {settings.log_file}" * bool(settings.log_file))]


def _models_file(settings: Settings) -> tuple[Finding, Where]:
    name, path, where = settings.models_file, ROOT / settings.models_file, Where("", settings.upstreams)
    alone = replace(settings, models_file=os.devnull, model_list_url="", provider_name="")
    if name == Settings.models_file and not path.exists():
        return Finding("models file", "ok", f"there is no {name}"), where
    try:
        listing = models_file.read(path, settings.variables, furnish(alone).catalogue.snapshot.entries, settings.clouds)
        data, lines = load(path.read_text(encoding="utf-8"), settings.variables)
    except ValueError as error:
        return Finding("models file", "fail", str(error), "mend that line; what follows is without this file"), where
    parts = {row.name: row.name.partition("/") for row in listing.rows}
    rows = {name: lines.get(("providers", part[0], "models", part[2]), 1) for name, part in parts.items()}
    models = data.get("models", []) if isinstance(data, dict) else []
    rows |= {each["name"]: lines["models", at] for at, each in enumerate(models)}
    regions = lines.items() if isinstance(data, list) else ()  # seed 001's shape
    rows |= {reduce(getitem, place, data): line for place, line in regions if place[-1:] == ("name",)}
    found = Finding("models file", "ok", f"{name}: providers {len(listing.entries)}, models {len(rows)}")
    return found, Where(name, settings.upstreams, lines, rows)


def _catalogue(settings: Settings, *, usable: bool) -> tuple[Catalogue, Finding | None]:
    settings = settings if usable else replace(settings, models_file=os.devnull)
    try:
        return furnish(settings).catalogue, None
    except SettingError as error:
        lost = Finding("default", "fail", str(error), "mend PROVIDER_NAME" if usable else "mend the models file first")
        return furnish(replace(settings, provider_name="")).catalogue, lost


def _model_list(settings: Settings, catalogue: Catalogue, seconds: float) -> list[Finding]:
    if not settings.model_list_url:
        return []
    url, token, started = settings.model_list_url, settings.model_list_auth_token, monotonic()
    source = ModelList(
        url, token, on_change=partial(catalogue.replace, "list"), limits=Limits(seconds, seconds, seconds)
    )
    try:
        source.refresh_once()
        problem = source.problem
    except ValueError as error:
        problem = str(error)
    mend = "mend MODEL_LIST_URL or MODEL_LIST_AUTH_TOKEN" if problem else ""
    state, detail = ("fail", f"{url}: {problem}") if problem else ("ok", url)
    return [Finding("model list", state, detail, mend, round((monotonic() - started) * 1000))]


def _default(settings: Settings, snapshot: Snapshot) -> Finding:
    name, chosen = snapshot.default, settings.provider_name
    if snapshot.entries[name].kind == "demo" and not chosen:
        mend = "for a real provider, put a line such as OPENAI_API_KEY=sk-... into .env"
        return Finding("default", "warn", f"{name}, which is built in: no other provider is configured", mend)
    return Finding("default", "ok", f"{name}, {'as PROVIDER_NAME says' if chosen else 'the first that is configured'}")


def _ask(catalogue: Catalogue, entry: Entry, where: Where, seconds: float) -> Asked:
    started, models, model = monotonic(), list[str](), entry.default_model
    call = Call(heartbeat=seconds)
    call.begin(Timeouts(seconds, seconds, seconds, seconds))
    timer = threading.Timer(seconds, call.hang_up)  # also while it connects, which the call's deadlines do not cover
    timer.start()
    try:
        models += [each.id for each in catalogue.provider(entry).models(call)]
        state, detail, mend = "ok", f"models: {len(models)}", ""
        if model and not _has(models, model):
            state, detail, mend = "warn", f"{model} is not in its list", f"set {where.of(entry, 'model')}"
    except Exception as error:  # noqa: BLE001 - one provider's fault must not hide the others
        state, detail, mend = _trouble(error, entry, where, seconds)
    finally:
        timer.cancel()
    detail += f", at {entry.options['base_url']}" if entry.options.get("base_url") else ""
    return Finding(f"provider {entry.name}", state, detail, mend, round((monotonic() - started) * 1000)), models


def _has(models: Collection[str], name: str) -> bool:
    """Some lists have `models/` before a name, others `:latest` after it."""
    return any(name in (each, each.rpartition("/")[2], each.partition(":")[0]) for each in models)


def _trouble(error: Exception, entry: Entry, where: Where, seconds: float) -> tuple[str, str, str]:
    """State, detail and mend of what a provider raised: the first rule that holds."""
    cause, text, log = error.__cause__ or error, str(error).rstrip("."), getattr(error, "log", "")
    status = getattr(error, "upstream_status", getattr(error, "status", 0)) or 0
    address = str(entry.options.get("base_url", "a/v1"))
    versioned = entry.kind != "openai_compatible" or re.search(r"\w/(.*/)?v\d", address)  # others add their own
    way, key = where.of(entry, "proxy" if entry.options.get("proxy") else "base_url"), where.of(entry, "api_key")
    there = f"mend {where.of(entry, 'base_url')}" + "; the address may lack /v1" * (not versioned)
    named = [] if "vendor" in entry.options else VARIABLE.findall(text)  # where a vendor's key stands, `where` knows
    settings = [param] if (param := getattr(error, "param", None)) else named
    no_list, said = status in (404, 405), log.lstrip()[:1] in ("{", "[") or isinstance(error, errors.InvalidRequest)
    fault, _, to_set = text.partition(": set ")
    rules: Sequence[tuple[object, str, str, str]] = (
        (isinstance(cause, socket.gaierror | UnicodeError), "fail", f"{text}: no such host", f"mend {way}, or the DNS"),
        (isinstance(cause, ssl.CertificateError), "fail", text, f"mend {way}, or have SSL_CERT_FILE name its CA"),
        (isinstance(cause, ssl.SSLError), "fail", f"{text}: it speaks no TLS", f"mend {way}: http:// may be meant"),
        (isinstance(cause, ConnectionRefusedError), "fail", f"{text}: connection refused", f"start it, or mend {way}"),
        (status >= SERVER_ERRORS, "fail", f"{text} ({status})", "wait: it is the provider's own trouble"),
        (isinstance(error, TOO_LATE), "fail", f"no answer within {seconds:g} s", f"mend {way}, or the firewall"),
        (to_set and not status, "fail", fault, f"set {to_set}"),
        (isinstance(error, errors.UpstreamRefusedUs) and settings, "fail", text, f"mend {' or '.join(settings)}"),
        (isinstance(error, errors.UpstreamRefusedUs), "fail", f"refuses the credential ({status})", f"set {key}"),
        (isinstance(error, errors.UpstreamBusy), "warn", "asks to slow down (429)", "wait, or ask for a higher limit"),
        (getattr(error, "code", "") == "insufficient_quota", "fail", text, "see to the account there"),
        (no_list and said and versioned, "warn", f"answers, but lists no models ({status})", f"if need be, {there}"),
        (no_list, "fail", f"has no list of models ({status})", there),
        (WEB_PAGE.search(log), "fail", f"a web page answers ({status})", there),
        (isinstance(error, errors.UpstreamRejected), "fail", text, f"set {key}, or {there}"),
        (type(error) is errors.UpstreamError and not status, "warn", "answers, but lists no models", there),
        (isinstance(error, errors.ProxyError), "fail", text, there if status else f"mend {way}"),
        (True, "fail", f"a fault of Thinkline's own: {type(error).__name__}", "please report it"),
    )  # fmt: skip
    return next(rule[1:] for rule in rules if rule[0])


def _model(name: str, snapshot: Snapshot, asked: Mapping[str, Asked], where: Where) -> Finding:
    row, found = snapshot.names[name], list[tuple[str, str, str]]()
    for place in row.upstreams:
        at, missing = place.provider, snapshot.entries[place.provider].missing
        if missing:
            found.append(("fail", f"{at} is not configured", f"{at} needs {missing}"))
        elif asked[at][0].state == "fail":
            found.append(("fail", f"{at} cannot be used", f"see provider {at}"))
        elif asked[at][1] and not row.details.get("endpoint") and not _has(asked[at][1], place.model):
            found.append(("warn", f"{at} does not list {place.model}", f"see {where.file}, line {where.rows[name]}"))
    usual = ", ".join(f"{place.provider}/{place.model}" for place in row.upstreams)
    state = ("fail" if [each[0] for each in found] == ["fail"] * len(row.upstreams) else "warn") if found else "ok"
    detail, mend = ("; ".join(dict.fromkeys(each[at] for each in found)) for at in (1, 2))
    return Finding(f"model {name}", state, detail or usual, mend)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the doctor; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="report for machines")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S", help="seconds for each provider (5)")
    options = parser.parse_args(arguments)
    logging.getLogger("thinkline").addHandler(logging.NullHandler())  # what is wrong is told as a finding
    try:
        findings = examine(Settings.load(), min(max(0.1, options.timeout), LONGEST))
        code = int(any(each.state == "fail" for each in findings))
    except SettingError as error:
        findings, code = [without(Finding("settings", "fail", str(error), "mend it in .env or in the environment"))], 2
    report = {"ok": not code, "findings": [asdict(each) for each in findings]}
    sys.stdout.write((json.dumps(report, indent=2) if options.json else table(findings)) + "\n")
    return code


def table(findings: Sequence[Finding]) -> str:
    """One finding a line, then what to do."""
    width = max(len(each.what) for each in findings)
    lines = []
    for each in findings:
        time = "" if each.latency_ms is None else f"{each.latency_ms} ms"
        lines.append(f"{each.state.replace('fail', 'FAIL'):4}  {each.what:{width}}  {time:>7}  {each.detail}")
    mends = [f"  {each.what}: {each.mend}" for each in findings if each.mend]
    return "\n".join([*lines, *(["", "What to do", *mends] if mends else [])])


if __name__ == "__main__":
    sys.exit(main())
