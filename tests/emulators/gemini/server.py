"""An emulated generativelanguage.googleapis.com: chats, embeddings, models. As strict as the real one, and scripted.

What it is sent is read by the types of Google's own SDK, which know every field and no other.
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from google.genai import types
from pydantic import BaseModel, ValidationError

from tests.emulators.answers import TEXTS, Call, ScriptedAnswer, value_of
from tests.emulators.connection import Connection, Received
from tests.emulators.openai.completion import example
from tests.emulators.openai.server import DIMENSIONS, embedding
from tests.emulators.reply import Kind, Piece, Reply, dumps
from tests.emulators.rules import misheaded
from tests.emulators.scripted import NO_SUCH_MODEL, Scripted

MODELS = ("gemini-2.5-flash", "gemini-2.5-pro", "gemini-3-flash-preview", "gemini-embedding-001", "imagen-4.0")
BATCH = 100
MOST_STOPS = 5
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
PAGE = 2
PENALTIES = ("presencePenalty", "frequencyPenalty")
STAND_IN = "skip_thought_signature_validator"

TOP: Mapping[str, Any] = {
    "contents": types.Content,
    "systemInstruction": types.Content,
    "tools": types.Tool,
    "toolConfig": types.ToolConfig,
    "generationConfig": types.GenerationConfig,
    "safetySettings": types.SafetySetting,
    "cachedContent": None,
}
STATUSES = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials. Expected OAuth 2 access token."),
    403: ("PERMISSION_DENIED", "Method doesn't allow unregistered callers."),
    404: ("NOT_FOUND", "models/x is not found for API version v1beta, or is not supported for generateContent."),
    429: ("RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details."),
    500: ("INTERNAL", "An internal error has occurred."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}
FINISHES = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY", "tool_calls": "STOP"}

COUNTED = 17
"""Tokens of every prompt that is to be counted."""
_numbers = count(1)


class Refused(Exception):
    """The request is refused, with Google's error object."""

    def __init__(self, status: int, message: str = "", details: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        name, usual = STATUSES[status]
        self.status = status
        self.error = {"code": status, "message": message or usual, "status": name}
        if details:
            self.error["details"] = list(details)


class GeminiUpstream(Scripted):
    """Answers under `url` to the key in x-goog-api-key. `signatures` are the thoughts that it has signed."""

    chat: ClassVar[str] = "chat"

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__(tls=tls)
        self.signatures: list[str] = []

    @property
    def base_url(self) -> str:
        """What Google's SDK calls its base URL."""
        return self.url

    def identity(self, _: Connection) -> Mapping[str, str]:
        return {"server": "scaffolding on HTTPServer2", "server-timing": "gfet4t7; dur=12"}

    def answer_to(self, received: Received) -> tuple[ScriptedAnswer, Reply]:
        try:
            return self._answer_to(received)
        except Refused as refused:
            return ScriptedAnswer(), _json(refused.status, {"error": refused.error})

    def _answer_to(self, received: Received) -> tuple[ScriptedAnswer, Reply]:
        parts, query = urlsplit(received.path), parse_qs(urlsplit(received.path).query)
        found = re.fullmatch(r"/v1(?:beta)?/(models)(?:/([^/:]+):(\w+))?", parts.path)
        if not found:
            raise Refused(404, f"Unknown path {parts.path}")
        self._authorize(received, query)
        model, method = unquote(found[2] or ""), found[3]
        if method is None:
            return self.next("models"), _listed(query)
        if model == NO_SUCH_MODEL:
            message = f"models/{model} is not found for API version v1beta, or is not supported for {method}."
            raise Refused(404, message)
        body = _parsed(received.body)
        if method == "batchEmbedContents":
            answer = self.next("embed")
            reply = _embeddings(body, model)
        elif method in ("generateContent", "streamGenerateContent"):
            self._check(body, model)
            answer = self.next()
            reply = self._said(answer, body, model, method, query)
        elif method == "countTokens":
            inner = body["generateContentRequest"]
            if inner.pop("model") != f"models/{model}":
                raise Refused(400, "The model of the request is another one than that of its path.")
            self._check(inner, model)
            answer = self.next("countTokens")
            reply = _json(200, {"totalTokens": COUNTED, "promptTokensDetails": []})
        else:
            raise Refused(404, f"Unknown method {method}")
        return answer, reply if answer.status == 200 and answer.error is None else failed(answer)

    def _authorize(self, received: Received, query: Mapping[str, Any]) -> None:
        key = received.headers.get("x-goog-api-key")
        if "key" in query:
            raise Refused(400, "This emulation wants the key in a header, where no log has it.")
        if "authorization" in received.headers:
            raise Refused(401)
        if not key:
            raise Refused(403)
        if key != self.key:
            info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
            raise Refused(400, "API key not valid. Please pass a valid API key.", [info])

    def _check(self, body: Mapping[str, Any], model: str) -> None:
        for name, value in body.items():
            if name not in TOP:
                raise Refused(400, f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')
            for each in value if isinstance(value, list) else [value]:
                _check_type(name, each, TOP[name])
        contents = body.get("contents") or []
        if not contents:
            raise Refused(400, "* GenerateContentRequest.contents: contents is not specified")
        _check_tools(body, model)
        newer, before = model.startswith("gemini-3"), None
        for content in contents:
            _check_content(content, before, newer=newer)
            before = content
        if contents[0]["role"] == "model" or contents[-1]["role"] == "model":
            raise Refused(400, "Please ensure that multiturn requests begin and end with a user role.")
        if not model.startswith("gemini-2.0") and any(body.get("generationConfig", {}).get(name) for name in PENALTIES):
            raise Refused(400, "Penalty is not enabled for this model")
        if len(body.get("generationConfig", {}).get("stopSequences", ())) > MOST_STOPS:
            raise Refused(400, "The number of stop sequences is more than 5.")
        self._check_signatures(contents, strict=model.startswith("gemini-3"))

    def _check_signatures(self, contents: Sequence[Any], *, strict: bool) -> None:
        """Those of the current turn, which starts at the user's last words: the first call of each step has one."""
        start = max(at for at, each in enumerate(contents) if at == 0 or _speaks(each))
        for at, content in enumerate(contents):
            calls = [part for part in content["parts"] if "functionCall" in part]
            for number, part in enumerate(calls):
                signature = part.get("thoughtSignature")
                known = (signature or "").replace("-", "+").replace("_", "/") in self.signatures  # bytes, either way
                if signature and not known and signature != STAND_IN:
                    raise Refused(400, "Corrupted thought signature.")
                if strict and at > start and number == 0 and not signature:
                    name = part["functionCall"]["name"]
                    raise Refused(400, f"Function call `{name}` is missing a thought_signature in functionCall parts.")

    def _said(self, answer: ScriptedAnswer, body: Mapping[str, Any], model: str, method: str, query: Any) -> Reply:
        chunks = list(self._chunks(answer, body, model))
        error = failed(ScriptedAnswer()).body
        whole = _dumps(_joined(chunk for _, chunk in chunks))
        if method == "streamGenerateContent" and query.get("alt") != ["sse"]:
            data = (Piece(_dumps([chunk for _, chunk in chunks])),)
            return Reply(data, headers=_typed("application/json"), whole=whole, error=b"[%b]" % error)
        delays = (answer.first_delay if at == 0 else answer.frame_delay for at in count())
        pieces = tuple(
            Piece(b"data: %b\r\n\r\n" % _dumps(chunk), kind, delay)
            for (kind, chunk), delay in zip(chunks, delays, strict=False)
        )
        stream = method != "generateContent"
        return Reply(
            pieces if stream else (Piece(whole, after=answer.first_delay),),
            headers=_typed("text/event-stream" if stream else "application/json"),
            stream=stream,
            whole=whole,
            frames=pieces,
            error=error,
            error_frame=b"data: %b\r\n\r\n" % error,
        )

    def _chunks(
        self, answer: ScriptedAnswer, body: Mapping[str, Any], model: str
    ) -> Iterator[tuple[Kind, dict[str, Any]]]:
        config = body.get("generationConfig", {})
        usage = _usage(answer)
        common = {"modelVersion": model, "responseId": f"r{next(_numbers)}", "usageMetadata": usage}
        choices = range(config.get("candidateCount", 1))
        for part in self._parts(answer, body, model):
            for index in choices:
                candidate = {"content": {"parts": [part], "role": "model"}, "index": index}
                if config.get("responseLogprobs") and "text" in part:
                    chosen = {"token": part["text"], "logProbability": -0.25, "tokenId": 1}
                    top = {"candidates": [chosen] * config["logprobs"]} if config.get("logprobs") else {}
                    candidate["logprobsResult"] = {"chosenCandidates": [chosen], "topCandidates": [top]}
                yield "content", {"candidates": [candidate], **common}
        finish = FINISHES.get(answer.finish_reason or "stop", answer.finish_reason)
        for index in choices:
            last = {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": finish, "index": index}
            yield "finish", {"candidates": [last], **common}

    def _parts(self, answer: ScriptedAnswer, body: Mapping[str, Any], model: str) -> Iterator[dict[str, Any]]:
        if body.get("generationConfig", {}).get("thinkingConfig", {}).get("includeThoughts"):
            for thought in answer.reasoning:
                yield {"text": thought, "thought": True}
        calls = [Call(*call) for call in answer.calls] or _demanded(answer, body)
        texts = (() if calls else TEXTS) if answer.texts is None else answer.texts
        yield from ({"text": text} for text in texts)
        for number, call in enumerate(calls):
            function: dict[str, Any] = {"name": call.name, "args": value_of(call)}
            if answer.call_ids and model.startswith("gemini-3"):
                function["id"] = call.id
            part: dict[str, Any] = {"functionCall": function}
            if number == 0 and model.startswith("gemini-3"):
                signature = b64encode(f"thought {len(self.signatures)} +/?>".encode() * 40).decode()
                self.signatures.append(signature)
                part["thoughtSignature"] = signature
            yield part


def failed(answer: ScriptedAnswer) -> Reply:
    """An error in Google's shape; how long to wait stands in its details."""
    name, message = STATUSES.get(answer.status if answer.status != 200 else 500, STATUSES[500])
    error: dict[str, Any] = {"code": answer.status if answer.status != 200 else 500, "message": message, "status": name}
    if wait := answer.headers.get("retry-after"):
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait}s"}]
    reply = _json(answer.status, answer.error or {"error": error})
    return Reply(reply.pieces, answer.status, reply.headers, whole=reply.body, error=reply.body)


def _check_type(name: str, value: Any, kind: type[BaseModel] | None) -> None:
    if kind is None:
        return
    try:
        kind.model_validate(value)
    except ValidationError as error:
        wrong = error.errors()[0]
        what = f"Unknown name \"{wrong['loc'][-1]}\" at '{name}': Cannot find field."
        raise Refused(400, f"Invalid JSON payload received. {what} {wrong['msg']}") from None


def _check_tools(body: Mapping[str, Any], model: str) -> None:
    for tool in body.get("tools", ()):
        for each in tool.get("functionDeclarations", ()):
            if not NAME.fullmatch(each["name"]):
                message = "Invalid function name. Must start with a letter or an underscore."
                raise Refused(400, f"* GenerateContentRequest.tools[0].function_declarations[0].name: {message}")
            if wrong := misheaded(each.get("parametersJsonSchema", {"type": "object"})):
                raise Refused(400, wrong)
    wanted = body.get("generationConfig", {}).get("responseMimeType", "text/plain")
    if body.get("tools") and wanted != "text/plain" and not model.startswith("gemini-3"):
        raise Refused(400, f"Function calling with a response mime type: '{wanted}' is unsupported")


def _check_content(content: Mapping[str, Any], before: Mapping[str, Any] | None, *, newer: bool) -> None:
    for part in content.get("parts", ()):
        if not newer and "id" in {**part.get("functionCall", {}), **part.get("functionResponse", {})}:
            raise Refused(400, 'Invalid JSON payload received. Unknown name "id": Cannot find field.')
    if content.get("role") not in ("user", "model"):
        raise Refused(400, "Please use a valid role: user, model.")
    if not content.get("parts") or any(not part or part.get("text") == "" for part in content["parts"]):
        raise Refused(400, "* GenerateContentRequest.contents[0].parts: contents.parts must not be empty.")
    if before is not None and before["role"] == content["role"]:
        raise Refused(400, "Please ensure that multiturn requests alternate between user and model.")
    called = [part["functionCall"] for part in (before or {"parts": []})["parts"] if "functionCall" in part]
    answered = [part["functionResponse"] for part in content["parts"] if "functionResponse" in part]
    if len(called) != len(answered):
        message = (
            "Please ensure that the number of function response parts is equal to the number of function call "
            "parts of the function call turn."
        )
        raise Refused(400, message)
    pairs = [[(each.get("id", ""), each["name"]) for each in some] for some in (called, answered)]
    if pairs[0] != pairs[1]:
        raise Refused(400, "The ids or names of function calls and function responses differ.")
    if any("functionCall" in part for part in content["parts"]) and before is None:
        raise Refused(400, "Please ensure that function call turn comes immediately after a user turn.")


def _speaks(content: Mapping[str, Any]) -> bool:
    return content["role"] == "user" and any("functionResponse" not in part for part in content["parts"])


def _demanded(answer: ScriptedAnswer, body: Mapping[str, Any]) -> list[Call]:
    """The call that the request insists on, unless the answer says something else."""
    config = body.get("toolConfig", {}).get("functionCallingConfig", {})
    if answer.texts is not None or config.get("mode") != "ANY":
        return []
    for function in body["tools"][0]["functionDeclarations"]:
        if "name" in function and function["name"] in config.get("allowedFunctionNames", [function["name"]]):
            return [Call("fc-1", function["name"], [json.dumps(example(function.get("parametersJsonSchema", {})))])]
    raise Refused(400, "allowed_function_names names what is not declared.")


def _usage(answer: ScriptedAnswer) -> dict[str, Any]:
    usage = answer.usage or {}
    thoughts = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens", 0)
    counts = {
        "promptTokenCount": usage.get("prompt_tokens", 0),
        "candidatesTokenCount": usage.get("completion_tokens", 0) - thoughts,
        "thoughtsTokenCount": thoughts,
        "cachedContentTokenCount": (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
    }
    return {name: value for name, value in counts.items() if value} | {"totalTokenCount": usage.get("total_tokens", 0)}


def _joined(chunks: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """The chunks of a stream as the one answer that they are."""
    whole: dict[str, Any] = {}
    candidates: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        whole = chunk
        for candidate in chunk["candidates"]:
            known = candidates.setdefault(candidate["index"], {**candidate, "content": {"parts": [], "role": "model"}})
            known.update({key: value for key, value in candidate.items() if key not in ("content", "logprobsResult")})
            known["content"]["parts"] += [part for part in candidate["content"]["parts"] if part.get("text") != ""]
    return {**whole, "candidates": list(candidates.values())}


def _embeddings(body: Mapping[str, Any], model: str) -> Reply:
    requests = body.get("requests")
    if set(body) != {"requests"} or not requests or len(requests) > BATCH:
        raise Refused(400, f"* BatchEmbedContentsRequest.requests: at most {BATCH} requests can be in one batch")
    vectors = []
    for each in requests:
        if unknown := set(each) - {"model", "content", "taskType", "outputDimensionality", "title"}:
            raise Refused(400, f"Invalid JSON payload received. Unknown name \"{unknown}\" at 'requests[0]'.")
        if each["model"] != f"models/{model}":
            raise Refused(400, "* BatchEmbedContentsRequest.requests[0].model: model must match the path.")
        _check_type("requests", each["content"], types.Content)
        said = each["content"]["parts"][0]
        size = each.get("outputDimensionality", DIMENSIONS)
        vectors.append({"values": embedding(said.get("text") or said["inlineData"]["data"], size)})
    return _json(200, {"embeddings": vectors, "usageMetadata": {"promptTokenCount": len(requests)}})


def _listed(query: Mapping[str, Any]) -> Reply:
    """Pages of two, whatever is asked for."""
    start = int(query.get("pageToken", ["0"])[0])
    methods = {"gemini-embedding-001": ["embedContent"], "imagen-4.0": ["predict"]}
    rows = [
        {
            "name": f"models/{name}",
            "displayName": name,
            "supportedGenerationMethods": methods.get(name, ["generateContent", "countTokens"]),
        }
        for name in MODELS[start : start + PAGE]
    ]
    following = {"nextPageToken": str(start + PAGE)} if start + PAGE < len(MODELS) else {}
    return _json(200, {"models": rows, **following})


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except ValueError:
        raise Refused(400, "Invalid JSON payload received.") from None
    if _has_null(body):
        raise Refused(400, "This emulation takes no nulls.")
    found: dict[str, Any] = body
    return found


def _has_null(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(map(_has_null, inner))


def _json(status: int, value: object) -> Reply:
    data = _dumps(value)
    return Reply((Piece(data),), status, _typed("application/json"), whole=data, error=data)


def _typed(kind: str) -> dict[str, str]:
    return {"Content-Type": f"{kind}; charset=UTF-8" if kind == "application/json" else kind}


def _dumps(value: object) -> bytes:
    return dumps(value, separators=None).encode()
