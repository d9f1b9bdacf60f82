"""Parts of responses, and the parsing of the frames of an upstream of this dialect."""

import re
from collections.abc import Iterator
from time import time

import orjson

from core.errors import GatewayError
from core.events import Usage
from core.json_values import BAD_SHAPE, Json
from schemas.chat.encode import dumps
from schemas.errors import error_body

NUMBER = re.compile(rb'"sequence_number":\s*(\d+)')
ENDS = frozenset({"response.completed", "response.incomplete"})


def usage_body(usage: Usage | None) -> Json:
    """The usage of a response. A count that the upstream does not send is 0, since clients require numbers."""
    usage = usage or Usage(0, 0)
    prompt, completion = max(0, usage.prompt), max(0, usage.completion)
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": prompt + completion,
    }


def response_error(error: GatewayError) -> Json:
    """The error of a failed response, for which the dialect has few codes. The error event before has our code."""
    limited = error.code == "rate_limit_exceeded"
    return {"code": error.code if limited else "server_error", "message": error.message}


def error_fields(error: GatewayError) -> Json:
    """The fields of an error event, twice: OpenAI's package reads them flat, Open Responses nested."""
    said = error_body(error)["error"]
    return {"error": said, "code": said["code"], "message": said["message"], "param": said["param"]}


def error_message(error: GatewayError) -> str:
    """A WebSocket's message for a turn that has failed before its response began."""
    return dumps({"type": "error", "sequence_number": 0, "status": error.status, **error_fields(error)}).decode()


def warm_up_messages(response: Json) -> tuple[list[str], Json]:
    """A WebSocket's messages for a response that has no output, and the response as it is then."""
    ended = {**response, "status": "completed", "completed_at": int(time()), "usage": usage_body(None)}
    named = [("created", response), ("in_progress", response), ("completed", ended)]
    events = [
        {"type": f"response.{kind}", "sequence_number": number, "response": each}
        for number, (kind, each) in enumerate(named)
    ]
    return [dumps(event).decode() for event in events], ended


def messages_of(data: bytes) -> Iterator[str]:
    """A WebSocket's messages for a stream's frames: all but comments and [DONE]."""
    for line in data.split(b"\n"):
        if line.startswith(b"data:") and (event := line[5:].strip()) != b"[DONE]":
            yield event.decode()


def events_of(data: bytes) -> Iterator[Json]:
    """The events of an upstream's frames."""
    for line in data.split(b"\n"):
        if line.startswith(b"data:"):
            try:
                event = orjson.loads(line[5:])
            except orjson.JSONDecodeError:
                continue
            if isinstance(event, dict):
                yield event


def ended_response(data: bytes) -> Json | None:
    """The response in an upstream's last frames; None if it has not completed."""
    for event in events_of(data):
        try:
            if event["type"] in ENDS and isinstance(event["response"]["output"], list):
                response: Json = event["response"]
                return response
        except BAD_SHAPE:
            continue
    return None


def next_number(data: bytes) -> int:
    """The number of the event that would follow these frames."""
    numbers = NUMBER.findall(data)
    return int(numbers[-1]) + 1 if numbers else 0
