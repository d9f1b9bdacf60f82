import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.token_estimate import estimate_tokens
from providers.common.words import words

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
FLAG = "\U0001f1e9\U0001f1ea"
THUMB = "\U0001f44d\U0001f3fd"
HEART = "\u2764\ufe0f"
SCOTLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
E_ACUTE = "e\u0301"
GA = "\u304b\u3099"  # a kana and its voicing mark
VARIANT = "\u8fbb\U000e0100"  # an ideograph and its variation selector
SPACED_MARK = " \u0308"
SPACED_TONE = " \U0001f3fd"
CLUSTERS = [
    FAMILY,
    FLAG,
    THUMB,
    HEART,
    SCOTLAND,
    E_ACUTE,
    GA,
    VARIANT,
    SPACED_MARK,
    SPACED_TONE,
    "a",
    "Ω",
    " ",
    "\n",
    "世",
    "は",
    "。",
]


def test_a_word_brings_the_space_that_follows_it():
    assert list(words("Hello, dear  world!")) == ["Hello, ", "dear  ", "world!"]


def test_white_space_at_either_end_is_kept():
    assert list(words("\n  one two \n")) == ["\n  one ", "two \n"]
    assert list(words(" \t\n")) == [" \t\n"]
    assert list(words("\u3000你 \u00a0é")) == ["\u3000你 \u00a0", "é"]


def test_an_empty_text_has_no_pieces():
    assert list(words("")) == []


def test_text_without_spaces_comes_in_small_groups():
    pieces = list(words("今天天气怎么样。我想去公园。"))
    assert "".join(pieces) == "今天天气怎么样。我想去公园。"
    assert len(pieces) > 5
    assert max(map(len, pieces)) <= 3


def test_closing_punctuation_stays_with_what_it_closes():
    assert all(piece[0] not in "。、。" for piece in words("はい。そうですか。いいえ、ちがいます。"))


@pytest.mark.parametrize("cluster", [FAMILY, FLAG, THUMB, HEART, SCOTLAND, E_ACUTE, GA, VARIANT])
def test_a_grapheme_comes_whole(cluster):
    for text in (cluster * 5, f"say {cluster} {cluster} now", f"世界{cluster}世界"):
        assert "".join(words(text)) == text
        assert sum(piece.count(cluster) for piece in words(text)) == text.count(cluster)


@given(st.text())
def test_pieces_join_to_the_exact_text(text):
    pieces = list(words(text))
    assert "".join(pieces) == text
    assert all(pieces)


@given(st.text(st.characters(codec="ascii")))
def test_each_ascii_piece_is_one_word(text):
    assert [piece.strip() for piece in words(text) if piece.strip()] == text.split()


@given(st.lists(st.sampled_from(CLUSTERS)))
def test_no_cut_falls_inside_a_grapheme(clusters):
    borders = {0}
    for cluster in clusters:
        borders.add(max(borders) + len(cluster))
    at = 0
    for piece in words("".join(clusters)):
        at += len(piece)
        assert at in borders


def test_tokens_of_ordinary_text():
    assert estimate_tokens("") == 0
    assert estimate_tokens("a") == 1
    assert estimate_tokens("The quick brown fox jumps over the lazy dog.") == 11
    assert estimate_tokens("今天天气") == 4
    assert estimate_tokens("你好 hello") == 3


@given(st.text(min_size=1), st.text(min_size=1))
def test_more_text_is_never_fewer_tokens(one, other):
    assert 1 <= estimate_tokens(one) <= estimate_tokens(one + other) <= len(one + other)
