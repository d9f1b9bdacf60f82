"""Comparing models in a real browser: at once, by ear, in a series."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer
from tests.pages.test_playground import address
from tests.support.browser import FAKE_SPEECH

pytestmark = pytest.mark.services


@pytest.fixture
def two_models(serve: Callable[..., Served], upstream: OpenAIUpstream) -> Served:
    """gpt-4o-mini, which takes its time, beside the demo."""
    upstream.always(ScriptedAnswer(texts=["Good ", "morning. ", "How are you?"], first_delay=0.4))
    return serve(**upstream.settings(), DEMO_PACE_MS=5)


def compare(page: Page) -> None:
    expect(page.locator("#together")).to_be_enabled()
    page.select_option("#model-0", "gpt-4o-mini")
    page.select_option("#model-1", label="Another name ...")
    page.get_by_label("Name of model 2").fill("demo/demo")
    page.fill("#words", "Say: Good morning. How are you?")


def test_side_by_side(two_models: Served, tab: Callable[..., Page]) -> None:
    page = tab(f"{address(two_models)}/compare")
    compare(page)
    page.click("#together")
    slow, fast = page.locator(".result").nth(0), page.locator(".result").nth(1)
    expect(fast).to_have_class("card result best")
    expect(slow).to_have_class("card result")
    for card in (slow, fast):
        expect(card.locator(".words")).to_have_text("Good morning. How are you?")
        expect(card.locator(".figures")).to_contain_text("First sentence")
        assert card.locator(".timeline .tick").count() >= 3


def test_one_after_the_other_aloud(two_models: Served, tab: Callable[..., Page]) -> None:
    page = tab(f"{address(two_models)}/compare", FAKE_SPEECH)
    compare(page)
    page.click("#by-ear")
    until(lambda: page.evaluate("fake.said.length") == 4, "both answers to be said")
    assert page.evaluate("fake.said") == ["Good morning.", "How are you?"] * 2
    expect(page.locator(".result .mark[data-name='First sound']")).to_have_count(2)
    page.evaluate("fake.hold = true")
    page.click("#by-ear")
    until(lambda: page.evaluate("fake.said.length") == 5, "the first to speak")
    page.keyboard.press("Escape")
    expect(page.locator("#stop")).to_be_disabled()
    assert page.evaluate("fake.queue.length") == 0


def test_a_series(two_models: Served, tab: Callable[..., Page], upstream: OpenAIUpstream) -> None:
    page = tab(f"{address(two_models)}/compare")
    compare(page)
    page.click("text=Your own turns for the series")
    page.fill("#turns", "Say: One.\nSay: Two.")
    upstream.always(ScriptedAnswer(texts=["Two."]))
    page.click("#series")
    rows = page.locator("#series-table tbody tr")
    expect(rows.nth(1)).to_contain_text("10 of 10", timeout=30_000)
    expect(rows.nth(0)).to_contain_text("10 of 10")
    expect(page.locator("#series-table")).to_contain_text("First token p50")
    assert len(upstream.received) >= 10
    with page.expect_download():
        page.click("#save-series")


def test_a_model_that_fails_beside_one_that_does_not(
    two_models: Served, tab: Callable[..., Page], upstream: OpenAIUpstream
) -> None:
    upstream.always(ScriptedAnswer(status=400))
    page = tab(f"{address(two_models)}/compare")
    compare(page)
    page.click("#together")
    expect(page.locator(".result .failure").nth(0)).to_contain_text("refused")
    expect(page.locator(".result .words").nth(1)).to_have_text("Good morning. How are you?")
