"""Thinkline: one OpenAI-compatible endpoint, made for voice agents. The whole wiring is on this screen.

gunicorn 'app:create_app()'     serves (gunicorn.conf.py beside this file is picked up)
python app.py                   serves for development
"""

import logging
import sys
from logging.config import dictConfig

from flask import Flask
from flask_cors import CORS

import logs
from config import ROOT, SettingError, Settings, is_this_machine
from dispatch.breaker import Breakers
from dispatch.catalogue import Catalogue
from dispatch.entries import Filler
from dispatch.models import Models
from dispatch.relay import Patience, Relay
from dispatch.sources import Sources
from dispatch.state import open_state
from dispatch.warm import Warmer
from providers.base import Timeouts
from views import chat, docs, embeddings, errors, images, models, providers, rerank
from views.admission import Admission
from views.api import api
from views.auth import Guard
from views.framework import Thinkline
from views.hangup import Watcher
from views.house import House
from views.ops import ops

ROUTES = (chat, embeddings, images, models, providers, rerank)  # importing them hangs their views on the blueprint
ALWAYS = ("", "/v1", "/v1/v1")  # some clients add the /v1 that was typed already
TYPED = "/chat/completions"  # and most add this, to an address that has it already

log = logging.getLogger("thinkline")


def create_app(settings: Settings | None = None) -> Flask:
    """The application. Raises SettingError for settings that it cannot run with."""
    settings = settings or Settings.load()
    dictConfig(logs.config(settings))
    app = Thinkline(__name__, logs.request_id.set)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = False
    app.extensions["thinkline"] = furnish(settings)
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
        Warmer(catalogue, _timeouts(settings)).start()
    if settings.allowed_origins:
        CORS(app, origins=list(settings.allowed_origins), expose_headers=["x-request-id", "Retry-After"], max_age=600)
    return app


def furnish(settings: Settings) -> House:
    """The rooms behind the views. Raises SettingError. Connects to nobody."""
    breakers = Breakers(settings.breaker_failures, settings.breaker_seconds)
    try:
        catalogue = Catalogue(
            _sources(settings).listings(),
            default=settings.provider_name,
            timeouts=_timeouts(settings),
            filler=Filler.of(settings.filler_after_ms, settings.filler_text.split("|")),
            is_open=lambda target: breakers[target].state == "open",
            hide=logs.HIDDEN.add,
        )
        state = open_state(settings.state_url, ROOT / settings.data_dir)
    except ValueError as error:
        raise SettingError(str(error)) from None
    return House(
        guard=Guard(
            settings.keys,
            anonymous=settings.allow_anonymous,
            is_local=is_this_machine,
            origins=settings.allowed_origins,
        ),
        catalogue=catalogue,
        models=Models(catalogue, settings.models_ttl),
        relay=Relay(
            breakers,
            Patience(settings.headers_after, settings.retries, settings.retry_budget),
            settings.heartbeat,
            state,
        ),
        watcher=Watcher(slow=settings.threads // 4),
        admission=Admission(settings.in_flight),
        max_body_bytes=settings.max_body_bytes,
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
        models_file=ROOT / settings.models_file,
        required=settings.models_file != Settings.models_file,
        list_url=settings.model_list_url,
        list_token=settings.model_list_auth_token,
        list_refresh=settings.model_list_refresh,
        folder=ROOT / settings.data_dir,
    )


def announce(house: House, address: str) -> None:
    """Say at the start who answers, and where."""
    default = house.catalogue.default
    log.info("Thinkline answers at %s/v1 with the provider %s.", address, default)
    if default == "demo":
        log.info("That is the built-in demo. For a real one, put a line like OPENAI_API_KEY=sk-... into .env.")


def main() -> None:
    """Serve for development, with Flask's own server."""
    try:
        settings = Settings.load()
        settings.guard(settings.host)
        app = create_app(settings)
    except SettingError as error:
        sys.exit(f"Thinkline cannot start. {error}")
    announce(app.extensions["thinkline"], f"http://{settings.address}")
    app.run(settings.host, settings.port, threaded=True, use_reloader=settings.reload)


if __name__ == "__main__":
    main()
