"""The credentials that sign requests to OCI: a profile's key or token, or an instance's, a resource's or a pod's own.

A credential that cannot be used is an UpstreamAuthFailed that names the setting to mend. It is never the caller's
fault. https://docs.oracle.com/en-us/iaas/Content/API/Concepts/sdk_authentication_methods.htm
"""

import hashlib
import os
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ParserError
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import urlsplit

import orjson
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from oci.auth.signers import (
    InstancePrincipalsSecurityTokenSigner,
    SecurityTokenSigner,
    get_oke_workload_identity_resource_principal_signer,
    get_resource_principals_signer,
)
from oci.circuit_breaker import NoCircuitBreakerStrategy
from oci.exceptions import ClientError
from oci.retry import NoneRetryStrategy
from oci.signer import AbstractBaseSigner, Signer, load_private_key

from core.errors import UpstreamAuthFailed

PRINCIPALS = {
    "INSTANCE_PRINCIPAL": "needs an OCI compute instance that a dynamic group takes in",
    "RESOURCE_PRINCIPAL": "needs an OCI resource that has one, such as a function",
    "WORKLOAD_IDENTITY": "needs a pod with a service account in an enhanced OKE cluster",
}
KEY_FIELDS = ("tenancy", "user", "fingerprint")


@dataclass(frozen=True)
class Credential:
    """A credential, valid until `expires` (Unix seconds). `files` has the state of the files it was read from."""

    signer: Any = field(repr=False)
    region: str = ""
    tenancy: str = ""
    expires: float = inf
    files: tuple[tuple[Path, object], ...] = ()
    since: float = field(default_factory=time)

    def holds(self, ahead: float) -> bool:
        """Whether it is valid for so many seconds more, or for a quarter of its lifetime if that is shorter."""
        return self.expires - time() > min(ahead, (self.expires - self.since) / 4)

    @property
    def has_changed(self) -> bool:
        """Whether a file that it was read from has changed since."""
        return any(_stamp(path) != before for path, before in self.files)

    def headers(self, method: str, url: str, body: bytes) -> dict[str, str]:
        """The headers of a signed request: Authorization, and the headers that it signs."""
        request = _Unsigned(method, url, body)
        # Not `signer(request)`: a principal's signer would fetch its next token there, and delay the request.
        AbstractBaseSigner.do_request_sign(self.signer, request)
        return {name: text for name, text in request.headers.items() if name not in request.of_the_transport}


class _Unsigned:
    """The attributes of a `requests.PreparedRequest` that the package's signers read."""

    of_the_transport = ("host", "content-type", "content-length")

    def __init__(self, method: str, url: str, body: bytes) -> None:
        parts = urlsplit(url)
        self.method = method
        self.url = url
        self.path_url = f"{parts.path}?{parts.query}" if parts.query else parts.path
        self.body = body
        self.headers = {"host": parts.netloc, "content-type": "application/json", "content-length": str(len(body))}


@dataclass(frozen=True)
class Profile:
    """A profile of a configuration file; `given` are a profile's values in the place of a file's."""

    name: str
    config_file: str
    profile: str
    given: Mapping[str, str] = field(default_factory=dict, repr=False)


def by_profile(profile: Profile, *, by_token: bool) -> Credential:
    """A user's API key, or the token of a session (https://docs.oracle.com/en-us/iaas/Content/API/Concepts/sdkconfig.htm)."""
    read: list[Path] = []
    values = dict(profile.given) if "tenancy" in profile.given else _values(profile, read)
    by_token = by_token or ("security_token_file" in values and "user" not in values)
    if missing := [name for name in (("security_token_file",) if by_token else KEY_FIELDS) if not values.get(name)]:
        raise _wrong(profile, f"lacks {', '.join(missing)}")
    pem = _pem(profile, values, read)
    region, tenancy, expires = values.get("region", ""), values.get("tenancy", ""), inf
    signer: AbstractBaseSigner
    try:
        key = load_private_key(pem, values.get("pass_phrase"))
        if by_token:
            token = _text(profile, values, "security_token_file", read).strip()
            signer, expires = SecurityTokenSigner(token, key), claims(token).get("exp", 0.0)
        else:
            signer = Signer(*(values[name] for name in KEY_FIELDS), None, values.get("pass_phrase"), pem)
    except (ValueError, TypeError, ClientError) as error:
        raise _wrong(
            profile, "has a key_file that is no private key, or a wrong pass_phrase", log=str(error)
        ) from error
    if not by_token and _fingerprint(key) != values["fingerprint"].lower():
        raise _wrong(profile, "has a fingerprint that is not its key's")
    if expires < time():
        raise _wrong(profile, "has no session token that is still valid; `oci session authenticate` makes a new one")
    return Credential(signer, region, tenancy, expires, tuple((path, _stamp(path)) for path in read))


