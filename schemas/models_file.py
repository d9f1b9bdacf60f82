"""The schema of models.yaml: its fields, and the values that each may have. `schema_for` knows three shapes.

ours                         a mapping: `providers` by name, `models` a list, `aliases` by name, `keys` a list
OCI GenAI access gateway's   a list of regions, each with `models` of four kinds (ondemand, embedding, dedicated,
                             datascience)
LLM Bridge's                 a mapping: `providers` by name, each with its `models` by name
"""

import re
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from schemas.closed import NAME, ClosedSchema
from schemas.common import OneOfTypes, StrictBoolean, StrictInteger, StrictNumber
from schemas.file_keys import ApiKeySchema
from schemas.file_prices import PriceSchema
from schemas.file_voice import VoiceSchema

SECONDS = validate.Range(min=0.001, max=86_400)


def _pattern(value: str) -> None:
    try:
        re.compile(value)
    except re.error as error:
        raise ValidationError(f"Must be a regular expression ({error}).") from None


class OneOrMore(OneOfTypes):
    """A string, or a list of them. An empty string, as from a variable that is not set, counts as none."""

    def __init__(self, *, what: str) -> None:
        super().__init__(str, list, what=what)

    def _deserialize(self, value: Any, *arguments: Any, **options: Any) -> Any:
        value = super()._deserialize(value, *arguments, **options)
        if isinstance(value, list) and not (value and all(isinstance(each, str) for each in value)):
            raise ValidationError(f"Must be {self.what}.")
        return value


class TimeoutsSchema(ClosedSchema):
    """Seconds; `timeout`, LLM Bridge's name, is the total."""

    timeout = StrictNumber(validate=SECONDS)
    connect_timeout = StrictNumber(validate=SECONDS)
    first_event_timeout = StrictNumber(validate=SECONDS)
    idle_timeout = StrictNumber(validate=SECONDS)
    total_timeout = StrictNumber(validate=SECONDS)


class RulesSchema(ClosedSchema):
    """Parameter rules, in the order in which they are applied; LLM Bridge's names are known too."""

    update = fields.Dict(keys=fields.String())
    add = fields.Dict(keys=fields.String())
    rename = fields.Dict(keys=fields.String(), values=fields.String())
    delete = fields.List(fields.String())
    update_params = fields.Dict(keys=fields.String())
    add_params = fields.Dict(keys=fields.String())
    rename_params = fields.Dict(keys=fields.String(), values=fields.String())
    delete_params = fields.List(fields.String())


class UpstreamSchema(ClosedSchema):
    """One of a model's deployments."""

    provider = fields.String(required=True)
    model = fields.String()
    weight = StrictInteger(validate=validate.Range(1, 100))
    rpm = StrictInteger(validate=validate.Range(min=1))


class PlaceSchema(ClosedSchema):
    """The region and compartment of an OCI model."""

    region = fields.String()
    compartment = fields.String()
    compartment_id = fields.String()
    endpoint = fields.String()
    type = fields.String(validate=validate.OneOf(["ondemand", "embedding", "dedicated", "datascience"]))
    api_format = fields.String(validate=validate.OneOf(["GENERIC", "COHERE", "COHEREV2", "OPENAI"]))
    stream_by = fields.String(validate=validate.OneOf(["path", "header"]))


DOTTED = validate.Regexp(r"[^.\s]+(\.[^.\s]+)*\Z", error="Must be names with dots between them.")


class AgentSchema(ClosedSchema):
    """How an agent is called: AgentCore's endpoint, and the places of words in an app's own JSON."""

    qualifier = fields.String()
    prompt_field = fields.String(validate=DOTTED)
    system_field = fields.String(validate=DOTTED)
    text_path = fields.String(validate=DOTTED)


