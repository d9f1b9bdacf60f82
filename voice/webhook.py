"""Tools that models.yaml's webhook carries out: a signed POST for each call, and its answer as text for the model.

Signed as https://www.standardwebhooks.com says, so that the webhook can check it with a library. The address stands in
models.yaml: callers and platforms cannot name one, and redirects are not followed.
"""

import hmac
from base64 import b64decode, b64encode
from hashlib import sha256
from logging import getLogger
from time import time
from uuid import uuid4

import orjson

from core.context import CallContext, Timeouts
from core.errors import GatewayError, UpstreamRejected
from core.json_values import Json
from dispatch.routing.voice_config import Webhook
from providers.transport.client import send
from providers.transport.endpoint import Endpoint
from providers.transport.exchange import raise_for_status, read_body
from voice.turns import ToolFailed

log = getLogger("thinkline.voice")

MOST_BYTES = 65_536
"""The most bytes of an answer: a model reads a longer one too slowly for a caller who waits."""
SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of secrets


class SignedWebhook:
    """A ToolWebhook: calls one webhook, over kept connections. Safe for all threads."""

    def __init__(self, config: Webhook) -> None:
        self._endpoint = Endpoint("webhook", config.url, {})
        self._timeout = config.timeout
        self._timeouts = Timeouts(min(3.0, config.timeout), config.timeout, config.timeout, config.timeout)
        self._key = signing_key(config.secret)

    def call(self, body: Json, call: CallContext) -> str:
        """Run the tool, and return its answer. Raises ToolFailed, and Cancelled with the call."""
        raw = orjson.dumps(body)
        call.begin(self._timeouts)
        try:
            reply = send(self._endpoint, "POST", "", self.headers(raw), raw, call, self._timeouts)
            try:
                raise_for_status(reply, lambda status, *_: UpstreamRejected("refused", upstream_status=status))
                answer = read_body(reply, MOST_BYTES)
            finally:
                reply.close()
        except GatewayError as error:
            log.warning("a tool's webhook failed", extra={"facts": {"status": error.status, "said": error.message}})
            raise ToolFailed("The tool failed. Tell the caller that it cannot be done now.") from None
        return answer.decode(errors="replace")

    def headers(self, body: bytes) -> dict[str, str]:
        """The headers with the signature of a body."""
        identifier, seconds = f"msg_{uuid4().hex}", str(int(time()))
        signature = {"webhook-signature": sign(self._key, identifier, seconds, body)} if self._key else {}
        return {"webhook-id": identifier, "webhook-timestamp": seconds, **signature}


def signing_key(secret: str) -> bytes:
    """The bytes of a secret: those that `whsec_` and base64 stand for, or the text itself. Raises ValueError."""
    if secret.startswith(SECRET_PREFIX):
        return b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    return secret.encode()


def sign(key: bytes, identifier: str, seconds: str, body: bytes) -> str:
    """The signature of a message, as its header has it."""
    digest = hmac.digest(key, f"{identifier}.{seconds}.".encode() + body, sha256)
    return f"v1,{b64encode(digest).decode()}"
