"""What the emulated OCI refuses although it has the right shape: as live traffic shows it, by the accounts of others
(langchain-oracle, litellm, OCI_GenAI_access_gateway).
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from tests.emulators.oci.fields import Misshapen, check
from tests.emulators.oci.lists import COMPARTMENTS, MODEL_OF, OFFERED, Denied
from tests.emulators.rules import misheaded

SHAPE = "Please pass in correct format of request."
COHERE_TOKENS = 4000
INPUTS = 96
WORDS = 512
PYTHON_TYPES = re.compile(r"(str|int|float|bool|list|dict|List\[\w+\]|Dict\[\w+, ?\w+\])\Z")
DATA_URL = re.compile(r"data:image/\w+;base64,[A-Za-z0-9+/=]+\Z")
SIGHTED = re.compile(
    r"(meta\.llama-(4|3\.2-\d+b-vision)|xai\.grok-4|google\.|openai\.gpt-(4|5)|cohere\.command-a-vision)"
)
NO_REFERENCES = ("meta.", "google.")
ID_CHARACTERS = 40
NOT_TO_BE_STOPPED = re.compile(r"meta\.|xai\.|openai\.gpt|google\.gemini-2\.5-pro")
"""Models that do not think, or cannot be told not to."""
DIMENSIONS = (256, 512, 1024, 1536)


def wrong(message: str = SHAPE, detail: str = "") -> Denied:
    """A 400 of the inference service, which gives the status as the code."""
    return Denied(400, "400", message, detail)


def doubled(message: str, param: str, code: str) -> str:
    """OpenAI's own error, as the text of OCI's."""
    return json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}})


def family(model: str) -> str:
    """The API style that a model answers to."""
    if not model.startswith("cohere."):
        return "GENERIC"
    return "COHEREV2" if re.search("vision|reasoning", model) else "COHERE"


def check_place(details: Mapping[str, Any]) -> str:
    """The model's name, "" at a dedicated endpoint."""
    if details["compartmentId"] not in COMPARTMENTS:
        message = "Authorization failed or requested resource not found."
        raise Denied(404, "NotAuthorizedOrNotFound", message, f"compartment {details['compartmentId']}")
    mode = details["servingMode"]
    if mode["servingType"] == "DEDICATED":
        if mode["endpointId"] not in MODEL_OF:
            raise Denied(404, "404", f"Entity with key {mode['endpointId']} not found")
        return ""
    if mode["modelId"] not in OFFERED:
        raise Denied(404, "404", f"Entity with key {mode['modelId']} not found")
    return str(mode["modelId"])


def check_shape(details: Any, kind: str) -> None:
    """Raises Denied for a field that the oci package does not know, or knows otherwise."""
    try:
        check(details, kind)
    except Misshapen as error:
        raise wrong(detail=str(error)) from error


def check_chat(details: Mapping[str, Any]) -> None:
    """Raises Denied for what is refused in ChatDetails."""
    model, request = check_place(details), details["chatRequest"]
    if model and request["apiFormat"] != family(model):
        raise wrong(
            "Chat request's apiFormat must match serving model's base type.", f"{model}: {request['apiFormat']}"
        )
    if "streamOptions" in request and not request.get("isStream"):
        raise wrong(detail="streamOptions without isStream")
    if request.get("tools") == []:
        raise wrong(detail="tools: []")
    {"GENERIC": _check_generic, "COHERE": _check_cohere, "COHEREV2": _check_v2}[request["apiFormat"]](model, request)


def _check_generic(model: str, request: Mapping[str, Any]) -> None:
    if not request.get("messages"):
        raise wrong("messages must not be empty.")
    if re.match(r"openai\.(gpt-5|o\d)", model) and "maxTokens" in request:
        message = "Unsupported parameter: 'max_tokens' is not supported with this model."
        raise wrong(doubled(message, "max_tokens", "unsupported_parameter"))
    if request.get("reasoningEffort") == "NONE" and NOT_TO_BE_STOPPED.match(model):
        raise wrong(doubled("Unsupported parameter: 'reasoning_effort'.", "reasoning_effort", "unsupported_parameter"))
    if model.startswith("google."):
        _check_pairs(request["messages"])
    _check_tool_ids([call["id"] for call in _calls(request)], request["messages"])
    for message in request["messages"]:
        _check_pictures(model, message)
        if any(len(call["id"]) > ID_CHARACTERS for call in message.get("toolCalls", [])):
            raise wrong(doubled("Invalid 'messages[1].tool_calls[0].id': string too long.", "messages", "too_long"))
        if message["role"] != "ASSISTANT" and not message.get("content"):
            raise wrong(detail=f"{message['role']} without content")
    _check_generic_tools(model, request)


def _check_generic_tools(model: str, request: Mapping[str, Any]) -> None:
    names = [tool.get("name") for tool in request.get("tools", [])]
    choice = request.get("toolChoice", {})
    if choice and not names:
        raise wrong("toolChoice is only allowed when tools are specified.")
    if choice.get("type") == "FUNCTION" and choice.get("name") not in names:
        raise wrong(f"toolChoice names {choice.get('name')}, which is not among the tools.")
    for tool in request.get("tools", []):
        banned = set(_keywords(tool.get("parameters", {}))) & {"$ref", "$defs", "anyOf"}
        if banned and model.startswith(NO_REFERENCES):
            raise wrong(detail=f"{tool['name']}: {banned}")
        if error := misheaded(tool.get("parameters", {"type": "object"})):
            raise wrong(error)
        if model.startswith("google.") and not re.match("[A-Za-z_]", tool["name"]):
            raise wrong("Invalid function name. Must start with a letter or an underscore.")


