"""An `Answer` as OCI's bytes, in each of its three styles: events, or one body.

Shapes: the oci package's models (GenericChatResponse, CohereChatResponse, CohereChatResponseV2), and for streams what
live traffic shows: events carry neither an id nor a model, and end in a `pad` of random length.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, ClassVar

from tests.emulators.answers import TEXTS, Call, ScriptedAnswer, value_of
from tests.emulators.oci.rules import doubled
from tests.emulators.openai.completion import example
from tests.emulators.reply import Kind, Piece, Reply, dumps

CREATED = "2026-09-21T14:13:20.000Z"
ERRORS: Mapping[int, tuple[str, str, str]] = {
    400: ("400", "InvalidParameter", "Please pass in correct format of request."),
    401: (
        "NotAuthenticated",
        "NotAuthenticated",
        "The required information to complete authentication was not provided or was incorrect.",
    ),
    403: ("403", "NotAllowed", "The tenancy may not use this service."),
    404: ("404", "NotAuthorizedOrNotFound", "Entity with key meta.llama-9 not found"),
    409: ("409", "ExternalServerIncorrectState", "The container answered otherwise than asked."),
    413: ("413", "RequestEntityTooLarge", "The request is too large."),
    429: (
        "429",
        "TooManyRequests",
        "Service request limit is exceeded, request is throttled for tenant: ocid1.tenancy.oc1..aaaatenancy",
    ),
    500: ("500", "InternalServerError", "Internal error occurred"),
    503: ("503", "ServiceUnavailable", "The service is currently unavailable."),
    504: ("504", "GatewayTimeout", "The model did not answer in time."),
}
"""Status: the code as the inference service spells it, as the gateway spells it, and the message."""


def error(status: int, *, named: bool = False, message: str = "", inner: tuple[str, str] = ("", "")) -> dict[str, str]:
    """An error body, with the code as a number or by name; with OpenAI's own (param, code) inside of the message."""
    number, name, usual = ERRORS.get(status, ERRORS[500])
    said = message or usual
    return {"code": name if named else number, "message": doubled(said, *inner) if inner[1] else said}


class Style(ABC):
    """An answer to one request, as events or as one body."""

    finishes: ClassVar[Mapping[str, str]] = {}

    def __init__(self, answer: ScriptedAnswer, request: Mapping[str, Any], model: str) -> None:
        self.answer = answer
        self.request = request
        self.model = model
        self.calls = [Call(*call) for call in answer.calls] or self._demanded()
        self.texts = (() if self.calls or answer.refusal else self._wanted()) if answer.texts is None else answer.texts
        reason = answer.finish_reason or ("tool_calls" if self.calls else "stop")
        self.finish = self.finishes.get(reason, reason)
        self._number = count(1)

    @abstractmethod
    def events(self) -> Iterator[Piece]:
        """The events, without their times."""

    @abstractmethod
    def whole(self) -> dict[str, Any]:
        """The chatResponse."""

    @property
    def usage(self) -> dict[str, Any] | None:
        """Under OCI's names."""
        counts = self.answer.usage
        if counts is None:
            return None
        usage: dict[str, Any] = {
            "completionTokens": counts["completion_tokens"],
            "promptTokens": counts["prompt_tokens"],
            "totalTokens": counts["total_tokens"],
        }
        if reasoning := counts.get("completion_tokens_details", {}).get("reasoning_tokens"):
            usage["completionTokensDetails"] = {"reasoningTokens": reasoning}
        if cached := counts.get("prompt_tokens_details", {}).get("cached_tokens"):
            usage["promptTokensDetails"] = {"cachedTokens": cached}
        return usage

    def event(self, kind: Kind, data: Mapping[str, Any]) -> Piece:
        """One event."""
        pad = "a" * (next(self._number) * 7 % 11 + 1)
        return Piece(f"data: {dumps({**data, 'pad': pad})}\n\n".encode(), kind)

    @property
    def chances(self) -> dict[str, Any]:
        """The usage of a stream's last event, where it was asked for."""
        asked = self.request.get("streamOptions", {}).get("isIncludeUsage")
        return {"usage": self.usage} if asked and self.usage else {}

    def _wanted(self) -> Sequence[str]:
        """What is said when nothing is told: of the schema that the request asks for, where it does."""
        schema = self.request.get("responseFormat", {}).get("schema")
        return TEXTS if schema is None else list(dumps(example(schema)))

    def _demanded(self) -> list[Call]:
        """The call that the request insists on, unless the answer says something else."""
        choice = self.request.get("toolChoice", {})
        insists = choice.get("type") in ("REQUIRED", "FUNCTION") or self.request.get("toolsChoice") == "REQUIRED"
        if self.answer.texts is not None or self.answer.refusal or not insists:
            return []
        functions = [tool.get("function", tool) for tool in self.request["tools"]]
        function = next(each for each in functions if choice.get("name") in (None, each["name"]))
        arguments = dumps(example(function.get("parameters", {})))
        return [Call("call_9pVYmF4jPzWcXqT2nL0sKd8R", function["name"], [arguments[:5], arguments[5:]])]


