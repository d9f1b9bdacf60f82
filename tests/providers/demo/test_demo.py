import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.context import CallContext
from core.errors import Cancelled, InvalidRequest
from core.events import Finish, Reasoning, Text, Usage
from core.requests import ChatRequest, EmbeddingsRequest
from core.token_estimate import estimate_tokens
from providers.base import Target
from providers.common.words import words
from providers.demo.provider import DemoProvider, until_stop, vector

DEMO = DemoProvider(pace_ms=0)
TARGET = Target(DEMO, "demo")


def chat_request(content="Hello", *, stream=False, include_reasoning=False, **body):
    messages = content if isinstance(content, list) and body.pop("whole", False) else None
    messages = messages or [{"role": "user", "content": content}]
    return ChatRequest({"messages": messages, **body}, stream=stream, include_reasoning=include_reasoning)


def events_of(*args, **kwargs):
    return list(DEMO.chat(chat_request(*args, **kwargs), TARGET, CallContext()))


def text_of(events, choice=0):
    return "".join(each.text for each in events if isinstance(each, Text) and each.choice == choice)


def answer_text(*args, **kwargs):
    return text_of(events_of(*args, **kwargs))


def finish_of(events):
    return [each.reason for each in events if isinstance(each, Finish)]


# What it says


@pytest.mark.parametrize("greeting", ["", "  ", "Hi", "hello there!", "Good morning.", "你好。", None, []])
def test_a_greeting_is_answered_with_an_introduction(greeting):
    assert answer_text(greeting).startswith("Hello! I am the Thinkline demo")


def test_what_the_user_said_comes_back():
    assert "What is 2 + 2, in Ωhm?" in answer_text("What is 2 + 2, in Ωhm?")


def test_only_the_last_thing_said_counts():
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": "second"},
    ]
    answered = answer_text(conversation, whole=True)
    assert "second" in answered
    assert "first" not in answered
    assert "brief" not in answered


def test_a_long_text_is_not_repeated_whole():
    answered = answer_text("blah " * 2000)
    assert 100 < len(answered) < 500
    assert len(answer_text("x" * 10_000)) < 500


@pytest.mark.parametrize("question", ["Who are you?", "help", "So what are you", "Tell me about yourself"])
def test_asked_about_itself_it_says_how_to_get_a_real_model(question):
    assert "OPENAI_API_KEY" in answer_text(question)


@pytest.mark.parametrize(
    ("order", "count"),
    [
        ("say 50 words", 50),
        ("Please say 1 word.", 1),
        ("say 0 words", 1),
        ("say twelve words", 12),
        ("Say a hundred words", 100),
        ("say one word", 1),
        ("say 99999 words", 5000),
        ("say " + "9" * 6000 + " words", 5000),
    ],
)
def test_it_says_as_many_words_as_it_is_told(order, count):
    assert len(answer_text(order).split()) == count


def test_it_counts():
    assert answer_text("Can you count to 12?") == "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12."
    assert answer_text("count to three") == "1, 2, 3."
    assert answer_text("count to 1000000").endswith(" 5000.")


@pytest.mark.parametrize(
    "text", ["Hi!", "né e\u0301 \U0001f468\u200d\U0001f469\u200d\U0001f467  \n 世界", '"quoted" \\ <b>', " x "]
)
@pytest.mark.parametrize("order", ["say {}", "Say: {}", "repeat after me: {}", "Please repeat after me, {}"])
def test_it_says_a_text_back_exactly(order, text):
    assert answer_text(order.format(text)).strip() == text.strip()


def test_repeating_wins_over_counting():
    assert answer_text("repeat after me: say 50 words") == "say 50 words"


def test_images_and_sounds_are_counted():
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    sound = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
    look = {"type": "text", "text": "Look at these"}
    assert answer_text([look, image, image]).endswith("Look at these. I also got 2 images.")
    assert "1 image and 2 audio clips" in answer_text([image, sound, sound])


