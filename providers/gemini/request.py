"""A chat request in Gemini's dialect. Pure. https://ai.google.dev/api/generate-content

A thought signature (https://ai.google.dev/gemini-api/docs/thought-signatures) comes with a function call, and Gemini 3
refuses a history without it. OpenAI's clients do not send it back, so it is stored, shared by all replicas, under a new
id that the call gets (thought_signatures.py). Without a store the id itself carries it. If it is lost, or another
model made the call, Google's own placeholder is sent instead. Signatures of texts are optional for Gemini, and are
dropped.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from mimetypes import guess_type
from typing import Any
from urllib.parse import urlsplit

import orjson

from core.errors import InvalidRequest, Unsupported
from core.json_values import Json
from core.requests import ChatRequest
from providers.base import Target
from providers.common.conversation import GO_ON, OPENING, Message, conversation, instructions, merge_same_role
from providers.common.json_schema import inline_references
from providers.common.translate import (
    capped_max_tokens,
    content_text,
    declared_functions,
    image_url,
    parse_data_url,
    require_text_output,
    response_format,
    tool_choice,
)

Recall = Callable[[str], tuple[str, str]]
"""A call's id in the caller's history -> its id at Gemini, and its thought signature, "" for none."""

MOST_STOPS = 5
SETTINGS: Mapping[str, str] = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
"""Parameters that only have another name, in generationConfig."""
PENALTIES: Mapping[str, str] = {"presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty"}
"""The same, for models before 2.5: newer ones answer with a 400, "Penalty is not enabled for this model"."""
SUPPORTED_PARAMETERS = frozenset(
    {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "stop", "n", "modalities"}
    | {"tools", "tool_choice", "functions", "function_call", "response_format", *SETTINGS}
)
"""Parameters that every model supports."""
BESIDE = frozenset(
    {"contents", "systemInstruction", "tools", "toolConfig", "safetySettings", "cachedContent", "serviceTier", "store"}
)
"""Fields beside generationConfig, not in it."""

MODES = {"none": "NONE", "auto": "AUTO", "required": "ANY"}
AUDIO_TYPES = {"wav": "audio/wav", "mp3": "audio/mp3"}

# https://ai.google.dev/gemini-api/docs/openai and /thinking; thinking of 2.5 Pro cannot be turned off.
BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576}
LEAST_PRO_BUDGET = 128
LEVELS = {
    "none": "MINIMAL", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "HIGH",
}  # fmt: skip

NEWEST = (99, 0)

STAND_IN = "skip_thought_signature_validator"
"""Google's placeholder for a missing signature."""


def version(model: str) -> tuple[int, int]:
    """(3, 1) of gemini-3.1-pro-preview, NEWEST of gemini-flash-latest, (0, 0) of another name."""
    found = re.search(r"(?:^|/)gemini-(?:(\d+)(?:\.(\d+))?|.*latest)", model)
    if found is None:
        return (0, 0)
    return (int(found[1]), int(found[2] or 0)) if found[1] else NEWEST


def thinks_by(model: str) -> str:
    """How a model's thinking is set: by "level" (Gemini 3 and later), by "budget" (2.5), "" for not at all."""
    if re.search(r"image|tts|audio|live|embedding", model):
        return ""
    return "level" if version(model) >= (3, 0) else "budget" if version(model) >= (2, 5) else ""


def supported_parameters(model: str) -> frozenset[str]:
    """The parameters that a model supports."""
    thinking = {"reasoning_effort"} if thinks_by(model) else set()
    return SUPPORTED_PARAMETERS | thinking | (PENALTIES.keys() if version(model) < (2, 5) else set())


def asks_by_tool(request: ChatRequest, target: Target) -> bool:
    """Whether only a tool can hold the answer to the format: models before 3 accept no format beside tools
    (https://ai.google.dev/gemini-api/docs/structured-output).
    """
    wanted = response_format(request)[0] != "text" and request.body.get("n", 1) == 1
    return wanted and bool(request.tools) and version(target.model) < (3, 0)


def to_upstream(request: ChatRequest, target: Target, recall: Recall) -> Json:
    """The body of generateContent and streamGenerateContent. Raises InvalidRequest and Unsupported.

    The target's rules use Gemini's own names, for parameters in generationConfig and beside it.
    """
    require_text_output(request, target.provider.name, "image")
    body: Json = {"contents": _contents(request, target.model, recall)}
    if system := instructions(request.messages):
        body["systemInstruction"] = {"parts": [{"text": content_text([part], "messages")} for part in system]}
    body |= _tools(request)
    body |= _config(request, target)
    changed = target.rules.apply(body)
    config = {key: changed.pop(key) for key in changed.keys() - BESIDE}
    return {**changed, "generationConfig": config} if config else changed


def _contents(request: ChatRequest, model: str, recall: Recall) -> list[Json]:
    """The user is first, and last: newer models refuse a conversation that ends with the model."""
    turns = conversation(request.messages)
    for at, turn in enumerate(turns):  # results in the order of their calls, which pairs them without ids
        call_ids, after = [use.id for use in turn.calls], at + 1
        turns[after : after + len(call_ids)] = sorted(
            turns[after : after + len(call_ids)], key=lambda result: call_ids.index(result.answers)
        )
    newer = version(model) >= (3, 0)
    known = {use.id: recall(use.id) for turn in turns for use in turn.calls}
    contents = [("model" if turn.role == "assistant" else "user", list(_parts(turn, known, newer))) for turn in turns]
    if not contents or contents[0][0] == "model":
        contents.insert(0, ("user", [{"text": OPENING}]))
    if contents[-1][0] == "model":
        contents.append(("user", [{"text": GO_ON}]))
    return [{"role": role, "parts": parts} for role, parts in merge_same_role(contents)]


