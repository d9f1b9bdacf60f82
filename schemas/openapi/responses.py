"""The API's answers as JSON schemas: the part of the OpenAPI document without a marshmallow schema."""

from typing import Any, get_args

from core.events import FinishReason
from core.json_values import Json


def ref(name: str, kind: str = "schemas") -> Json:
    """A component of that name."""
    return {"$ref": f"#/components/{kind}/{name}"}


def value(kind: str, about: str = "", **more: Any) -> Json:
    """A value of a JSON type, or of several: `string|null`."""
    described = {"description": about} if about else {}
    return {"type": kind.split("|") if "|" in kind else kind, **described, **more}


def array(items: Json, about: str = "", **more: Any) -> Json:
    """A list of such items."""
    return value("array", about, items=items, **more)


def record(about: str, optional: str = "", **properties: Json) -> Json:
    """An object; its properties are required, except those that `optional` names."""
    required = [name for name in properties if name not in optional.split()]
    return value("object", about, properties=properties, **({"required": required} if required else {}))


# fmt: off
TEXT, COUNT = value("string"), value("integer")

_ENDS = [*get_args(FinishReason), "function_call"]
_MODEL = value("string", "The model that answered.")
_WHEN = value("integer", "When it was made, in Unix seconds.")
_LOGPROBS = value("object|null", "With `logprobs`: those of the tokens.")
_PERHAPS = "tool_calls refusal annotations images reasoning_content"
_ASIDE = {
    "refusal": value("string|null", "Why the model will not answer."),
    "annotations": array(value("object"), "Sources: OpenAI's `url_citation` objects."),
    "images": array(value("object"), "With `modalities`: pictures, as OpenRouter has them, by `image_url`."),
    "reasoning_content": value("string|null", "The model's thinking, when `include_reasoning` asked for it."),
}
_FUNCTION = record("", name=TEXT, arguments=value("string", "JSON."))
_LATER = "usage service_tier system_fingerprint"
_EXTRA = {"service_tier": value("string|null"), "system_fingerprint": value("string|null")}

_REPEATED = (
    "background", "frequency_penalty", "instructions", "max_output_tokens", "max_tool_calls", "metadata",
    "parallel_tool_calls", "presence_penalty", "previous_response_id", "prompt_cache_key", "reasoning",
    "safety_identifier", "service_tier", "store", "temperature", "text", "tool_choice", "tools", "top_logprobs",
    "top_p", "truncation", "user",
)
"""What a response repeats of its request."""

