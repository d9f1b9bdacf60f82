"""A schema of a file that people write by hand."""

from difflib import get_close_matches
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, validate

from schemas.chat.request import ChatSchema

PARAMETERS = frozenset(ChatSchema().fields)
NEAR, FEW_FIELDS = 0.7, 8
NAME = validate.Regexp(r"[!-~]{1,200}\Z", error="Must be a name without spaces, of visible ASCII characters.")


class ClosedSchema(Schema):
    """A schema that refuses unknown fields: a misspelt field would silently have no effect."""

    class Meta:
        """marshmallow's options."""

        unknown = RAISE

    def handle_error(self, error: ValidationError, data: Any, *, many: bool, **_: Any) -> None:
        """Name a misspelt field first: the other errors may follow from it."""
        for messages in list(error.messages_dict.values()) if many else [error.messages_dict]:
            unknown = [name for name, texts in messages.items() if texts == [self.error_messages["unknown"]]]
            rest = {name: texts for name, texts in messages.items() if name not in unknown}
            messages.clear()
            messages.update({name: [f"Unknown field; {self._meant(str(name))}."] for name in unknown})
            messages.update(rest)

    def _meant(self, name: str) -> str:
        known = [field.data_key or field_name for field_name, field in self.fields.items()]
        near = get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=NEAR)
        if near and not (name in PARAMETERS and "params" in self.fields):
            return f"{near[0]!r} may be meant"
        if "params" in self.fields:
            return "what is to be sent to the model goes into 'params'"
        if name in PARAMETERS and "models" in self.fields:
            return "what is to be sent to a model goes into the 'params' of that model"
        if len(known) <= FEW_FIELDS:
            return f"known are {', '.join(known)}"
        return "models.example.yaml has those there are"
