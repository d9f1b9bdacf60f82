"""Proofs of platforms: Twilio's signature against its own validator, ElevenLabs' token as it documents the signing."""

import time
from hashlib import sha256
from typing import Any

import jwt
import pytest
from twilio.request_validator import RequestValidator, get_signature_algorithm

from access.platforms import ISSUER, SUBJECT, PlatformProofs, networks, twilio_algorithm
from access.proxies import TrustedProxies
from core.errors import Unauthenticated

TOKEN = "0123456789abcdef0123456789abcdef"
KEY = "sk_0123456789"
TARGET = "/v1/conversation-relay?model=openai%2Fgpt-5-mini&x=a+b&empty="


def dialled(signature: str = "", settings: str = "", **more: str) -> dict[str, str]:
    environ = {"HTTP_HOST": "voice.example.com", "RAW_URI": TARGET, "REMOTE_ADDR": "192.0.2.1"}
    return {
        **environ,
        "HTTP_X_TWILIO_SIGNATURE": signature,
        "HTTP_X_TWILIO_WEBHOOKS_SIGNATURE_SETTINGS": settings,
        **more,
    }


def signed(url: str, algorithm: str | None = None, token: str = TOKEN) -> str:
    return str(RequestValidator(token).compute_signature(url, {}, algorithm))


@pytest.mark.parametrize("scheme", ["wss", "ws", "https", "http"])
@pytest.mark.parametrize("algorithm", ["", "HMAC_SHA1", "HMAC_SHA256", "hmac_sha256"])
@pytest.mark.parametrize("port", ["", ":443", ":80", ":8443"])
def test_twilios_signature(scheme: str, algorithm: str, port: str) -> None:
    usual = {"wss": ":443", "https": ":443", "ws": ":80", "http": ":80"}[scheme]
    host = f"voice.example.com{port if port == ':8443' else ''}"
    url = f"{scheme}://voice.example.com{port}{TARGET}"
    settings = f"key=webhooks_sharedkey_1,algorithm={algorithm}" if algorithm else ""
    environ = dialled(signed(url, algorithm or None), settings, HTTP_HOST=host)
    if port in ("", usual, ":8443"):
        assert PlatformProofs(twilio_tokens=[TOKEN]).has_twilio_signature(environ)
    else:
        with pytest.raises(Unauthenticated):
            PlatformProofs(twilio_tokens=[TOKEN]).has_twilio_signature(environ)


@pytest.mark.parametrize(
    "settings", ["", "key=a", "algorithm=", "key=a,algorithm=HMAC_SHA256", " algorithm = X ", ",="]
)
def test_the_algorithm_is_read_as_twilio_reads_it(settings: str) -> None:
    assert twilio_algorithm(settings) == get_signature_algorithm(settings).upper()


@pytest.mark.parametrize(
    ("url", "how"),
    [
        (f"wss://other.example.com{TARGET}", {}),
        (f"wss://voice.example.com{TARGET}&more=1", {}),
        ("wss://voice.example.com/v1/conversation-relay?empty=&x=a+b&model=openai%2Fgpt-5-mini", {}),
        ("wss://voice.example.com/v1/conversation-relay?model=openai/gpt-5-mini&x=a b&empty=", {}),
        (f"wss://voice.example.com{TARGET}", {"token": "another"}),
        (f"wss://voice.example.com{TARGET}", {"algorithm": "HMAC_SHA256"}),
    ],
)
def test_another_signature_is_refused(url: str, how: Any) -> None:
    with pytest.raises(Unauthenticated) as refused:
        PlatformProofs(twilio_tokens=[TOKEN]).has_twilio_signature(dialled(signed(url, **how)))
    assert "TWILIO_AUTH_TOKEN" in refused.value.message


@pytest.mark.parametrize("signature", ["x", "é", "=" * 10_000, signed(f"wss://voice.example.com{TARGET}") + "="])
def test_rubbish_is_no_signature(signature: str) -> None:
    with pytest.raises(Unauthenticated):
        PlatformProofs(twilio_tokens=[TOKEN]).has_twilio_signature(dialled(signature))


def test_an_unknown_algorithm_is_refused() -> None:
    environ = dialled(signed(f"wss://voice.example.com{TARGET}"), "algorithm=HMAC_MD5")
    with pytest.raises(Unauthenticated):
        PlatformProofs(twilio_tokens=[TOKEN]).has_twilio_signature(environ)


def test_without_a_signature_or_a_token_nothing_is_proved() -> None:
    assert not PlatformProofs(twilio_tokens=[TOKEN]).has_twilio_signature(dialled())
    assert not PlatformProofs().has_twilio_signature(dialled(signed(f"wss://voice.example.com{TARGET}")))


