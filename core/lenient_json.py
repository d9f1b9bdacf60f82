"""Reads and writes JSON that orjson refuses, by orjson wherever that accepts it.

Python's and JavaScript's serializers write halves of surrogate pairs as escapes (RFC 8259, section 8.2, allows it), and
some write NaN and Infinity; orjson takes none of them. The other half of a pair may be in the next piece of a stream,
so a half can be kept in the text until that piece has come.
"""

import json
import re
from typing import Any

import orjson

OTHERS = re.compile(rb"\A\xef\xbb\xbf|\\u[dD][89a-fA-F]|NaN|Infinity|[eE]\+?\d{3}")
"""Text that orjson refuses and other parsers accept. Surrogates also occur in whole pairs, which orjson accepts."""
ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""Every escape in a text. The group matches a lone half of a surrogate pair."""


def loads(raw: bytes, *, keep_halves: bool = False) -> Any:
    """A JSON value, with NaN and Infinity as floats. Lone halves of surrogate pairs become U+FFFD, or are kept for
    `join_surrogates`.

    Raises orjson.JSONDecodeError.
    """
    return parse(raw, keep_halves=keep_halves)[0]


def parse(raw: bytes, *, keep_halves: bool = False) -> tuple[Any, bool]:
    """The same value, and whether every parser accepts it as JSON."""
    try:
        return orjson.loads(raw), True
    except orjson.JSONDecodeError as error:
        if not OTHERS.search(raw):
            raise
        try:
            text = (raw if keep_halves else ESCAPES.sub(_replace_lone_half, raw)).decode("utf-8-sig")
            return json.loads(text, parse_int=orjson.loads), False
        except (ValueError, RecursionError):
            raise error from None


def dumps(value: Any) -> bytes:
    """The value's JSON: halves of surrogate pairs are joined or become U+FFFD, and NaN and Infinity become null.

    Raises orjson.JSONEncodeError.
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        try:
            return orjson.dumps(_join_surrogates_within(value))
        except RecursionError:
            raise error from None


def join_surrogates(text: str) -> str:
    """The text with adjacent halves of surrogate pairs joined. A lone half becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _join_surrogates_within(value: Any) -> Any:
    if isinstance(value, str):
        return join_surrogates(value)
    if isinstance(value, dict):
        return {_join_surrogates_within(key): _join_surrogates_within(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_join_surrogates_within(each) for each in value]
    return value


def _replace_lone_half(escape: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if escape[1] else escape[0]
