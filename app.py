"""Thinkline: one OpenAI-compatible endpoint, made for voice agents. The whole wiring is on this screen.

gunicorn 'app:create_app()'     serves (gunicorn.conf.py beside this file is picked up)
python app.py                   serves for development
python app.py --version         says which version this is
"""

import logging
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from functools import partial
from logging.config import dictConfig
from urllib.parse import urlsplit

from flask import Flask
from werkzeug.serving import is_running_from_reloader

from access.budgets import BudgetCheck, warn_of_unchecked_budgets
from access.keys import REVOKED, Authenticator
from access.limits import RateLimiter
from access.platforms import PlatformProofs, networks
from access.proxies import TrustedProxies
from config import ROOT, SettingError, Settings, is_this_machine
from core.api_keys import ApiKey
from core.context import Timeouts
from core.errors import Unauthenticated
from core.masking import KNOWN_SECRETS
from core.rate_limits import LimitStore
from core.store import KeyValueStore
from core.version import VERSION
from dispatch.prewarm import Prewarmer
from dispatch.relay import Relay
from dispatch.resilience.breaker import Breakers
from dispatch.resilience.refused_parameters import RefusedParameters
from dispatch.resilience.retry import RetryPolicy
from dispatch.routing.catalogue import Catalogue
from dispatch.routing.config import Filler
from dispatch.routing.model_lists import ModelLists
from dispatch.sources.sources import Sources
from schemas.limits import Limits
from server.admission import Admission
from server.flask_app import Thinkline
from server.lines import LineKeeper
from server.ports import check_port
from server.sockets.keeper import SocketKeeper
from storage.key_value import open_store
from storage.rate_limits import open_limits
from telemetry import logs
from telemetry.open_tracing import open_tracer
from telemetry.records import Recorder, log_request
from usage.ledger import Ledger, open_ledger
from usage.overview import Overview
from usage.prices import price_of
from views import (
    chat,
    completions,
    embeddings,
    images,
    messages,
    models,
    moderations,
    openapi,
    pages,
    providers,
    request_log,
    rerank,
    responses,
    responses_socket,
    sockets,
    usage,
    voice,
)
from views import error_handlers as errors
from views.blueprint import api
from views.cors import allow_origins
from views.health import ops
from views.instrumentation import with_metrics, with_traces
from views.live import live
from views.metrics import metrics
from views.response_store import ResponseStore
from views.running import RunningResponses
from views.services import Services
from views.watchers import Watchers

# Importing these modules adds their views to the blueprint.
ROUTES = (
    chat, completions, embeddings, images, messages, models, moderations, providers, request_log, rerank, responses,
    responses_socket, sockets, usage, voice,
)  # fmt: skip
PREFIXES = ("/v1", "/v1/v1", "/api/v1")
"""Prefixes of all paths, beside none: for clients that append a second /v1, and for those with OpenRouter's paths."""

log = logging.getLogger("thinkline")


def create_app(settings: Settings | None = None) -> Flask:
    """The application, with gunicorn's settings under gunicorn. Raises SettingError for settings that do not work."""
    settings = settings or Settings.in_use or Settings.load()
    dictConfig(logs.config(settings))
    prefixes = [*PREFIXES, settings.api_route_prefix.rstrip("/")]
    app = Thinkline(__name__, logs.request_id.set, prefixes, key_in_path=settings.key_in_path)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = False
    sources = build_sources(settings)
    app.extensions["thinkline"] = _with_telemetry(build_services(settings, sources), settings)
    errors.register(app)
    for blueprint in (api, ops, metrics, openapi.description, *((pages.pages, live) if settings.pages else ())):
        app.register_blueprint(blueprint)
    catalogue = app.extensions["thinkline"].catalogue
    sources.follow(catalogue, partial(_replace_keys, app.extensions["thinkline"], settings))
    if settings.warm:
        Prewarmer(catalogue, _timeouts(settings)).start()
    if settings.allowed_origins:
        allow_origins(app, settings.allowed_origins)
    return app


def _with_telemetry(services: Services, settings: Settings) -> Services:
    """Build the services of a process that serves, with metrics and traces."""
    counted = with_metrics(services, Settings.metrics_folder, settings.metrics_key)
    return with_traces(counted, open_tracer(settings))


def check(settings: Settings) -> Catalogue:
    """Check the settings, models.yaml and the stores' addresses, without connecting; returns the catalogue that they
    describe. Raises SettingError.
    """
    catalogue, *_ = _catalogue_and_stores(settings, build_sources(settings))
    return catalogue


def _catalogue_and_stores(
    settings: Settings, sources: Sources, breakers: Breakers | None = None
) -> tuple[Catalogue, KeyValueStore, LimitStore, Ledger | None]:
    KNOWN_SECRETS.add(settings.secrets)
    try:
        catalogue = Catalogue(
            sources.listings(),
            default=settings.provider_name,
            timeouts=_timeouts(settings),
            filler=Filler.of(settings.filler_after_ms, settings.filler_text.split("|")),
            is_open=lambda target: breakers is not None and breakers[target].state == "open",
            hide=KNOWN_SECRETS.add,
            price_of=price_of,
        )
        folder, processes = ROOT / settings.data_dir, Settings.processes or settings.workers
        store = open_store(settings.state_url, folder)
        limits = open_limits(settings.state_url, folder, processes=processes)
        ledger = open_ledger(settings.database_url, folder, days=settings.usage_days, processes=processes)
    except ValueError as error:
        raise SettingError(str(error)) from None
    return catalogue, store, limits, ledger


