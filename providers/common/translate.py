"""Conversions from OpenAI's dialect to simpler values, shared by all dialects. Pure functions.

They raise InvalidRequest and Unsupported that name the field.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from logging import getLogger
from math import isnan
from typing import Any, Literal

from core.errors import InvalidRequest, Unsupported
from core.events import Picture
from core.json_values import Json
from core.requests import ChatRequest, Image
from providers.common.json_schema import parameters

log = getLogger("thinkline.providers")

DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=[\w.+-]+)*;base64,([A-Za-z0-9+/=_\s-]*)\Z", re.IGNORECASE)


def tool_choice(request: ChatRequest) -> tuple[Literal["auto", "none", "required"], tuple[str, ...]]:
    """The mode of tool calls, and the names of the only callable tools: () for all.

    A named tool is required, and the only one; `allowed_tools` names several. Raises InvalidRequest.
    """
    choice = request.tool_choice
    mode: Any = choice
    names: list[Any] = []
    if isinstance(choice, Mapping):
        allowed = choice.get("allowed_tools")
        tools = allowed.get("tools") if isinstance(allowed, dict) else [choice]
        mode = allowed.get("mode", "auto") if isinstance(allowed, dict) else "required"
        names = [_tool_name(tool) for tool in tools] if isinstance(tools, list) else []
        known = [function["name"] for function in declared_functions(request.tools)]
        if not names or not all(name in known for name in names):
            raise InvalidRequest("It names a tool that is not among `tools`.", param="tool_choice")
    if mode not in ("auto", "none", "required"):
        raise InvalidRequest("It must be none, auto, required, or name a tool.", param="tool_choice")
    return mode, tuple(names)


def _tool_name(tool: Any) -> Any:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    return function.get("name") if isinstance(function, dict) else None


def response_format(request: ChatRequest) -> tuple[Literal["text", "json_object", "json_schema"], Json]:
    """The `response_format`, and its `json_schema`: {name?, schema, strict?}, {} for others. Raises InvalidRequest."""
    wanted = request.body.get("response_format") or {"type": "text"}
    kind, given = wanted.get("type"), wanted.get("json_schema")
    if kind not in ("text", "json_object", "json_schema"):
        raise InvalidRequest("It must be text, json_object or json_schema.", param="response_format.type")
    if kind != "json_schema":
        return kind, {}
    if not isinstance(given, dict) or not isinstance(given.get("schema"), dict):
        raise InvalidRequest("It needs a `json_schema` with a `schema`.", param="response_format.json_schema")
    return kind, given


def require_text_output(request: ChatRequest, name: str, besides: str = "") -> None:
    """Raise Unsupported if the request wants a kind of output besides text that is not among `besides`."""
    if set(request.body.get("modalities") or ()) - {"text", besides}:
        raise Unsupported(f"{name} answers in text {f'and {besides} ' if besides else ''}alone.", param="modalities")


def content_parts(content: Any) -> list[Json]:
    """A message's content as a list of parts: empty for null, one of text for a string."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content or ())


def content_text(content: Any, where: str) -> str:
    """The content's text, where only text is supported. `where` is the message: `messages[2]`."""
    pieces = []
    for at, part in enumerate(content_parts(content)):
        kind = part["type"]
        if kind not in ("text", "input_text", "refusal"):
            raise Unsupported(f"A part of type {kind!r} is not taken in this place.", param=f"{where}.content[{at}]")
        pieces.append(str(part.get("refusal" if kind == "refusal" else "text") or ""))
    return "".join(pieces)


def parse_data_url(url: str) -> tuple[str, str] | None:
    """Media type and base64 of a data: URL; None for another kind of URL."""
    found = DATA_URL.match(url)
    return (found[1].lower(), "".join(found[2].split())) if found else None


def image_url(part: Mapping[str, Any], where: str) -> tuple[str, str]:
    """URL and detail ("" if not given) of an image part, in either form."""
    image = part.get("image_url")
    url, detail = (image.get("url"), image.get("detail")) if isinstance(image, dict) else (image, part.get("detail"))
    if not isinstance(url, str) or not url:
        raise InvalidRequest("An image part needs `image_url`, an object with a `url`.", param=f"{where}.image_url")
    if url[:5].lower() == "data:" and parse_data_url(url) is None:
        raise InvalidRequest("A data: URL must be data:TYPE;base64,...", param=f"{where}.image_url.url")
    return url, detail if isinstance(detail, str) else ""


