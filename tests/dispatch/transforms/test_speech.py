"""Speech-safe text: what a voice would stumble over is taken out, and nothing else (issue: `speech: true`)."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.events import Finish, Reasoning, Text, ToolCall
from dispatch.transforms.speech import SpeechFilter, speech_safe

OTHERS = "caf\u00e9, \u4f60\u597d, \u0928\u092e\u0938\u094d\u0924\u0947, \u00a9 2026 \u20ac5 \u2192 10\u00b0"
SAID = {
    "Hello there, how are you?": "Hello there, how are you?",
    "**Yes**, *really* and __truly__ _so_.": "Yes, really and truly so.",
    "***Both***": "Both",
    "# A title\nText": "A title\nText",
    "### Deep ###\n": "Deep ###\n",
    "#1 is the best": "#1 is the best",
    "- one\n- two\n* three\n+ four": "one\ntwo\nthree\nfour",
    "- [ ] open\n- [x] done": "open\ndone",
    "1. first\n2. second": "1. first\n2. second",
    "> quoted\n>> twice": "quoted\ntwice",
    "before\n\n---\n\nafter": "before\n\n\nafter",
    "```python\nprint(1)\n```\ndone": "print(1)\ndone",
    "Use `make run` now": "Use make run now",
    "See [our site](https://example.com/a_(b)) please": "See our site please",
    "![A cat](cat.png) sits": "A cat sits",
    "an array[0] and [brackets] stay": "an array[0] and [brackets] stay",
    "2 * 3 = 6, 2*3 too": "2 * 3 = 6, 2*3 too",
    "snake_case_name stays": "snake_case_name stays",
    "~~old~~ new, ~5 left": "old new, ~5 left",
    "Great \U0001f600! Go \U0001f44d\U0001f3fd now": "Great ! Go now",
    "Family \U0001f468\u200d\U0001f469\u200d\U0001f467 and flag \U0001f1e9\U0001f1ea.": "Family and flag .",
    "Press 1\ufe0f\u20e3 now": "Press 1 now",
    "<think>secret\n\n**x**</think>\n\nThe answer": "The answer",
    "Well, <think>hm</think>yes": "Well, yes",
    "1 < 2 and <b>bold</b>": "1 < 2 and <b>bold</b>",
    "| City | Sky |\n|---|---|\n| Rome | blue |\n": "City, Sky\nRome, blue\n",
    "5\\*6 \\_x\\_": "5*6 _x_",
    "Wow! Really!": "Wow! Really!",
    OTHERS: OTHERS,
    "a - b\nc": "a - b\nc",
    "unclosed [link": "unclosed [link",
    "ends with *": "ends with *",
}


def spoken_text(pieces: list[str]) -> str:
    speaker = SpeechFilter()
    return "".join([*map(speaker.say, pieces), speaker.rest()])


@pytest.mark.parametrize("text", SAID)
def test_what_is_said(text: str) -> None:
    assert spoken_text([text]) == SAID[text]


@pytest.mark.parametrize("text", SAID)
def test_it_is_the_same_however_it_is_cut(text: str) -> None:
    assert spoken_text(list(text)) == SAID[text]
    for at in range(len(text)):
        assert spoken_text([text[:at], text[at:]]) == SAID[text]


MARKDOWN = st.text(alphabet="ab1 \n*_`#>-|[]()!<\\~think/\U0001f600", max_size=60)


@given(MARKDOWN, st.lists(st.integers(0, 60), max_size=5))
def test_cuts_change_nothing(text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    assert spoken_text(pieces) == spoken_text([text])


@given(st.text(alphabet="abc 123,.?'\u00e9\u4f60", max_size=80))
def test_plain_text_is_untouched_and_not_held_back(text: str) -> None:
    speaker = SpeechFilter()
    said = speaker.say(f"x{text}")
    assert said == f"x{text}"


@given(MARKDOWN)
def test_never_more_than_a_line_is_held_back(text: str) -> None:
    speaker = SpeechFilter()
    for character in text:
        speaker.say(character)
        assert "\n" not in speaker._held.rstrip("\n") or speaker._thinking


@given(MARKDOWN)
def test_letters_are_kept(text: str) -> None:
    """Whatever the marks, a word of the text is a word of the speech; links lose their addresses, thoughts go."""
    if not re.search(r"[\[<`~]", text):
        assert re.sub(r"[^ab1]", "", spoken_text([text])) == re.sub(r"[^ab1]", "", text)


def test_what_was_held_back_is_said_before_a_tool_is_called() -> None:
    call = ToolCall("c", "f")
    assert list(speech_safe([Text("I look at [it"), call, Finish("tool_calls")])) == [
        Text("I look at "),
        Text("[it"),
        call,
        Finish("tool_calls"),
    ]


def test_only_text_is_changed_and_the_end_comes_before_the_finish() -> None:
    events = [Reasoning("**r**"), Text("**a"), Text("*x", 1), Text("b**"), Finish("stop"), Finish("stop", 1)]
    assert list(speech_safe(events)) == [
        Reasoning("**r**"),
        Text("a"),
        Text("x", 1),
        Text("b"),
        Finish("stop"),
        Finish("stop", 1),
    ]


KINDS = [
    "[",
    "<",
    "![a](",
    "- ",
    "**",
    "](",
    "`",
    "#",
    "|",
    "_",
    "&",
    "http://",
    "*a",
    "[a",
    "[](",
    "[a](b)",
    "[a](()",
    "![",
]
KINDS += [
    "\\[",
    "> ",
    "\U0001f600",
    "a\n",
    "- a\n",
    "|a|\n",
    "<think>",
    "<think></think>",
    "<thinkx",
    "[a][",
    "```\n",
    "-|",
]


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [30, 400_000], ids=["in pieces", "in one"])
def test_a_long_text_costs_as_much_as_it_is_long(kind: str, size: int) -> None:
    """As much of brackets took three seconds, and twice as much four times as many."""
    text = kind * (min(400_000, 4000 * size) // len(kind))
    begun = time.process_time()
    spoken_text([text[at : at + size] for at in range(0, len(text), size)])
    assert time.process_time() - begun < 1.5


@pytest.mark.parametrize(
    "line",
    [
        " " * 500_000 + "|",
        "```" + " " * 500_000 + "`x",
        "|-" + " " * 500_000 + "x",
        "[a](" + "x" * 500_000,
        "[" + "\\]" * 250_000,
        "[a](" + "(b)" * 200_000,
        "- " * 250_000 + "a",
    ],
    ids=range(7),
)
def test_a_line_that_nearly_means_something_is_looked_at_once(line: str) -> None:
    begun = time.process_time()
    spoken_text([line])
    assert time.process_time() - begun < 3


def test_a_long_link_is_a_link_even_if_it_comes_letter_by_letter() -> None:
    text = f"See [{'a name ' * 60}](https://example.com/{'path/' * 150}) and\n**go**."
    assert spoken_text(list(text)) == spoken_text([text]) == f"See {'a name ' * 60} and\ngo."
