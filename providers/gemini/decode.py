"""Decodes Gemini's answers. Pure. An answer is one GenerateContentResponse, or a stream of partial ones.

https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from core import lenient_json
from core.errors import GatewayError, UpstreamDown
from core.events import Event, Finish, Reasoning, Text, ToolArguments, ToolCall, Usage
from core.json_values import Json
from providers.common.finish_reasons import finish_reason, normalize_reason
from providers.common.translate import Pictures, require_name, require_text, token_count
from providers.transport.exchange import StreamDecoder
from providers.transport.sse import Frame


class GeminiDecoder(StreamDecoder):
    """Decodes an answer: GenerateContentResponses, one a frame (a StreamDecoder), or by `chunk`.

    `choices` is the number of candidates; `keep` is ThoughtSignatures.keep, `failed` makes the exception of an error
    object that comes instead of an answer.
    """

    def __init__(
        self,
        choices: int,
        keep: Callable[[str, str], str],
        failed: Callable[[Any], GatewayError],
        pictures: Pictures | None = None,
    ) -> None:
        self._choices = range(choices)
        self._unfinished = set(self._choices)
        self._said: set[int] = set()
        self._pictures = pictures or Pictures()
        self._calls = 0
        self._keep = keep
        self._failed = failed

    def never_waits(self, frame: Frame) -> bool:
        """Whether the frame has no call, whose signature is stored."""
        return b"functionCall" not in frame.data

    def events(self, frame: Frame) -> Iterator[Event]:
        """The events of a frame."""
        yield from self.chunk(lenient_json.loads(frame.data, keep_halves=True))

    def whole(self, answer: Any) -> Iterator[Event]:
        """The events of an answer in one piece; one that is streamed without `alt=sse` is an array. One with content
        and without a finish reason counts as finished. Raises as `chunk` does.
        """
        chunks = answer if isinstance(answer, list) else [answer]
        for chunk in chunks:
            yield from self.chunk(chunk)
        if self.finished:
            return
        if self._unfinished - self._said:
            raise ValueError("no finish reason")
        yield from [self._finish("stop", index) for index in sorted(self._unfinished)]
        if isinstance(counts := chunks[-1].get("usageMetadata"), dict):
            yield usage(counts)

    def chunk(self, chunk: Any) -> Iterator[Event]:
        """The events of a response, whole or partial. Raises one of BAD_SHAPE for another shape."""
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
                yield from self._call_events(part, index)
            elif part.get("text"):
                if part.get("thought"):
                    yield Reasoning(require_text(part["text"]), index)
                else:
                    self._said.add(index)
                    yield Text(require_text(part["text"]), index, logprobs)
                    logprobs = None
            elif isinstance(blob := part.get("inlineData"), dict) and not part.get("thought"):
                kind = blob.get("mimeType", "image/png")
                if self._pictures.wanted:
                    self._said.add(index)
                yield from self._pictures.take(f"data:{require_text(kind)};base64,{require_text(blob['data'])}", index)
        if normalize_reason(word := candidate.get("finishReason")):
            yield self._finish(word, index, str(candidate.get("finishMessage") or ""))

    def _finish(self, word: Any, index: int, details: str = "") -> Finish:
        reason = finish_reason(word, has_content=index in self._said)
        if reason is None:
            raise UpstreamDown("The model could not finish its answer.", log=f"{word} {details}")
        self._pictures.check(index, has_content=index in self._said)
        self._unfinished.discard(index)
        return Finish(reason, index)

    def _call_events(self, part: Mapping[str, Any], index: int) -> Iterator[Event]:
        """The events of a call. Gemini sends each call whole."""
        call, key = part["functionCall"], self._calls
        self._calls += 1
        called, arguments = require_name(call["name"]), call.get("args") or {}
        self._said.add(index)
        identifier = require_text(call.get("id") or f"call_{uuid4().hex[:24]}")
        if signature := part.get("thoughtSignature"):
            identifier = self._keep(identifier, require_text(signature))
        yield ToolCall(key, called, identifier, index)
        yield ToolArguments(key, lenient_json.dumps(arguments).decode(), index)


def usage(counts: Mapping[str, Any]) -> Usage:
    """usageMetadata: thinking is not among the candidates' tokens, and cached tokens are among the prompt's."""
    prompt, tools, output, thoughts, cached = (
        token_count(counts.get(f"{kind}TokenCount"))
        for kind in ("prompt", "toolUsePrompt", "candidates", "thoughts", "cachedContent")
    )
    return Usage(prompt + tools, output + thoughts, cached, thoughts)


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
    token = require_text(candidate.get("token", ""))
    return {
        "token": token,
        "logprob": float(candidate.get("logProbability", 0.0)),
        "bytes": list(token.encode("utf-8", "replace")),
    }