def _parts(turn: Message, known: Mapping[str, tuple[str, str]], newer: bool) -> Iterator[Json]:
    """Since Gemini 3 calls and results have ids, and calls must have signatures."""
    if turn.role == "tool":
        identified = {"id": known[turn.answers][0]} if newer else {}
        yield {"functionResponse": {**identified, "name": turn.name, "response": _result(_text(turn))}}
        return
    for where, part in turn.parts:
        yield _part(part, where)
    for number, use in enumerate(turn.calls):
        identifier, signature = known[use.id]
        identified = {"id": identifier} if newer else {}
        call = {"functionCall": {**identified, "name": use.name, "args": use.arguments}}
        # Of parallel calls only the first has a signature.
        signature = signature or (STAND_IN if newer and number == 0 else "")
        yield {**call, "thoughtSignature": signature} if signature else call


def _text(turn: Message) -> str:
    return content_text([part for _, part in turn.parts], turn.at)


def _result(text: str) -> Json:
    """A result must be an object; any other goes under `output`, as the API's page says."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = text
    return value if isinstance(value, dict) else {"output": value}


def _part(part: Mapping[str, Any], where: str) -> Json:
    match part["type"]:
        case "text" | "input_text" | "refusal":
            return {"text": content_text([part], where)}
        case "image_url":
            url, _ = image_url(part, where)
            return _inline(url) or {"fileData": {**_guess_media_type(url), "fileUri": url}}
        case "input_audio":
            audio = part.get("input_audio") or {}
            if not isinstance(audio.get("data"), str) or audio.get("format") not in AUDIO_TYPES:
                raise InvalidRequest(
                    "Audio needs its `data`, and wav or mp3 as `format`.", param=f"{where}.input_audio"
                )
            return {"inlineData": {"mimeType": AUDIO_TYPES[audio["format"]], "data": audio["data"]}}
        case "file":
            if found := _inline(str((part.get("file") or {}).get("file_data"))):
                return found
            raise Unsupported("A file must come as `file_data`, data:TYPE;base64,...", param=f"{where}.file")
        case kind:
            raise Unsupported(f"A part of type {kind!r} cannot be sent to Gemini.", param=where)


def _inline(url: str) -> Json | None:
    found = parse_data_url(url)
    return {"inlineData": {"mimeType": found[0], "data": found[1]}} if found else None


def _guess_media_type(url: str) -> Json:
    kind = guess_type(urlsplit(url).path)[0]
    return {"mimeType": kind} if kind else {}


def _tools(request: ChatRequest) -> Json:
    mode, names = tool_choice(request)
    declared = [
        {key: each[key] for key in ("name", "description") if each.get(key)}
        | ({"parametersJsonSchema": inline_references(each["parameters"])} if each.get("parameters") else {})
        for each in declared_functions(request.tools)
    ]
    if not declared:
        return {}
    tools: Json = {"tools": [{"functionDeclarations": declared}]}
    if names:
        # AUTO takes no names; VALIDATED is AUTO with names.
        config = {"mode": "VALIDATED" if mode == "auto" else MODES[mode], "allowedFunctionNames": list(names)}
        return {**tools, "toolConfig": {"functionCallingConfig": config}}
    return tools if mode == "auto" else {**tools, "toolConfig": {"functionCallingConfig": {"mode": MODES[mode]}}}


def _config(request: ChatRequest, target: Target) -> Json:
    """The contents of generationConfig."""
    names = SETTINGS if version(target.model) >= (2, 5) else {**SETTINGS, **PENALTIES}
    config: Json = {theirs: request.body[ours] for ours, theirs in names.items() if ours in request.body}
    if not config.get("responseLogprobs"):
        config.pop("logprobs", None)
    most = capped_max_tokens(request, target.max_tokens)
    if most is not None:
        config["maxOutputTokens"] = most
    if request.body.get("n", 1) > 1:
        config["candidateCount"] = request.body["n"]
    if len(request.stop) > MOST_STOPS:
        raise Unsupported(f"Gemini takes at most {MOST_STOPS} stop sequences.", param="stop")
    if request.stop:
        config["stopSequences"] = request.stop
    if "image" in (modalities := request.body.get("modalities") or ()):
        config["responseModalities"] = [each.upper() for each in modalities]
    kind, described = response_format(request)
    if kind != "text":
        config["responseMimeType"] = "application/json"
    if described:
        config["responseJsonSchema"] = inline_references(described["schema"])
    if thinking := _thinking(request, target.model):
        config["thinkingConfig"] = thinking
    return config


def _thinking(request: ChatRequest, model: str) -> Json:
    way, effort = thinks_by(model), request.body.get("reasoning_effort")
    config: Json = {"includeThoughts": True} if way and request.include_reasoning else {}
    if way == "budget" and effort in BUDGETS:
        config["thinkingBudget"] = max(BUDGETS[effort], LEAST_PRO_BUDGET if "-pro" in model else 0)
    elif way == "level" and effort in LEVELS:
        config["thinkingLevel"] = _level(LEVELS[effort], model)
    return config


def _level(level: str, model: str) -> str:
    """The nearest level of a model: Pro and, since 3.7, Flash have no MINIMAL, 3 Pro no MEDIUM either."""
    minimal = "flash-lite" in model or ("flash" in model and version(model) < (3, 7))
    if level == "MINIMAL" and not minimal:
        return "LOW"
    return "HIGH" if level == "MEDIUM" and "gemini-3-pro" in model else level