class Generic(Style):
    """Every family but Cohere's. They differ in how they stream tool calls."""

    def events(self) -> Iterator[Piece]:
        """Each choice in turn; then the usage, if asked for, and the end mark."""
        several = len(self._choices) > 1
        for index in self._choices:
            for message in self._messages():
                logprobs = self._logprobs([part["text"] for part in message.get("content", [])])
                said = {"index": index, "message": {"role": "ASSISTANT", **message}}
                yield self.event("content", {**said, **({"logprobs": logprobs} if logprobs else {})})
            last = {"role": "ASSISTANT", "content": [{"type": "TEXT", "text": ""}]}
            which = {"index": index} if several else {}
            usage = self.chances if self.answer.usage_on_finish else {}
            yield self.event("finish", {**which, "message": last, "finishReason": self.finish, **usage})
        if self.chances and not self.answer.usage_on_finish:
            yield self.event("usage", self.chances)
        yield Piece(b"data: [DONE]\n\n", "done")

    def whole(self) -> dict[str, Any]:
        """All choices."""
        message: dict[str, Any] = {"role": "ASSISTANT"}
        if self.texts:
            message["content"] = [{"type": "TEXT", "text": "".join(self.texts)}]
        if self.answer.reasoning:
            message["reasoningContent"] = "".join(self.answer.reasoning)
        if self.answer.refusal:
            message["refusal"] = "".join(self.answer.refusal)
        if self.calls:
            message["toolCalls"] = [self._call(call, "".join(call.arguments)) for call in self.calls]
        choice: dict[str, Any] = {"message": message, "finishReason": self.finish}
        if logprobs := self._logprobs(self.texts):
            choice["logprobs"] = logprobs
        choices = [{"index": index, **choice} for index in self._choices]
        usage = {"usage": self.usage} if self.usage else {}
        return {"apiFormat": "GENERIC", "timeCreated": CREATED, "choices": choices, **usage}

    @property
    def _choices(self) -> range:
        return range(self.answer.choices or self.request.get("numGenerations") or 1)

    def _messages(self) -> Iterator[dict[str, Any]]:
        for piece in self.answer.reasoning:
            yield {"reasoningContent": piece}
        for piece in self.texts:
            yield {"content": [{"type": "TEXT", "text": piece}]}
        for piece in self.answer.refusal:
            yield {"refusal": piece}
        if self.answer.calls_together and self.calls:
            yield {"toolCalls": [self._call(call, "".join(call.arguments)) for call in self.calls]}
            return
        for call in self.calls:
            for piece in self._pieces(call):
                yield {"toolCalls": [piece]}

    def _pieces(self, call: Call) -> Iterator[dict[str, Any]]:
        """A call as its family streams it, always as the only one of its event."""
        if self.model.startswith(("xai.", "google.")):
            yield self._call(call, "".join(call.arguments))
            return
        yield self._call(call, "")
        for arguments in call.arguments:
            yield {"type": "FUNCTION", "arguments": arguments, **self._repeated(call)}

    def _repeated(self, call: Call) -> dict[str, str]:
        return {} if self.model.startswith("openai.") else self._id(call)

    def _id(self, call: Call) -> dict[str, str]:
        return {} if self.model.startswith("google.") or not self.answer.call_ids else {"id": call.id}

    def _call(self, call: Call, arguments: str) -> dict[str, Any]:
        return {**self._id(call), "type": "FUNCTION", "name": call.name, "arguments": arguments}

    def _logprobs(self, texts: Sequence[str]) -> dict[str, Any] | None:
        if "logProbs" not in self.request or not any(texts):
            return None
        return {
            "tokens": list(texts),
            "tokenLogprobs": [-0.25 for _ in texts],
            "topLogprobs": [{text: "-0.25"} for text in texts],
            "textOffset": [len("".join(texts[:place])) for place in range(len(texts))],
        }


