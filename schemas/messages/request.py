"""`POST /v1/messages` and `/v1/messages/count_tokens`, inbound: JSON in Anthropic's dialect to a ChatRequest.

The body is kept in two forms: unchanged for an upstream of the same dialect (`ChatRequest.native`), and translated for
all others.
"""

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, validate, validates

from core.errors import InvalidRequest
from core.events import CallerDialect
from core.requests import ChatRequest, NativeBody
from schemas.common import (
    NAME_CHARACTERS,
    Items,
    OneOfTypes,
    OpenSchema,
    StrictBoolean,
    StrictInteger,
    StrictNumber,
    load,
    parse,
)
from schemas.limits import DEFAULTS, Limits
from schemas.messages.translate import translate
from schemas.own_fields import OWN_KEYS, own_fields

DIALECT: CallerDialect = "messages"
ROLES = frozenset({"user", "assistant", "system"})
FORWARDED_HEADERS = ("anthropic-version", "anthropic-beta")
VISIBLE = re.compile(r"[ -~]{1,1000}\Z")


def _is_valid_message(message: Any) -> bool:
    if type(message) is not dict or type(role := message.get("role")) is not str or role not in ROLES:
        return False
    content = message.get("content")
    return type(content) is str or (type(content) is list and all(map(_is_block, content)))


def _is_block(block: Any) -> bool:
    return isinstance(block, dict) and isinstance(block.get("type"), str)


def _check_blocks(content: Any) -> None:
    if isinstance(content, list):
        for position, block in enumerate(content):
            if not _is_block(block):
                raise ValidationError({position: ["Must be an object with a type."]})


class MessagesMessageSchema(OpenSchema):
    """One message of the conversation."""

    role = fields.String(
        required=True, validate=validate.OneOf(sorted(ROLES)), metadata={"description": "The speaker."}
    )
    content = OneOfTypes(str, list, what="a string or a list of content blocks", required=True)

    @validates("content")
    def _content(self, content: Any, **_: Any) -> None:
        _check_blocks(content)


class CountTokensSchema(OpenSchema):
    """A request to count tokens. Other keys of Anthropic's are allowed."""

    class Meta(OpenSchema.Meta):
        """marshmallow's options."""

        include = own_fields(only=("provider",))

    model = fields.String(
        required=True,
        validate=validate.Length(1, NAME_CHARACTERS),
        metadata={"description": "A model, `provider/model`, or an alias."},
    )
    messages = Items(
        fields.Nested(MessagesMessageSchema),
        is_right=_is_valid_message,
        required=True,
        validate=validate.Length(min=1),
    )
    system = OneOfTypes(
        str,
        list,
        what="a string or a list of text blocks",
        metadata={"description": "Instructions for the model, before the conversation."},
    )
    tools = Items(
        fields.Dict(), metadata={"description": "What may be called: each has a `name` and an `input_schema`."}
    )
    tool_choice = fields.Dict(
        metadata={"description": "Its `type` is `auto`, `any`, `tool` (with a `name`) or `none`."}
    )
    thinking = fields.Dict(metadata={"description": "Whether the model thinks aloud; the caller then sees it."})
    output_config = fields.Dict(metadata={"description": "The `effort`, and the `format` of the answer."})

    @validates("system")
    def _system(self, system: Any, **_: Any) -> None:
        _check_blocks(system)


class MessagesSchema(CountTokensSchema):
    """A request for a message. Other keys of Anthropic's are allowed."""

    class Meta(OpenSchema.Meta):
        """marshmallow's options."""

        include = own_fields(exclude=("include_reasoning",))  # `thinking` is this dialect's own field for it

    max_tokens = StrictInteger(
        required=True,
        validate=validate.Range(1),
        metadata={"description": "The most tokens that the answer may have."},
    )
    stream = StrictBoolean(metadata={"description": "Answer word by word, as server-sent events."})
    temperature = StrictNumber()
    top_p = StrictNumber()
    top_k = StrictInteger(metadata={"description": "Choose among so many of the likeliest words."})
    stop_sequences = Items(fields.String(), metadata={"description": "Texts at which the answer ends."})
    metadata = fields.Dict(metadata={"description": "`user_id` is the end user, in your own terms."})
    service_tier = fields.String(metadata={"description": "`auto` or `standard_only`."})


_message, _count = MessagesSchema(), CountTokensSchema()


def load_messages(
    raw: bytes,
    *,
    headers: Mapping[str, str] | None = None,
    query: str = "",
    counts: bool = False,
    show_reasoning: bool = False,
    session_id: str = "",
    limits: Limits = DEFAULTS,
) -> ChatRequest:
    """A ChatRequest from the request's bytes. `headers` and `query` are for Anthropic; `counts`: only its tokens are to
    be counted. Raises InvalidRequest with the field's name.
    """
    given = {key: value for key, value in parse(raw, limits).items() if value is not None}
    _check_lists(given, limits)
    body = load(_count if counts else _message, given)
    extras = {key: body.pop(key) for key in OWN_KEYS & body.keys()}
    if session_id:
        extras.setdefault("session_id", session_id)
    chat, conversation = translate(body)
    native = NativeBody(
        body,
        lacks=conversation.lacks,
        dialect=DIALECT,
        headers={name: _visible(name, value) for name, value in (headers or {}).items()},
        query=query,
        places=tuple(conversation.places),
    )
    return ChatRequest(
        body=chat,
        model=body["model"],
        provider=extras.get("provider", ""),
        stream=body.get("stream", False),
        include_usage=True,
        include_reasoning=_is_shown(body.get("thinking"), extras.get("include_reasoning", show_reasoning)),
        passthrough=DIALECT,
        native=native,
        extras=extras,
    )


def _visible(name: str, value: str) -> str:
    if not VISIBLE.match(value):
        raise InvalidRequest(f"The header {name} must be visible ASCII characters.", param=name)
    return value


def _is_shown(thinking: Mapping[str, Any] | None, otherwise: bool) -> bool:
    """Whether the caller gets the thinking: as `thinking` says, `otherwise` if the request has no such field."""
    if thinking is None:
        return otherwise
    return thinking.get("type") != "disabled" and thinking.get("display") != "omitted"


def _check_lists(body: Mapping[str, Any], limits: Limits) -> None:
    """Raise InvalidRequest for a list that is too long."""
    messages = body.get("messages")
    limits.check(messages, "messages", "messages")
    for name in ("system", "tools", "stop_sequences"):
        limits.check(body.get(name), "items", name)
    for position, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict):
            limits.check(message.get("content"), "items", f"messages[{position}].content")
