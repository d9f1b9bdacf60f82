"""The API as an OpenAPI 3.1 document: requests come from the schemas that check them, answers are described here.

https://spec.openapis.org/oas/v3.1.1.html. tests/papers/test_docs.py compares it with the
app's routes, errors and real answers.
"""

from copy import deepcopy
from functools import cache
from itertools import chain
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema
from marshmallow.fields import Field

from core.json_values import Json
from core.version import VERSION
from schemas.chat.request import ChatSchema
from schemas.common import OneOfTypes, StrictBoolean, StrictInteger, StrictNumber
from schemas.embeddings import EmbeddingsSchema
from schemas.images import ImagesSchema
from schemas.moderations import ModerationsSchema
from schemas.openapi import messages, usage
from schemas.openapi.responses import COUNT, RESPONSE_SCHEMAS, TEXT, array, record, ref, value
from schemas.rerank import RerankSchema
from schemas.responses.schema import CompactSchema, InputTokensSchema, ResponsesSchema
from schemas.text_completion import TextCompletionSchema

ABOUT = """One OpenAI-compatible endpoint, made for voice agents. A client that speaks OpenAI's chat completions needs
this server's address as its `base_url`, and its key. The paths answer with `/v1` and without."""
KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "As OpenAI's clients send it."},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same key."},
}
JSON_TYPES: dict[Any, str] = {str: "string", list: "array", dict: "object"}


# fmt: off
SOME = Json(minItems=1)
LISTS = {"content": [array(record("", type=TEXT))], "stop": [array(TEXT)],
    "documents": [array(TEXT, minItems=1), array(record("", text=TEXT), minItems=1)],
    "system": [array(record("", type=TEXT))],
    "prompt": [array(TEXT, minItems=1, maxItems=1)],
    "input": [array(TEXT, **SOME), array(record("", type=TEXT), **SOME), array(record("", role=TEXT), **SOME),
        array(COUNT, minItems=1), array(array(COUNT, minItems=1), **SOME)]}
"""The items that a OneOfTypes field's list may have."""

REQUESTS: dict[str, tuple[type[Schema], str]] = {
    "ChatRequest": (ChatSchema, (
        "Other keys are allowed too, so parameters that are newer than this server work: an upstream of OpenAI's kind "
        "gets them as they came. Others get what they have a counterpart for; where content would be lost, the answer "
        "is a 400 that says so. A null counts as a key left out. `provider`, `session_id` and `include_reasoning` are "
        "this server's own: with the openai package, send them in `extra_body`.")),
    "EmbeddingsRequest": (EmbeddingsSchema, "Other keys are allowed. A null counts as a key left out."),
    "ImagesRequest": (ImagesSchema, (
        "Other keys are allowed: an upstream of OpenAI's kind gets them as they came, Ideogram and Recraft those that "
        "are their own. A null counts as a key left out.")),
    "ModerationsRequest": (ModerationsSchema, "Other keys go on as they came. A null counts as a key left out."),
    **messages.REQUESTS,
    "TextCompletionRequest": (TextCompletionSchema, (
        "Other keys are those of a chat; `suffix`, `echo` and `logprobs` are refused. A null is a key left out.")),
    "ResponsesRequest": (ResponsesSchema, (
        "Other keys go on as they came. A null is a key left out. `background`, `conversation`, `prompt` are refused, "
        "and so are tools of OpenAI's own where another provider answers.")),
    "InputTokensRequest": (InputTokensSchema, "As for `/responses`; what does not change the prompt is not looked at."),
    "CompactRequest": (CompactSchema, "Other keys are allowed. A null counts as a key left out."),
    "RerankRequest": (RerankSchema, "Other keys are allowed. A null counts as a key left out."),
}
FIELDS = {
    "messages": "The conversation so far, oldest first.",
    "stream_options": "What a stream carries besides its words.",
    "temperature": "How freely words are chosen; 0 is the most predictable.",
    "top_p": "Choose among the likeliest words that together have this probability.",
    "n": "How many answers to give.",
    "stop": "A text, or several, at which the answer ends. It is not part of the answer.",
    "max_tokens": "The older name of `max_completion_tokens`.",
    "max_completion_tokens": "The most tokens that the answer may have. A negative number means no limit.",
    "frequency_penalty": "Above 0, words that were used often are used less.",
    "presence_penalty": "Above 0, words that were used at all are used less.",
    "seed": "Asks for the same answer to the same request, where the upstream can.",
    "logprobs": "Give the log probability of each token.",
    "top_logprobs": "How many alternatives to each token to give with `logprobs`.",
    "logit_bias": "Token ids, each with a number that makes it likelier or less likely.",
    "tools": 'The functions that the model may call, each `{"type": "function", "function": {...}}`.',
    "tool_choice": "`none`, `auto`, `required`, or an object that names the tool to call.",
    "parallel_tool_calls": "Whether several tools may be called at once.",
    "functions": "The older form of `tools`.",
    "function_call": "The older form of `tool_choice`.",
    "response_format": 'Asks for JSON: `{"type": "json_object"}`, or a `json_schema`.',
    "reasoning_effort": "How long a reasoning model thinks: `low`, `medium`, `high`, or what else the model has.",
    "verbosity": "How long the answer is to be: `low`, `medium`, `high`.",
    "modalities": "The kinds of output: `text`, and `audio` or `image` where the model has them.",
    "metadata": "Your own notes on the request.",
    "user": "The end user, in your own terms.",
    "role": "The speaker. `developer` is the newer name of `system`, `function` the older one of `tool`.",
    "content": 'The text, or a list of parts such as `{"type": "text", "text": "..."}`.',
    "prompt": "What is to be answered.",
    "documents": "What is put in order: texts, or objects with a `text`.",
    "name": "A name for the speaker.",
    "tool_calls": "The calls that the assistant made.",
    "tool_call_id": "Which call a `tool` message answers.",
    "input": "A text, a list of texts, a list of token ids, or a list of such lists; at most MAX_INPUTS inputs.",
    "encoding_format": "How vectors are written: as numbers, or as base64 of little-endian float32.",
    "dimensions": "The length of each vector, where the model lets you choose.",
    "truncation": "Taken for compatibility: the provider decides.",
    "service_tier": "How the provider is to serve it, where it has tiers.",
    "prompt_cache_key": "Helps the provider to find what it has cached.",
    "safety_identifier": "The end user, hashed, for the provider's own checks.",
    "text": "What the text is to be like.",
    "reasoning": "How the model is to think.",
    "provider": "The provider to ask; see `/v1/providers`.",
}
"""Descriptions of fields whose name and type do not explain them."""

