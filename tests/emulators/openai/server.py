"""An emulated api.openai.com: chat completions, models, embeddings, images. As strict as the real one, and scripted.

with OpenAIUpstream() as upstream:
    upstream.enqueue(Answer(texts=["Hi", " there"]))       the next chat request
    upstream.always(Answer(status=429), path="/embeddings")  all others, until told otherwise
    client = openai.OpenAI(base_url=upstream.base_url, api_key=upstream.key)
"""

import base64
import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.emulators.answers import ScriptedAnswer
from tests.emulators.connection import Connection, Received
from tests.emulators.openai.completion import CREATED, chat
from tests.emulators.reply import Piece, Reply
from tests.emulators.rules import Refused, check_chat, check_parameters, parse
from tests.emulators.scripted import KEY, NO_SUCH_MODEL, Scripted

MODELS = ("gpt-4o-mini", "gpt-4o", "text-embedding-3-small", "dall-e-3", "gpt-image-1")
DIMENSIONS = 8
BATCH = 2048
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

IMAGE_DETAILS: Mapping[str, Any] = {
    "background": "opaque",
    "output_format": "png",
    "quality": "low",
    "size": "1024x1024",
    "usage": {
        "input_tokens": 11,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 11},
        "output_tokens": 272,
        "total_tokens": 283,
    },
}

ERRORS: Mapping[int, tuple[str, str, str | None]] = {
    400: ("Invalid value for 'messages'.", "invalid_request_error", "invalid_value"),
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    403: ("Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"),
    404: ("Invalid URL", "invalid_request_error", None),
    429: ("Rate limit reached for gpt-4o-mini in organization org-x.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request. Sorry about that!", "server_error", None),
    503: ("The engine is currently overloaded, please try again later.", "service_unavailable", "server_is_overloaded"),
}
"""Status: message, type and code of an `Answer` that gives no `error`. Other statuses read as 500 does."""

EMBEDDINGS = {
    "input": "string or array",
    "model": "string",
    "encoding_format": "string",
    "dimensions": "integer",
    "user": "string",
}
IMAGES = {
    "prompt": "string",
    "model": "string",
    "n": "integer",
    "size": "string",
    "quality": "string",
    "style": "string",
    "response_format": "string",
    "user": "string",
    "background": "string",
    "moderation": "string",
    "output_compression": "integer",
    "output_format": "string",
    "partial_images": "integer",
    "stream": "boolean",
}


class OpenAIUpstream(Scripted):
    """A server that answers under `base_url` to the bearer of `key`.

    Without `strict` it takes anything, as many OpenAI-shaped vendors do. `base` stands before
    `/chat/completions`. A request that is refused (401, 400, 404) uses up no queued answer.
    """

    def __init__(
        self,
        *,
        key: str = KEY,
        strict: bool = True,
        base: str = "/v1",
        models: Sequence[str] = MODELS,
        tls: bool = False,
    ) -> None:
        super().__init__(key=key, tls=tls)
        self._strict = strict
        self._base = base
        self._models = models

    @property
    def base_url(self) -> str:
        """What a client calls its base URL."""
        return self.url + self._base

    def settings(self, **others: Any) -> dict[str, Any]:
        """The settings of an app that asks this server, and others."""
        return {"OPENAI_API_KEY": self.key, "OPENAI_BASE_URL": self.base_url, **others}

    def identity(self, connection: Connection) -> Mapping[str, str]:
        """As api.openai.com has them."""
        return {**super().identity(connection), "openai-processing-ms": "12"}

    def answer_to(self, received: Received) -> tuple[ScriptedAnswer, Reply]:
        """Refuse it as the real one would, or answer it as scripted."""
        try:
            path = self._path(received)
            self._authorize(received)
            return self._answer_to(received, path)
        except Refused as refused:
            return ScriptedAnswer(), _json(refused.status, {"error": refused.error})
        except (AttributeError, KeyError, TypeError) as error:  # a value of another shape than OpenAI's
            return ScriptedAnswer(), _json(400, {"error": Refused(400, f"Invalid value: {error}").error})

    def _path(self, received: Received) -> str:
        path = urlsplit(received.path).path
        below = path.removeprefix(self._base)
        route = "/models" if below.startswith("/models/") else below
        method = {
            "/models": "GET",
            "/chat/completions": "POST",
            "/embeddings": "POST",
            "/images/generations": "POST",
        }.get(route)
        if not path.startswith(self._base) or received.method != method:
            raise Refused(404, f"Invalid URL ({received.method} {path})")
        return below

    def _authorize(self, received: Received) -> None:
        scheme, _, key = received.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            raise Refused(
                401, "You didn't provide an API key. You need to provide your API key in an Authorization header"
            )
        if key != self.key:
            message = (
                "Incorrect API key provided: sk-proj-********wxyz. You can find your API key at "
                "https://platform.openai.com/account/api-keys."
            )
            raise Refused(401, message, code="invalid_api_key")

    def _answer_to(self, received: Received, path: str) -> tuple[ScriptedAnswer, Reply]:
        if path.startswith("/models"):
            reply = self._listed(unquote(path))
            answer = self.next("/models")
        else:
            body = parse(received.body)
            self._check(path, body)
            answer = self.next(path)
            reply = _reply_to(path, answer, body)
        return answer, reply if answer.status == 200 and answer.error is None else _failed(answer)

    def _listed(self, path: str) -> Reply:
        rows = [{"id": model, "object": "model", "created": CREATED, "owned_by": "system"} for model in self._models]
        if path == "/models":
            return _json(200, {"object": "list", "data": rows})
        for row in rows:
            if path == f"/models/{row['id']}":
                return _json(200, row)
        raise _unknown(path.removeprefix("/models/"))

    def _check(self, path: str, body: Mapping[str, Any]) -> None:
        if self._strict:
            if path == "/chat/completions":
                check_chat(body)
            elif path == "/embeddings":
                check_parameters(body, EMBEDDINGS, required=("model", "input"))
            else:
                _check_image(body)
        if body.get("model") == NO_SUCH_MODEL:
            raise _unknown(NO_SUCH_MODEL)


