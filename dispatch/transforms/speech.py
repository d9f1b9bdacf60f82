r"""Makes streamed text fit to be read aloud: removes Markdown, emoji and `<think>` blocks.

    speaker = Speaker()
    speaker.say("**Hi") + speaker.say("** there \U0001f600!") + speaker.rest()      # "Hi there !"

The meaning of a mark depends on the text behind it, so its line is held back from the mark on, and no more than that.
Text with a meaning stays: the text of a link, the cells of a table, code between fences, an asterisk between numbers.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing

from core.context import CallContext
from core.events import Event, Events, Finish, Text, ToolCall
from dispatch.resilience.retry import StreamFactory
from providers.base import Target

OPEN, CLOSE = "<think>", "</think>"
MARKS = "*_~`"

EMOJI = re.compile(
    "[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u231a\u231b\u23e9-\u23fa\u24c2\u25aa-\u25fe\u203c\u2049]"
    "[\ufe0e\ufe0f\u200d\u20e3\U000e0020-\U000e007f]*"
    "|[\ufe0f\u20e3]"
)
JOINER = re.compile("[\u200d\U000e0020-\U000e007f]")
"""Parts of an emoji if they follow one; elsewhere letters are joined by them too."""

SPECIAL = (
    rf"\n\\\[!<{re.escape(MARKS)}\u200d\ufe0f\u20e3\u203c\u2049\u231a-\u27bf\u2b00-\u2bff"
    "\U0001f000-\U0001faff\U000e0020-\U000e007f"
)
ESCAPED = r"*_~`\\\[\]()#+\-.!|>{}"
BLOCK = re.compile(r"[ \t]*+(?:#{1,6}[ \t]+|(?:>[ \t]?)+|[-*+][ \t]+(?:\[[ xX]\][ \t]+)?)")
RULE = re.compile(r"[ \t]*+(?:([-*_])(?:[ \t]*+\1){2,}+[ \t]*+|(?:```|~~~)[^\n`]*+)\Z")
UNSURE = re.compile(r"[ \t]*+(?:[#>*+_~`|=-][#>*+_~`|= \t-]*+(?:\[[ xX]?\]?)?)?\Z")
TABLE = re.compile(r"[ \t]*+\|")
DIVIDER = re.compile(r"[ \t]*+(?:\|[ \t]*+)?:?-++:?[ \t]*+(?:\|[ \t]*+:?-++:?[ \t]*+)*+(?:\|[ \t]*+)?\Z")

# Tokens that begin with a bracket. Quantifiers are possessive, so a long line is scanned once.
NAME = r"(?:[^\[\]\n\\]++|\\.)*+"
TARGET = r"[^()\n]*+(?:\([^()\n]*+\)[^()\n]*+)*+"
LINK = rf"{NAME}\](?:\({TARGET}\)|\[[^\]\n]*+\])"
LINK_BEGUN = rf"{NAME}(?:\\|\](?:\({TARGET}(?:\([^()\n]*+)?|\[[^\]\n]*+)?)?\Z"
THINK_BEGUN = r"(?:t(?:h(?:i(?:nk?)?)?)?)?\Z"


def _tokens(*, sure: bool) -> re.Pattern[str]:
    """The tokens of a line; unless `sure`, also tokens whose meaning depends on the next text."""
    begun_link, begun_think = ("", "") if sure else (f"|{LINK_BEGUN}", f"|{THINK_BEGUN}")
    return re.compile(
        rf"(?P<plain>(?:[^{SPECIAL}]++|\n(?=\n|[ \t]*+[^\n \t#>*+_~`|=:-])|!(?=[^\[])"
        rf"|!?\[(?!{LINK}{begun_link})|<(?!think>{begun_think})|\\(?=[^{ESCAPED}]))++)"
        rf"|(?P<mark>\*++|_++|~++|`++)|(?P<newline>\n)|(?P<emoji>(?:{EMOJI.pattern})++)|(?P<joiner>{JOINER.pattern}++)"
        rf"|(?P<think>{OPEN})|\\(?P<escaped>[{ESCAPED}])|!?\[(?P<link>{NAME})\](?:\({TARGET}\)|\[[^\]\n]*+\])"
        r"|(?P<begun>.)"
    )


SURE, TENTATIVE = _tokens(sure=True), _tokens(sure=False)
WHITE = re.compile(r"\s*+")
MOST_HELD = 2000
"""Characters: a longer line is not held back."""
PIECE = 2000
"""Characters: a longer text is processed in pieces, so that its rest is not copied at each step."""
SOON = 256
"""Characters: beyond these a held text is scanned again once it has grown by a sixteenth, or its line has ended."""


class SpeechFilter:
    """One text as it streams. `say` returns the text that is ready by now, `rest` what was held back at the end."""

    def __init__(self) -> None:
        self._held = ""
        self._at = 0
        self._next_look = 0
        self._thinking = False
        self._line_begins = True
        self._last = "\n"
        # Whether the text right before was removed: the space behind it may then be one too many.
        self._dropped = False
        # Whether a `<think>` block has ended, and only white space has come since.
        self._waking = False

    def say(self, text: str) -> str:
        """Take the next piece; returns the text that is ready."""
        texts: list[str] = []
        for start in range(0, len(text), PIECE):
            piece = text[start : start + PIECE]
            self._held += piece
            if len(self._held) >= self._next_look or "\n" in piece:
                self._take(texts, ended=False)
        return "".join(texts)

    def rest(self) -> str:
        """The text has ended; returns the rest."""
        texts: list[str] = []
        self._take(texts, ended=True)
        return "".join(texts)

    def _take(self, texts: list[str], *, ended: bool) -> None:
        """Move the part of the held text whose meaning is certain to the output."""
        self._at = 0
        while self._at < len(self._held):
            sure = ended or len(self._held) - self._at > MOST_HELD
            if self._waking:
                self._at = WHITE.match(self._held, self._at).end()  # type: ignore[union-attr]
                self._waking = self._at == len(self._held)
                continue
            if self._thinking:
                piece = self._thought(ended=ended)
            elif self._line_begins:
                piece = self._block(sure=sure)
            else:
                piece = self._inline(sure=sure)
            if piece is None:
                break
            if self._dropped and piece[:1] == " " and self._last.isspace():
                piece = piece[1:]
            if piece:
                self._last, self._dropped = piece[-1], False
                texts.append(piece)
        self._held = self._held[self._at :]
        size = len(self._held)
        self._next_look = size + size // 16 if size > SOON else 0

    def _thought(self, *, ended: bool) -> str | None:
        end = self._held.find(CLOSE, self._at)
        if end >= 0:
            self._thinking, self._dropped = False, True
            self._waking = self._last.isspace()
            self._at = end + len(CLOSE)
            return ""
        keep = 0 if ended else _begun(self._held[max(self._at, len(self._held) - len(CLOSE)) :], CLOSE)
        self._at = len(self._held) - keep
        return None

    def _block(self, *, sure: bool) -> str | None:
        """A token at the beginning of a line; a line of a table is taken whole."""
        held, at = self._held, self._at
        end = held.find("\n", at)
        line = (held, at, end if end >= 0 else len(held))
        table = TABLE.match(*line)
        rule = table is None and RULE.match(*line)
        if end < 0 and not sure and (table or rule or UNSURE.match(*line)):
            return None
        if rule or (DIVIDER.match(*line) and held.find("|", at, line[2]) >= 0):
            self._dropped = True
            self._at = min(line[2] + 1, len(held))
            return ""
        self._line_begins = False
        if table:
            cells = [cell.strip() for cell in held[at : line[2]].strip().strip("|").split("|")]
            self._held, self._at = ", ".join(cell for cell in cells if cell) + held[line[2] :], 0
        elif block := BLOCK.match(*line):
            self._at = block.end()
        return ""

    def _inline(self, *, sure: bool) -> str | None:
        """A token within a line; None if its meaning is still open."""
        held = self._held
        token = (SURE if sure else TENTATIVE).match(held, self._at)
        if token is None or (token.lastgroup == "begun" and not sure):
            return None
        kind, taken, end = token.lastgroup, token[0], token.end()
        if kind == "mark" and end == len(held) and not sure:
            return None
        self._at = end
        if kind == "plain":
            return taken
        if kind == "mark":
            return self._mark(taken, held[end : end + 1])
        if kind == "link":
            self._held, self._at = token["link"] + held[end:], 0
            return ""
        if kind in ("emoji", "think"):
            self._dropped = True if kind == "emoji" else self._dropped
            self._thinking = kind == "think"
            return ""
        if kind == "joiner":
            return "" if self._dropped else taken
        self._line_begins = kind == "newline"
        return token["escaped"] if kind == "escaped" else taken

    def _mark(self, run: str, follows: str) -> str:
        """The output for a run of one mark: none for emphasis; the run itself between spaces, or within a name."""
        if run == "~":
            return run
        mark = run[0]
        apart = self._last.isspace() and (not follows or follows.isspace())
        within = mark == "_" and self._last.isalnum() and follows.isalnum()
        product = run == "*" and self._last.isdigit() and follows.isdigit()
        return run if mark != "`" and (apart or within or product) else ""


def _begun(text: str, tag: str) -> int:
    """How many characters at the end of a text may be the beginning of a tag."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-size:])), 0)


def read_aloud(ask: StreamFactory) -> StreamFactory:
    """A StreamFactory with text fit to be read aloud. Removed text does not count as a first event."""

    def stream(target: Target, call: CallContext) -> Events:
        with closing(ask(target, call)) as events:
            yield from speech_safe(events)

    return stream


def speech_safe(events: Iterable[Event]) -> Iterator[Event]:
    """An answer's events, with text fit to be read aloud; each choice is a text of its own."""
    speakers: defaultdict[int, SpeechFilter] = defaultdict(SpeechFilter)
    for event in events:
        if isinstance(event, Text):
            if text := speakers[event.choice].say(event.text):
                yield Text(text, event.choice)
            continue
        if isinstance(event, (Finish, ToolCall)) and (text := speakers[event.choice].rest()):
            yield Text(text, event.choice)
        yield event