def reject_images(inputs: Sequence[object], name: str) -> None:
    """Raise Unsupported for an image among the inputs of an embeddings request."""
    for at, each in enumerate(inputs):
        if isinstance(each, Image):
            raise Unsupported(f"{name} embeds no pictures.", param=f"input[{at}]")


def declared_functions(tools: Sequence[Mapping[str, Any]]) -> list[Json]:
    """The declared functions: {name, description?, parameters, strict?}, with the tool's cache_control, if any.
    Their parameters have an object at the top, or are {}.

    Tools of other types are left out.
    """
    declared = []
    for at, tool in enumerate(tools):
        function = tool.get("function")
        if tool.get("type", "function") != "function":
            continue
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidRequest("A tool needs a `function` with a `name`.", param=f"tools[{at}].function.name")
        if not isinstance(function.get("parameters") or {}, dict):
            raise InvalidRequest("They must be a JSON schema.", param=f"tools[{at}].function.parameters")
        if not isinstance(function.get("description") or "", str):
            raise InvalidRequest("It must be a string.", param=f"tools[{at}].function.description")
        schema, hint = parameters(function)
        described = " ".join(each for each in (function.get("description"), hint) if each)
        declared.append(
            {
                **function,
                "parameters": schema,
                **({"description": described} if described else {}),
                **{key: tool[key] for key in ("cache_control",) if key in tool},
            }
        )
    return declared


def fit_id(identifier: str, allowed: re.Pattern[str]) -> str:
    """A call's id as the vendor allows it: unchanged, or 29 characters derived from it, unique to it."""
    return identifier if allowed.fullmatch(identifier) else f"call_{sha256(identifier.encode()).hexdigest()[:24]}"


def capped_max_tokens(request: ChatRequest, most: int | None) -> int | None:
    """The answer's limit in tokens: the caller's, but at most `most`."""
    wanted = request.max_tokens
    return wanted if most is None or wanted is None else min(wanted, most)


def require_text(value: Any) -> str:
    """A required text from an upstream. Raises TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} instead of a text")
    return value


def require_name(value: Any) -> str:
    """A required name from an upstream. Raises TypeError or ValueError for anything else."""
    if not require_text(value):
        raise ValueError("an empty name")
    return str(value)


def integer(value: Any) -> int:
    """A number from an upstream as an integer; 0 for anything else. Raises ValueError beyond 64 bits."""
    if type(value) is int and -(2**63) < value < 2**63:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (isinstance(value, float) and isnan(value)):
        return 0
    if not abs(value) < 2**63:
        raise ValueError(f"{value!r} has no room in 64 bits")
    return int(value)


def token_count(value: Any) -> int:
    """A count from an upstream; 0 for anything else. Raises ValueError beyond 64 bits."""
    return max(0, integer(value))


class Pictures:
    """The images in an answer: events if the request's `modalities` has them (`wanted`), else a line in the log."""

    def __init__(self, request: ChatRequest | None = None) -> None:
        self.wanted = request is not None and "image" in (request.body.get("modalities") or ())
        self._dropped: set[int] = set()

    def pictures(self, images: Iterable[Any], choice: int = 0) -> Iterator[Picture]:
        """Events of OpenRouter's `images`: [{"type": "image_url", "image_url": {"url": ...}}]."""
        for image in images:
            yield from self.take(require_text(image["image_url"]["url"]), choice)

    def take(self, url: str, choice: int = 0) -> Iterator[Picture]:
        """The event of one image, by its URL."""
        if self.wanted:
            yield Picture(url, choice)
        else:
            self._dropped.add(choice)
            kind = url[:40].partition(";")[0]
            log.debug("a picture is not sent on", extra={"facts": {"picture": kind, "characters": len(url)}})

    def check(self, choice: int = 0, *, has_content: bool) -> None:
        """At the end of a choice: raise Unsupported if it has nothing but an image that the request does not want."""
        if choice in self._dropped and not has_content:
            raise Unsupported(
                'The model answered with a picture alone; ask for it with `modalities`: ["text", "image"].',
                param="modalities",
            )
