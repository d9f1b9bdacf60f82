"""Gemini's answers, read into events, and pure: GenerateContentResponses, whole or a part at a time.

https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

import orjson

from errors import ProxyError, UpstreamDown
from events import Event, Finish, FinishReason, Reasoning, Text, ToolArguments, ToolCall, Usage
from providers.sse import Frame
from providers.translate import Json, name, string, tokens

FINISH_REASONS: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"), "content_filter"),
    **dict.fromkeys(("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"), "content_filter"),
    **dict.fromkeys(("ESCALATION", "MODEL_ARMOR"), "content_filter"),
}
"""All others (MALFORMED_FUNCTION_CALL, OTHER ...) are failures of the model."""


class Reading:
    """An answer as it is read: GenerateContentResponses, one a frame (exchange.Reading), or by `chunk`.

    `choices` is how many candidates were asked for; `keep` is Thoughts.keep, `failed` makes the exception of an error
    object in the place of an answer.
    """

    def __init__(self, choices: int, keep: Callable[[str, str], str], failed: Callable[[Any], ProxyError]) -> None:
        self.done = False  # there is no end mark
        self.finished = False
        self._choices = range(choices)
        self._unfinished = set(self._choices)
        self._calls = 0
        self._keep = keep
        self._failed = failed

    def events(self, frame: Frame) -> Iterator[Event]:
        """What a frame says."""
        yield from self.chunk(orjson.loads(frame.data))

    def chunk(self, chunk: Any) -> Iterator[Event]:
        """What a response, or a part of one, says. Raises translate.NONSENSE for what is none."""
        if "error" in chunk:
            raise self._failed(chunk["error"])
        for candidate in chunk.get("candidates") or ():
            yield from self._candidate(candidate)
        if (chunk.get("promptFeedback") or {}).get("blockReason") and not chunk.get("candidates"):
            yield from (Finish("content_filter", index) for index in sorted(self._unfinished))
            self._unfinished.clear()
        self.finished = not self._unfinished
        if self.finished and isinstance(counts := chunk.get("usageMetadata"), dict):
            yield usage(counts)

    def _candidate(self, candidate: Mapping[str, Any]) -> Iterator[Event]:
        index = candidate.get("index", 0)
        if type(index) is not int or index not in self._choices:
            raise ValueError(f"a candidate {index!r}")
        if index not in self._unfinished:
            return
        logprobs = _logprobs(candidate.get("logprobsResult"))
        for part in (candidate.get("content") or {}).get("parts") or ():
            if "functionCall" in part:
                yield from self._called(part, index)
            elif part.get("text"):
                if part.get("thought"):
                    yield Reasoning(string(part["text"]), index)
                else:
                    yield Text(string(part["text"]), index, logprobs)
                    logprobs = None
        reason = candidate.get("finishReason", "FINISH_REASON_UNSPECIFIED")
        if reason == "FINISH_REASON_UNSPECIFIED":
            return
        if reason not in FINISH_REASONS:
            raise UpstreamDown(
                "The model could not finish its answer.", log=f"{reason} {candidate.get('finishMessage')}"
            )
        self._unfinished.discard(index)
        yield Finish(FINISH_REASONS[reason], index)

    def _called(self, part: Mapping[str, Any], index: int) -> Iterator[Event]:
        """Each call comes whole."""
        call, key = part["functionCall"], self._calls
        self._calls += 1
        called, arguments = name(call["name"]), call.get("args") or {}
        if not isinstance(arguments, dict):
            raise TypeError("arguments that are no object")
        identifier = string(call.get("id") or f"call_{uuid4().hex[:24]}")
        if signature := part.get("thoughtSignature"):
            identifier = self._keep(identifier, string(signature))
        yield ToolCall(key, called, identifier, index)
        yield ToolArguments(key, orjson.dumps(arguments).decode(), index)


def usage(counts: Mapping[str, Any]) -> Usage:
    """usageMetadata: thoughts are not among the candidates' tokens, and the cached ones are among the prompt's."""
    prompt, tools, said, thoughts, cached = (
        tokens(counts.get(f"{kind}TokenCount"))
        for kind in ("prompt", "toolUsePrompt", "candidates", "thoughts", "cachedContent")
    )
    return Usage(prompt + tools, said + thoughts, cached, thoughts)


def _logprobs(result: Mapping[str, Any] | None) -> Json | None:
    if not result or not result.get("chosenCandidates"):
        return None
    chosen: Sequence[Any] = result["chosenCandidates"]
    tops: Sequence[Any] = result.get("topCandidates") or [{}] * len(chosen)
    content = [
        {**_token(each), "top_logprobs": [_token(other) for other in top.get("candidates") or ()]}
        for each, top in zip(chosen, tops, strict=False)
    ]
    return {"content": content, "refusal": None}


def _token(candidate: Mapping[str, Any]) -> Json:
    token = string(candidate.get("token", ""))
    return {"token": token, "logprob": float(candidate.get("logProbability", 0.0)), "bytes": list(token.encode())}