ERRORS = {
    "400": ("The request cannot be served as it stands: `invalid_json`, `missing_required_parameter`, `invalid_value`, "
            "`unsupported_value`, `context_length_exceeded`, `unknown_provider`, `provider_not_configured`, "
            "`previous_response_not_found`."),
    "401": "No key, or a wrong one: `missing_api_key`, `invalid_api_key`.",
    "403": "The key is not for this: `permission_denied`.",
    "404": ("There is no such model: `model_not_found`; or no such response (`response_not_found`) "
            "or request (`request_not_found`)."),
    "408": "The body was begun, and did not come; or the answer was not read: `request_timeout`.",
    "413": "The body is larger than this server takes: `request_too_large`.",
    "429": ("Too many requests for now, here or at the upstream (`rate_limit_exceeded`), or the key's budget is spent "
            "(`budget_exceeded`)."),
    "499": ("The sending side of the connection was shut, which counts as hanging up: `client_closed_request`; or the "
            "answer was cancelled: `response_cancelled`."),
    "4XX": "The upstream refuses the request with another status.",
    "500": "Something went wrong in this server.",
    "502": "The upstream failed (`upstream_error`), or refuses this server's key (`upstream_authentication`).",
    "503": "Busy here (`server_overloaded`), or the upstream is down (`upstream_unavailable`, `upstream_error`).",
    "504": "The upstream took too long: `upstream_timeout`.",
}
RETRIED = "429", "4XX", "502", "503", "504"
HEADERS = {
    "x-request-id": "Names the request in the server's log. Send your own, or take the one you get.",
    "Retry-After": "Seconds after which to come again.",
    "x-should-retry": "`false` when this server has spent its own retries; the openai package heeds it.",
}

