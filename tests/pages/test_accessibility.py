"""axe-core finds nothing serious on any page: light, dark, on a phone; keyboards reach what is there."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.conftest import Served
from tests.pages.test_playground import address, done, say

pytestmark = pytest.mark.services

LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}
PATHS = ("/compare", "/live", "/docs", "/docs/schemas", "/docs/guide/resilience", "/docs/guide/reference/settings")


def check(page: Page) -> None:
    """What people cannot use: axe's impacts serious and critical."""
    found = Axe().run(page).response["violations"]
    serious = [
        (each["id"], [node["html"][:160] for node in each["nodes"]][:3])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert not serious, (page.url, serious)


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_serious(serve: Callable[..., Served], tab: Callable[..., Page], look: str) -> None:
    app = serve(DEMO_PACE_MS=0)
    # axe is put in as a script, which the pages' own policy rightly refuses.
    page = tab(address(app), bypass_csp=True, **LOOKS[look])
    say(page, "Say: One moment, please. I am looking it up.")
    done(page)
    for panel in ("#tools-panel", "#recipes-panel"):
        page.click(f"{panel} > summary")
    page.click("#add-tool")
    page.click("text=The same as a table")
    page.click("text=Add a latency report")
    page.fill("#report", '{"stt_latency": 0.2, "total_latency": 1}')
    say(page, "How is the weather in Lisbon?")
    expect(page.locator(".call")).to_have_count(1)
    check(page)
    for path in PATHS:
        page.goto(address(app) + path)
        if path == "/compare":
            page.select_option("#model-1", "demo")
            page.click("#together")
            expect(page.locator(".result .words").nth(1)).not_to_be_empty()
            page.wait_for_timeout(300)
        if path == "/live":
            page.locator("#turns button").first.click()
        check(page)


def test_the_keyboard_is_enough(serve: Callable[..., Served], tab: Callable[..., Page]) -> None:
    page = tab(address(serve(DEMO_PACE_MS=5)))
    expect(page.locator("#send")).to_be_enabled()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id"))
    assert {"message", "send", "model", "key", "system", "temperature", "aloud", "barge-in"} <= seen
    page.focus("#message")
    page.keyboard.type("Hello")
    page.keyboard.press("Enter")
    done(page)


def test_movement_is_left_out_where_it_is_not_wanted(serve: Callable[..., Served], tab: Callable[..., Page]) -> None:
    page = tab(address(serve()), reduced_motion="reduce")
    style = page.evaluate("getComputedStyle(document.querySelector('#talk')).transitionDuration")
    assert style == "0s"
