"""What OpenAI's dialect and the others have in common, once: pure functions, from a caller's JSON to simpler values.

They raise InvalidRequest and Unsupported that name the field, where nothing sensible can be made of what was given.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from errors import InvalidRequest, Unsupported
from events import Image

DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=[\w.+-]+)*;base64,([A-Za-z0-9+/=_\s-]*)\Z", re.IGNORECASE)
DEPTH = 30
"""How deep a schema's references are followed: one that refers to itself has no end."""

Json = dict[str, Any]


def parts(content: Any) -> list[Json]:
    """A message's content as a list of parts: none for null, one of text for a string."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content or ())


def text(content: Any, where: str) -> str:
    """The content's text, for a place that takes nothing else. `where` is the message: `messages[2]`."""
    pieces = []
    for at, part in enumerate(parts(content)):
        kind = part["type"]
        if kind not in ("text", "input_text", "refusal"):
            raise Unsupported(f"A part of type {kind!r} cannot be sent there.", param=f"{where}.content[{at}]")
        pieces.append(str(part.get("refusal" if kind == "refusal" else "text") or ""))
    return "".join(pieces)


def data_url(url: str) -> tuple[str, str] | None:
    """Media type and base64 of a data: URL; None for another kind of URL."""
    found = DATA_URL.match(url)
    return (found[1].lower(), "".join(found[2].split())) if found else None


def image_url(part: Mapping[str, Any], where: str) -> tuple[str, str]:
    """URL and detail ("" when not given) of an image part, whichever way it is written."""
    image = part.get("image_url")
    url, detail = (image.get("url"), image.get("detail")) if isinstance(image, dict) else (image, part.get("detail"))
    if not isinstance(url, str) or not url:
        raise InvalidRequest("An image part needs `image_url`, an object with a `url`.", param=f"{where}.image_url")
    if url[:5].lower() == "data:" and data_url(url) is None:
        raise InvalidRequest("A data: URL must be data:TYPE;base64,...", param=f"{where}.image_url.url")
    return url, detail if isinstance(detail, str) else ""


def no_images(inputs: Sequence[object], name: str) -> None:
    """Raise Unsupported for a picture among the inputs of an embeddings request."""
    for at, each in enumerate(inputs):
        if isinstance(each, Image):
            raise Unsupported(f"{name} embeds no pictures.", param=f"input[{at}]")


def functions(tools: Sequence[Mapping[str, Any]]) -> list[Json]:
    """The declared functions: {name, description?, parameters?, strict?}. Tools of other types are passed over."""
    declared = []
    for at, tool in enumerate(tools):
        function = tool.get("function")
        if tool.get("type", "function") != "function":
            continue
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidRequest("A tool needs a `function` with a `name`.", param=f"tools[{at}].function.name")
        declared.append(function)
    return declared


def arguments(call: Mapping[str, Any], where: str) -> Json:
    """The arguments of an assistant's tool call as an object; {} for an empty text."""
    given = (call.get("function") or {}).get("arguments")
    try:
        value = orjson.loads(given) if isinstance(given, str) and given.strip() else given or {}
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise InvalidRequest("The arguments of a call must be the JSON text of an object.", param=where)
    return value


def inlined(schema: Any) -> Any:
    """A JSON schema without `$ref`, `$defs`, `definitions` and `$schema`: what they refer to stands in its place.

    A schema that refers to itself ends in `{"type": "object"}`. Raises InvalidRequest for a reference to nothing.
    """
    return _inlined(schema, schema, 0)


def _inlined(value: Any, root: Any, depth: int) -> Any:
    if isinstance(value, list):
        return [_inlined(each, root, depth) for each in value]
    if not isinstance(value, dict):
        return value
    reference = value.get("$ref")
    if isinstance(reference, str):
        if depth >= DEPTH:
            return {"type": "object"}
        beside = {key: each for key, each in value.items() if key != "$ref"}
        return _inlined({**_referred(reference, root), **beside}, root, depth + 1)
    kept = {key: each for key, each in value.items() if key not in ("$defs", "definitions", "$schema")}
    return {key: _inlined(each, root, depth) for key, each in kept.items()}


def _referred(reference: str, root: Any) -> Json:
    found = root
    for step in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    if not reference.startswith("#") or not isinstance(found, dict):
        raise InvalidRequest(f"The schema refers to {reference!r}, which it does not have.", param="tools")
    return found
