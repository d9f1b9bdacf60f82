"""Sentences, cut from a text that comes in any pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.transforms.sentences import MOST_CHARACTERS, SentenceSplitter


def cut(*pieces: str) -> list[str]:
    splitter = SentenceSplitter()
    sentences = [sentence for piece in pieces for sentence in splitter.feed(piece)]
    return [*sentences, *filter(None, [splitter.rest()])]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("We open at nine. We close at five.", ["We open at nine. ", "We close at five."]),
        ('He said "no." Then he left!', ['He said "no." ', "Then he left!"]),
        ("It costs 3.50 francs. Really?! Yes…", ["It costs 3.50 francs. ", "Really?! ", "Yes…"]),
        ("one\ntwo", ["one\n", "two"]),
        ("今日は。元気。はい", ["今日は。", "元気。", "はい"]),
        ("**Fine.** And _you?_ Me", ["**Fine.** ", "And _you?_ ", "Me"]),
        ("no end", ["no end"]),
        ("", []),
    ],
)
def test_a_text_is_cut_into_sentences(text: str, sentences: list[str]) -> None:
    assert cut(text) == sentences
    assert "".join(cut(*text)) == text


def test_a_sentence_is_whole_as_soon_as_the_next_one_may_begin() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("We open at nine.") == []
    assert splitter.feed(" ") == ["We open at nine. "]


def test_a_sentence_without_end_is_cut_at_white_space() -> None:
    sentences = cut("word " * 400)
    assert all(len(each) <= MOST_CHARACTERS and each.endswith(" ") for each in sentences)


@given(st.lists(st.text(alphabet="ab.!? \n。", max_size=8), max_size=30))
def test_the_sentences_join_to_the_text(pieces: list[str]) -> None:
    assert "".join(cut(*pieces)) == "".join(pieces)