def test_an_older_token_still_signs() -> None:
    environ = dialled(signed(f"wss://voice.example.com{TARGET}", token="older"))
    assert PlatformProofs(twilio_tokens=[TOKEN, "older"]).has_twilio_signature(environ)


@pytest.mark.parametrize(
    "public", ["https://voice.example.com", "wss://voice.example.com/", "https://voice.example.com/in"]
)
def test_behind_a_proxy_the_public_address_was_dialled(public: str) -> None:
    path = "/in" if public.endswith("/in") else ""
    proofs = PlatformProofs(twilio_tokens=[TOKEN], public_url=public)
    environ = dialled(signed(f"wss://voice.example.com{path}{TARGET}"), HTTP_HOST="10.0.0.7:8000")
    assert proofs.has_twilio_signature(environ)
    with pytest.raises(Unauthenticated):
        proofs.has_twilio_signature(dialled(signed(f"wss://10.0.0.7:8000{TARGET}"), HTTP_HOST="10.0.0.7:8000"))


def test_a_forwarded_host_is_believed_of_trusted_proxies_alone() -> None:
    signature = signed(f"wss://voice.example.com{TARGET}")
    how = {"HTTP_X_FORWARDED_HOST": "voice.example.com", "HTTP_HOST": "inside"}
    trusting = PlatformProofs(twilio_tokens=[TOKEN], proxies=TrustedProxies(["192.0.2.0/24"]))
    assert trusting.has_twilio_signature(dialled(signature, **how))
    with pytest.raises(Unauthenticated):
        trusting.has_twilio_signature(dialled(signature, **how, REMOTE_ADDR="198.51.100.1"))
    with pytest.raises(Unauthenticated):
        PlatformProofs(twilio_tokens=[TOKEN]).has_twilio_signature(dialled(signature, **how))


# ElevenLabs


def token(key: str = KEY, algorithm: str = "HS256", without: str = "", **claims: Any) -> str:
    now = int(time.time())
    body = {"iss": ISSUER, "sub": SUBJECT, "iat": now, "exp": now + 300, **claims}
    body.pop(without, None)
    secret = None if algorithm == "none" else sha256(key.encode()).digest()
    return jwt.encode(body, secret, algorithm)


def authorization(value: str) -> dict[str, str]:
    return {"HTTP_X_ELEVENLABS_SPEECH_ENGINE_AUTHORIZATION": value}


@pytest.mark.parametrize("prefix", ["Bearer ", "bearer ", ""])
@pytest.mark.parametrize("key", [KEY, f"{KEY}_residency_in"])
def test_elevenlabs_token(prefix: str, key: str) -> None:
    assert PlatformProofs(elevenlabs_key=key).has_elevenlabs_token(authorization(prefix + token()))


@pytest.mark.parametrize("seconds", [-50, 50])
def test_clocks_may_differ_by_a_minute(seconds: int) -> None:
    now = int(time.time())
    claims = {"exp": now + seconds} if seconds < 0 else {"iat": now + seconds}
    assert PlatformProofs(elevenlabs_key=KEY).has_elevenlabs_token(authorization(token(**claims)))


@pytest.mark.parametrize(
    "value",
    [
        token("another"),
        token(iss="https://evil.example"),
        token(sub="somebody"),
        token(exp=int(time.time()) - 100),
        token(iat=int(time.time()) + 100_000, exp=int(time.time()) + 200_000),
        *[token(without=claim) for claim in ("iss", "sub", "exp", "iat")],
        token(algorithm="none"),
        token()[:-3] + "abc",
        "rubbish",
        "a.b.c",
        "Bearer",
        "é",
    ],
)
def test_another_token_is_refused(value: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        PlatformProofs(elevenlabs_key=KEY).has_elevenlabs_token(authorization(value))
    assert "ELEVENLABS_API_KEY" in refused.value.message


def test_without_a_token_or_a_key_nothing_is_proved() -> None:
    assert not PlatformProofs(elevenlabs_key=KEY).has_elevenlabs_token({})
    assert not PlatformProofs().has_elevenlabs_token(authorization(token()))


# Addresses


@pytest.mark.parametrize(
    ("address", "forwarded", "is_one"),
    [
        ("100.20.5.228", "", True),
        ("100.20.5.229", "", False),
        ("::ffff:100.20.5.228", "", True),
        ("10.0.0.1", "100.20.5.228", True),
        ("10.0.0.1", "100.20.5.228, 203.0.113.7", False),
        ("203.0.113.7", "100.20.5.228", False),
        ("", "", False),
        ("unknown", "", False),
    ],
)
def test_sources(address: str, forwarded: str, is_one: bool) -> None:
    proofs = PlatformProofs(sources=networks(["100.20.5.228"]), proxies=TrustedProxies(["10.0.0.0/8"]))
    environ = {"REMOTE_ADDR": address, **({"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {})}
    assert proofs.is_source(environ) is is_one
