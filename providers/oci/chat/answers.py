"""What OCI's chat styles say alike: counts, ends, errors; and what they say twice. Pure.

A style turns its events into OpenAI's chunks, which chunks.py reads. Raises ErrorFrame for what means a failure.
"""

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
"""The names that the gateway has for what the inference service gives as numbers."""


def finish_reason(reason: Any, details: Any = None) -> Any:
    """The word for an end, as it came. Raises ErrorFrame, with what is told besides, for one that means a failure."""
    if is_failure(reason):
        raise ErrorFrame({"message": f"The answer was ended early ({reason}). {details or ''}".strip()})
    return reason


def usage(counts: Any) -> Json | None:
    """OpenAI's usage object of OCI's."""
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
    return "".join(part.get("text") or "" for part in content or () if isinstance(part, dict))


def pictures(content: Any) -> list[Json]:
    """The pictures among its parts."""
    parts = content if isinstance(content, list) else []
    urls = [part.get("imageUrl") for part in parts if isinstance(part, dict) and part.get("type") == "IMAGE"]
    return [{"image_url": url} for url in urls]


def logprob(token: str, chance: float) -> Json:
    """A token's entry, as OpenAI has it."""
    return {"token": token, "logprob": chance, "bytes": list(token.encode("utf-8", "replace")), "top_logprobs": []}


def checked(event: Any) -> Json:
    """An event, or a whole answer. Raises ValueError for what is none, ErrorFrame for an error in its place."""
    if not isinstance(event, dict):
        raise ValueError(f"an event that is a {type(event).__name__}")
    if event.get("error"):
        raise ErrorFrame(event["error"])
    if isinstance(event.get("message"), str) and "code" in event:
        raise ErrorFrame({**event, "code": str(STATUSES.get(event["code"], event["code"]))})
    return event


def planned(choice: Json, said_as: str) -> Json:
    """The choice, with what it says in the same breath as its calls as thought: it is the plan to make them ("I will
    look that up"), and nothing for the user's ears.
    """
    said = choice[said_as]
    if said["tool_calls"] and said["content"]:
        choice[said_as] = {**said, "content": "", "reasoning_content": said["content"]}
    return choice


@dataclass
class _Said:
    """What one choice has said: its pieces of text, and its calls."""

    texts: list[str] = field(default_factory=list)
    calls: ToolCallTracker = field(default_factory=ToolCallTracker)

    def note(self, delta: Mapping[str, Any]) -> None:
        if delta.get("content"):
            self.texts.append(delta["content"])
        for call in delta.get("tool_calls") or ():
            self.calls.take(call)


class RepeatFilter:
    """Takes what an answer says a second time out of its last event (N20): Cohere's has the whole text and the calls
    again. If nothing was said before, they are left: that is the answer.

    `repeats` is whether the style does so; where it does not, only a text that is said exactly twice is taken out.
    `plans` is whether text beside calls is the plan to make them.
    """

    def __init__(self, *, repeats: bool, plans: bool = False) -> None:
        self._repeats = repeats
        self._plans = plans
        self._said: dict[int, _Said] = {}

    def __call__(self, chunk: Json) -> Json:
        """The chunk, with what is new of it."""
        for choice in chunk["choices"]:
            said = self._said.setdefault(choice.get("index", 0), _Said())
            delta = choice["delta"]
            if choice.get("finish_reason"):
                delta["content"] = self._beyond(said.texts, delta.get("content") or "")
                delta["tool_calls"] = _new(delta.get("tool_calls") or [], said)
            said.note(delta)
            if self._plans:
                planned(choice, "delta")
        return chunk

    def _beyond(self, texts: list[str], text: str) -> str:
        said, text = lenient_json.joined("".join(texts)), lenient_json.joined(text)
        if not self._repeats:
            return "" if len(texts) > 1 and text == said else text
        if said and text.startswith(said):
            return text[len(said) :]
        return "" if said.strip() and text.strip() == said.strip() else text


def _new(calls: list[Json], said: _Said) -> list[Json]:
    """Those of the calls that were not made before, each of which may be repeated once."""
    made = [(call.name, _value(call.arguments)) for call in said.calls.opened.values()]
    new = []
    for call in calls:
        known = (name_of(call), _value(arguments_of(call)))
        by_id = (call.get("id") or "") in said.calls.by_id
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