def build_services(settings: Settings, sources: Sources | None = None) -> Services:
    """Build the services behind the views, without connecting. Raises SettingError, as `check` does."""
    breakers = Breakers(settings.breaker_failures, settings.breaker_seconds)
    catalogue, store, limits, ledger = _catalogue_and_stores(settings, sources or build_sources(settings), breakers)
    ledgers = [] if ledger is None else [ledger]
    admission, proxies = Admission(settings.in_flight), TrustedProxies(settings.trusted_proxies)
    guard = Authenticator(
        settings.keys,
        catalogue.contents("file").keys,
        anonymous=settings.allow_anonymous,
        is_local=is_this_machine,
        origins=settings.allowed_origins,
    )
    return Services(
        guard=guard,
        catalogue=catalogue,
        models=ModelLists(catalogue, settings.models_ttl),
        relay=Relay(
            breakers,
            RetryPolicy(settings.retries, settings.retry_budget),
            store,
            RefusedParameters(settings.refused_parameter_ttl),
        ),
        lines=LineKeeper(settings.heartbeat, settings.headers_after, slow=settings.threads // 4),
        admission=admission,
        max_body_bytes=settings.max_body_bytes,
        limits=Limits(
            messages=settings.max_messages,
            items=settings.max_items,
            inputs=settings.max_inputs,
            documents=settings.max_documents,
            values=settings.max_values,
        ),
        proxies=proxies,
        proofs=PlatformProofs(
            twilio_tokens=settings.twilio_auth_token,
            elevenlabs_key=settings.elevenlabs_api_key,
            public_url=settings.public_url,
            sources=networks(settings.voice_sources),
            proxies=proxies,
        ),
        checks=(*map(BudgetCheck, ledgers), RateLimiter(limits, fails_open=settings.limits_fail_open)),
        record=Recorder([log_request, *ledgers]),
        ledger=ledger,
        watchers=Watchers(Overview(ledger) if ledger is not None else None),
        set_request_id=logs.request_id.set,
        show_reasoning=settings.reasoning == "show",
        fills_with_tools=settings.filler_with_tools,
        responses=ResponseStore(store, settings.responses_ttl),
        sockets=SocketKeeper(admission, settings.max_sockets, settings.max_body_bytes, guard.refusal),
        running=RunningResponses(store if settings.workers > 1 or "://" in settings.state_url else None),
        drops_tools=settings.responses_drop_tools,
    )


def _replace_keys(services: Services, settings: Settings, keys: Sequence[ApiKey]) -> None:
    """Replace the keys of the models file."""
    known = services.guard.keys
    services.guard.replace(keys)
    warn_of_budgets(settings, (key for key in keys if key not in known))
    if settings.end_revoked_streams:
        services.admission.cancel(
            lambda key: isinstance(key, ApiKey) and not services.guard.knows(key), Unauthenticated(REVOKED)
        )


def warn_of_budgets(settings: Settings, keys: Iterable[ApiKey]) -> None:
    """Log which of these keys have a budget that nothing checks, as there is no table of usage."""
    if not settings.usage_days:
        warn_of_unchecked_budgets(keys)


def _timeouts(settings: Settings) -> Timeouts:
    return Timeouts(
        settings.connect_timeout, settings.first_event_timeout, settings.idle_timeout, settings.total_timeout
    )


def build_sources(settings: Settings) -> Sources:
    """The sources of the catalogue's providers and models."""
    return Sources(
        upstreams=settings.upstreams,
        clouds=settings.clouds,
        variables=settings.variables,
        demo_pace_ms=settings.demo_pace_ms,
        default=settings.provider_name,
        aliases=settings.model_aliases,
        models_file=ROOT / settings.models_file,
        required=settings.models_file != Settings.models_file,
        keys=settings.keys,
        list_url=settings.model_list_url,
        list_token=settings.model_list_auth_token,
        list_refresh=settings.model_list_refresh,
        folder=ROOT / settings.data_dir,
    )


def log_start(catalogue: Catalogue, address: str, settings: Settings) -> None:
    """Log the default provider and the address at start. The demo needs no warning if only this machine can call."""
    default = catalogue.default
    log.info("Thinkline answers at %s/v1 with the provider %s, in version %s.", address, default, VERSION)
    for name, package in catalogue.snapshot.missing_packages().items():
        log.warning("The provider %s is configured, but needs %s.", name, package)
    warn_of_budgets(settings, catalogue.contents("file").keys)
    if default != "demo":
        return
    is_public = not is_this_machine(urlsplit(address).hostname or "unix:")
    has_keys = settings.keys or catalogue.contents("file").keys
    access = "a key is set" if has_keys else "others can reach that address" if is_public else ""
    if access and not settings.provider_name:
        log.warning("Whoever calls hears the built-in demo, although %s: no provider is configured.", access)
    log.info("That is the built-in demo. For a real one, put a line like OPENAI_API_KEY=sk-... into .env.")


def require_port(host: str, port: int) -> None:
    """Raise SettingError for an address that the server cannot listen on."""
    try:
        check_port(host, port)
    except ValueError as error:
        raise SettingError(str(error)) from None


def main() -> None:
    """Serve for development, with Flask's own server."""
    parser = ArgumentParser(description="Serve for development. The settings come from the environment and .env.")
    parser.add_argument("--version", action="version", version=f"Thinkline {VERSION}")
    parser.parse_args()
    try:
        settings = Settings.load()
        if not is_running_from_reloader():
            require_port(settings.host, settings.port)
        app = create_app(settings)
        catalogue = app.extensions["thinkline"].catalogue
        settings.require_key_if_public(settings.host, file_has_keys=bool(catalogue.contents("file").keys))
    except SettingError as error:
        sys.exit(f"Thinkline cannot start. {error}")
    log_start(catalogue, f"http://{settings.address}", settings)
    app.run(settings.host, settings.port, threaded=True, use_reloader=settings.reload)


if __name__ == "__main__":
    main()