def test_thinking_comes_first_and_only_on_demand():
    assert not any(isinstance(each, Reasoning) for each in events_of("Hi"))
    assert not any(isinstance(each, Reasoning) for each in events_of("Hi", reasoning_effort="none"))
    for events in (events_of("Hi", include_reasoning=True), events_of("Hi", reasoning_effort="low")):
        assert isinstance(events[0], Reasoning)
        thoughts = [each for each in events if isinstance(each, Reasoning)]
        assert 1 <= len(thoughts) <= 2
        assert events[-1].reasoning == sum(estimate_tokens(each.text) for each in thoughts)
        assert events[-1].completion > events[-1].reasoning


# How it says it


def test_the_same_request_has_the_same_events_streaming_or_not():
    first = events_of("Tell me something", n=2, include_reasoning=True)
    assert first == events_of("Tell me something", n=2, include_reasoning=True)
    assert first == events_of("Tell me something", n=2, include_reasoning=True, stream=True)


def test_words_come_one_by_one_then_the_end_and_the_usage():
    events = events_of("say one two  three")
    assert events == [
        Text("one "),
        Text("two  "),
        Text("three"),
        Finish("stop"),
        Usage(prompt=estimate_tokens("say one two  three"), completion=3),
    ]


def test_every_choice_is_complete():
    events = events_of("Tell me more", n=3, stop="more")
    assert text_of(events, 0) == text_of(events, 1) == text_of(events, 2) == "I hear you. You said: Tell me "
    assert events[-4:-1] == [Finish("stop", 0), Finish("stop", 1), Finish("stop", 2)]
    assert events[-1].completion == 3 * events_of("Tell me more", stop="more")[-1].completion


class Clock(CallContext):
    """A call whose waits take no time and are written down; the caller leaves after a number of them."""

    def __init__(self, leaves_after=None, **kwargs):
        super().__init__(**kwargs)
        self.waits = []
        self.leaves_after = leaves_after

    def wait(self, seconds):
        self.waits.append(seconds)
        if len(self.waits) == self.leaves_after:
            raise Cancelled


def test_the_pace_is_kept_between_words_when_streaming():
    call = Clock()
    list(DemoProvider(pace_ms=40).chat(chat_request("count to 5", stream=True), TARGET, call))
    assert call.waits == [0.04] * 4


@pytest.mark.parametrize(("pace_ms", "stream"), [(0, True), (40, False)])
def test_otherwise_it_does_not_wait(pace_ms, stream):
    call = Clock()
    list(DemoProvider(pace_ms=pace_ms).chat(chat_request("count to 5", stream=stream), TARGET, call))
    assert call.waits == []


def test_a_caller_who_leaves_ends_it():
    events = DemoProvider(pace_ms=40).chat(chat_request("count to 5000", stream=True), TARGET, Clock(leaves_after=3))
    assert [next(events) for _ in range(3)] == [Text("1, "), Text("2, "), Text("3, ")]
    with pytest.raises(Cancelled):
        next(events)


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_who_leaves_ends_it_without_a_pace_too(stream):
    call = CallContext()
    events = DEMO.chat(chat_request("count to 5000", stream=stream), TARGET, call)
    assert next(events) == Text("1, ")
    call.cancel()
    with pytest.raises(Cancelled):
        next(events)


# Limits


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_cuts_the_answer(name):
    events = events_of("say 50 words", **{name: 10})
    assert finish_of(events) == ["length"]
    assert 0 < events[-1].completion <= 10
    assert answer_text("say 50 words").startswith(text_of(events))


def test_an_answer_that_just_fits_is_not_cut():
    whole = events_of("say 50 words")
    assert events_of("say 50 words", max_tokens=whole[-1].completion) == whole
    assert finish_of(events_of("say 50 words", max_tokens=whole[-1].completion - 1)) == ["length"]


def test_one_token_is_enough_for_a_word():
    assert answer_text("Hi", max_tokens=1) == "Hello! "


def test_thinking_counts_for_max_tokens():
    events = events_of("Hi", max_tokens=3, include_reasoning=True)
    assert finish_of(events) == ["length"]
    assert text_of(events) == ""


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("three", "one two "),
        (["zzz", "two"], "one "),
        ("wo th", "one t"),
        ("o three f", "one tw"),
        ("one", ""),
        ("four five", "one two three four"),
        (["", "three"], "one two "),
    ],
)
def test_the_text_ends_before_a_stop_sequence(stop, expected):
    events = events_of("say one two three four", stop=stop)
    assert text_of(events) == expected
    assert finish_of(events) == ["stop"]


