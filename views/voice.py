"""The WebSockets that phone platforms dial: checks the platform's proof, and picks the model."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs

from flask import Response

from access.platforms import PlatformProofs
from core import lenient_json
from core.api_keys import ApiKey
from core.errors import GatewayError, Unauthenticated
from core.json_values import Json
from dispatch.routing.voice_config import NO_VOICE, VoiceConfig, Webhook
from views.blueprint import ApiRequest, api
from views.model_access import conceal_models
from views.sockets import upgrade
from views.turns import SocketCaller
from voice.conversation import KeptConversations
from voice.conversation_relay import ConversationRelay
from voice.platform import Platform
from voice.retell import Retell
from voice.session import Session
from voice.speech_engine import SpeechEngine
from voice.turns import Answer, ToolWebhook

Proof = Callable[[PlatformProofs, Any], bool]
"""Whether a request has the platform's proof. Raises Unauthenticated for a wrong proof."""


def _admit_platform(
    name: str, proof: Proof, is_set: Callable[[PlatformProofs], object]
) -> Callable[[ApiRequest], ApiKey]:
    """Admit a handshake with the platform's proof or a key. Once the proof's setting `is_set`, a handshake from this
    machine needs one too. The key `name` in models.yaml, if there is one, limits what the platform may call.
    """

    def admit(incoming: ApiRequest) -> ApiKey:
        services, environ = incoming.services, incoming.environ
        wrong: Unauthenticated | None = None
        try:
            if services.proofs.is_source(environ) or proof(services.proofs, environ):
                return services.guard.find_by_name(name) or ApiKey(name=name)
        except Unauthenticated as error:
            wrong = error
        if wrong is None and not is_set(services.proofs):
            return services.guard.authenticate(environ)
        try:
            if services.guard.has_keys:
                return services.guard.authenticate(environ)
        except Unauthenticated as error:
            raise wrong or error from None
        raise wrong or Unauthenticated("Neither a signature of the platform's nor a key came.", code="missing_api_key")

    return admit


by_twilio = _admit_platform("twilio", PlatformProofs.has_twilio_signature, lambda proofs: proofs.twilio_tokens)
by_elevenlabs = _admit_platform("elevenlabs", PlatformProofs.has_elevenlabs_token, lambda proofs: proofs.elevenlabs_key)
by_source = _admit_platform("retell", lambda *_: False, lambda proofs: proofs.sources)


@api.socket("/retell/<call_id>", by_source)
def retell(incoming: ApiRequest, call_id: str) -> Response:
    """Answer a call of Retell's."""
    return _answer_call(incoming, Retell(call_id[:200]))


@api.socket("/conversation-relay", by_twilio)
def conversation_relay(incoming: ApiRequest) -> Response:
    """Answer a call of Twilio's or Telnyx's."""
    return _answer_call(incoming, ConversationRelay())


@api.socket("/speech-engine", by_elevenlabs)
def speech_engine(incoming: ApiRequest) -> Response:
    """Answer a call of ElevenLabs' Speech Engine."""
    return _answer_call(incoming, SpeechEngine())


def _answer_call(incoming: ApiRequest, platform: Platform) -> Response:
    services = incoming.services
    model = parse_qs(incoming.environ.get("QUERY_STRING", "")).get("model", [""])[0]
    incoming.model = model
    config = _voice_config(incoming, model)
    webhook = _webhook(config.webhook) if config.webhook is not None else None
    kept = KeptConversations(services.relay.state, incoming.caller)
    ask = _ask_model(SocketCaller(incoming), model)
    return upgrade(incoming, Session(platform, ask, config, webhook, kept))


def _voice_config(incoming: ApiRequest, model: str) -> VoiceConfig:
    """The model's voice settings. Raises UnknownModel and InvalidRequest for an unknown model, so that the handshake
    fails and not the phone call later.
    """
    catalogue = incoming.services.catalogue
    row = catalogue.snapshot.row_of(model)
    if row is None:
        try:
            catalogue.route(model)
        except GatewayError as error:
            raise conceal_models(error, incoming.key, model, catalogue) from None
        return NO_VOICE
    if not (row.tools and row.stream_tools):
        return replace(row.voice, platform_tools=(), sounds={}, tools=())
    return row.voice


@lru_cache(maxsize=64)
def _webhook(config: Webhook) -> ToolWebhook:
    from voice.webhook import SignedWebhook  # noqa: PLC0415 - loads the transport, which few calls need

    return SignedWebhook(config)


def _ask_model(caller: SocketCaller, model: str) -> Callable[..., AbstractContextManager[Answer]]:
    named = {"model": model} if model else {}

    def ask(messages: Sequence[Json], tools: Sequence[Json], conversation: str) -> AbstractContextManager[Answer]:
        body: Json = {**named, "messages": messages, "stream": True, "speech": True}
        if tools:
            body["tools"] = tools
        if conversation:
            body["session_id"] = conversation
        return caller.chat(lenient_json.dumps(body), own_tools=True)

    return ask
