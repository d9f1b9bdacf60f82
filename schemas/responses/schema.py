"""What the bodies of the Responses endpoints may hold, as marshmallow checks it and the documentation shows it."""

from typing import Any

from marshmallow import ValidationError, fields, validate, validates

from schemas.common import (
    NAME_CHARACTERS,
    Items,
    OneOfTypes,
    OpenSchema,
    StrictBoolean,
    StrictInteger,
    StrictNumber,
)
from schemas.own_fields import own_fields

MOST_METADATA, METADATA_KEY, METADATA_VALUE = 16, 64, 512
"""OpenAI's bounds: keys, and the characters of a key and of its value."""


class TextSchema(OpenSchema):
    """What the text is to be like."""

    format = fields.Dict(metadata={"description": "`text`, `json_object`, or `json_schema` with `name` and `schema`."})
    verbosity = fields.String(metadata={"description": "How long the answer is to be: `low`, `medium`, `high`."})


class ReasoningSchema(OpenSchema):
    """How the model is to think."""

    effort = fields.String(metadata={"description": "How long it thinks: `low`, `medium`, `high`, or what it has."})
    summary = fields.String(metadata={"description": "Asks for its thinking, as a summary."})
    generate_summary = fields.String(metadata={"description": "The older name of `summary`."})


class ResponsesSchema(OpenSchema):
    """A Responses request. Parameters that are not named here are passed on as they are."""

    class Meta(OpenSchema.Meta):
        """marshmallow's options."""

        include = own_fields(include_reasoning="Give the model's thinking, as `summary` does.")

    model = fields.String(
        validate=validate.Length(max=NAME_CHARACTERS),
        metadata={"description": "A model, `provider/model`, or an alias."},
    )
    input = OneOfTypes(str, list, what="a string or a list of items", metadata={"description": "What is asked."})
    instructions = fields.String(metadata={"description": "What the system says, for this answer alone."})
    previous_response_id = fields.String(metadata={"description": "The answer that this one follows."})
    store = StrictBoolean(metadata={"description": "Whether it can be followed, for RESPONSES_TTL; so unless false."})
    stream = StrictBoolean(metadata={"description": "Answer as server-sent events."})
    stream_options = fields.Dict()
    tools = Items(fields.Dict())
    tool_choice = OneOfTypes(str, dict, what="none, auto, required, or an object that names tools")
    parallel_tool_calls = StrictBoolean()
    max_output_tokens = StrictInteger(metadata={"description": "The most tokens that the answer may have."})
    max_tool_calls = StrictInteger(metadata={"description": "For tools of OpenAI's own."})
    temperature = StrictNumber()
    top_p = StrictNumber()
    presence_penalty = StrictNumber()
    frequency_penalty = StrictNumber()
    top_logprobs = StrictInteger()
    text = fields.Nested(TextSchema)
    reasoning = fields.Nested(ReasoningSchema)
    include = Items(fields.String(), metadata={"description": "What else to give: `message.output_text.logprobs`."})
    truncation = fields.String(validate=validate.OneOf(["auto", "disabled"]))
    metadata = fields.Dict(keys=fields.String())
    background = StrictBoolean(metadata={"description": "Not done here."})
    user = fields.String()
    service_tier = fields.String()
    prompt_cache_key = fields.String()
    safety_identifier = fields.String()

    @validates("metadata")
    def _metadata(self, metadata: Any, **_: Any) -> None:
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValidationError("Its values must be strings.")
        if len(metadata) > MOST_METADATA:
            raise ValidationError(f"It may have at most {MOST_METADATA} keys.")
        if any(len(key) > METADATA_KEY or len(value) > METADATA_VALUE for key, value in metadata.items()):
            raise ValidationError(
                f"Its keys may have at most {METADATA_KEY} characters, its values at most {METADATA_VALUE}."
            )


class InputTokensSchema(ResponsesSchema):
    """A request to count the tokens of a prompt."""


class CompactSchema(OpenSchema):
    """A request to turn a conversation into items."""

    model = fields.String(
        required=True, validate=validate.Length(min=1, max=NAME_CHARACTERS), metadata={"description": "A model."}
    )
    input = OneOfTypes(str, list, what="a string or a list of items", metadata={"description": "The conversation."})
    previous_response_id = fields.String(metadata={"description": "The answer that the conversation ends with so far."})
