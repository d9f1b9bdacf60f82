"""Who may call the emulated OCI: a user's API key, tokens with a key of their own, and how a signature is verified.

https://docs.oracle.com/en-us/iaas/Content/API/Concepts/signingrequests.htm
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import cache
from hashlib import md5, sha256
from pathlib import Path
from time import time
from typing import Any

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from tests.emulators.connection import Received

TENANCY = "ocid1.tenancy.oc1..aaaatenancy"
USER = "ocid1.user.oc1..aaaauser"
COMPARTMENT = "ocid1.compartment.oc1..aaaacompartment"
SECOND_COMPARTMENT = "ocid1.compartment.oc1..aaaasecond"
REGION = "us-chicago-1"
API_KEY = "sk-emulated-oci-generative-ai"
"""A Generative AI API key, for /openai/v1 alone."""

SKEW_SECONDS = 300
ALWAYS_SIGNED = ("date", "(request-target)", "host")
BODY_SIGNED = ("content-length", "content-type", "x-content-sha256")
PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Unsigned(Exception):
    """The signature is missing or wrong; the text says how."""


@cache
def private_key(name: str = "user") -> rsa.RSAPrivateKey:
    """A key that is made once per process: the user's, the token service's, anybody's."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey, passphrase: str = "") -> str:
    """The key as a key file has it."""
    cipher = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, cipher).decode()


def public_pem(key: rsa.RSAPrivateKey) -> str:
    """Its public half."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def fingerprint(key: rsa.RSAPrivateKey) -> str:
    """As the console shows it."""
    digest = md5(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    return ":".join(digest[place : place + 2] for place in range(0, len(digest), 2))


def config(**changes: str) -> dict[str, str]:
    """What a profile holds; `key_content` instead of a file. An empty value takes an entry away."""
    key = private_key()
    found = {"user": USER, "fingerprint": fingerprint(key), "tenancy": TENANCY, "region": REGION}
    return {name: value for name, value in {**found, "key_content": pem(key), **changes}.items() if value}


def config_file(folder: Path, *, profile: str = "DEFAULT", passphrase: str = "", **changes: str) -> Path:
    """A config file and a key file, as `oci setup config` writes them."""
    key_file = folder / "oci_api_key.pem"
    key_file.write_text(pem(private_key(), passphrase))
    key_file.chmod(0o600)
    entries = config(key_content="", key_file=str(key_file), pass_phrase=passphrase)
    return write_profile(folder, profile, {**entries, **changes})


def session_file(folder: Path, *, profile: str = "DEFAULT", seconds: float = 3600) -> Path:
    """The same after `oci session authenticate`: a key of its own, and a token that lasts so long, in `token`."""
    key_file, token_file = folder / "session_key.pem", folder / "token"
    key_file.write_text(pem(private_key("session")))
    token_file.write_text(token(private_key("session"), seconds))
    files = {"key_file": str(key_file), "security_token_file": str(token_file)}
    entries = config(key_content="", user="", fingerprint=fingerprint(private_key("session")), **files)
    return write_profile(folder, profile, entries)


def write_profile(folder: Path, profile: str, entries: Mapping[str, str]) -> Path:
    """A config file with this one profile."""
    path = folder / "config"
    lines = [f"[{profile}]", *(f"{name}={value}" for name, value in entries.items() if value)]
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)
    return path


def token(holder: rsa.RSAPrivateKey, seconds: float = 3600, **claims: Any) -> str:
    """A security token, as OCI's auth service makes it: it says which key its holder signs with."""
    return token_for(public_pem(holder), seconds, **claims)


def token_for(public: str, seconds: float = 3600, **claims: Any) -> str:
    """The same, for whoever sent this public key."""
    now = time()
    payload = {"iat": int(now - 60), "exp": int(now + seconds), "holder": public, "tenant": TENANCY, **claims}
    return jwt.encode(payload, pem(private_key("authority")), "RS256")


def verify(received: Received) -> None:
    """Raises Unsigned unless the request is signed by the user's key, or by that of a token which is valid."""
    scheme, _, rest = received.headers.get("Authorization", "").partition(" ")
    if scheme != "Signature":
        raise Unsigned("no signature")
    given = dict(PARAMETER.findall(rest))
    if (given.get("algorithm"), given.get("version")) != ("rsa-sha256", "1"):
        raise Unsigned(f"algorithm and version: {given}")
    signed = given["headers"].split()
    demanded = ALWAYS_SIGNED + (BODY_SIGNED if received.method in ("POST", "PUT") else ())
    if missing := set(demanded) - set(signed):
        raise Unsigned(f"not signed: {missing}")
    _check_headers(received)
    check_signature(received, signed, given["signature"], _key_of(given["keyId"]))


def check_signature(received: Received, signed: list[str], signature: str, key: rsa.RSAPublicKey) -> None:
    """Raises Unsigned unless it is the key's signature of these headers."""
    target = f"(request-target): {received.method.lower()} {received.path}"
    lines = [target if name == "(request-target)" else f"{name}: {received.headers.get(name, '')}" for name in signed]
    try:
        key.verify(b64decode(signature), "\n".join(lines).encode(), padding.PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError) as error:
        raise Unsigned(f"the signature is not of {lines}") from error


def _check_headers(received: Received) -> None:
    sent = parsedate_to_datetime(received.headers.get("date", "Thu, 01 Jan 1970 00:00:00 GMT"))
    if abs(sent.timestamp() - time()) > SKEW_SECONDS:
        raise Unsigned(f"the date is {sent}")
    if received.method == "POST":
        digest = b64encode(sha256(received.body).digest()).decode()
        if received.headers.get("x-content-sha256") != digest:
            raise Unsigned("x-content-sha256 is not the body's")
        if received.headers.get("content-length") != str(len(received.body)):
            raise Unsigned("content-length is not the body's")


def _key_of(key_id: str) -> rsa.RSAPublicKey:
    if key_id == f"{TENANCY}/{USER}/{fingerprint(private_key())}":
        return private_key().public_key()
    if not key_id.startswith("ST$"):
        raise Unsigned(f"nobody knows the key {key_id}")
    try:
        claims = jwt.decode(key_id[3:], public_pem(private_key("authority")), ["RS256"])
    except jwt.InvalidTokenError as error:
        raise Unsigned(f"the token: {error}") from error
    key = load_pem_public_key(claims["holder"].encode())
    assert isinstance(key, rsa.RSAPublicKey)
    return key
