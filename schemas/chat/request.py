"""`POST /v1/chat/completions`, inbound: the caller's JSON to a ChatRequest.

A request that is plainly valid passes a flat check (some 10 us). Any other is checked by the marshmallow schema, which
is slower and names the error. tests/schemas/test_chat_schema.py holds both checks to the same verdict.
"""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, validate, validates

from core.requests import ChatRequest
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
from schemas.own_fields import OWN_FIELDS, OWN_KEYS, own_fields

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

EXTRAS = OWN_KEYS | {
    "call", "phoneNumber", "customer", "user_id", "elevenlabs_extra_body", "extra_metadata",
}  # fmt: skip
"""Keys of this server's own, and keys that voice platforms add: no upstream knows them."""


def _is_valid_message(message: Any) -> bool:
    if type(message) is not dict or type(role := message.get("role")) is not str or role not in ROLES:
        return False
    content = message.get("content")
    if type(content) is list:
        if not all(type(part) is dict and type(part.get("type")) is str for part in content):
            return False
    elif content is not None and type(content) is not str:
        return False
    calls = message.get("tool_calls")
    if calls is not None and (type(calls) is not list or not all(type(call) is dict for call in calls)):
        return False
    return type(message.get("name", "")) is str and type(message.get("tool_call_id", "")) is str


class MessageSchema(OpenSchema):
    """One message of the conversation."""

    role = fields.String(required=True, validate=validate.OneOf(sorted(ROLES)))
    content = OneOfTypes(str, list, what="a string or a list of content parts", allow_none=True)
    name = fields.String(allow_none=True)
    tool_calls = Items(fields.Dict(), allow_none=True)
    tool_call_id = fields.String(allow_none=True)

    @validates("content")
    def _parts(self, content: Any, **_: Any) -> None:
        if isinstance(content, list):
            for position, part in enumerate(content):
                if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                    raise ValidationError({position: ["Must be an object with a type."]})


class StreamOptionsSchema(OpenSchema):
    """The options of a stream."""

    include_usage = StrictBoolean(metadata={"description": "End with a chunk that has the usage."})


class ChatSchema(OpenSchema):
    """A chat completion request. Parameters that are not named here are passed on unchanged."""

    class Meta(OpenSchema.Meta):
        """marshmallow's options."""

        include = own_fields()

    model = fields.String(
        validate=validate.Length(max=NAME_CHARACTERS),
        metadata={"description": "A model, `provider/model`, or an alias."},
    )
    messages = Items(
        fields.Nested(MessageSchema),
        is_right=_is_valid_message,
        required=True,
        validate=validate.Length(min=1),
    )
    stream = StrictBoolean(metadata={"description": "Answer word by word, as server-sent events."})
    stream_options = fields.Nested(StreamOptionsSchema)
    temperature = StrictNumber()
    top_p = StrictNumber()
    n = StrictInteger(validate=validate.Range(1, 128))
    stop = OneOfTypes(str, list, what="a string or a list of strings")
    max_tokens = StrictInteger()
    max_completion_tokens = StrictInteger()
    frequency_penalty = StrictNumber()
    presence_penalty = StrictNumber()
    seed = StrictInteger()
    logprobs = StrictBoolean()
    top_logprobs = StrictInteger()
    logit_bias = fields.Dict()
    tools = Items(fields.Dict())
    tool_choice = OneOfTypes(str, dict, what="none, auto, required, or an object that names a tool")
    parallel_tool_calls = StrictBoolean()
    functions = Items(fields.Dict())
    function_call = OneOfTypes(str, dict, what="none, auto, or an object that names a function")
    response_format = fields.Dict(keys=fields.String())
    reasoning_effort = fields.String()
    verbosity = fields.String()
    modalities = Items(fields.String())
    metadata = fields.Dict()
    user = fields.String()

    @validates("stop")
    def _stop(self, stop: Any, **_: Any) -> None:
        if isinstance(stop, list) and not all(isinstance(each, str) for each in stop):
            raise ValidationError("Must be a string or a list of strings.")


