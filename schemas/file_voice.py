"""`voice` of a model in models.yaml, inbound: how it speaks on the phone."""

import re
from base64 import b64decode
from typing import Any
from urllib.parse import urlsplit

from marshmallow import ValidationError, fields, validate, validates_schema

from schemas.closed import ClosedSchema
from schemas.common import StrictBoolean, StrictNumber

PLATFORM_TOOLS = ("end_call", "transfer_call", "press_digit", "switch_language", "play_sound")
TOOL_NAME = validate.Regexp(r"[a-zA-Z0-9_-]{1,64}\Z", error="Must be of letters, digits, - and _, 64 at most.")
ADDRESS = re.compile(r"https?://[^\s/@?#]+(?:[/?#][!-~]*)?")


def _address(value: str) -> None:
    try:
        usable = bool(ADDRESS.fullmatch(value)) and urlsplit(value).port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValidationError("Must be an address, http:// or https://, without a password.")


def _secret(value: str) -> None:
    if value.startswith("whsec_"):
        try:
            b64decode(value.removeprefix("whsec_"), validate=True)
        except ValueError:
            raise ValidationError("Must be base64 behind `whsec_`.") from None


class WebhookSchema(ClosedSchema):
    """Where tools are carried out."""

    url = fields.String(required=True, validate=_address)
    secret = fields.String(required=True, validate=[validate.Length(min=16), _secret])
    timeout = StrictNumber(validate=validate.Range(min=0.1, max=60))


class ToolSchema(ClosedSchema):
    """A function, as OpenAI spells it."""

    name = fields.String(required=True, validate=TOOL_NAME)
    description = fields.String()
    parameters = fields.Dict(keys=fields.String())
    strict = StrictBoolean()


class VoiceSchema(ClosedSchema):
    """A model on the phone."""

    instructions = fields.String()
    greeting = fields.String()
    platform_tools = fields.List(fields.String(validate=validate.OneOf(PLATFORM_TOOLS)))
    transfer_to = fields.List(fields.String(validate=validate.Length(min=1)), validate=validate.Length(min=1))
    sounds = fields.Dict(keys=fields.String(validate=TOOL_NAME), values=fields.String(validate=_address))
    webhook = fields.Nested(WebhookSchema)
    tools = fields.List(fields.Nested(ToolSchema), validate=validate.Length(max=100))

    @validates_schema
    def _carried_out(self, data: dict[str, Any], **_: Any) -> None:
        names = [tool["name"] for tool in data.get("tools", ()) if "name" in tool]
        if names and "webhook" not in data:
            raise ValidationError("Tools need a `webhook` that carries them out.", "tools")
        if len(set(names)) < len(names):
            raise ValidationError("Two tools have the same name.", "tools")