_SYSTEM = {"role": "system", "content": "You are on the phone. Answer in one sentence."}
_HELLO = {"model": "gpt-4o-mini", "messages": [_SYSTEM, {"role": "user", "content": "Hello, who is there?"}]}
_WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
CHATS: dict[str, tuple[str, Json]] = {
    "plain": ("A whole answer", _HELLO),
    "streaming": ("Word by word", {**_HELLO, "stream": True, "stream_options": {"include_usage": True}}),
    "tools": ("With tools", {"model": "gpt-4o-mini", "tools": [_WEATHER],
        "messages": [{"role": "user", "content": "How is the weather in Lisbon?"}]}),
    "provider": ("From a provider of your choice", {**_HELLO, "provider": "demo"}),
}
_TEXTS = {"texts": ("Two texts", {"model": "text-embedding-3-small", "input": ["Good morning.", "Good night."]})}

_PROMPTED = {"prompt": ("A prompt", {"model": "gpt-4o-mini", "prompt": "Say: Good morning."})}
_JUDGED = {"judged": ("A text", {"model": "omni-moderation-latest", "input": "Good morning."})}

_FOLLOWED = {"followed": ("One that another may follow", {"model": "gpt-4o-mini", "input": "Good morning."})}
_COMPACTED = {"compacted": ("One message", {"model": "gpt-4o-mini", "input": "Good morning."})}
_RANKED = {"ranked": ("Two documents", {"model": "rerank-v3.5", "query": "When do you open?",
    "documents": ["We open at nine.", "Our address is 1 High Street."], "top_n": 1})}

_DRAWN = {"drawn": ("One picture", {"model": "gpt-image-1.5", "prompt": "A lighthouse at dawn, in watercolour.",
    "size": "1024x1024"})}

_HEAD = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1767225600, "model": "gpt-4o-mini"}
_WHOLE = {**_HEAD, "choices": [
    {"index": 0, "message": {"role": "assistant", "content": "Hello there!"}, "finish_reason": "stop"}]}
_PIECES = [({"role": "assistant", "content": ""}, None), ({"content": "Hello"}, None), ({}, "stop")]
_FRAMES = {f"frame{at}": ("", {**_HEAD, "object": "chat.completion.chunk", "choices": [
    {"index": 0, "delta": delta, "finish_reason": reason}]}) for at, (delta, reason) in enumerate(_PIECES, 1)}
# fmt: on


def _media(schema: Json, examples: dict[str, tuple[str, Json]] | None = None) -> Json:
    shown = {name: {"summary": summary, "value": value} for name, (summary, value) in (examples or {}).items()}
    return {"schema": schema, **({"examples": shown} if shown else {})}


def _answer(about: str, media: Json, stream: Json | None = None, headers: tuple[str, ...] = ()) -> Json:
    headers_spec = {name: ref(name, "headers") for name in ("x-request-id", *headers)}
    streamed = {"text/event-stream": stream} if stream else {}
    return {"description": about, "headers": headers_spec, "content": {"application/json": media, **streamed}}


def _operation(
    name: str, tag: str, summary: str, about: str, answer: Json, errors: str = "", shape: str = "Error", **more: Any
) -> Json:
    statuses = [messages.error_status(each) if shape == "MessagesError" else each for each in errors.split()]
    responses = {"200": answer, **{status: ref(f"{shape}{status}", "responses") for status in statuses}}
    said = {"operationId": name, "tags": [tag], "summary": summary, "description": about}
    return {**said, **({} if tag != "Service" else {"security": []}), **more, "responses": responses}


def _body(schema: str, examples: dict[str, tuple[str, Json]]) -> Json:
    return {"required": True, "content": {"application/json": _media(ref(schema), examples)}}


# fmt: off
_ASKED = "400 401 403 404 408 413 429 499 4XX 500 502 503 504"
_STREAM = _media({"anyOf": [ref("Chunk"), ref("Error")]}, _FRAMES)
_RESPONSE = [{"name": "identifier", "in": "path", "example": "resp_1", "required": True, "schema": TEXT,
    "description": "The response's id."}]