TYPES: Mapping[str, tuple[type, ...]] = {
    "model": (str,),
    "stream": (bool,),
    "temperature": (int, float),
    "top_p": (int, float),
    "n": (),
    "max_tokens": (int,),
    "max_completion_tokens": (int,),
    "frequency_penalty": (int, float),
    "presence_penalty": (int, float),
    "seed": (int,),
    "logprobs": (bool,),
    "top_logprobs": (int,),
    "logit_bias": (dict,),
    "tool_choice": (str, dict),
    "parallel_tool_calls": (bool,),
    "function_call": (str, dict),
    "response_format": (dict,),
    "reasoning_effort": (str,),
    "verbosity": (str,),
    "modalities": (),
    "metadata": (dict,),
    "user": (str,),
    **{name: (field.type,) for name, field in OWN_FIELDS.items()},
}
"""The types of the flat check; a key with () is checked by the schema."""
VAST = 2**63
"""Larger numbers are left to the schema, which has a bound for each field."""

_schema = ChatSchema()


def load_chat(
    raw: bytes, *, show_reasoning: bool = False, session_id: str = "", limits: Limits = DEFAULTS
) -> ChatRequest:
    """A ChatRequest from the request's bytes. `session_id` is the headers' one, for a body without its own. Raises
    InvalidRequest with the field's name.
    """
    body = {key: value for key, value in parse(raw, limits).items() if value is not None}
    if raw.count(b",") >= limits.least:
        _check_lists(body, limits)
    if not is_valid_fast(body):
        body = load(_schema, body)
    extras = {key: body.pop(key) for key in EXTRAS & body.keys()}
    if session_id:
        extras.setdefault("session_id", session_id)
    metadata = body.get("metadata")
    if metadata is not None and not all(isinstance(value, str) for value in metadata.values()):
        extras["metadata"] = body.pop("metadata")
    for cap in ("max_tokens", "max_completion_tokens"):
        if body.get(cap, 1) < 0:  # some platforms send this for "no limit"
            del body[cap]
    stream = body.get("stream", False)
    return ChatRequest(
        body=body,
        model=body.get("model", ""),
        provider=extras.get("provider", ""),
        stream=stream,
        include_usage=stream and body.get("stream_options", {}).get("include_usage", False),
        include_reasoning=extras.get("include_reasoning", show_reasoning),
        extras=extras,
    )


def _check_lists(body: Mapping[str, Any], limits: Limits) -> None:
    """Raise InvalidRequest for a list that is too long."""
    messages = body.get("messages")
    limits.check(messages, "messages", "messages")
    for name in ("tools", "functions", "stop", "modalities"):
        limits.check(body.get(name), "items", name)
    for position, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict):
            for name in ("content", "tool_calls"):
                limits.check(message.get(name), "items", f"messages[{position}].{name}")


def is_valid_fast(body: Mapping[str, Any]) -> bool:
    """Whether a body without nulls passes the flat check. False leaves the verdict to the schema."""
    for key, value in body.items():
        types = TYPES.get(key)
        if types is not None:
            if type(value) not in types or (key == "model" and len(value) > NAME_CHARACTERS):
                return False
            if isinstance(value, (int, float)) and not abs(value) < VAST:
                return False
        elif key == "messages":
            if type(value) is not list or not value or not all(map(_is_valid_message, value)):
                return False
        elif key in ("tools", "functions"):
            if type(value) is not list or not all(type(each) is dict for each in value):
                return False
        elif key == "stop":
            if type(value) is not str and not (type(value) is list and all(type(each) is str for each in value)):
                return False
        elif key == "stream_options" and (
            type(value) is not dict or type(value.get("include_usage", True)) is not bool
        ):
            return False
    return "messages" in body
