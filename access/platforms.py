"""Checks a phone platform's proof: a signature, a token, or the address that it dials from."""

import hmac
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from access.proxies import TrustedProxies
from core.errors import Unauthenticated

Network = IPv4Network | IPv6Network

ALGORITHMS = {"HMAC_SHA1": sha1, "HMAC_SHA256": sha256}
ISSUER = "https://api.elevenlabs.io/convai/speech-engine"
SUBJECT = "convai_speech_engine_upstream"
LEEWAY_SECONDS = 60
RESIDENCY = re.compile(r"_residency_[a-z0-9]+\Z")
"""The suffix of a key with another data residency, which is not part of the signing key."""
PORTS = {"wss": 443, "https": 443, "ws": 80, "http": 80}


@dataclass(frozen=True, slots=True)
class PlatformProofs:
    """The secrets and addresses by which platforms are recognised. An empty value recognises none.

    twilio_tokens    account auth tokens of Twilio, or the secrets of its shared keys
    elevenlabs_key   the API key of the account whose Speech Engine dials
    public_url       the address by which callers reach this server, if it is not the Host header
    sources          networks that platforms dial from
    proxies          the web servers in front, whose X-Forwarded-* headers are trusted
    """

    twilio_tokens: Sequence[str] = ()
    elevenlabs_key: str = ""
    public_url: str = ""
    sources: Sequence[Network] = ()
    proxies: TrustedProxies = field(default_factory=TrustedProxies)

    def is_source(self, environ: Mapping[str, Any]) -> bool:
        """Whether the request comes from one of the networks."""
        return bool(self.sources) and _is_within(self.proxies.sender(environ), self.sources)

    def has_twilio_signature(self, environ: Mapping[str, Any]) -> bool:
        """Whether the request carries Twilio's signature of the URL that was dialled. Without a signature, False.

        Raises Unauthenticated for a wrong one.
        """
        given = environ.get("HTTP_X_TWILIO_SIGNATURE", "")
        if not (given and self.twilio_tokens):
            return False
        algorithm = twilio_algorithm(environ.get("HTTP_X_TWILIO_WEBHOOKS_SIGNATURE_SETTINGS", ""))
        urls = list(self.dialled_urls(environ))
        if algorithm in ALGORITHMS and _is_signed(given, urls, self.twilio_tokens, algorithm):
            return True
        raise Unauthenticated(
            "X-Twilio-Signature does not fit the URL that was dialled: see TWILIO_AUTH_TOKEN, and PUBLIC_URL behind a "
            "proxy that changes the Host.",
            code="invalid_signature",
        )

    def has_elevenlabs_token(self, environ: Mapping[str, Any]) -> bool:
        """Whether the request carries the token of ElevenLabs' Speech Engine. Without a token, False.

        Raises Unauthenticated for a wrong one.
        """
        given: str = environ.get("HTTP_X_ELEVENLABS_SPEECH_ENGINE_AUTHORIZATION", "").strip()
        if not (given and self.elevenlabs_key):
            return False
        import jwt  # noqa: PLC0415 - loads cryptography, which few servers need

        scheme, _, token = given.partition(" ")
        try:
            jwt.decode(
                token.strip() if scheme.lower() == "bearer" else given,
                sha256(RESIDENCY.sub("", self.elevenlabs_key).encode()).digest(),
                algorithms=["HS256"],
                issuer=ISSUER,
                subject=SUBJECT,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "iss", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated(
                "X-Elevenlabs-Speech-Engine-Authorization is not a valid token of ELEVENLABS_API_KEY's account.",
                code="invalid_signature",
                log=str(error),
            ) from None
        return True

    def dialled_urls(self, environ: Mapping[str, Any]) -> Iterator[str]:
        """The URLs that may have been dialled, with path and query unchanged. The request shows neither whether TLS
        ended at a web server in front nor whether a default port was written.
        """
        target: str = environ.get("RAW_URI") or environ.get("REQUEST_URI", "")
        if "://" in target:
            target = "/" + target.split("://", 1)[1].partition("/")[2]
        for base in self._bases(environ):
            parts = urlsplit(base)
            schemes = ("wss", "https") if parts.scheme in ("wss", "https") else ("ws", "http")
            for scheme in schemes if parts.scheme else PORTS:
                for host in _hosts(parts.netloc, scheme):
                    yield f"{scheme}://{host}{parts.path.rstrip('/')}{target}"

    def _bases(self, environ: Mapping[str, Any]) -> Iterator[str]:
        if self.public_url:
            yield self.public_url
            return
        yield f"//{environ.get('HTTP_HOST', '')}"
        forwarded = environ.get("HTTP_X_FORWARDED_HOST", "").partition(",")[0].strip()
        if forwarded and self.proxies.trusts_peer(environ):
            yield f"//{forwarded}"


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks or single addresses. Raises ValueError."""
    return tuple(ip_network(text, strict=False) for text in texts)


def twilio_algorithm(settings: str) -> str:
    """The algorithm that X-Twilio-Webhooks-Signature-Settings names: `key=...,algorithm=HMAC_SHA256`."""
    pairs = (part.partition("=") for part in settings.split(","))
    named = next((value.strip() for name, _, value in pairs if name.strip() == "algorithm" and value.strip()), "")
    return (named or "HMAC_SHA1").upper()


def _is_signed(given: str, urls: Iterable[str], tokens: Iterable[str], algorithm: str) -> bool:
    """Whether a signature fits. https://www.twilio.com/docs/usage/security#validating-requests"""
    found = False
    for token in tokens:
        for url in urls:
            digest = hmac.digest(token.encode(), url.encode("latin-1", "replace"), ALGORITHMS[algorithm])
            found |= hmac.compare_digest(b64encode(digest), given.encode("latin-1", "replace"))
    return found


def _hosts(netloc: str, scheme: str) -> Iterator[str]:
    """The host as it was sent, and without or with its port: Twilio signs either."""
    yield netloc
    host, colon, port = netloc.rpartition(":")
    if colon and port.isdigit():
        yield host
    else:
        yield f"{netloc}:{PORTS[scheme]}"


def _is_within(address: str, nets: Iterable[Network]) -> bool:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or found
    return any(mapped in net for net in nets)
