"""JSON as others write it, read and written by orjson wherever orjson will.

Python's and JavaScript's serializers write halves of surrogate pairs as escapes (RFC 8259, section 8.2, allows it), and
some write NaN and Infinity; orjson takes none of them. A half may belong to another half in the next piece of a stream,
so it can be kept in a text until it is known what follows.
"""

import json
import re
from typing import Any

import orjson

OTHERS = re.compile(rb"\A\xef\xbb\xbf|\\u[dD][89a-fA-F]|NaN|Infinity|[eE]\+?\d{3}")
"""What orjson refuses and other parsers take; the second stands in whole pairs too, which orjson takes."""
ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""Every escape of a text; the group holds a half that stands alone."""


def loads(raw: bytes, *, keep_halves: bool = False) -> Any:
    """A JSON value, with NaN and Infinity as floats. Lone halves of surrogate pairs become U+FFFD, or are kept for
    `join_surrogates`.

    Raises orjson.JSONDecodeError.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if not OTHERS.search(raw):
            raise
        try:
            text = (raw if keep_halves else ESCAPES.sub(_replaced, raw)).decode("utf-8-sig")
            return json.loads(text, parse_int=orjson.loads)
        except (ValueError, RecursionError):
            raise error from None


def is_strict(raw: bytes) -> bool:
    """Whether it is JSON for any parser."""
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return True


def dumps(value: Any) -> bytes:
    """The value's JSON, with halves of pairs joined, or U+FFFD in their place, and null for numbers that are none.

    Raises orjson.JSONEncodeError.
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        try:
            return orjson.dumps(_joined_within(value))
        except RecursionError:
            raise error from None


def joined(text: str) -> str:
    """The text with halves of surrogate pairs that are neighbours joined; U+FFFD for each that has none."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _joined_within(value: Any) -> Any:
    if isinstance(value, str):
        return joined(value)
    if isinstance(value, dict):
        return {_joined_within(key): _joined_within(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_joined_within(each) for each in value]
    return value


def _replaced(escape: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if escape[1] else escape[0]
