"""Texts in JSON whose shape is not known beforehand. Pure."""

from typing import Any

from core.json_values import BAD_SHAPE


def at_path(value: Any, path: str) -> Any:
    """The value at a path of names and, in lists, numbers; None if there is none."""
    try:
        for name in path.split("."):
            value = value[int(name)] if isinstance(value, list) else value[name]
    except BAD_SHAPE:
        return None
    return value


def text_of(value: Any) -> str:
    """A text, or that of a message, of content blocks, or of a list of them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(text_of, value))
    if isinstance(value, dict):
        return text_of(value.get("text") or value.get("content"))
    return ""