RESPONSE_SCHEMAS: dict[str, Json] = {
    "Completion": record("A whole answer.", _LATER, id=TEXT, object={"const": "chat.completion"}, created=_WHEN,
        model=_MODEL, choices=array(ref("Choice")), usage=ref("Usage"), **_EXTRA),
    "Choice": record("One answer; there are `n` of them.", "logprobs", index=COUNT, message=ref("Answer"),
        finish_reason=value("string", "Why it ended.", enum=_ENDS), logprobs=_LOGPROBS),
    "Answer": record("What the assistant says.", _PERHAPS, role={"const": "assistant"},
        content=value("string|null", "The text, if any."), tool_calls=array(ref("ToolCall")), **_ASIDE),
    "ToolCall": record("A function to call; its result goes into a `tool` message.",
        id=TEXT, type={"const": "function"}, function=_FUNCTION),
    "Chunk": record("One `data:` frame of a stream. All frames have the same id, time and model.", _LATER, id=TEXT,
        object={"const": "chat.completion.chunk"}, created=_WHEN, model=_MODEL, **_EXTRA,
        choices=array(ref("ChunkChoice"), "Empty in the chunk with the usage."),
        usage={"anyOf": [ref("Usage"), {"type": "null"}]}),
    "ChunkChoice": record("A piece of one answer.", "logprobs finish_reason", index=COUNT, delta=ref("Delta"),
        logprobs=_LOGPROBS, finish_reason=value("string|null", "Why it ended, at the end.", enum=[*_ENDS, None])),
    "Delta": record("What is new: the role first, then text or tool calls.", f"role content {_PERHAPS}",
        role={"const": "assistant"}, content=value("string|null", "The next piece of the text."),
        tool_calls=array(ref("ToolCallDelta")), **_ASIDE),
    "ToolCallDelta": record("The id and the name come once, the arguments in pieces.", "id type function",
        index=value("integer", "Which call this belongs to, from 0."), id=TEXT, type={"const": "function"},
        function={**_FUNCTION, "required": []}),
    "Usage": record("Tokens; -1 where the upstream does not tell.", "prompt_tokens_details completion_tokens_details",
        prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT,
        prompt_tokens_details=value("object|null", "`cached_tokens`: a part of `prompt_tokens`."),
        completion_tokens_details=value("object|null", "`reasoning_tokens`: a part of `completion_tokens`.")),
    "Response": record("A response.", "user", id=TEXT, object={"const": "response"}, created_at=_WHEN,
        completed_at=value("integer|null", "When it ended, in Unix seconds."), status=value("string",
        "How far it is.", enum=["in_progress", "completed", "incomplete", "failed", "cancelled"]), model=_MODEL,
        incomplete_details=value("object|null", "With `reason`: `max_output_tokens` or `content_filter`."),
        error=value("object|null", "`code` and `message` of a failure."),
        output=array(value("object"), "Items: messages, calls, reasoning."),
        usage=value("object|null", "`input_tokens`, `output_tokens`, `total_tokens`; 0 where it is not told."),
        **{name: {"description": "As it was asked for."} for name in _REPEATED}),
    "ResponseEvent": value("object", "One event of a stream.", required=["type", "sequence_number"], properties={
        "type": value("string", "The event's name."), "sequence_number": value("integer", "Its place, from 0.")}),
    "DeletedResponse": record("What is gone.", id=TEXT, object={"const": "response"}, deleted={"const": True}),
    "ItemList": record("Items of a conversation.", object={"const": "list"}, data=array(value("object"), "The items."),
        first_id=value("string|null"), last_id=value("string|null"), has_more=value("boolean", "Whether more follow.")),
    "InputTokens": record("How many tokens.", object={"const": "response.input_tokens"}, input_tokens=COUNT),
    "Compaction": record("The items of a conversation.", id=TEXT, object={"const": "response.compaction"},
        created_at=_WHEN, output=array(value("object"), "The items."), usage=value("object", "Nothing was asked.")),
    "Error": record("What went wrong.", error=record("",
        message=value("string", "A sentence for people."), type=value("string", "The kind of failure."),
        param=value("string|null", "The field at fault."), code=value("string|null", "A name for programs."))),
    "TextCompletion": record("An answer to a prompt, or a piece of it.", _LATER, id=TEXT,
        object={"const": "text_completion"}, created=_WHEN, model=_MODEL, choices=array(ref("TextChoice")),
        usage={"anyOf": [ref("Usage"), {"type": "null"}]}, **_EXTRA),
    "TextChoice": record("One answer.", "logprobs", index=COUNT, text=value("string", "The text, or its next piece."),
        logprobs=value("null"), finish_reason=value("string|null", "Why it ended, at the end.", enum=[*_ENDS, None])),
    "Moderation": record("What was judged.", "id", id=TEXT, model=_MODEL,
        results=array(value("object", "`flagged`, `categories`, `category_scores`."), "One for each input.")),
    "Embeddings": record("Vectors, in the order of the inputs.", object={"const": "list"}, model=_MODEL,
        data=array(ref("Embedding")), usage=record("Tokens.", prompt_tokens=COUNT, total_tokens=COUNT)),
    "Embedding": record("One vector.", object={"const": "embedding"}, index=value("integer", "Which input."),
        embedding={"anyOf": [array(value("number")), TEXT], "description": "Numbers, or base64."}),
    "Images": record("Pictures.", "background output_format quality size usage", created=_WHEN,
        data=array(ref("Image")), background=TEXT, output_format=TEXT, quality=TEXT, size=TEXT,
        usage=value("object", "Tokens, where the model counts them: `input_tokens`, `output_tokens`, `total_tokens`.")),
    "Image": record("One picture, as an address or as bytes.", "url b64_json revised_prompt",
        url=value("string", "Where it is, for a limited time."), b64_json=value("string", "The file, in base64."),
        revised_prompt=value("string", "The prompt that was drawn, where the model changed it.")),
    "Ranking": record("Positions of documents, the most relevant first.", "usage", id=TEXT, object={"const": "list"},
        model=_MODEL, results=array(ref("Rank")),
        usage=record("Tokens, where the upstream counts them.", prompt_tokens=COUNT, total_tokens=COUNT)),
    "Rank": record("How relevant one document is.", "document", index=value("integer", "Which document, from 0."),
        relevance_score=value("number", "The higher, the more relevant."),
        document=record("With `return_documents`.", text=TEXT)),
    "ModelList": record("All models that can be called.", object={"const": "list"}, data=array(ref("Model"))),
    "Model": record("A model.", "description", id=value("string", "What to send as `model`."),
        object={"const": "model"}, created=value("integer", "Unix seconds; 0 when unknown."),
        owned_by=value("string", "Its maker."), description=value("string", "What models.yaml says of it.")),
    "ProviderList": record("All providers that this server knows.", providers=array(ref("Provider")),
        default=value("string", "The provider of requests that name none.")),
    "Provider": record("The providers.", "reason breakers",
        name=value("string", "What to send as `provider`, or before the model: `name/model`."), default_model=TEXT,
        available=value("boolean", "Whether it can be used."), reason=value("string", "What it lacks."),
        breakers=value("object", "Models that fail and are left alone for now: `open` or `half-open`.")),
    "Health": record("The process lives.", status={"const": "ok"}, version=value("string", "The version.")),
    "Ready": record("Requests can be served.", status={"const": "ready"}, provider=value("string", "The default.")),
}
# fmt: on
