"""A real browser for the pages: Debian's Chromium, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

FAKE_SPEECH = """
const fake = window.fake = { said: [], silenced: 0, recogniser: null, queue: [], hold: false };

class Recognition {
  start() { fake.recogniser = this; }
  abort() { if (fake.recogniser === this) fake.recogniser = null; this.onend?.(); }
}
fake.hear = (words, isFinal) => {
  const result = Object.assign([{ transcript: words }], { isFinal });
  if (isFinal) fake.recogniser.onspeechend();
  fake.recogniser.onresult({ resultIndex: 0, results: [result] });
};
fake.next = () => {
  const utterance = fake.queue[0];
  if (!utterance || utterance.begun) return;
  utterance.begun = true;
  setTimeout(() => {
    if (fake.queue[0] !== utterance) return;
    fake.said.push(utterance.text);
    utterance.onstart();
    if (!fake.hold) setTimeout(() => fake.finish(utterance), 5);
  }, 0);
};
fake.finish = (utterance) => {
  if (fake.queue[0] !== utterance) return;
  fake.queue.shift();
  utterance.onend();
  fake.next();
};
for (const name of ["SpeechRecognition", "webkitSpeechRecognition"]) {
  Object.defineProperty(window, name, { value: Recognition, configurable: true, writable: true });
}
Object.defineProperty(window, "SpeechSynthesisUtterance", { value: class { constructor(text) { this.text = text; } } });
Object.defineProperty(window, "speechSynthesis", { value: {
  speak(utterance) { fake.queue.push(utterance); fake.next(); },
  cancel() { fake.silenced += 1; fake.queue = []; },
} });
"""
"""A recogniser that hears what `fake.hear(words, isFinal)` says, and a voice that keeps what it says in `fake.said`;
with `fake.hold` it never comes to a sentence's end.
"""
NO_SPEECH = """
for (const name of ["SpeechRecognition", "webkitSpeechRecognition", "speechSynthesis", "SpeechSynthesisUtterance"]) {
  delete window[name];
}
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser. It is looked for, not fetched: `apt-get install chromium`."""
    path = shutil.which("chromium")
    assert path, "chromium is not installed: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


class Tab:
    """A page in a context of its own, and what went wrong on it: scripts that failed, what the policy refused."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        words = message.text
        if message.type == "error" and ("Content Security Policy" in words or "Trusted" in words):
            self.faults.append(words)

    def close(self) -> None:
        self.context.close()
        assert not self.faults, self.faults
