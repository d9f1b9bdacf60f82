"""Talking: a fake recogniser and a fake voice in the real page, and what the browser does not have."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Served
from tests.emulators import OpenAIUpstream, ScriptedAnswer
from tests.pages.test_playground import address, done, marks, say
from tests.support.browser import FAKE_SPEECH, NO_SPEECH

pytestmark = pytest.mark.services


def recognize(page: Page, words: str, *, final: bool) -> None:
    page.evaluate("([words, final]) => fake.hear(words, final)", [words, final])


def press_talk(page: Page) -> None:
    expect(page.locator("#talk")).to_be_enabled()
    page.click("#talk")
    expect(page.locator("#voice-state")).to_have_text("Listening ...")


def test_a_spoken_turn(serve: Callable[..., Served], tab: Callable[..., Page]) -> None:
    page = tab(address(serve(DEMO_PACE_MS=20)), FAKE_SPEECH)
    press_talk(page)
    recognize(page, "say one moment", final=False)
    expect(page.locator("#voice-state")).to_contain_text("Heard: say one moment")
    recognize(page, "say: One moment, please. I am looking it up.", final=True)
    done(page)
    expect(page.locator("#voice-state")).to_have_text("Listening ...")
    assert page.evaluate("fake.said") == ["One moment, please.", "I am looking it up."]
    assert {"End of speech", "First sound", "First sentence"} <= set(marks(page))
    expect(page.locator("#figures")).to_contain_text("Silence")


def test_the_first_sentence_is_heard_at_the_demos_pace(
    serve: Callable[..., Served], tab: Callable[..., Page], tmp_path: Path
) -> None:
    """Three words at 100 ms: the voice begins within 200 ms more on an idle machine, a second here."""
    page = tab(address(serve(DEMO_PACE_MS=100)), FAKE_SPEECH)
    expect(page.locator("#send")).to_be_enabled()
    page.check("#aloud")
    say(page, "Say: One moment, please. I am looking it up, which may take me a while.")
    done(page)
    cell = page.locator("#timeline .mark[data-name='First sound']").get_attribute("data-words")
    found = re.match(r"(\d+) ms|([\d.]+) s", cell or "")
    assert found
    assert (float(found[1]) / 1000 if found[1] else float(found[2])) < 0.2 + 1


@pytest.mark.parametrize("how", ["by speaking", "by a key", "by the button"])
def test_barge_in(serve: Callable[..., Served], tab: Callable[..., Page], how: str) -> None:
    """The sound stops and the upstream is freed; the page's own voice, heard again, interrupts nothing."""
    app = serve(DEMO_PACE_MS=40)
    page = tab(address(app), FAKE_SPEECH)
    press_talk(page)
    page.evaluate("fake.hold = true")
    recognize(page, "Say 300 words", final=True)
    expect(page.locator("#voice-state")).to_contain_text("Speaking")
    recognize(page, "this is the demo", final=False)
    assert page.evaluate("fake.silenced") == 1  # as the turn began
    if how == "by speaking":
        recognize(page, "stop please", final=False)
    elif how == "by a key":
        page.keyboard.press("Escape")
    else:
        page.click("#stop")
    done(page, "stopped")
    assert page.evaluate("fake.silenced") >= 2
    assert page.evaluate("fake.queue.length") == 0
    app.logged("outcome=hung_up")
    page.evaluate("fake.hold = false")
    recognize(page, "Count to three", final=True)
    expect(page.locator(".message.assistant .words").last).to_have_text("1, 2, 3.")


def test_words_of_the_question_are_an_answer(serve: Callable[..., Served], tab: Callable[..., Page]) -> None:
    """Once the voice is silent, most of a sentence heard again is an echo, and a word of it the person's."""
    page = tab(address(serve(DEMO_PACE_MS=5)), FAKE_SPEECH)
    press_talk(page)
    recognize(page, "Say: On Friday we have ten or half past two.", final=True)
    done(page)
    expect(page.locator("#voice-state")).to_have_text("Listening ...")
    recognize(page, "on friday we have ten or half past two", final=True)
    recognize(page, "half past two", final=True)
    expect(page.locator(".message.user .words")).to_have_text(
        ["Say: On Friday we have ten or half past two.", "half past two"]
    )


def test_the_history_is_in_order_after_an_interruption(
    serve: Callable[..., Served], tab: Callable[..., Page], upstream: OpenAIUpstream
) -> None:
    """Words that come in the middle of an answer stand behind what was said of it."""
    page = tab(address(serve(**upstream.settings())), FAKE_SPEECH)
    upstream.enqueue(ScriptedAnswer(texts=["One. "] * 200, frame_delay=0.05))
    press_talk(page)
    page.evaluate("fake.hold = true")
    recognize(page, "Hello", final=True)
    expect(page.locator("#voice-state")).to_contain_text("Speaking")
    upstream.enqueue(ScriptedAnswer(texts=["Fine."]))
    recognize(page, "something else", final=True)
    expect(page.locator(".message.assistant .words").last).to_have_text("Fine.")
    sent = json.loads(upstream.received[-1].body)["messages"]
    assert [each["role"] for each in sent] == ["system", "user", "assistant", "user"]
    assert sent[2]["content"].startswith("One. ")


def test_interruptions_can_be_turned_off(serve: Callable[..., Served], tab: Callable[..., Page]) -> None:
    page = tab(address(serve(DEMO_PACE_MS=5)), FAKE_SPEECH)
    press_talk(page)
    page.uncheck("#barge-in")
    page.evaluate("fake.hold = true")
    recognize(page, "Say 30 words", final=True)
    expect(page.locator("#voice-state")).to_contain_text("Speaking")
    recognize(page, "stop please", final=True)
    done(page)
    expect(page.locator(".message.user")).to_have_count(1)


def test_a_microphone_that_is_refused(serve: Callable[..., Served], tab: Callable[..., Page]) -> None:
    page = tab(address(serve()), FAKE_SPEECH)
    press_talk(page)
    page.evaluate("fake.recogniser.onerror({ error: 'not-allowed' })")
    expect(page.locator("#voice-state")).to_contain_text("may not use the microphone")
    expect(page.locator("#talk")).to_have_attribute("aria-pressed", "false")


def test_a_recogniser_that_ends_by_itself_begins_again(serve: Callable[..., Served], tab: Callable[..., Page]) -> None:
    page = tab(address(serve(DEMO_PACE_MS=5)), FAKE_SPEECH)
    press_talk(page)
    page.evaluate("fake.first = fake.recogniser; fake.recogniser.onend()")
    page.locator("#voice-state").wait_for()
    expect(page.locator("body")).to_be_visible()
    page.wait_for_timeout(300)
    assert page.evaluate("fake.recogniser !== fake.first")
    recognize(page, "Count to three", final=True)
    done(page)


def test_a_browser_without_speech_says_so(serve: Callable[..., Served], tab: Callable[..., Page]) -> None:
    page = tab(address(serve(DEMO_PACE_MS=5)), NO_SPEECH)
    expect(page.locator("#voice-hint")).to_contain_text("This browser recognises no speech")
    say(page, "Hello")
    done(page)
    expect(page.locator("#talk")).to_be_disabled()
    expect(page.locator("#aloud")).to_be_disabled()
