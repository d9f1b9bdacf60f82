"""A browser for a folder's tests, and tabs in which nothing may go wrong unnoticed."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.support.browser import Tab, chromium


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def tab(browser: Browser) -> Iterator[Callable[..., Page]]:
    """tab(address, script="", **options): a page at that address, with a script that runs before its own."""
    tabs = []

    def open_tab(address: str, script: str = "", **options: object) -> Page:
        made = Tab(browser, **options)
        tabs.append(made)
        made.page.set_default_timeout(15_000)
        if script:
            made.page.add_init_script(script)
        made.page.goto(address)
        return made.page

    yield open_tab
    for each in tabs:
        each.close()