def by_principal(name: str, auth_type: str, *, debug: bool = False) -> Credential:
    """The principal of the machine or pod; fetched over the network, which may take seconds."""
    once = {"retry_strategy": NoneRetryStrategy(), "log_requests": debug}
    try:
        if auth_type == "INSTANCE_PRINCIPAL":
            signer: Any = InstancePrincipalsSecurityTokenSigner(
                federation_client_retry_strategy=NoneRetryStrategy(),
                federation_client_circuit_breaker_strategy=NoCircuitBreakerStrategy(),
                **once,
            )
        elif auth_type == "RESOURCE_PRINCIPAL":
            signer = get_resource_principals_signer()
        else:
            signer = get_oke_workload_identity_resource_principal_signer(**once)
    except Exception as error:  # the package lets exceptions of requests, OSError, ValueError and others through
        raise credential_error(
            name,
            f"AUTH_TYPE is {auth_type}, which {PRINCIPALS[auth_type]}; there is none here.",
            "AUTH_TYPE",
            log=f"{type(error).__name__}: {error}",
        ) from error
    token_claims = claims(signer.api_key.removeprefix("ST$"))
    tenancy = getattr(signer, "tenancy_id", None) or token_claims.get("res_tenant") or token_claims.get("tenant") or ""
    return Credential(signer, getattr(signer, "region", None) or "", str(tenancy), token_claims.get("exp", inf))


def credential_error(name: str, what: str, setting: str, *, log: str = "") -> UpstreamAuthFailed:
    """The exception for a setting that cannot be used, on a request and in the doctor alike."""
    return UpstreamAuthFailed(f"{name} cannot be asked: {what}", provider=name, param=setting, log=log)


def claims(token: str) -> dict[str, Any]:
    """The claims of a JSON web token, not verified; {} for an invalid one."""
    try:
        payload = token.split(".")[1]
        payload_claims = orjson.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return payload_claims if isinstance(payload_claims, dict) else {}


def _at_home(path: str) -> Path:
    """The path with ~ expanded, or unchanged without a home; then reading the file fails, and the error says so."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def _values(profile: Profile, read: list[Path]) -> dict[str, str]:
    """The profile's lines. Not by the package's `from_file`, which reads the environment and refuses key_content."""
    path = _at_home(profile.config_file)
    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text("utf-8"))
    except OSError as error:
        what = f"OCI_CONFIG_FILE names a file that cannot be read ({error.strerror})."
        raise credential_error(profile.name, what, "OCI_CONFIG_FILE", log=str(path)) from error
    except (ParserError, UnicodeDecodeError) as error:
        what = "OCI_CONFIG_FILE names a file that is no OCI configuration file."
        raise credential_error(profile.name, what, "OCI_CONFIG_FILE", log=str(path)) from error
    read.append(path)
    if profile.profile not in parser:
        there = ", ".join(["DEFAULT"] * bool(parser.defaults()) + parser.sections())
        what = f"OCI_CONFIG_PROFILE is {profile.profile!r}; the file of OCI_CONFIG_FILE has {there or 'none'}."
        raise credential_error(profile.name, what, "OCI_CONFIG_PROFILE")
    values = {**parser[profile.profile], **profile.given}
    own = values.items() - parser.defaults().items()
    if "security_token_file" in dict(own) and "user" not in dict(own):
        values.pop("user", None)  # the DEFAULT profile's, whose key is another
    return values


def _pem(profile: Profile, values: Mapping[str, str], read: list[Path]) -> str:
    if content := values.get("key_content"):
        return content.replace("\\n", "\n")  # as an environment variable or a line of a file has it
    if not values.get("key_file"):
        raise _wrong(profile, "lacks key_file")
    return _text(profile, values, "key_file", read)


def _text(profile: Profile, values: Mapping[str, str], name: str, read: list[Path]) -> str:
    path = _at_home(values[name])
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not text"
        raise _wrong(profile, f"has a {name} that cannot be read ({why})", log=str(path)) from error
    read.append(path)
    return text


def _wrong(profile: Profile, what: str, *, log: str = "") -> UpstreamAuthFailed:
    if "tenancy" in profile.given:
        return credential_error(profile.name, f"its entry in models.yaml {what}.", "models.yaml", log=log)
    what = f"the profile {profile.profile!r} (OCI_CONFIG_PROFILE) of OCI_CONFIG_FILE {what}."
    return credential_error(profile.name, what, "OCI_CONFIG_PROFILE", log=log)


def _fingerprint(key: Any) -> str:
    """MD5 of the public key, as the console shows it."""
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.md5(der, usedforsecurity=False).digest().hex(":")


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