def _check_pairs(messages: list[dict[str, Any]]) -> None:
    """Gemini's backend wants a result behind each call, an assistant that speaks, and the user first and last."""
    spoken = [message["role"] for message in messages if message["role"] not in ("SYSTEM", "DEVELOPER")] or ["NOBODY"]
    if spoken[0] != "USER" or spoken[-1] not in ("USER", "TOOL"):
        raise wrong("Please ensure that multiturn requests begin and end with a user role.")
    for message, after in pairwise([*messages, {}]):
        calls = message.get("toolCalls", [])
        if len(calls) > 1 or (calls and after.get("toolCallId") != calls[0]["id"]):
            rule = "the number of function response parts is equal to the number of function call parts"
            raise wrong(f"Please ensure that {rule} of the function call turn.")
        if calls and not "".join(part.get("text", "") for part in message.get("content", [])):
            raise Denied(500, "500", "Internal error occurred")


def _check_cohere(_: str, request: Mapping[str, Any]) -> None:
    if request.get("maxTokens", 0) > COHERE_TOKENS:
        raise wrong(f"maxTokens must be less than or equal to {COHERE_TOKENS}.")
    results = request.get("toolResults")
    if request["message"] and results and not request.get("isForceSingleStep"):
        raise wrong("cannot specify both message and tool_results in multistep mode.")
    if not request["message"] and not results:
        raise wrong("message must be at least 1 token long.")
    names = {tool["name"] for tool in request.get("tools", [])}
    for result in results or ():
        if result["call"]["name"] not in names:
            raise wrong(f"toolResults of {result['call']['name']}, which is not among the tools.")
        if not all(isinstance(output, dict) for output in result["outputs"]):
            raise wrong(detail="outputs that are no objects")
    for tool in request.get("tools", []):
        for name, parameter in tool.get("parameterDefinitions", {}).items():
            if not PYTHON_TYPES.match(parameter["type"]):
                raise wrong(detail=f"{tool['name']}.{name}: {parameter['type']} is no type of Python's")


def _check_v2(model: str, request: Mapping[str, Any]) -> None:
    if not request["messages"]:
        raise wrong("messages must not be empty.")
    _check_tool_ids([call["id"] for call in _calls(request)], request["messages"])
    for message in request["messages"]:
        _check_pictures(model, message)
    if "toolsChoice" in request and not request.get("tools"):
        raise wrong("toolsChoice is only allowed when tools are specified.")
    for call in _calls(request):
        if not isinstance(call["function"].get("arguments"), str):
            raise wrong(detail="arguments that are no text")


def _calls(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [call for message in request["messages"] for call in message.get("toolCalls", [])]


def _check_tool_ids(called: list[str], messages: list[dict[str, Any]]) -> None:
    if len(set(called)) < len(called):
        raise wrong(detail=f"call ids that are not unique: {called}")
    for message in messages:
        if message["role"] == "TOOL" and message.get("toolCallId") not in called:
            raise wrong("toolCallId not found in previous tool calls.")


def _check_pictures(model: str, message: Mapping[str, Any]) -> None:
    pictures = [part for part in message.get("content", []) if part["type"] in ("IMAGE", "IMAGE_URL")]
    if pictures and model and not SIGHTED.match(model):
        raise wrong(f"{model} does not support image content.")
    if any("url" not in part.get("imageUrl", {}) for part in pictures):
        raise wrong(detail="an image without its url")


def _keywords(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            yield key
            yield from _keywords(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _keywords(value)


def check_embed(details: Mapping[str, Any]) -> None:
    """Raises Denied for what is refused in EmbedTextDetails."""
    model = check_place(details)
    if model and ".embed-" not in model:
        raise wrong(f"{model} does not support embeddings.")
    contents, inputs = details.get("embedContents", []), details.get("inputs", [])
    if bool(contents) == bool(inputs) or len(inputs) + len(contents) > INPUTS:
        raise wrong(f"inputs must have at least 1 and at most {INPUTS} entries.")
    if contents and "v4" not in model:
        raise wrong("embedContents is only supported for embed v4 models.")
    if details.get("inputType") == "IMAGE":
        if len(inputs) != 1 or not DATA_URL.match(inputs[0]):
            raise wrong("inputType IMAGE takes one image, as a data URI.")
        if "image" not in model and "v4" not in model:
            raise wrong(f"{model} does not support images.")
    elif details.get("truncate", "NONE") == "NONE" and any(len(text.split()) > WORDS for text in inputs):
        raise wrong(f"Input is longer than {WORDS} tokens; use truncate START or END.")
    if "outputDimensions" in details and ("v4" not in model or details["outputDimensions"] not in DIMENSIONS):
        raise wrong(f"outputDimensions {details['outputDimensions']} is not supported for {model}.")


def check_rerank(details: Mapping[str, Any]) -> None:
    """Raises Denied for what is refused in RerankTextDetails."""
    model = check_place(details)
    if model and ".rerank" not in model:
        raise wrong(f"{model} does not support rerank.")
    if not details["documents"] or details.get("topN", 1) < 1:
        raise wrong("documents must not be empty.")


def check_guardrails(details: Mapping[str, Any]) -> None:
    """Raises Denied for what is refused in ApplyGuardrailsDetails."""
    if details["compartmentId"] not in COMPARTMENTS:
        raise Denied(404, "NotAuthorizedOrNotFound", "Authorization failed or requested resource not found.")
    if not details.get("input", {}).get("content") or not details["guardrailConfigs"]:
        raise wrong("input and guardrailConfigs must not be empty.")
