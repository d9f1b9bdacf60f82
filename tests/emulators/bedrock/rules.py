"""What Amazon refuses before a model or an agent sees a request: signatures, and what its service models do not have.

The models are botocore's own (https://github.com/boto/botocore/tree/develop/botocore/data), which clients are made
from too, but the client's checks are left out here: lengths, patterns and ranges are the service's to refuse.
"""

import base64
import binascii
import datetime as dt
import hmac
import json
import re
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.model import OperationModel, Shape

from tests.emulators.connection import Received

SERVICES = ("bedrock-runtime", "bedrock", "bedrock-agent-runtime", "bedrock-agentcore")
SKEW_SECONDS = 300
SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([\w;-]+), "
    r"Signature=([0-9a-f]{64})"
)
JSON_TYPES = {"integer": int, "long": int, "float": (int, float), "double": (int, float), "boolean": bool}


class Refused(Exception):
    """Refused with this exception of the service's, and its status."""

    def __init__(self, exception: str, message: str, status: int = 400) -> None:
        super().__init__(f"{exception}: {message}")
        self.exception = exception
        self.message = message
        self.status = status


class Asked(NamedTuple):
    """An operation and its parameters, blobs as bytes."""

    service: str
    operation: str
    params: dict[str, Any]


def check_signature(
    received: Received, access_key: str, secret: str, region: str, token: str = "", *, signs: str = "bedrock"
) -> None:
    """SigV4, computed anew, for the service that `signs`. Raises Refused.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    found = SIGNATURE.fullmatch(received.headers.get("Authorization", ""))
    if found is None:
        raise Refused("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
    key, _, scope, service, names, given = found.groups()
    if key != access_key or received.headers.get("X-Amz-Security-Token", "") != token:
        raise Refused("UnrecognizedClientException", "The security token included in the request is invalid.", 403)
    signed = names.split(";")
    needed = {"host", "x-amz-date"} | ({"content-type"} if received.body else set())
    needed |= {name for name in received.headers if name.startswith("x-amz-")}
    if (scope, service) != (region, signs) or not needed <= set(signed):
        message = f"Credential should be scoped to a valid region and service, and sign {sorted(needed)}."
        raise Refused("InvalidSignatureException", message, 403)
    stamp = received.headers["X-Amz-Date"]
    then = dt.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    if abs((dt.datetime.now(dt.UTC) - then).total_seconds()) > SKEW_SECONDS:
        raise Refused("InvalidSignatureException", f"Signature expired: {stamp}", 403)
    url = f"http://{received.headers['Host']}{received.path}"
    headers = {name: received.headers[name] for name in signed}
    request = AWSRequest(received.method, url, data=received.body, headers=headers)
    request.context["timestamp"] = stamp
    auth = SigV4Auth(Credentials(access_key, secret), signs, scope)
    expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    if not hmac.compare_digest(expected, given):
        message = "The request signature we calculated does not match the signature you provided."
        raise Refused("InvalidSignatureException", message, 403)


@cache
def operations() -> tuple[tuple[str, str, re.Pattern[str], OperationModel], ...]:
    """Every operation of the services: (service, method, form of the path, model)."""
    session = botocore.session.Session()
    found = []
    for service in SERVICES:
        model = session.get_service_model(service)
        for name in model.operation_names:
            operation = model.operation_model(name)
            path = operation.http["requestUri"].partition("?")[0]
            form = re.sub(r"\{(\w+)\+?\}", r"(?P<\1>[^/]+)", path)
            found.append((service, operation.http["method"], re.compile(form), operation))
    return tuple(found)


def parse_request(received: Received) -> Asked:
    """Which operation a request is of, and with which parameters. Raises Refused for what the model does not have."""
    url = urlsplit(received.path)
    for service, method, form, operation in operations():
        path = form.fullmatch(url.path)
        if path is None or method != received.method:
            continue
        shape = operation.input_shape
        blob = shape.serialization.get("payload")
        body = {blob: base64.b64encode(received.body).decode()} if blob else _parsed(received.body)
        params = {_member(shape, name): unquote(value) for name, value in path.groupdict().items()}
        for name, member in shape.members.items():
            wire, location = member.serialization.get("name", name), member.serialization.get("location")
            if location == "querystring" and wire in (query := dict(parse_qsl(url.query))):
                params[name] = int(query[wire]) if member.type_name == "integer" else query[wire]
            elif location == "header" and wire in received.headers:
                params[name] = received.headers[wire]
            elif location and wire in body:
                raise Refused("ValidationException", f"{name} has no place in the body")
        return Asked(service, operation.name, _checked(shape, {**params, **body}, ""))
    raise Refused("UnknownOperationException", "", 404)


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data or b"{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused("SerializationException", "The body is not a JSON object.")
    return body


def _member(shape: Shape, wire: str) -> str:
    return next(name for name, member in shape.members.items() if member.serialization.get("name", name) == wire)


def _checked(shape: Shape, value: Any, where: str) -> Any:
    """The value with its blobs decoded. Raises Refused."""
    kind = shape.type_name
    if value is None:
        raise Refused("ValidationException", f"{where}: null")
    if kind == "structure":
        return value if shape.is_document_type else _structure(shape, value, where)
    if kind == "list":
        _typed(value, list, where)
        made = [_checked(shape.member, each, f"{where}[{at}]") for at, each in enumerate(value)]
    elif kind == "map":
        _typed(value, dict, where)
        made = {key: _checked(shape.value, each, f"{where}.{key}") for key, each in value.items()}
    elif kind == "blob":
        _typed(value, str, where)
        try:
            made = base64.b64decode(value, validate=True)
        except binascii.Error:
            raise Refused("ValidationException", f"{where}: not base64") from None
    else:
        made = _scalar(shape, value, where)
    size = made if kind in JSON_TYPES and kind != "boolean" else len(made) if hasattr(made, "__len__") else 0
    if not shape.metadata.get("min", size) <= size <= shape.metadata.get("max", size):
        raise Refused("ValidationException", f"{where}: {size} is out of bounds")
    return made


def _structure(shape: Shape, value: Any, where: str) -> dict[str, Any]:
    _typed(value, dict, where)
    unknown = value.keys() - shape.members.keys()
    missing = set(shape.required_members) - value.keys()
    if unknown or missing:
        raise Refused("ValidationException", f"{where}: unknown {sorted(unknown)}, missing {sorted(missing)}")
    if shape.is_tagged_union and len(value) != 1:
        raise Refused("ValidationException", f"{where}: exactly one of {list(shape.members)}")
    return {name: _checked(shape.members[name], each, f"{where}.{name}") for name, each in value.items()}


def _scalar(shape: Shape, value: Any, where: str) -> Any:
    _typed(value, JSON_TYPES.get(shape.type_name, str), where)
    if isinstance(value, bool) != (shape.type_name == "boolean"):
        raise Refused("ValidationException", f"{where}: a boolean, or none")
    pattern = shape.metadata.get("pattern")
    if (pattern and not re.fullmatch(pattern, value)) or (getattr(shape, "enum", None) and value not in shape.enum):
        raise Refused("ValidationException", f"{where}: {value!r} is not of the form {pattern or shape.enum}")
    return value


def _typed(value: Any, kinds: Any, where: str) -> None:
    if not isinstance(value, kinds):
        raise Refused("ValidationException", f"{where}: {type(value).__name__}")
