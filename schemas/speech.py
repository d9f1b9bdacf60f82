r"""Text made fit to be read aloud while it flows: without Markdown, emoji and `<think>` blocks.

    speaker = Speaker()
    speaker.say("**Hi") + speaker.say("** there \U0001f600!") + speaker.rest()      # "Hi there !"

What a mark means is seen only with what follows it, so its line is held back from there on, and never more. What
carries meaning stays: the text of a link, the cells of a table, the code between fences, an asterisk between numbers.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from events import Event, Finish, Text, ToolCall

OPEN, CLOSE = "<think>", "</think>"
MARKS = "*_~`"

EMOJI = re.compile(
    "[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u231a\u231b\u23e9-\u23fa\u24c2\u25aa-\u25fe\u203c\u2049]"
    "[\ufe0e\ufe0f\u200d\u20e3\U000e0020-\U000e007f]*"
    "|[\ufe0f\u20e3]"
)
JOINER = re.compile("[\u200d\U000e0020-\U000e007f]")
"""Parts of an emoji where they follow one; elsewhere letters are joined by them too."""

PLAIN = re.compile(
    rf"[^\n\\\[!<{re.escape(MARKS)}\u200d\ufe0f\u20e3\u203c\u2049\u231a-\u27bf\u2b00-\u2bff"
    "\U0001f000-\U0001faff\U000e0020-\U000e007f]+"
)
BLOCK = re.compile(r"[ \t]*(?:#{1,6}[ \t]+|(?:>[ \t]?)+|[-*+][ \t]+(?:\[[ xX]\][ \t]+)?)")
RULE = re.compile(r"[ \t]*(?:([-*_])(?:[ \t]*\1){2,}|(?:```|~~~)[^\n`]*)[ \t]*\Z")
UNSURE = re.compile(r"[ \t]*(?:[#>*+_~`|=-][#>*+_~`|= \t-]*(?:\[[ xX]?\]?)?)?\Z")
TABLE = re.compile(r"[ \t]*\|")
DIVIDER = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*\Z")
LINK = re.compile(r"!?\[((?:[^\[\]\n\\]|\\.)*)\](?:\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)|\[[^\]\n]*\])")
LINK_BEGUN = re.compile(
    r"!?\[(?:[^\[\]\n\\]|\\.)*\\?(?:\](?:\((?:[^()\n]|\([^()\n]*\))*(?:\([^()\n]*)?|\[[^\]\n]*)?)?\Z"
)
MOST_HELD = 2000
"""Characters: a longer line is no longer waited for."""


class Speaker:
    """One text as it flows. `say` gives what can be said of it by now, `rest` what was held back at its end."""

    def __init__(self) -> None:
        self._held = ""
        self._thinking = False
        self._line_begins = True
        self._last = "\n"
        # Whether something stood right before that is not said: the space behind it may then be one too many.
        self._dropped = False
        # Whether a thought has ended, and nothing but white space came since.
        self._waking = False

    def say(self, text: str) -> str:
        """Take in the next piece."""
        self._held += text
        return "".join(self._pieces(ended=False))

    def rest(self) -> str:
        """The text has ended."""
        return "".join(self._pieces(ended=True))

    def _pieces(self, *, ended: bool) -> Iterator[str]:
        while self._held:
            if self._waking:
                self._held = self._held.lstrip()
                self._waking = not self._held
                continue
            sure = ended or len(self._held) > MOST_HELD
            if self._thinking:
                step = self._thought(ended=ended)
            elif self._line_begins:
                step = self._block(ended=sure)
            else:
                step = self._inline(ended=sure)
            if step is None:
                return
            taken, piece = step
            self._held = self._held[taken:]
            if piece.startswith(" ") and self._last.isspace() and self._dropped:
                piece = piece[1:]
            if piece:
                self._last, self._dropped = piece[-1], False
                yield piece

    def _thought(self, *, ended: bool) -> tuple[int, str] | None:
        end = self._held.find(CLOSE)
        if end >= 0:
            self._thinking, self._dropped = False, True
            self._waking = self._last.isspace()
            return end + len(CLOSE), ""
        keep = 0 if ended else _begun(self._held, CLOSE)
        return (len(self._held) - keep, "") if len(self._held) > keep else None

    def _block(self, *, ended: bool) -> tuple[int, str] | None:
        """What stands at a line's beginning; a line of a table is taken whole."""
        line, newline, _ = self._held.partition("\n")
        whole = ended or bool(newline)
        if not whole and (UNSURE.match(line) or TABLE.match(line) or RULE.match(line)):
            return None
        if RULE.match(line) or ("|" in line and DIVIDER.match(line)):
            self._dropped = True
            return len(line) + len(newline), ""
        self._line_begins = False
        if TABLE.match(line):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            self._held = ", ".join(cell for cell in cells if cell) + self._held[len(line) :]
            return 0, ""
        block = BLOCK.match(line)
        return (block.end() if block else 0), ""

    def _inline(self, *, ended: bool) -> tuple[int, str] | None:
        held = self._held
        if plain := PLAIN.match(held):
            return plain.end(), plain[0]
        if emoji := EMOJI.match(held):
            self._dropped = True
            return emoji.end(), ""
        first = held[0]
        if JOINER.match(first):
            return 1, "" if self._dropped else first
        if first == "\n":
            self._line_begins = True
            return 1, "\n"
        if first in MARKS:
            return self._mark(ended=ended)
        if first == "<":
            if held.startswith(OPEN):
                self._thinking = True
                return len(OPEN), ""
            return None if OPEN.startswith(held) and not ended else (1, first)
        if first == "\\":
            if len(held) == 1 and not ended:
                return None
            return (2, held[1]) if held[1:2] in {*MARKS, *"\\[]()#+-.!|>{}"} - {""} else (1, first)
        if link := LINK.match(held):
            self._held = link[1] + held[link.end() :]
            return 0, ""
        if (LINK_BEGUN.match(held) or held == "!") and not ended:
            return None
        return 1, first

    def _mark(self, *, ended: bool) -> tuple[int, str] | None:
        """A run of one mark: emphasis is not said; one between spaces, or within a name, is no emphasis."""
        mark = self._held[0]
        length = len(self._held) - len(self._held.lstrip(mark))
        follows = self._held[length : length + 1]
        if not follows and not ended:
            return None
        run = self._held[:length]
        if mark == "~" and length == 1:
            return 1, run
        apart = self._last.isspace() and (not follows or follows.isspace())
        within = mark == "_" and self._last.isalnum() and follows.isalnum()
        product = mark == "*" and length == 1 and self._last.isdigit() and follows.isdigit()
        if mark != "`" and (apart or within or product):
            return length, run
        return length, ""


def _begun(text: str, tag: str) -> int:
    """How many characters at the end of a text may be the beginning of a tag."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-size:])), 0)


def spoken(events: Iterable[Event]) -> Iterator[Event]:
    """An answer's events, its text made fit to be read aloud; each choice is a text of its own."""
    speakers: defaultdict[int, Speaker] = defaultdict(Speaker)
    for event in events:
        if isinstance(event, Text):
            if said := speakers[event.choice].say(event.text):
                yield Text(said, event.choice)
            continue
        if isinstance(event, (Finish, ToolCall)) and (said := speakers[event.choice].rest()):
            yield Text(said, event.choice)
        yield event
