"""Finds the field that an upstream refuses, and whether it is a parameter that may be left out.

OpenAI, Azure   {"error": {"message", "code": "unsupported_value" | "unsupported_parameter", "param"}}
FastAPI         {"detail": [{"type", "loc": ["body", "temperature"], "msg"}]}, also within a `message`, or as its text
others          a sentence: "Model grok-4 does not support parameter presencePenalty."
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

TUNING = (
    "temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "seed",
    "random_seed", "stop", "logit_bias", "logprobs", "top_logprobs", "max_tokens", "max_completion_tokens",
    "reasoning_effort", "verbosity", "parallel_tool_calls", "service_tier", "store", "metadata", "user",
    "safety_identifier", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "prediction",
    "stream_options",
)  # fmt: skip
"""Parameters that tune how an answer is generated; the request keeps its meaning without them."""
PLAIN_WORDS = frozenset({"seed", "stop", "store", "metadata", "user", "prediction", "verbosity"})
"""Those that are also plain words: a sentence means the parameter only if it says so."""


def _bare(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


NAMES: Mapping[str, str] = {
    **{_bare(name): name for name in TUNING},
    "maxoutputtokens": "max_tokens",
    "stopsequences": "stop",
    "thinkinglevel": "reasoning_effort",
    "thinkingbudget": "reasoning_effort",
    "randomseed": "seed",
}
"""The letters of a parameter, which all its spellings (topP, top-p) have in common -> OpenAI's name."""

REFUSES_FIELD = frozenset({"unsupported_value", "unsupported_parameter", "unknown_parameter"})
FORBIDDEN = frozenset({"extra_forbidden", "value_error.extra"})
"""The codes of a refusal of the field itself: OpenAI's, and pydantic's."""
REFUSES = re.compile(
    r"(?i)not (be )?(supported|permitted|allowed|enabled|available)|unsupported|does(n't| not) (support|allow)|"
    r"un(known|recognized|expected) |cannot find field|deprecated"
)
BOUNDS = re.compile(
    r"(?i)\b(must|should|range|between|maximum|minimum|exceeds?|at (most|least)|(less|greater|more) than|too \w+)\b"
)
"""A sentence about the value, which the caller must correct."""
BOUNDS_CODE = re.compile(r"(?i)range|above|below|max|min|type|length|context")
CONTENT = re.compile(r"(?i)\b(messages?|tools?|functions?|schemas?|response_format|images?|content|properties)\b")
"""A sentence about the content, such as a tool's property, which may have the name of a parameter."""
NAMED = re.compile(r"(?i)[`'\"](?P<quoted>[\w.-]+)[`'\"]|(?:parameters?|arguments?|property|field):? +(?P<after>\w+)")
WORD = re.compile(r"[A-Za-z][A-Za-z_]+")


def validation(error: Mapping[str, Any]) -> dict[str, Any]:
    """A validator's messages as OpenAI's error object, with `refused`, the parameters that are not supported; {} if
    there are none.
    """
    found = next((each for key in ("detail", "message") if (each := _complaints(error.get(key)))), [])
    if not found:
        return {}
    paths = [_path(each.get("loc")) for each in found]
    forbidden = [str(each.get("type")) in FORBIDDEN or _forbids(str(each.get("msg"))) for each in found]
    sentences = [
        f"{path}: {each.get('msg')}" if path else str(each.get("msg")) for path, each in zip(paths, found, strict=True)
    ]
    refused = [NAMES.get(_bare(path)) for path, each in zip(paths, forbidden, strict=True) if each and "." not in path]
    return {
        "message": "; ".join(sentences),
        "param": paths[0] or None,
        "code": "unsupported_parameter" if forbidden[0] else "invalid_value",
        "refused": [name for name in refused if name],
    }


def _complaints(given: Any) -> list[Mapping[str, Any]]:
    if isinstance(given, str) and given[:1] in ("[", "{"):
        try:
            given = orjson.loads(given)
        except orjson.JSONDecodeError:
            return []
    if isinstance(given, dict):
        given = given.get("detail")
    return [each for each in given if isinstance(each, dict) and "msg" in each] if isinstance(given, list) else []


def _path(loc: Any) -> str:
    """["body", "messages", 0, "user"] -> messages[0].user"""
    if not isinstance(loc, list):
        return ""
    steps = loc[1:] if loc[:1] == ["body"] else loc
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def _forbids(sentence: str) -> bool:
    return bool(REFUSES.search(sentence)) and not BOUNDS.search(sentence)


def refused_parameters(details: Mapping[str, Any], sentence: str) -> tuple[str, ...]:
    """The tuning parameters that an error object refuses as such, by OpenAI's names; none for a value out of range or
    another field. `sentence` is its message.
    """
    if isinstance(refused := details.get("refused"), list):
        return tuple(name for name in refused if name in TUNING)
    code, param = str(details.get("code") or ""), details.get("param")
    if isinstance(param, str) and param:
        name = NAMES.get(_bare(param)) if "[" not in param else None
        refuses = code in REFUSES_FIELD or (_forbids(sentence) and not BOUNDS_CODE.search(code))
        return (name,) if name and refuses else ()
    if not _forbids(sentence) or BOUNDS_CODE.search(code) or CONTENT.search(sentence):
        return ()
    named = [NAMES.get(_bare(found["quoted"] or found["after"])) for found in NAMED.finditer(sentence)]
    words = [NAMES.get(_bare(word)) for word in WORD.findall(sentence)]
    loose = [name for name in words if name not in PLAIN_WORDS]
    return next(((name,) for name in (*named, *loose) if name), ())
