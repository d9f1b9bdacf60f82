"""The heard part of an answer, as messages of a chat. Pure functions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from core.json_values import Json

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


@dataclass(slots=True)
class Spoken:
    """A text that was sent to be spoken: the content of a message, or a filler, which has no message (None)."""

    text: str
    message: Json | None


def keep_heard(spoken: Sequence[Spoken], heard: str) -> None:
    """Cut the messages behind their heard part. Platforms tell all that was heard of the answer, or its last
    part, as their voice has pronounced it: it is found by its words.
    """
    text = "".join(each.text for each in spoken)
    left = _end_of(text, heard)
    for each in spoken:
        kept = each.text[: max(0, left)]
        left -= len(each.text)
        if each.message is not None and kept != each.text:
            each.message["content"] = kept.rstrip()


def _end_of(text: str, heard: str) -> int:
    """The index in the text where the heard part ends. A word that was cut short was not heard."""
    words = list(WORD.finditer(text))
    spoken_words = [word[0].casefold() for word in words]
    wanted = [word.casefold() for word in WORD.findall(heard)]
    if not wanted:
        return 0
    for ending in (wanted, wanted[:-1]):
        for start in range(len(spoken_words) - len(ending) + 1 if ending else 0):
            if spoken_words[start : start + len(ending)] == ending:
                return _with_punctuation(text, words[start + len(ending) - 1].end())
    # Spoken otherwise than written ("5" and "five"): count words.
    count = min(len(wanted), len(words))
    return _with_punctuation(text, words[count - 1].end()) if count else len(text)


def _with_punctuation(text: str, end: int) -> int:
    while end < len(text) and not text[end].isspace() and not text[end].isalnum():
        end += 1
    return end


def without_empty(messages: Sequence[Json]) -> list[Json]:
    """The messages without empty ones of the assistant."""
    return [each for each in messages if each["role"] != "assistant" or each.get("content") or each.get("tool_calls")]
