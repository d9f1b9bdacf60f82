"""A text that streams, cut into its sentences. Pure."""

import re

END = re.compile(r"(?:[.!?\u2026]+[\"')\]*_~`\u201d\u2019\u00bb]*(?=\s)|[\u3002\uff01\uff1f]+|\n)\s*")
"""The end of a sentence with the white space behind it; a full stop ends one where white space follows it, or marks
that belong to the sentence.
"""
MOST_CHARACTERS = 600
"""A longer sentence is cut at white space."""


class SentenceSplitter:
    """One text. `feed` returns the sentences that are complete by now, `rest` the remainder; they join to the text."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> list[str]:
        """Add the next piece; returns the complete sentences."""
        self._held += text
        sentences, start = [], 0
        for end in END.finditer(self._held):
            if end.end() < len(self._held) or end[0][-1:].isspace():
                sentences.append(self._held[start : end.end()])
                start = end.end()
        self._held = self._held[start:]
        while len(self._held) > MOST_CHARACTERS:
            at = self._held.rfind(" ", 0, MOST_CHARACTERS) + 1 or MOST_CHARACTERS
            sentences.append(self._held[:at])
            self._held = self._held[at:]
        return sentences

    def rest(self) -> str:
        """The remainder, once the text has ended."""
        rest, self._held = self._held, ""
        return rest
