"""What stands around a machine in OCI: its metadata service, the auth service, and what gives tokens to OKE's pods.

    with Surroundings() as around:          OCI_METADATA_BASE_URL is around.metadata, the federation's around.federation
    with Surroundings(tls=True) as around:  a pod asks https://127.0.0.1:{around.port}/resourcePrincipalSessionTokens

The tokens are good for the emulated OCI of oci.py. `seconds` is how long they last.
"""

import base64
import datetime as dt
import json
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from tests.emulators.connection import Connection, Received
from tests.emulators.oci.keys import PARAMETER, REGION, TENANCY, Unsigned, check_signature, pem, private_key, token_for
from tests.emulators.reply import Piece, Reply, play
from tests.emulators.server import Server

POD_TOKEN = "a-service-account-token"


class Surroundings(Server):
    """Answers for all three; `issued` counts the tokens."""

    def __init__(self, *, seconds: float = 3600, tls: bool = False) -> None:
        super().__init__(self._handle, tls=tls)
        self.seconds = seconds
        self.issued = 0

    @property
    def metadata(self) -> str:
        """What OCI_METADATA_BASE_URL is set to."""
        return f"{self.url}/opc/v2"

    @property
    def federation(self) -> str:
        """Where an instance has its certificate made into a token."""
        return f"{self.url}/v1/x509"

    def _handle(self, connection: Connection, received: Received) -> None:
        facts = {
            "/opc/v2/instance/region": REGION,
            "/opc/v2/identity/cert.pem": instance_certificate(),
            "/opc/v2/identity/key.pem": pem(private_key("instance")),
            "/opc/v2/identity/intermediate.pem": instance_certificate(),
        }
        authorization = received.headers.get("Authorization", "")
        if received.path in facts and authorization == "Bearer Oracle":
            reply = Reply((Piece(facts[received.path].encode()),))
        elif (received.method, received.path) == ("POST", "/v1/x509") and _is_instance(received):
            reply = _json(json.dumps({"token": self._token(received.json["publicKey"])}).encode())
        elif received.path == "/resourcePrincipalSessionTokens" and authorization == f"Bearer {POD_TOKEN}":
            body = json.dumps({"token": f"ST${self._token(received.json['podKey'])}"})
            reply = _json(base64.b64encode(body.encode()))
        else:
            reply = Reply((Piece(b'{"code":"NotAuthenticated","message":"No."}'),), 401)
        play(connection, reply)

    def _token(self, key: str) -> str:
        self.issued += 1
        return token_for(f"-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n", self.seconds)


@cache
def instance_certificate() -> str:
    """What the metadata service hands to the machine: it names the tenancy."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, f"opc-tenant:{TENANCY}")])
    now, key = dt.datetime.now(dt.UTC), private_key("instance")
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    built = built.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=1))
    return built.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


def _is_instance(received: Received) -> bool:
    """Whether it is signed by the machine's own key."""
    given = dict(PARAMETER.findall(received.headers.get("Authorization", "")))
    try:
        signed = given["headers"].split()
        check_signature(received, signed, given["signature"], private_key("instance").public_key())
    except (KeyError, Unsigned):
        return False
    return given["keyId"].startswith(f"{TENANCY}/fed-x509/")


def _json(data: bytes) -> Reply:
    return Reply((Piece(data),), headers={"Content-Type": "application/json"})
