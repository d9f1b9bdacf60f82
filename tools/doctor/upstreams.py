"""Asks each provider once, with a request that costs nothing, and explains its failure by the settings."""

import re
import socket
import ssl
import threading
from collections.abc import Collection, Mapping, Sequence
from time import monotonic

from core import errors
from core.context import CallContext, Timeouts
from dispatch.routing.catalogue import Catalogue
from dispatch.routing.config import ProviderConfig
from dispatch.routing.snapshot import Snapshot
from providers.vendors import PROVIDERS
from tools.doctor.finding import Finding
from tools.doctor.where import Where

SERVER_ERRORS, TOO_LATE = 500, (errors.Cancelled, errors.UpstreamTimeout)
WEB_PAGE, VARIABLE = re.compile(r"<(!doctype|html)", re.IGNORECASE), re.compile(r"\b[A-Z]+(?:_[A-Z]+)+\b")
Asked = tuple[Finding, Collection[str]]
"""The findings of a provider, and the models that it lists."""


def ask(catalogue: Catalogue, entry: ProviderConfig, where: Where, seconds: float) -> Asked:
    """Send one request to a provider, within `seconds`."""
    started, models, model = monotonic(), list[str](), entry.default_model
    call = CallContext()
    call.begin(Timeouts(seconds, seconds, seconds, seconds))
    timer = threading.Timer(seconds, call.cancel)  # also while it connects, which the call's deadlines do not cover
    timer.start()
    try:
        provider = catalogue.provider(entry)
        models += [each.id for each in provider.models(call)]
        unseen = provider.check(call)
        state, detail, mend = "ok", f"models: {len(models)}" + f" ({unseen})" * bool(unseen), ""
        if model and not _has(models, model):
            state, detail, mend = "warn", f"{model} is not in its list", f"set {where.of(entry, 'model')}"
    except Exception as error:  # noqa: BLE001 - one provider's fault must not hide the others
        state, detail, mend = _trouble(error, entry, where, seconds)
    finally:
        timer.cancel()
    detail += f", at {entry.options['base_url']}" if entry.options.get("base_url") else ""
    return Finding(f"provider {entry.name}", state, detail, mend, round((monotonic() - started) * 1000)), models


def _has(models: Collection[str], name: str) -> bool:
    """Whether a list has the model; some lists have `models/` before a name, others `:latest` behind it."""
    return any(name in (each, each.rpartition("/")[2], each.partition(":")[0]) for each in models)


def _trouble(error: Exception, entry: ProviderConfig, where: Where, seconds: float) -> tuple[str, str, str]:
    """State, detail and mend for a provider's exception: the first rule that fits."""
    cause, text, log = error.__cause__ or error, str(error).rstrip("."), getattr(error, "log", "")
    status = getattr(error, "upstream_status", getattr(error, "status", 0)) or 0
    address = str(entry.options.get("base_url", "a/v1"))
    versioned = entry.kind != "openai_compatible" or re.search(r"\w/(.*/)?v\d", address)  # others append their own
    way, key = where.of(entry, "proxy" if entry.options.get("proxy") else "base_url"), where.of(entry, "api_key")
    there = f"mend {where.of(entry, 'base_url')}" + "; the address may lack /v1" * (not versioned)
    named = [] if "vendor" in entry.options else VARIABLE.findall(text)  # `where` finds the place of a vendor's key
    settings = [param] if (param := getattr(error, "param", None)) else named
    no_list, said = status in (404, 405), log.lstrip()[:1] in ("{", "[") or isinstance(error, errors.InvalidRequest)
    fault, _, to_set = text.partition(": set ")
    is_denied = "AccessDenied" in log  # the credentials are valid, and a policy denies the request
    refused = "have a policy allow it" if is_denied else f"{'replace' if _has_key(entry) else 'set'} {key}"
    rules: Sequence[tuple[object, str, str, str]] = (
        (isinstance(cause, socket.gaierror | UnicodeError), "fail", f"{text}: no such host", f"mend {way}, or the DNS"),
        (isinstance(cause, ssl.CertificateError), "fail", text, f"mend {way}, or have SSL_CERT_FILE name its CA"),
        (isinstance(cause, ssl.SSLError), "fail", f"{text}: it speaks no TLS", f"mend {way}: http:// may be meant"),
        (isinstance(cause, ConnectionRefusedError), "fail", f"{text}: connection refused", f"start it, or mend {way}"),
        (status >= SERVER_ERRORS, "fail", f"{text} ({status})", "wait: it is the provider's own trouble"),
        (isinstance(error, TOO_LATE), "fail", f"no answer within {seconds:g} s", f"mend {way}, or the firewall"),
        (to_set and not status, "fail", fault, f"set {to_set}"),
        (isinstance(error, errors.UpstreamAuthFailed) and settings, "fail", text, f"mend {' or '.join(settings)}"),
        (isinstance(error, errors.UpstreamAuthFailed), "fail", f"refuses the credential ({status})", refused),
        (isinstance(error, errors.UpstreamRateLimited), "warn", "asks to slow down (429)", "wait, or ask for more"),
        (getattr(error, "code", "") == "insufficient_quota", "fail", text, "see to the account there"),
        (no_list and said and versioned, "warn", f"answers, but lists no models ({status})", f"if need be, {there}"),
        (no_list, "fail", f"has no list of models ({status})", there),
        (WEB_PAGE.search(log), "fail", f"a web page answers ({status})", there),
        (isinstance(error, errors.UpstreamRejected), "fail", text, f"{refused}, or {there}"),
        (type(error) is errors.UpstreamError and not status, "warn", "answers, but lists no models", there),
        (isinstance(error, errors.GatewayError), "fail", text, there if status else f"mend {way}"),
        (True, "fail", f"a fault of Thinkline's own: {type(error).__name__}", "please report it"),
    )  # fmt: skip
    return next(rule[1:] for rule in rules if rule[0])


def _has_key(entry: ProviderConfig) -> bool:
    """Whether a credential is set, without which Amazon's providers get no request."""
    return bool(entry.options.get("api_key")) or "account" in entry.options


def model(name: str, snapshot: Snapshot, asked: Mapping[str, Asked], where: Where) -> Finding:
    """Whether a model's deployments are reachable, and have the model."""
    row, found = snapshot.names[name], list[tuple[str, str, str]]()
    for place in row.upstreams:
        at, entry = place.provider, snapshot.entries[place.provider]
        if entry.missing:
            waits = "warn" if entry.kind in PROVIDERS else "fail"
            found.append((waits, f"{at} is not configured", f"{at} needs {entry.missing}"))
        elif asked[at][0].state == "fail":
            found.append(("fail", f"{at} cannot be used", f"see provider {at}"))
        elif asked[at][1] and not row.details.get("endpoint") and not _has(asked[at][1], place.model):
            found.append(("warn", f"{at} does not list {place.model}", f"see {where.row(name)}"))
    usual = ", ".join(f"{place.provider}/{place.model}" for place in row.upstreams)
    state = ("fail" if [each[0] for each in found] == ["fail"] * len(row.upstreams) else "warn") if found else "ok"
    if row.details.get("endpoint") and not found:
        usual += " (its endpoint was not asked)"
    detail, mend = ("; ".join(dict.fromkeys(each[at] for each in found)) for at in (1, 2))
    return Finding(f"model {name}", state, detail or usual, mend)
