"""`POST /v1/completions`, in both directions: OpenAI's older endpoint, as a chat of one message.

https://platform.openai.com/docs/api-reference/completions
"""

from dataclasses import replace
from typing import Any

import orjson
from marshmallow import ValidationError, fields, validate, validates

from core.errors import Unsupported
from core.events import AnswerStart
from core.requests import ChatRequest
from schemas.chat.encode import ChunkEncoder, frame
from schemas.chat.request import load_chat
from schemas.common import (
    NAME_CHARACTERS,
    OneOfTypes,
    OpenSchema,
    StrictBoolean,
    StrictInteger,
    StrictNumber,
    load,
    parse,
)
from schemas.limits import DEFAULTS, Limits

NO_COUNTERPART = ("suffix", "logprobs", "echo")
"""Parameters that a chat does not have: they are refused, unless their value is the default."""
OWN = frozenset({"prompt", "best_of", *NO_COUNTERPART})


class TextCompletionSchema(OpenSchema):
    """A text completion request. Parameters that are not named here are those of a chat."""

    model = fields.String(
        validate=validate.Length(max=NAME_CHARACTERS),
        metadata={"description": "A model, `provider/model`, or an alias."},
    )
    prompt = OneOfTypes(str, list, what="a string, or a list of one string", required=True)
    stream = StrictBoolean(metadata={"description": "Answer word by word, as server-sent events."})
    max_tokens = StrictInteger(metadata={"description": "The most tokens that the answer may have."})
    temperature = StrictNumber()
    provider = fields.String()

    @validates("prompt")
    def _prompt(self, prompt: Any, **_: Any) -> None:
        if isinstance(prompt, list) and not (len(prompt) == 1 and isinstance(prompt[0], str)):
            raise ValidationError("Must be a string, or a list of one string.")


_schema = TextCompletionSchema()


def load_text_completion(raw: bytes, limits: Limits = DEFAULTS) -> ChatRequest:
    """The equivalent chat request, whose answer comes as events. Raises InvalidRequest with the field's name."""
    body = load(_schema, {key: value for key, value in parse(raw, limits).items() if value is not None})
    for name in NO_COUNTERPART:
        if body.get(name):
            raise Unsupported("A completion is answered as a chat here, which has no such thing.", param=name)
    prompt = body["prompt"] if isinstance(body["prompt"], str) else body["prompt"][0]
    kept = {key: value for key, value in body.items() if key not in OWN}
    chat = {**kept, "messages": [{"role": "user", "content": prompt}]}
    return replace(load_chat(orjson.dumps(chat), limits=limits), passthrough=None)


class TextEncoder(ChunkEncoder):
    """A chat's events as the chunks of a text completion."""

    def _start(self, start: AnswerStart) -> None:
        super()._start(start)
        self._head["object"] = "text_completion"

    def _delta(self, delta: dict[str, Any], index: int, **fields: Any) -> bytes:
        text, finish = delta.get("content") or delta.get("refusal") or "", fields.get("finish_reason")
        if not text and finish is None:
            return b""
        choice = {"text": text, "index": index, "logprobs": None, "finish_reason": finish}
        return frame({**self._head, "choices": [choice]})


def text_body(chat: bytes) -> bytes:
    """A text completion's body, from a chat's."""
    body = orjson.loads(chat)
    choices = [
        {
            "text": choice["message"]["content"] or choice["message"].get("refusal") or "",
            "index": choice["index"],
            "logprobs": None,
            "finish_reason": choice["finish_reason"],
        }
        for choice in body["choices"]
    ]
    return orjson.dumps({**body, "object": "text_completion", "choices": choices})