class GuardrailSchema(ClosedSchema):
    """A model's guardrail: one that is kept at a provider, by its `id`, or checks by their names there."""

    provider = fields.String(required=True)
    id = fields.String(validate=validate.Length(min=1))
    version = fields.String(validate=validate.Length(min=1))
    content = fields.List(fields.String(), validate=validate.Length(min=1))
    attacks = fields.List(fields.String(), validate=validate.Length(min=1))
    sensitive = fields.List(fields.String(), validate=validate.Length(min=1))
    threshold = StrictNumber(validate=validate.Range(0, 1))
    sides = fields.List(fields.String(validate=validate.OneOf(["input", "output"])), validate=validate.Length(min=1))
    phrase = fields.String()
    deadline_ms = StrictNumber(validate=validate.Range(1, 60_000))
    fails_open = StrictBoolean()

    @validates_schema
    def _something(self, data: dict[str, Any], **_: Any) -> None:
        checks = data.keys() & {"content", "attacks", "sensitive"}
        if ("id" in data) == bool(checks):
            raise ValidationError("Must have either an id, or some of content, attacks and sensitive.")


class ModelSchema(TimeoutsSchema, PlaceSchema, AgentSchema):
    """A model under the name that callers use."""

    name = fields.String(required=True, validate=NAME)
    provider = fields.String()
    model = fields.String()
    model_id = fields.String()
    upstreams = fields.List(fields.Nested(UpstreamSchema), validate=validate.Length(1, 100))
    aliases = fields.List(fields.String(validate=NAME))
    fallbacks = fields.List(fields.String())
    ttft_timeout_ms = StrictNumber(validate=validate.Range(min=1))
    hedge_after_ms = StrictNumber(validate=validate.Range(min=0))
    hedge_agents = StrictBoolean()
    filler_after_ms = StrictNumber(validate=validate.Range(min=0))
    filler_text = OneOrMore(what="a text or a list of them")
    speech = StrictBoolean()
    voice = fields.Nested(VoiceSchema)
    guardrail = fields.Nested(GuardrailSchema)
    max_tokens = StrictInteger(validate=validate.Range(min=1))
    params = fields.Nested(RulesSchema)
    param_config = fields.Nested(RulesSchema)
    tool_call = StrictBoolean()
    stream_tool_call = StrictBoolean()
    multimodal = StrictBoolean()
    price = fields.Nested(PriceSchema)
    owned_by = fields.String()
    description = fields.String()

    @validates_schema
    def _somewhere(self, data: dict[str, Any], **_: Any) -> None:
        if ("provider" in data) == ("upstreams" in data):
            raise ValidationError("Must have either a provider or upstreams.")


class NestedModelSchema(TimeoutsSchema):
    """A model of a provider in LLM Bridge's shape: the key is the model's name."""

    max_tokens = StrictInteger(validate=validate.Range(min=1))
    param_config = fields.Nested(RulesSchema)
    params = fields.Nested(RulesSchema)
    aliases = fields.List(fields.String(validate=NAME))
    description = fields.String()


class LoginSchema(ClosedSchema):
    """How to sign in to OCI: a profile of a configuration file, or a profile's values."""

    auth_type = fields.String(
        validate=validate.OneOf(
            ["API_KEY", "SESSION_TOKEN", "INSTANCE_PRINCIPAL", "RESOURCE_PRINCIPAL", "WORKLOAD_IDENTITY"]
        )
    )
    config_file = fields.String()
    profile = fields.String()
    tenancy = fields.String()
    user = fields.String()
    fingerprint = fields.String()
    key_file = fields.String()
    key_content = fields.String()
    pass_phrase = fields.String()
    security_token_file = fields.String()


