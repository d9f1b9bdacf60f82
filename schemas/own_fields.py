"""The fields of a conversation's request that are this server's own, in every dialect of callers.

A new one is a line of OWN_FIELDS: all schemas then check it, the OpenAPI document describes it, and no upstream gets
it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import fields

from schemas.common import StrictBoolean


@dataclass(frozen=True, slots=True)
class OwnField:
    """A field's JSON type, and its sentence in the OpenAPI document."""

    type: type[str] | type[bool]
    description: str


OWN_FIELDS: Mapping[str, OwnField] = {
    "provider": OwnField(str, "The provider to ask; see /v1/providers."),
    "session_id": OwnField(str, "Keeps a Bedrock agent's session."),
    "speech": OwnField(bool, "Take out of the text what cannot be read aloud, such as Markdown."),
    "include_reasoning": OwnField(bool, "Pass the model's thinking on as `reasoning_content`."),
}
OWN_KEYS = frozenset({*OWN_FIELDS, "bedrock"})
"""The keys that no upstream gets. `bedrock` holds options for Amazon Bedrock, which its providers check themselves."""


def own_fields(
    *, only: Collection[str] = tuple(OWN_FIELDS), exclude: Collection[str] = (), **descriptions: str
) -> dict[str, fields.Field[Any]]:
    """The fields for `Meta.include` of a schema, which puts them behind the schema's other fields. `descriptions`
    replace those that are worded differently in a dialect.
    """
    return {
        name: (StrictBoolean if field.type is bool else fields.String)(
            metadata={"description": descriptions.get(name, field.description)}
        )
        for name, field in OWN_FIELDS.items()
        if name in only and name not in exclude
    }