def test_only_what_may_begin_a_stop_sequence_is_held_back():
    assert list(until_stop(["one ", "two ", "three"], ["o x"])) == ["one ", "tw", "o three"]
    assert list(until_stop(["one ", "two ", "three"], ["zzz"])) == ["one ", "two ", "three"]


TEXTS = st.text("ab \n", max_size=40)
STOPS = st.lists(st.text("ab \n", min_size=1, max_size=5), max_size=4)


@given(TEXTS, STOPS)
def test_a_stopped_text_is_the_unstopped_one_up_to_the_stop(text, stops):
    pieces = list(until_stop(words(text), stops))
    stopped = "".join(pieces)
    assert all(pieces)
    assert text.startswith(stopped)
    assert not any(stop in stopped for stop in stops)
    if stopped != text:
        assert any(text.startswith(stop, len(stopped)) for stop in stops)


def test_the_prompt_is_counted_over_messages_parts_and_tools():
    def prompt(*args, **kwargs):
        return events_of(*args, **kwargs)[-1].prompt

    assert prompt("x" * 400) == prompt([{"type": "text", "text": "x" * 400}]) == 100
    assert prompt([{"role": "system", "content": "y" * 40}, {"role": "user", "content": "z" * 40}], whole=True) == 20
    tool = {"type": "function", "function": {"name": "get_weather", "description": "d" * 80}}
    assert prompt("x" * 400, tools=[tool]) > 120


# Embeddings


def embedded(*inputs, dimensions=None):
    request = EmbeddingsRequest(inputs, dimensions=dimensions)
    (found,) = DEMO.embed(request, TARGET, CallContext())
    return found


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_vectors_are_of_unit_length_and_the_same_each_time():
    found = embedded("Hello world", "", "🎉", [15339, 1917], [], "你好世界")
    assert [len(each) for each in found.vectors] == [256] * 6
    assert all(math.isclose(math.hypot(*each), 1) for each in found.vectors)
    assert found == embedded("Hello world", "", "🎉", [15339, 1917], [], "你好世界")
    assert found.usage.prompt == 2 + 0 + 1 + 2 + 0 + 4


def test_texts_that_share_words_are_nearer():
    cats, more_cats, tax = embedded("I love my cat", "My cat, I think", "quarterly tax report").vectors
    assert cosine(cats, more_cats) > 0.4 > abs(cosine(cats, tax))
    like, also_like, other = embedded("我喜欢猫", "他喜欢狗", "今天下雨").vectors
    assert cosine(like, also_like) > cosine(like, other)


@pytest.mark.parametrize("dimensions", [1, 2, 1536, 4096])
def test_dimensions_are_obeyed(dimensions):
    (found,) = embedded("some words here", dimensions=dimensions).vectors
    assert len(found) == dimensions
    assert math.isclose(math.hypot(*found), 1)


@pytest.mark.parametrize("dimensions", [0, -1, 4097])
def test_impossible_dimensions_are_refused(dimensions):
    with pytest.raises(InvalidRequest) as caught:
        embedded("x", dimensions=dimensions)
    assert caught.value.param == "dimensions"


@given(st.text() | st.lists(st.integers(0, 10**6)), st.integers(1, 64))
def test_every_input_has_a_direction(text, dimensions):
    assert math.isclose(math.hypot(*vector(text, dimensions)), 1)


# The house


def test_its_models():
    assert [(each.id, each.owned_by) for each in DEMO.models(CallContext())] == [
        ("demo", "thinkline"),
        ("demo-embedding", "thinkline"),
    ]


def test_it_answers_to_any_model_name():
    request = chat_request("Hi")
    named = replace(request, model="gpt-4o-mini", body={**request.body, "model": "gpt-4o-mini"})
    other = Target(DEMO, "gpt-4o-mini")
    assert list(DEMO.chat(named, other, CallContext())) == list(DEMO.chat(request, TARGET, CallContext()))
