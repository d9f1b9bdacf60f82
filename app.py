"""Thinkline: one OpenAI-compatible endpoint, made for voice agents. The whole wiring is on this screen.

gunicorn 'app:create_app()'     serves (gunicorn.conf.py beside this file is picked up)
python app.py                   serves for development
"""

import errno
import logging
import re
import socket
import sys
from logging.config import dictConfig
from time import monotonic, sleep
from urllib.parse import urlsplit

from flask import Flask
from flask_cors import CORS
from werkzeug.serving import is_running_from_reloader

from access.keys import Authenticator
from config import ROOT, SettingError, Settings, is_this_machine
from core.context import Timeouts
from core.masking import KNOWN_SECRETS
from dispatch.prewarm import Prewarmer
from dispatch.relay import Relay
from dispatch.resilience.breaker import Breakers
from dispatch.resilience.refused_parameters import RefusedParameters
from dispatch.resilience.retry import RetryPolicy
from dispatch.routing.catalogue import Catalogue
from dispatch.routing.config import Filler
from dispatch.routing.model_lists import ModelLists
from dispatch.sources.sources import Sources
from schemas.chat.encode import HEARTBEAT
from schemas.limits import Limits
from server.admission import Admission
from server.flask_app import Thinkline
from server.lines import LineKeeper
from storage.key_value import open_store
from telemetry import logs
from views import chat, completions, embeddings, images, models, moderations, providers, rerank
from views import error_handlers as errors
from views import pages as docs
from views.blueprint import api
from views.health import ops
from views.services import Services

PORT_SECONDS = 1.0
TYPED = "/chat/completions"  # and most add this, to an address that has it already
ROUTES = (
    chat,
    completions,
    embeddings,
    images,
    models,
    moderations,
    providers,
    rerank,
)  # importing them hangs their views on the blueprint
ALWAYS = ("", "/v1", "/v1/v1", "/api/v1")
"""Some clients add the /v1 that was typed already, others know OpenRouter's paths."""

log = logging.getLogger("thinkline")


def create_app(settings: Settings | None = None) -> Flask:
    """The application, with gunicorn's settings where it serves. Raises SettingError for those it cannot run with."""
    settings = settings or Settings.in_use or Settings.load()
    dictConfig(logs.config(settings))
    app = Thinkline(__name__, logs.request_id.set)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = False
    app.extensions["thinkline"] = build_services(settings)
    errors.register(app)
    bases = [*ALWAYS, settings.api_route_prefix.rstrip("/")]
    typed = [f"{base}{TYPED}{again}" for base in bases for again in ("", "/v1")]
    for number, prefix in enumerate(dict.fromkeys([*bases, *typed])):
        app.register_blueprint(api, url_prefix=prefix or None, name=f"api{number}")
    for number, prefix in enumerate(dict.fromkeys(bases)):
        app.register_blueprint(ops, url_prefix=prefix or None, name=f"ops{number}")
    app.register_blueprint(docs.docs)
    catalogue = app.extensions["thinkline"].catalogue
    _sources(settings).follow(catalogue)
    if settings.warm:
        Prewarmer(catalogue, _timeouts(settings)).start()
    if settings.allowed_origins:
        # As patterns that match the text alone: flask-cors takes some texts for patterns, such as http://[::1].
        origins = [
            "*" if each == "*" else re.compile(re.escape(each.lower()) + r"\Z") for each in settings.allowed_origins
        ]
        CORS(app, origins=origins, expose_headers=["x-request-id", "Retry-After"], max_age=600)
    return app