class ProviderSchema(TimeoutsSchema, PlaceSchema, LoginSchema, AgentSchema):
    """A provider: a vendor of the table, or a server that speaks a known dialect."""

    kind = fields.String()
    vendor = fields.String()
    base_url = OneOrMore(what="an address or a list of them")
    api_key = OneOrMore(what="a key or a list of them")
    model = fields.String()
    profile = fields.String()
    agent_id = fields.String()
    agent_alias_id = fields.String()
    arn = fields.String()
    agent_endpoint = fields.String()
    remembers = StrictBoolean()
    session_ttl = StrictNumber(validate=validate.Range(60, 28_800))
    proxy = fields.String()
    frames = fields.String(validate=validate.OneOf(["auto", "verbatim", "rebuilt"]))
    strict = StrictBoolean()
    usage = StrictBoolean()
    responses = StrictBoolean()
    embedding_batch = StrictInteger(validate=validate.Range(min=1))
    refuses = fields.List(fields.String())
    names = fields.Dict(keys=fields.String(), values=fields.String())
    message_keys = fields.List(fields.String(), validate=validate.ContainsNoneOf([""]))
    roles = fields.Dict(keys=fields.String(), values=fields.String())
    call_ids = fields.String(validate=_pattern)
    returned = fields.Dict(keys=fields.String())
    lacks = fields.List(fields.String(validate=validate.OneOf(["embeddings", "images", "moderations", "rerank"])))
    pass_unknown = StrictBoolean()
    adapter = fields.String()
    requires_proxy = StrictBoolean()
    models = fields.Dict(keys=fields.String(validate=NAME), values=fields.Nested(NestedModelSchema, allow_none=True))


class FileSchema(ClosedSchema):
    """Our own shape, and LLM Bridge's."""

    providers = fields.Dict(keys=fields.String(validate=NAME), values=fields.Nested(ProviderSchema, allow_none=True))
    models = fields.List(fields.Nested(ModelSchema))
    aliases = fields.Dict(keys=fields.String(validate=NAME), values=fields.String())
    keys = fields.List(fields.Nested(ApiKeySchema))
    proxy = fields.Dict(keys=fields.String(), values=fields.String())
    logging = fields.Dict()


class RegionModelSchema(ClosedSchema):
    """A model of OCI GenAI access gateway."""

    name = fields.String(required=True, validate=NAME)
    model_id = fields.String()
    endpoint = fields.String()
    provider = fields.String()
    api_format = fields.String(validate=validate.OneOf(["GENERIC", "COHERE", "COHEREV2", "OPENAI"]))
    stream_by = fields.String(validate=validate.OneOf(["path", "header"]))
    tool_call = StrictBoolean()
    stream_tool_call = StrictBoolean()
    multimodal = StrictBoolean()
    description = fields.String()


class RegionModelsSchema(ClosedSchema):
    """The four kinds of models of OCI GenAI access gateway."""

    ondemand = fields.List(fields.Nested(RegionModelSchema), allow_none=True)
    embedding = fields.List(fields.Nested(RegionModelSchema), allow_none=True)
    dedicated = fields.List(fields.Nested(RegionModelSchema), allow_none=True)
    datascience = fields.List(fields.Nested(RegionModelSchema), allow_none=True)


class RegionSchema(ClosedSchema):
    """A region of OCI GenAI access gateway."""

    region = fields.String(required=True)
    compartment_id = fields.String(required=True)
    models = fields.Nested(RegionModelsSchema, required=True)


def schema_for(data: Any) -> Schema:
    """The schema of the file's shape. Raises ValidationError if it is none of the three."""
    if isinstance(data, list):
        return RegionSchema(many=True)
    if isinstance(data, dict):
        return FileSchema()
    raise ValidationError("Must be a mapping with `providers` and `models`, or a list of regions.")


def first_error(error: ValidationError) -> tuple[tuple[str | int, ...], str]:
    """The path of the first error, and its message."""
    messages: Any = error.normalized_messages()  # type: ignore[no-untyped-call]
    place: tuple[str | int, ...] = ()
    while isinstance(messages, dict):
        key, messages = next(iter(messages.items()))
        place = place if key in ("_schema", "value") else (*place, key)
    return place, str(messages[0] if isinstance(messages, list) else messages)