class Cohere(Style):
    """Cohere's first style: the last event says everything again, and no end mark follows."""

    finishes = {"stop": "COMPLETE", "tool_calls": "COMPLETE", "length": "MAX_TOKENS", "content_filter": "ERROR_TOXIC"}

    def events(self) -> Iterator[Piece]:
        """Pieces of text, whole calls, and all of it again."""
        for piece in self.texts:
            yield self.event("content", {"apiFormat": "COHERE", "text": piece})
        groups = [self.calls] if self.answer.calls_together else [[call] for call in self.calls]
        for group in groups if self.calls else ():
            yield self.event("content", {"apiFormat": "COHERE", "toolCalls": list(map(_parsed, group))})
        again = {key: value for key, value in self.whole().items() if key != "usage"}
        yield self.event("finish", {**again, **self.chances})

    def whole(self) -> dict[str, Any]:
        """As CohereChatResponse."""
        text = "".join(self.texts)
        history = [{"role": "USER", "message": self.request["message"]}, {"role": "CHATBOT", "message": text}]
        body: dict[str, Any] = {"apiFormat": "COHERE", "text": text, "chatHistory": history}
        body["finishReason"] = self.finish
        if self.calls:
            body["toolCalls"] = list(map(_parsed, self.calls))
        return {**body, **({"usage": self.usage} if self.usage else {})}


class CohereV2(Style):
    """Cohere's second style: messages of parts; no end mark."""

    finishes = {"stop": "COMPLETE", "tool_calls": "TOOL_CALL", "length": "MAX_TOKENS", "content_filter": "ERROR"}

    def events(self) -> Iterator[Piece]:
        """Thoughts, pieces of text, whole calls, and the end."""
        for part in self._parts(self.answer.reasoning, self.texts):
            yield self._event("content", {"content": [part]})
        groups = [self.calls] if self.answer.calls_together else [[call] for call in self.calls]
        for group in groups if self.calls else ():
            yield self._event("content", {"toolCalls": list(map(self._call, group))})
        yield self._event("finish", {}, finishReason=self.finish, **self.chances)

    def whole(self) -> dict[str, Any]:
        """As CohereChatResponseV2."""
        reasoning, text = "".join(self.answer.reasoning), "".join(self.texts)
        content = list(self._parts([reasoning] if reasoning else [], [text] if text else []))
        message: dict[str, Any] = {"role": "ASSISTANT", "content": content}
        if self.calls:
            message["toolCalls"] = list(map(self._call, self.calls))
        body = {"apiFormat": "COHEREV2", "id": "0c5d9bd5", "message": message, "finishReason": self.finish}
        return {**body, **({"usage": self.usage} if self.usage else {})}

    def _event(self, kind: Kind, message: Mapping[str, Any], **ends: Any) -> Piece:
        return self.event(kind, {"apiFormat": "COHEREV2", "message": {"role": "ASSISTANT", **message}, **ends})

    def _parts(self, reasoning: Sequence[str], texts: Sequence[str]) -> Iterator[dict[str, str]]:
        for piece in reasoning:
            yield {"type": "THINKING", "thinking": piece}
        for piece in texts:
            yield {"type": "TEXT", "text": piece}

    def _call(self, call: Call) -> dict[str, Any]:
        named = {"id": call.id} if self.answer.call_ids else {}
        return {**named, "type": "FUNCTION", "function": {"name": call.name, "arguments": "".join(call.arguments)}}


STYLES: Mapping[str, type[Style]] = {"GENERIC": Generic, "COHERE": Cohere, "COHEREV2": CohereV2}


def chat(answer: ScriptedAnswer, details: Mapping[str, Any], failure: bytes) -> Reply:
    """The answer to a chat request; `failure` is the body that faults may send instead."""
    request, mode = details["chatRequest"], details["servingMode"]
    model = mode.get("modelId", "")
    style = STYLES[request["apiFormat"]](answer, request, model)
    result = {"modelId": model or mode["endpointId"], "modelVersion": "1.0", "chatResponse": style.whole()}
    whole = dumps(result).encode()
    stream = bool(request.get("isStream"))
    frames = tuple(_timed(answer, style.events()))
    return Reply(
        pieces=frames if stream else (Piece(whole, after=answer.first_delay),),
        headers={"Content-Type": "text/event-stream" if stream else "application/json"},
        stream=stream,
        delay=answer.delay,
        whole=whole,
        frames=frames,
        error=failure,
        error_frame=b"data: %b\n\n" % failure,
    )


def _timed(answer: ScriptedAnswer, pieces: Iterator[Piece]) -> Iterator[Piece]:
    delay = answer.first_delay
    for piece in pieces:
        yield Piece(piece.data, piece.kind, delay)
        delay = answer.frame_delay


def _parsed(call: Call) -> dict[str, Any]:
    """As Cohere's first style has calls: without ids, the arguments as an object."""
    return {"name": call.name, "parameters": value_of(call)}