def _reply_to(path: str, answer: ScriptedAnswer, body: Mapping[str, Any]) -> Reply:
    """What is answered on this path when nothing fails."""
    error = _failed(replace(answer, status=500)).body
    if path == "/chat/completions":
        return chat(answer, body, error)
    reply = _embeddings(body) if path == "/embeddings" else _images(body)
    return replace(reply, pieces=(replace(reply.pieces[0], after=answer.first_delay),), error=error)


def _failed(answer: ScriptedAnswer) -> Reply:
    message, kind, code = ERRORS.get(answer.status, ERRORS[500])
    error = {"message": message, "type": kind, "param": None, "code": code}
    reply = _json(answer.status, {"error": error} if answer.error is None else answer.error)
    return replace(reply, error=reply.body)


def _json(status: int, value: object) -> Reply:
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply((Piece(data),), status, {"Content-Type": "application/json"}, whole=data)


def _unknown(model: str) -> Refused:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return Refused(404, message, code="model_not_found")


def _embeddings(body: Mapping[str, Any]) -> Reply:
    given = body["input"]
    inputs = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    if len(inputs) > BATCH:
        raise Refused(400, f"'$.input' is invalid: at most {BATCH} inputs.", param="input")
    size = body.get("dimensions", DIMENSIONS)
    packed = body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(vector) if packed else vector}
        for index, vector in enumerate(embedding(each, size) for each in inputs)
    ]
    tokens = sum(len(each.split()) if isinstance(each, str) else len(each) for each in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _json(200, {"object": "list", "data": data, "model": body.get("model"), "usage": usage})


def embedding(text: str | Sequence[int], size: int = DIMENSIONS) -> list[float]:
    """The vector that is answered for an input: its own, and exact in 32 bits."""
    digest = hashlib.shake_256(json.dumps(text).encode()).digest(size)
    return [(byte - 128) / 128 for byte in digest]


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _check_image(body: Mapping[str, Any]) -> None:
    check_parameters(body, IMAGES, required=("prompt",))
    if str(body.get("model")).startswith("gpt-image"):
        for name in ("response_format", "style"):
            if name in body:
                raise Refused(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    if body.get("model") == "dall-e-3" and body.get("n", 1) != 1:
        raise Refused(400, "Invalid 'n': integer above maximum value.", param="n", code="integer_above_max_value")


def _images(body: Mapping[str, Any]) -> Reply:
    if str(body.get("model")).startswith("gpt-image"):
        data = [{"b64_json": PIXEL}] * body.get("n", 1)
        return _json(200, {"created": CREATED, "data": data, **IMAGE_DETAILS})
    packed = body.get("response_format") == "b64_json"
    image = {"b64_json": PIXEL} if packed else {"url": "https://images.invalid/1.png"}
    revised = {"revised_prompt": f"{body['prompt']}, in detail"} if body.get("model") == "dall-e-3" else {}
    return _json(200, {"created": CREATED, "data": [{**image, **revised}] * body.get("n", 1)})
