"""All checks of the doctor, in the order in which they are shown."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from time import monotonic

from app import check
from config import SettingError, Settings
from dispatch.routing.catalogue import Catalogue
from dispatch.routing.snapshot import Snapshot
from dispatch.sources.model_list import Limits, ModelList
from dispatch.sources.proxies import proxy_for
from tools.doctor.finding import Finding, without
from tools.doctor.machine import address, callers, machine, sessions, usage
from tools.doctor.names import half_set, misspelt, placeholders
from tools.doctor.upstreams import ask, model
from tools.doctor.where import models_file_and_lines

AT_ONCE = 32


def examine(settings: Settings, seconds: float) -> list[Finding]:
    """All findings, in the order in which they are shown. Raises SettingError."""
    file, where = models_file_and_lines(settings)
    catalogue, lost = _catalogue(settings, usable=file.state == "ok")
    listed = _model_list(settings, catalogue, seconds)
    snapshot = catalogue.snapshot
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = dict(pool.map(lambda each: (each.name, ask(catalogue, each, where, seconds)), snapshot.available()))
    keys = catalogue.contents("file").keys
    findings = [
        Finding("settings", "ok", "can be read"),
        callers(settings, len(keys)),
        address(settings),
        *machine(settings),
    ]
    findings += [sessions(settings, seconds), usage(settings, seconds, budgets=any(key.budget for key in keys))]
    findings += [*half_set(settings, snapshot, where), *misspelt(settings), *placeholders(settings)]
    findings += [file, *listed, lost or _default(settings, snapshot), *(finding for finding, _ in asked.values())]
    missing_packages = snapshot.missing_packages().items()
    findings += [
        Finding(f"provider {name}", "fail", f"needs {package}", "install it") for name, package in missing_packages
    ]
    aliases = [text.partition("=")[0] for text in settings.model_aliases]
    findings += [model(name, snapshot, asked, where) for name in dict.fromkeys([*where.rows, *aliases])]
    missing = {entry.name: entry.missing for entry in snapshot.entries.values() if entry.missing}
    others = [name + f" (needs {it})" * (("providers", name) in where.lines) for name, it in missing.items()]
    findings.append(Finding("others", "ok", f"not configured: {', '.join(others) or 'none'}"))
    secrets = {str(entry.options.get("api_key", "")) for entry in snapshot.entries.values()}
    return [without(each, {*secrets, *settings.keys.values(), settings.model_list_auth_token}) for each in findings]


def _catalogue(settings: Settings, *, usable: bool) -> tuple[Catalogue, Finding | None]:
    settings = settings if usable else replace(settings, models_file=os.devnull)
    try:
        return check(settings), None
    except SettingError as error:
        lost = Finding("default", "fail", str(error), "mend PROVIDER_NAME" if usable else "mend the models file first")
        return check(replace(settings, provider_name="")), lost


def _model_list(settings: Settings, catalogue: Catalogue, seconds: float) -> list[Finding]:
    if not settings.model_list_url:
        return []
    url, token, started = settings.model_list_url, settings.model_list_auth_token, monotonic()
    source = ModelList(
        url,
        token,
        on_change=partial(catalogue.replace, "list"),
        proxy=proxy_for(url, settings.variables),
        limits=Limits(seconds, seconds, seconds),
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
    if snapshot.entries[name].is_fallback and not chosen:
        mend = "for a real provider, put a line such as OPENAI_API_KEY=sk-... into .env"
        return Finding("default", "warn", f"{name}, which is built in: no other provider is configured", mend)
    return Finding("default", "ok", f"{name}, {'as PROVIDER_NAME says' if chosen else 'the first that is configured'}")
