"""Anthropic's dialect in the OpenAPI document: what is asked and answered at /messages."""

from marshmallow import Schema

from core.json_values import Json
from schemas.messages.errors import OVERLOADED
from schemas.messages.request import CountTokensSchema, MessagesSchema
from schemas.openapi.responses import COUNT, TEXT, array, record, ref, value

# fmt: off
ABOUT = """For Anthropic's clients, through every provider. Anthropic itself gets the body as it came. With `stream`
the answer comes as Anthropic's events. Errors are Anthropic's too; an overloaded upstream or server is a 529."""

REQUESTS: dict[str, tuple[type[Schema], str]] = {
    "MessagesRequest": (MessagesSchema, (
        "Other keys of Anthropic's are allowed. Where another provider answers, what is content and has no counterpart "
        "there is a 400 that names it. A null counts as a key left out.")),
    "CountTokensRequest": (CountTokensSchema, "Other keys of Anthropic's are allowed."),
}
_HELLO: Json = {"model": "claude-sonnet-5", "messages": [{"role": "user", "content": "Hello, who is there?"}]}
ASKED: dict[str, tuple[str, Json]] = {
    "message": ("A question", {**_HELLO, "max_tokens": 500}),
}
COUNTED: dict[str, tuple[str, Json]] = {"counted": ("A question", _HELLO)}

RESPONSES: dict[str, Json] = {
    "MessagesAnswer": record("What the assistant says.", "stop_details container", id=TEXT, type={"const": "message"},
        role={"const": "assistant"}, model=value("string", "The model that answered."),
        content=array(value("object"), "Blocks of type `text`, `tool_use`, `thinking`."),
        stop_reason=value("string|null", "Why it ended."), stop_sequence=value("string|null"),
        usage=record("Tokens.", "cache_creation_input_tokens cache_read_input_tokens", input_tokens=COUNT,
            output_tokens=COUNT, cache_creation_input_tokens=COUNT, cache_read_input_tokens=COUNT)),
    "MessagesEvent": record("One event of a stream. Its other keys follow from its `type`.",
        "message index content_block delta usage",
        type=value("string", enum=["message_start", "content_block_start", "content_block_delta",
            "content_block_stop", "message_delta", "message_stop", "ping"]),
        message=ref("MessagesAnswer"), index=COUNT, content_block=value("object"), delta=value("object"),
        usage=value("object")),
    "MessagesError": record("What went wrong.", "request_id", type={"const": "error"}, request_id=TEXT,
        error=record("", "details", type=value("string", "Anthropic's word for the kind of failure."),
            message=value("string", "A sentence for people."),
            details=record("`error_code` is the code of OpenAI's dialect, `param` the field at fault.",
                "error_code param", error_code=TEXT, param=TEXT))),
    "TokenCount": record("How many tokens.", input_tokens=COUNT),
}
# fmt: on


def error_status(status: str) -> str:
    """The status here of what has another one in OpenAI's dialect."""
    return {"503": str(OVERLOADED)}.get(status, status)
