"""Takes the pictures of the pages in docs/pages: `make screenshots`. Needs Chromium.

A server of ours answers, before two emulated providers of which one is down; so the pictures show a fallback, and no
vendor is asked.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from time import time
from typing import Any

import requests
from playwright.sync_api import Browser, Page, expect

from core.events import Usage
from storage.database import open_database
from telemetry.records import RequestOutcome, RequestRecord
from tests.conftest import Served, served
from tests.emulators.answers import ScriptedAnswer
from tests.emulators.openai.server import OpenAIUpstream
from tests.support.browser import chromium
from usage.rows import row_of
from usage.store import UsageStore

FOLDER = Path(__file__).parent.parent / "docs" / "pages"
Looks = dict[str, Any]
DESKTOP: Looks = {"viewport": {"width": 1280, "height": 960}}
PHONE: Looks = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
SHARP: Looks = {"viewport": {"width": 1180, "height": 800}, "device_scale_factor": 2}
SECRET = "operations-secret-key"  # noqa: S105 - of a server that lives for a minute
MODELS = f"""
keys:
  - {{name: front-desk, key: front-desk-secret-key, requests_per_minute: 120, budget: {{day: 5, month: 80}}}}
  - {{name: operations, key: {SECRET}, admin: true}}
models:
  - {{name: receptionist, provider: openai, model: gpt-4o-mini, fallbacks: [spare], ttft_timeout_ms: 600,
     price: {{prompt: 0.15, completion: 0.6}}}}
  - {{name: spare, provider: groq, model: llama-3.3-70b-versatile, price: {{prompt: 0.59, completion: 0.79}}}}
  - {{name: demo, provider: demo}}
"""
WORDS = "I would like to move my appointment to Friday."
ANSWER = "Of course. On Friday we have ten o'clock or half past two. Which one suits you?"
TOKEN_SECONDS = 0.035
MANY = 12


def main() -> None:
    """Take all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp())
    (folder / "models.yaml").write_text(MODELS, encoding="utf-8")
    rows = [row_of(record) for record in _history()]
    UsageStore(open_database("", folder / "data")).write(("history", 1, rows))
    with OpenAIUpstream() as first, OpenAIUpstream(strict=False) as second:
        settings = {
            **first.settings(GROQ_API_KEY=second.key, GROQ_BASE_URL=second.base_url),
            "MODELS_FILE": folder / "models.yaml", "DATA_DIR": folder / "data",
        }  # fmt: skip
        answer = ScriptedAnswer(texts=_words(ANSWER), first_delay=0.25, frame_delay=TOKEN_SECONDS)
        second.always(answer)
        first.always(answer)
        with served(folder / "log", **settings) as app, chromium() as browser:
            _take_all(app, browser, first)


def _history() -> Iterator[RequestRecord]:
    """An hour of calls, and the costs of two weeks, for the live view to draw. The same each time."""
    random, now = Random(7), time()  # noqa: S311 - no secret
    for number in range(400):
        ago = 3500 * (1 - number / 400)
        spare = 1500 < ago < 2000 and number % 3 > 0  # noqa: PLR2004 - the first one was slow then
        target, first_token = ("groq/llama-3.3-70b-versatile", 0.72) if spare else ("openai/gpt-4o-mini", 0.38)
        first_token *= random.lognormvariate(0, 0.22) * (1.6 if 1400 < ago < 2300 else 1)  # noqa: PLR2004
        yield _past(now - ago, target, first_token, "hung_up" if number % 17 == 0 else "done", spare=spare)
    for day in range(1, 14):
        yield _past(now - day * 86_400, "openai/gpt-4o-mini", 0.4, "done", cost=random.uniform(0.6, 2.2))


def _past(
    started: float,
    target: str,
    first_token: float,
    outcome: RequestOutcome,
    *,
    spare: bool = False,
    cost: float = 0.002,
) -> RequestRecord:
    return RequestRecord(
        request_id=f"{started:.6f}",
        started=started,
        duration=first_token + 1.1,
        caller="front-desk",
        endpoint="chat",
        model="receptionist",
        provider=target.partition("/")[0],
        target=target,
        outcome=outcome,
        ttft=first_token,
        usage=Usage(420, 38),
        cost=cost,
        tried={"openai/gpt-4o-mini": "late"} if spare else {},
        tokens_saved=24 if outcome == "hung_up" else None,
    )


def _words(text: str) -> list[str]:
    return [f"{word} " for word in text.split()]


def _take_all(app: Served, browser: Browser, first: OpenAIUpstream) -> None:
    _take(_talk(app, browser, color_scheme="light", **DESKTOP), "playground-light.png")
    _take(_talk(app, browser, color_scheme="dark", **DESKTOP), "playground-dark.png")
    _take(_talk(app, browser, color_scheme="light", **PHONE), "playground-phone.png")
    first.enqueue(ScriptedAnswer(delay=5))  # too late: the spare model answers
    _take(_talk(app, browser, **SHARP), "failover.png", "#timeline svg")
    page = _open(app, browser, "/compare", **DESKTOP)
    expect(page.locator("#together")).to_be_enabled()
    for at, model in enumerate(("receptionist", "spare", "demo")):
        page.select_option(f"#model-{at}", model)
    page.fill("#words", f"Say: {ANSWER}")
    page.click("#together")
    expect(page.locator(".result.best")).to_have_count(1)
    _take(page, "compare.png", "main")
    _ask_many(app, first)
    page = _open(app, browser, "/live", color_scheme="dark", **DESKTOP)
    expect(page.locator("#turns tr").nth(MANY)).to_be_attached()
    _take(page, "live.png")


def _talk(app: Served, browser: Browser, **looks: Any) -> Page:
    """The playground after a turn with all its figures."""
    page = _open(app, browser, "/", **looks)
    expect(page.locator("#send")).to_be_enabled()
    page.select_option("#model", "receptionist")
    page.fill("#message", WORDS)
    page.press("#message", "Enter")
    expect(page.locator("#timeline .span.answered")).to_have_count(1, timeout=15_000)
    expect(page.locator("#figures")).to_contain_text("Cost")
    return page


def _ask_many(app: Served, first: OpenAIUpstream) -> None:
    """Send turns, some of which fail at the first provider."""
    for number in range(MANY):
        if number % 4 == 3:  # noqa: PLR2004 - each fourth
            first.enqueue(ScriptedAnswer(status=400))
        body = {
            "model": "receptionist", "stream": True, "call": {"id": f"call-{1042 + number}"},
            "messages": [{"role": "user", "content": WORDS}],
        }  # fmt: skip
        headers = {"Authorization": "Bearer front-desk-secret-key"}
        requests.post(f"{app.url}/chat/completions", json=body, headers=headers, timeout=20).raise_for_status()


def _open(app: Served, browser: Browser, path: str, **looks: Any) -> Page:
    page = browser.new_page(**looks)
    page.add_init_script(f"sessionStorage.setItem('thinkline.key', '{SECRET}');")
    page.goto(f"http://127.0.0.1:{app.port}{path}")
    return page


def _take(page: Page, name: str, part: str = "") -> None:
    path = FOLDER / name
    (page.locator(part) if part else page).screenshot(path=path)
    page.close()
    print(path, path.stat().st_size)  # noqa: T201 - a tool says what it does


if __name__ == "__main__":
    main()
