"""Cuts text into pieces that a voice can speak. Pure."""

import re
import unicodedata
from collections.abc import Iterator

from core.token_estimate import CJK

_CJK_LETTER = re.compile(f"[{CJK}]")
_CJK_GROUP = 2

_ASCII_WORD = re.compile(r"\s*\S+\s*|\s+")
# Marks, joiners, variation selectors and tags; Unicode classes skin tones as symbols.
_EXTENDING = frozenset({"Mn", "Mc", "Me", "Cf"})
_SKIN_TONES = frozenset("\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")


def words(text: str) -> Iterator[str]:
    """Cut `text` into words, each with the white space that follows it; the pieces join to the exact text.

    A word is complete when its piece arrives, so it can be spoken at once. White space at the very start belongs to
    the first piece. Chinese and Japanese come in groups of about two characters. No piece is empty, and no cut
    falls inside a grapheme (a base with its marks, a joined emoji, a flag). An empty text has no pieces.
    """
    if text.isascii():
        yield from _ASCII_WORD.findall(text)
        return
    start = 0
    for at in range(1, len(text)):
        if _may_cut(text, start, at):
            yield text[start:at]
            start = at
    yield text[start:]


def _may_cut(text: str, start: int, at: int) -> bool:
    """Whether a piece that began at `start` may end before `at`."""
    before, after = text[at - 1], text[at]
    if before.isspace():
        return not (after.isspace() or _extends(after) or text[start:at].isspace())
    return at - start >= _CJK_GROUP and _CJK_LETTER.match(after) is not None


def _extends(character: str) -> bool:
    return unicodedata.category(character) in _EXTENDING or character in _SKIN_TONES
