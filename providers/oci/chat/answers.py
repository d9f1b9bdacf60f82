"""Shared by the decoders of OCI's chat formats: counts, finish reasons, errors, and repeated text. Pure.

A format turns its events into OpenAI's chunks, for openai_compatible.decode. Raises ErrorFrame for a failure.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from core import lenient_json
from core.json_values import Json
from providers.common.finish_reasons import is_failure
from providers.common.tool_calls import ToolCallTracker, arguments_of, name_of
from providers.openai_compatible.decode import ErrorFrame

STATUSES = {
    "InvalidParameter": 400,
    "NotAuthenticated": 401,
    "NotAuthorizedOrNotFound": 404,
    "TooManyRequests": 429,
    "InternalServerError": 500,
    "ServiceUnavailable": 503,
}
"""The gateway's names for values that the inference service gives as numbers."""


def finish_reason(reason: Any, details: Any = None) -> Any:
    """The finish reason, unchanged. Raises ErrorFrame, with the other details, for one that means a failure."""
    if reason and is_failure(reason):
        raise ErrorFrame({"message": f"The answer was ended early ({reason}). {details or ''}".strip()})
    return reason


def usage(counts: Any) -> Json | None:
    """OCI's usage as OpenAI's usage object."""
    if not isinstance(counts, dict):
        return None
    prompt, completion = counts.get("promptTokensDetails") or {}, counts.get("completionTokensDetails") or {}
    return {
        "prompt_tokens": counts.get("promptTokens"),
        "completion_tokens": counts.get("completionTokens"),
        "prompt_tokens_details": {"cached_tokens": prompt.get("cachedTokens")},
        "completion_tokens_details": {"reasoning_tokens": completion.get("reasoningTokens")},
    }


def text(content: Any) -> str:
    """The text of a message's content: a list of parts, or a string as it is."""
    if isinstance(content, str):
        return content
    return "".join([part.get("text") or "" for part in content or () if isinstance(part, dict)])


def pictures(content: Any) -> list[Json]:
    """The images among a content's parts."""
    parts = content if isinstance(content, list) else []
    urls = [part.get("imageUrl") for part in parts if isinstance(part, dict) and part.get("type") == "IMAGE"]
    return [{"image_url": url} for url in urls]


def logprob(token: str, chance: float) -> Json:
    """A token's entry in OpenAI's form."""
    return {"token": token, "logprob": chance, "bytes": list(token.encode("utf-8", "replace")), "top_logprobs": []}


def check_event(event: Any) -> Json:
    """An event, or a whole answer. Raises ValueError for another shape, ErrorFrame for an error in its place."""
    if not isinstance(event, dict):
        raise ValueError(f"an event that is a {type(event).__name__}")
    if event.get("error"):
        raise ErrorFrame(event["error"])
    if isinstance(event.get("message"), str) and "code" in event:
        raise ErrorFrame({**event, "code": str(STATUSES.get(event["code"], event["code"]))})
    return event


def move_plan(choice: Json, said_as: str) -> Json:
    """The choice with its text as reasoning, if it has calls too: such a text is the plan to make the calls ("I will
    look that up"), and is not for the user.
    """
    message = choice[said_as]
    if message.get("tool_calls") and message["content"]:
        choice[said_as] = {**message, "content": "", "reasoning_content": message["content"]}
    return choice


@dataclass
class _Received:
    """One choice so far: its text in UTF-8, in how many pieces that came, and its calls. A list of pieces would take 70
    bytes a token.
    """

    text: bytearray = field(default_factory=bytearray)
    pieces: int = 0
    calls: ToolCallTracker = field(default_factory=ToolCallTracker)

    def note_text(self, text: str) -> None:
        self.text += text.encode("utf-8", "surrogatepass")
        self.pieces += 1

    def note(self, delta: Mapping[str, Any]) -> None:
        if content := delta.get("content"):
            self.note_text(content)
        for call in delta.get("tool_calls") or ():
            self.calls.take(call)


class RepeatFilter:
    """Removes repeated content from an answer's last event: Cohere's has the whole text and the calls again. If nothing
    came before, they stay, because they are the answer.

    `repeats`: the format always does so; otherwise only a text that comes exactly twice is removed. `plans`: text
    beside calls is the plan to make them.
    """

    def __init__(self, *, repeats: bool, plans: bool = False) -> None:
        self._repeats = repeats
        self._plans = plans
        self._said: defaultdict[int, _Received] = defaultdict(_Received)

    def note_text(self, index: int, text: str) -> None:
        """Note a piece of a choice's text, which is not its last."""
        self._said[index].note_text(text)

    def __call__(self, chunk: Json) -> Json:
        """The chunk without repeated content."""
        for choice in chunk["choices"]:
            before = self._said[choice.get("index", 0)]
            delta = choice["delta"]
            if choice.get("finish_reason"):
                delta["content"] = self._without_repeat(before, delta.get("content") or "")
                delta["tool_calls"] = _new(delta.get("tool_calls") or [], before)
            before.note(delta)
            if self._plans:
                move_plan(choice, "delta")
        return chunk

    def _without_repeat(self, received: _Received, text: str) -> str:
        before, text = map(lenient_json.join_surrogates, (received.text.decode("utf-8", "surrogatepass"), text))
        if not self._repeats:
            return "" if received.pieces > 1 and text == before else text
        if before and text.startswith(before):
            return text[len(before) :]
        return "" if before.strip() and text.strip() == before.strip() else text


def _new(calls: list[Json], before: _Received) -> list[Json]:
    """The calls without those that came before; each earlier call matches one repetition."""
    made = [(call.name, _value(call.arguments)) for call in before.calls.opened.values()]
    new = []
    for call in calls:
        known = (name_of(call), _value(arguments_of(call)))
        by_id = (call.get("id") or "") in before.calls.by_id
        if known in made and (by_id or not call.get("id")):
            made.remove(known)
        else:
            new.append(call)
    return new


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return text