PATHS: dict[str, Json] = {
    "/chat/completions": {"post": _operation("createChatCompletion", "Chat", "Answer a conversation",
        "With `stream` the answer comes as server-sent events: a role, the text in pieces, a reason for the end, the "
        "usage if `stream_options` asks for it, then `data: [DONE]`. A failure before the first word has its own "
        "status; a later one is a frame with an `error`, and the stream ends.",
        _answer("The answer: whole, or as a stream.", _media(ref("Completion"), {"whole": ("", _WHOLE)}), _STREAM),
        _ASKED, requestBody=_body("ChatRequest", CHATS))},
    "/messages": {"post": _operation("createMessage", "Chat", "Answer a conversation in the Messages dialect",
        messages.ABOUT, _answer("The answer: whole, or as a stream.", _media(ref("MessagesAnswer")),
            _media({"anyOf": [ref("MessagesEvent"), ref("MessagesError")]})),
        _ASKED, "MessagesError", requestBody=_body("MessagesRequest", messages.ASKED))},
    "/messages/count_tokens": {"post": _operation("countTokens", "Chat", "Count the tokens of a conversation",
        "As the provider counts them, where it does; else about how many.",
        _answer("The count.", _media(ref("TokenCount"))), _ASKED, "MessagesError",
        requestBody=_body("CountTokensRequest", messages.COUNTED))},
    "/completions": {"post": _operation("createCompletion", "Chat", "Answer a prompt",
        "OpenAI's older endpoint: the prompt is asked as a chat of one message.",
        _answer("The answer: whole, or as a stream.", _media(ref("TextCompletion")),
            _media({"anyOf": [ref("TextCompletion"), ref("Error")]})),
        _ASKED, requestBody=_body("TextCompletionRequest", _PROMPTED))},
    "/moderations": {"post": _operation("createModeration", "Chat", "Judge a text",
        "By a provider of OpenAI's kind that does so; its answer comes as it is.",
        _answer("The judgement.", _media(ref("Moderation"))), _ASKED,
        requestBody=_body("ModerationsRequest", _JUDGED))},
    "/responses": {"post": _operation("createResponse", "Responses", "Answer in the Responses dialect",
        "With `stream` the answer comes as server-sent events, each with its name and its number, from "
        "`response.created` to `response.completed`, `.incomplete` or `.failed`, then `data: [DONE]`. An upstream that "
        "has this endpoint itself may be asked as it is.",
        _answer("The answer: whole, or as a stream.", _media(ref("Response")), _media(ref("ResponseEvent"))),
        _ASKED, requestBody=_body("ResponsesRequest", _FOLLOWED))},
    "/responses/{identifier}": {
        "get": _operation("getResponse", "Responses", "Show a response", "For RESPONSES_TTL, to its own key.",
            _answer("The response.", _media(ref("Response"))), "401 404 500", parameters=_RESPONSE),
        "delete": _operation("deleteResponse", "Responses", "Forget a response", "It cannot be followed any more.",
            _answer("It is gone.", _media(ref("DeletedResponse"))), "401 404 500", parameters=_RESPONSE)},
    "/responses/{identifier}/cancel": {"post": _operation("cancelResponse", "Responses", "End an answer under way",
        "Its stream ends as incomplete, and its upstream is freed.",
        _answer("The response as it is then.", _media(ref("Response"))), "400 401 404 500", parameters=_RESPONSE)},
    "/responses/{identifier}/input_items": {"get": _operation("listInputItems", "Responses",
        "List what a response has answered", "Page by page: `limit`, `order` (asc, desc) and `after`, an item's id.",
        _answer("The items.", _media(ref("ItemList"))), "400 401 404 500", parameters=_RESPONSE)},
    "/responses/input_tokens": {"post": _operation("countInputTokens", "Responses", "Count the tokens of a prompt",
        "As the provider counts them, where it does; else about how many.",
        _answer("The count.", _media(ref("InputTokens"))), _ASKED, requestBody=_body("InputTokensRequest", _FOLLOWED))},
    "/responses/compact": {"post": _operation("compactResponse", "Responses", "Turn a conversation into items",
        "All items of it, to begin another with; `model` is required.",
        _answer("The items.", _media(ref("Compaction"))), _ASKED, requestBody=_body("CompactRequest", _COMPACTED))},
    "/embeddings": {"post": _operation("createEmbeddings", "Embeddings", "Turn texts into vectors",
        "One vector for each input, in the same order.", _answer("The vectors.", _media(ref("Embeddings"))), _ASKED,
        requestBody=_body("EmbeddingsRequest", _TEXTS))},
    "/rerank": {"post": _operation("rerank", "Embeddings", "Put documents in order of relevance",
        "The shape that Cohere and Jina have in common.", _answer("The order.", _media(ref("Ranking"))), _ASKED,
        requestBody=_body("RerankRequest", _RANKED))},
    "/images/generations": {"post": _operation("createImage", "Images", "Make pictures",
        "From a prompt, by OpenAI, Ideogram, Recraft, or what else makes pictures as OpenAI does.",
        _answer("The pictures.", _media(ref("Images"))), _ASKED, requestBody=_body("ImagesRequest", _DRAWN))},
    "/models": {"get": _operation("listModels", "Models", "List the models",
        "The models of the default provider by their names, those of the others as `provider/model`.",
        _answer("The models.", _media(ref("ModelList"))), "401 500")},
    "/models/{id}": {"get": _operation("getModel", "Models", "Show a model", "Tells whether it can be called.",
        _answer("The model.", _media(ref("Model"))), "401 404 500", parameters=[{"name": "id", "in": "path", "example":
            "demo", "required": True, "schema": TEXT, "description": "The model's id; it may hold slashes."}])},
    "/providers": {"get": _operation("listProviders", "Models", "List the providers",
        "Which of them can be used, what the others lack, and whose breakers are open.",
        _answer("The providers.", _media(ref("ProviderList"))), "401 500")},
    "/usage": {"get": _operation("getUsage", "Usage", "Report what was used",
        "Requests, tokens, cost and times: a key sees its own, an admin's key all.",
        _answer("The report.", _media(ref("UsageList"))), "400 401 403 500 503", parameters=usage.PARAMETERS)},
    "/requests/{request_id}": {"get": _operation("getRequest", "Usage", "Show one of the last requests",
        "Its attempts and what happened when: of the last 200, to its own key and to an admin's.",
        _answer("The request.", _media(ref("RequestLog"))), "401 404 500", parameters=usage.ID)},
    "/health": {"get": _operation("getHealth", "Service", "Is the process alive?", "Asks no upstream.",
        _answer("It is.", _media(ref("Health"))))},
    "/ready": {"get": _operation("getReady", "Service", "Can requests be served?", "Asks no upstream.",
        _answer("They can.", _media(ref("Ready"))))},
    "/openapi.json": {"get": _operation("getDocument", "Service", "This API, for programs", "`/docs` is made from it.",
        _answer("An OpenAPI 3.1 document.", _media({"type": "object"})))},
}
# fmt: on


