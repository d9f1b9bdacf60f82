"""Shared by harnesses and runtimes: the account, the agent's ARN, session ids, and lost sessions."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from core.context import CallContext, Timeouts
from core.errors import GatewayError, InvalidRequest, UpstreamDown, UpstreamRejected
from core.json_values import Json
from core.models import ListedModel
from core.requests import ChatRequest
from providers.base import Provider, Target
from providers.bedrock.client import AwsClient
from providers.common.agent_sessions import Session
from providers.common.agent_turns import CAUTION, SessionLost

SERVICE = "bedrock-agentcore"
SESSION_TTL = 900.0
"""Seconds of silence after which a session's machine is shut, unless it was created otherwise
(https://docs.aws.amazon.com/bedrock-agentcore/latest/devguide/runtime-sessions.html)."""
FAILED_IN_AGENT = (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.FAILED_DEPENDENCY, HTTPStatus.BAD_GATEWAY)
"""Statuses of a failed agent, which may have acted before: the request is not repeated."""
USER_ID = re.compile(r"[!-~]{1,1024}")
NO_SUCH_SESSION = "thinkline-doctor-has-no-such-session"


class AgentCoreProvider(Provider):
    """One harness or runtime, `arn`, under the name `model`; in models.yaml a model's `model` may be another ARN.

    `account` holds the arguments of AwsClient. With `remembers` false, each turn is a session of its own that gets
    the whole conversation. `fields` are the provider's defaults for what a model may say in its row.
    """

    acts = True

    def __init__(
        self,
        *,
        arn: str,
        account: Mapping[str, Any],
        name: str,
        model: str,
        session_ttl: float = SESSION_TTL,
        remembers: bool = True,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.default_model = model
        self._arn = arn
        self._seconds = session_ttl * CAUTION
        self._remembers = remembers
        self._fields = fields or {}
        # A Bedrock API key is valid for models only.
        variables = {key: value for key, value in account["variables"].items() if key != "AWS_BEARER_TOKEN_BEDROCK"}
        self._client = AwsClient(name, **{**account, "variables": variables, "token": ""})

    def warm(self, call: CallContext, timeouts: Timeouts) -> None:
        """Keep a connection to the service open."""
        self._client.warm(SERVICE, Target(self, self.default_model), call, timeouts)

    def models(self, call: CallContext) -> list[ListedModel]:
        """The agent, if there are a region and credentials to call it with. No request is sent: listing agents needs
        another permission than to call one.
        """
        self._client.client(SERVICE, Target(self, self.default_model), call)
        return [ListedModel(self.default_model, "amazon")]

    def _arn_of(self, target: Target) -> str:
        return target.model if target.model.startswith("arn:") else self._arn

    def _field(self, target: Target, name: str) -> str:
        """The option of the model's row, else the provider's."""
        return str(target.details.get(name) or self._fields.get(name) or "")


def wire_session_id(session: Session) -> str:
    """The id of a session as AgentCore takes it: [a-zA-Z0-9][a-zA-Z0-9-_]*, 33 to 100 characters. Ours have 41 or more,
    and a hash of what is replaced here, so that no two meet.
    """
    identifier = re.sub(r"[^a-zA-Z0-9_-]", "-", session.id)
    return identifier if identifier[0].isalnum() else f"s{identifier}"


def session_lost(error: GatewayError, name: str) -> SessionLost | None:
    """A conflict means that the session is busy. Amazon silently restarts one that has ended. A failure of
    the agent's own is marked as one that is not to be repeated.
    """
    if isinstance(error, UpstreamDown) and error.upstream_status in FAILED_IN_AGENT:
        error.retryable = False
    busy = isinstance(error, UpstreamRejected) and error.status == HTTPStatus.CONFLICT
    return SessionLost(name, error.log, busy=True) if busy else None


def request_options(request: ChatRequest, kinds: Mapping[str, type]) -> Json:
    """The body's `bedrock` object, whose keys are those of `kinds`. Raises InvalidRequest."""
    options = request.extras.get("bedrock", {})
    if not isinstance(options, dict):
        raise InvalidRequest("`bedrock` must be an object.", param="bedrock")
    for key, value in options.items():
        if key not in kinds:
            known = ", ".join(sorted(kinds))
            raise InvalidRequest(f"This agent has no {key!r}; known are {known}.", param=f"bedrock.{key}")
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            what = {str: "a string", int: "a whole number", dict: "an object"}[kinds[key]]
            raise InvalidRequest(f"Must be {what}.", param=f"bedrock.{key}")
    if not USER_ID.fullmatch(options.get("runtimeUserId", "-")):
        raise InvalidRequest("Must be visible ASCII characters, without spaces.", param="bedrock.runtimeUserId")
    return options