def build_services(settings: Settings) -> Services:
    """The rooms behind the views. Raises SettingError. Connects to nobody."""
    KNOWN_SECRETS.add(settings.secrets)
    breakers = Breakers(settings.breaker_failures, settings.breaker_seconds)
    try:
        catalogue = Catalogue(
            _sources(settings).listings(),
            default=settings.provider_name,
            timeouts=_timeouts(settings),
            filler=Filler.of(settings.filler_after_ms, settings.filler_text.split("|")),
            is_open=lambda target: breakers[target].state == "open",
            hide=KNOWN_SECRETS.add,
        )
        state = open_store(settings.state_url, ROOT / settings.data_dir)
    except ValueError as error:
        raise SettingError(str(error)) from None
    return Services(
        guard=Authenticator(
            settings.keys,
            anonymous=settings.allow_anonymous,
            is_local=is_this_machine,
            origins=settings.allowed_origins,
        ),
        catalogue=catalogue,
        models=ModelLists(catalogue, settings.models_ttl),
        relay=Relay(
            breakers,
            RetryPolicy(settings.retries, settings.retry_budget),
            state,
            RefusedParameters(settings.refused_parameter_ttl),
        ),
        lines=LineKeeper(settings.heartbeat, settings.headers_after, HEARTBEAT, slow=settings.threads // 4),
        admission=Admission(settings.in_flight),
        max_body_bytes=settings.max_body_bytes,
        limits=Limits(
            messages=settings.max_messages,
            items=settings.max_items,
            inputs=settings.max_inputs,
            documents=settings.max_documents,
            values=settings.max_values,
        ),
        show_reasoning=settings.reasoning == "show",
        fills_with_tools=settings.filler_with_tools,
    )


def _timeouts(settings: Settings) -> Timeouts:
    return Timeouts(
        settings.connect_timeout, settings.first_event_timeout, settings.idle_timeout, settings.total_timeout
    )


def _sources(settings: Settings) -> Sources:
    return Sources(
        upstreams=settings.upstreams,
        clouds=settings.clouds,
        variables=settings.variables,
        demo_pace_ms=settings.demo_pace_ms,
        default=settings.provider_name,
        aliases=settings.model_aliases,
        models_file=ROOT / settings.models_file,
        required=settings.models_file != Settings.models_file,
        list_url=settings.model_list_url,
        list_token=settings.model_list_auth_token,
        list_refresh=settings.model_list_refresh,
        folder=ROOT / settings.data_dir,
    )


def log_start(house: Services, address: str, settings: Settings) -> None:
    """Say at the start who answers, and where. The demo is no surprise as long as nobody else is to call."""
    default = house.catalogue.default
    log.info("Thinkline answers at %s/v1 with the provider %s.", address, default)
    if default != "demo":
        return
    is_public = not is_this_machine(urlsplit(address).hostname or "unix:")
    said = "API_KEY is set" if settings.keys else "others can reach that address" if is_public else ""
    if said and not settings.provider_name:
        log.warning("Whoever calls hears the built-in demo, although %s: no provider is configured.", said)
    log.info("That is the built-in demo. For a real one, put a line like OPENAI_API_KEY=sk-... into .env.")


def check_port(host: str, port: int) -> None:
    """Raises SettingError, with the setting to change, for an address that cannot be listened on.

    One that is in use is waited for a moment: it may be that of a server which is just ending.
    """
    until = monotonic() + PORT_SECONDS
    while not _is_free(host, port):
        if monotonic() > until:
            raise SettingError(f"PORT is {port}, where another program listens already; stop it, or choose another.")
        sleep(PORT_SECONDS / 10)


def _is_free(host: str, port: int) -> bool:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        name, value = ("PORT", port) if error.errno == errno.EACCES else ("HOST", repr(host))
        raise SettingError(f"{name} is {value}, where this program cannot listen: {error.strerror}.") from None
    return True


def main() -> None:
    """Serve for development, with Flask's own server."""
    try:
        settings = Settings.load()
        settings.require_key_if_public(settings.host)
        if not is_running_from_reloader():
            check_port(settings.host, settings.port)
        app = create_app(settings)
    except SettingError as error:
        sys.exit(f"Thinkline cannot start. {error}")
    log_start(app.extensions["thinkline"], f"http://{settings.address}", settings)
    app.run(settings.host, settings.port, threaded=True, use_reloader=settings.reload)


if __name__ == "__main__":
    main()