def _from_field(_: Any, field: Field[Any], **__: Any) -> Json:
    """What apispec cannot read from a request's field: the types of a OneOfTypes field, and the texts in FIELDS."""
    name, extra = str(field.name), Json()
    if isinstance(field, OneOfTypes):
        kinds = [LISTS.get(name, [array({})]) if kind is list else [value(JSON_TYPES[kind])] for kind in field.types]
        extra["anyOf"] = [*chain(*kinds), *([{"type": "null"}] if field.allow_none else [])]
    if isinstance(field.parent, Schema) and "description" not in field.metadata and name in FIELDS:
        extra["description"] = FIELDS[name]
    return extra


def _spec() -> APISpec:
    """An empty document whose plugin knows our field types."""
    plugin = MarshmallowPlugin()
    options = Json(info={"description": ABOUT}, servers=[{"url": "/v1"}], security=[{name: []} for name in KEYS])
    spec = APISpec("Thinkline", VERSION, "3.1.0", [plugin], **options)
    for field, kind in ((StrictNumber, "number"), (StrictInteger, "integer"), (StrictBoolean, "boolean")):
        plugin.map_to_openapi_type(field, kind, None)  # type: ignore[no-untyped-call]
    plugin.converter.add_attribute_function(_from_field)  # type: ignore[union-attr]
    return spec


@cache
def document() -> Json:
    """The OpenAPI document, built once and never changed."""
    spec = _spec()
    for name, (schema, about) in REQUESTS.items():
        spec.components.schema(name, {"description": about}, schema=schema)
    for name, shape in {**RESPONSE_SCHEMAS, **messages.RESPONSES, **usage.RESPONSES}.items():
        spec.components.schema(name, shape)
    for name, about in HEADERS.items():
        spec.components.header(name, {"description": about, "schema": TEXT})
    for status, about in ERRORS.items():
        headers = ("Retry-After", "x-should-retry") if status in RETRIED else ()
        spec.components.response(f"Error{status}", _answer(about, _media(ref("Error")), headers=headers))
        name = f"MessagesError{messages.error_status(status)}"
        spec.components.response(name, _answer(about, _media(ref("MessagesError")), headers=headers))
    for name, scheme in KEYS.items():
        spec.components.security_scheme(name, scheme)
    for path, operations in PATHS.items():
        spec.path(path, operations=deepcopy(operations))
    return spec.to_dict()
