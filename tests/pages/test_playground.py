"""The playground in a real browser, over a real server: text, tools, pictures, stopping, errors, time lines."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults

pytestmark = pytest.mark.services

ODD = "<img src=x onerror=\"document.title='owned'\">"
RECORD = {
    "object": "request", "id": "r", "created": 1.0, "key": None, "call": None, "endpoint": "chat", "model": "fast",
    "provider": "b", "target": "b/small", "stream": True, "status": 200, "outcome": "done", "error": None,
    "duration": 0.9, "headers": 0.6, "first_token": 0.6, "usage": None, "cost": 0.00042,
    "filler": {"at": 0.3, "text": "One moment."}, "hung_up_at": None, "tokens_saved": None,
    "attempts": [
        {"target": f"a/{ODD}", "provider": "a", "model": "big", "why": "first", "started": 0.0, "headers": None,
         "first_token": None, "ended": 0.4, "outcome": "failed", "status": 503, "error": "down", "deadline": 0.35,
         "tokens": None, "cost": None},
        {"target": "b/small", "provider": "b", "model": "small", "why": "fallback", "started": 0.4, "headers": 0.5,
         "first_token": 0.6, "ended": 0.9, "outcome": "answered", "status": 200, "error": None, "deadline": None,
         "tokens": 14, "cost": 0.00042},
    ],
    "marks": [{"at": 0.3, "kind": "filler", "text": "One moment."}, {"at": 0.4, "kind": "fallback", "text": "b/small"}],
}  # fmt: skip
"""A record as /v1/requests/{id} has it, of a failover."""

FAILOVER = """
models:
  - {name: fast, provider: openai, model: gpt-4o-mini, fallbacks: [spare], ttft_timeout_ms: 300}
  - {name: spare, provider: demo, model: demo, price: {prompt: 1, completion: 2}}
"""

Open = Callable[..., Page]


def address(app: Served) -> str:
    return f"http://127.0.0.1:{app.port}"


def say(page: Page, words: str) -> None:
    expect(page.locator("#send")).to_be_enabled()
    page.fill("#message", words)
    page.press("#message", "Enter")


def done(page: Page, how: str = "done") -> None:
    expect(page.locator(".message.assistant .meta span").last).to_contain_text(how)


def marks(page: Page) -> list[str | None]:
    found = page.locator("#timeline .mark")
    return [found.nth(at).get_attribute("data-name") for at in range(found.count())]


def test_a_turn_by_text_and_its_time_line(serve: Callable[..., Served], tab: Open) -> None:
    page = tab(address(serve(DEMO_PACE_MS=10)))
    say(page, "Say: One moment, please. I am looking it up.")
    done(page)
    expect(page.locator(".message.assistant .words")).to_have_text("One moment, please. I am looking it up.")
    assert {"Sent", "Headers", "First token", "First sentence", "Last token"} <= set(marks(page))
    expect(page.locator("#timeline .tick")).to_have_count(8)
    assert "I am looking it up." in str(page.locator("#announced").text_content())
    expect(page.locator("#frames li").last).to_contain_text("data: [DONE]")
    page.click("text=The same as a table")
    expect(page.locator("#timeline-table")).to_contain_text("a voice can begin")
    page.hover("#timeline .span.rest")
    expect(page.locator(".timeline-caption").first).to_contain_text("the rest of the answer")


def test_the_record_draws_attempts_and_marks(serve: Callable[..., Served], tab: Open) -> None:
    page = tab(address(serve(DEMO_PACE_MS=10)))
    page.route("**/v1/requests/*", lambda route: route.fulfill(json=RECORD))
    say(page, "Hello")
    done(page)
    expect(page.locator("#timeline .span.failed")).to_have_count(1)
    expect(page.locator("#timeline .span.answered")).to_have_count(1)
    assert {"Filler", "Fallback"} <= set(marks(page))
    page.click("text=The same as a table")
    expect(page.locator("#timeline-table")).to_contain_text("asked, because the one before failed")
    expect(page.locator("#figures")).to_contain_text("$0.00042")
    assert page.title() != "owned"


def test_a_failover_is_seen(serve: Callable[..., Served], tab: Open, upstream: OpenAIUpstream, tmp_path: Path) -> None:
    """From the server's own record: the first model misses its deadline, the next one answers, and what it cost."""
    (tmp_path / "models.yaml").write_text(FAILOVER)
    app = serve(**upstream.settings(), MODELS_FILE=tmp_path / "models.yaml", DEMO_PACE_MS=5, DATA_DIR=tmp_path / "data")
    upstream.enqueue(ScriptedAnswer(delay=10))
    page = tab(address(app))
    expect(page.locator("#send")).to_be_enabled()
    page.select_option("#model", "fast")
    say(page, "Say: Good morning.")
    expect(page.locator("#timeline .span.answered")).to_have_count(1)
    assert {"Deadline", "Fallback"} <= set(marks(page))
    expect(page.locator("#timeline .name")).to_have_text(["openai/gpt-4o-mini", "demo/demo"])
    expect(page.locator("#figures")).to_contain_text("Cost")
    expect(page.locator("#figures")).to_contain_text("demo/demo")


def test_a_hang_up_is_seen_with_what_it_saved(
    serve: Callable[..., Served], tab: Open, upstream: OpenAIUpstream, tmp_path: Path
) -> None:
    app = serve(**upstream.settings(), DATA_DIR=tmp_path / "data")
    page = tab(address(app))
    upstream.enqueue(ScriptedAnswer(texts=["One "] * 30))
    say(page, "Hello")
    done(page)
    upstream.enqueue(ScriptedAnswer(texts=["One "] * 500, frame_delay=0.05))
    say(page, "Again")
    expect(page.locator(".message.assistant .words").last).to_contain_text("One One")
    page.click("#stop")
    until(lambda: "Hang-up" in marks(page), "the hang-up to be drawn")


def test_stop_frees_the_upstream(serve: Callable[..., Served], tab: Open, upstream: OpenAIUpstream) -> None:
    app = serve(**upstream.settings())
    upstream.enqueue(ScriptedAnswer(texts=["One "] * 500, frame_delay=0.05))
    page = tab(address(app))
    say(page, "Hello")
    expect(page.locator(".message.assistant .words")).to_contain_text("One One")
    page.keyboard.press("Escape")
    done(page, "stopped")
    app.logged("outcome=hung_up")
    assert upstream.received[-1].wait_closed(10)
    assert "Stopped" in marks(page)
    upstream.enqueue(ScriptedAnswer(texts=["Still here."]))
    say(page, "And now?")
    done(page)
    sent = json.loads(upstream.received[-1].body)["messages"]
    assert [each["role"] for each in sent] == ["system", "user", "assistant", "user"]


def test_a_stream_that_is_cut(serve: Callable[..., Served], tab: Open, upstream: OpenAIUpstream) -> None:
    """The failure is said, what came stays, and the next turn works."""
    app = serve(**upstream.settings())
    upstream.enqueue(ScriptedAnswer(fault=faults.reset))
    page = tab(address(app))
    say(page, "Hello")
    done(page, "failed")
    expect(page.locator(".message.assistant .failure")).not_to_be_empty()
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        headers={"Content-Type": "text/event-stream"},
        body='data: {"choices":[{"delta":{"content":"Half an "}}]}\n\ndata: {"choi'))  # fmt: skip
    say(page, "Again")
    done(page, "cut off")
    expect(page.locator(".message.assistant .words").last).to_have_text("Half an")
    page.unroute("**/v1/chat/completions")
    page.route("**/v1/chat/completions", lambda route: route.abort())
    say(page, "Once more")
    expect(page.locator(".message.assistant .failure").last).to_contain_text("cannot be reached")
    page.unroute("**/v1/chat/completions")
    upstream.enqueue(ScriptedAnswer(texts=["Fine."]))
    say(page, "Well?")
    done(page)


@pytest.mark.parametrize("typed", ["", "sk-something-wrong-9f3c", "schlüssel-ŵrong-9f3c"])
def test_a_missing_and_a_wrong_key(serve: Callable[..., Served], tab: Open, typed: str) -> None:
    page = tab(address(serve(API_KEY="right-key")))
    expect(page.locator("#notices")).to_contain_text("wants a key")
    expect(page.locator("#send")).to_be_disabled()
    if typed:
        page.fill("#key", typed)
        page.press("#key", "Tab")
        expect(page.locator("#notices")).to_contain_text(f"The key {typed[:3]}...9f3c was refused")
        assert typed not in page.content()
    page.fill("#key", "right-key")
    page.press("#key", "Tab")
    say(page, "Hello")
    done(page)
    page.reload()
    expect(page.locator("#send")).to_be_enabled()
    assert page.evaluate("Object.keys(localStorage).length") == 0
    assert "right-key" not in page.url


def test_a_first_visit_helps(serve: Callable[..., Served], tab: Open) -> None:
    page = tab(address(serve()))
    notice = page.locator(".notice")
    expect(notice).to_contain_text("No provider is configured")
    notice.locator("summary").click()
    expect(notice.locator("tr").first).to_contain_text("Needs OPENAI_API_KEY")


def test_with_a_provider_there_is_nothing_to_say(
    serve: Callable[..., Served], tab: Open, upstream: OpenAIUpstream
) -> None:
    page = tab(address(serve(**upstream.settings())))
    expect(page.locator("#send")).to_be_enabled()
    expect(page.locator(".notice")).to_have_count(0)
    expect(page.locator("#model option")).to_contain_text(["gpt-4o-mini"])


def test_html_is_shown_as_text(serve: Callable[..., Served], tab: Open) -> None:
    with OpenAIUpstream(strict=False, models=[ODD, "plain"]) as upstream:
        app = serve(**upstream.settings())
        page = tab(address(app))
        expect(page.locator("#send")).to_be_enabled()
        page.select_option("#model", ODD)
        upstream.enqueue(ScriptedAnswer(texts=[ODD, " <script>document.title='owned'</script>. "]))
        say(page, ODD)
        done(page)
        expect(page.locator(".message.assistant .words")).to_contain_text("<script>")
        upstream.enqueue(ScriptedAnswer(status=400, error={"message": ODD, "type": "invalid_request_error"}))
        say(page, "Hello")
        done(page, "failed")
        expect(page.locator(".failure").last).to_contain_text("<img")
        assert page.title() != "owned"
        assert page.locator("main img[src=x]").count() == 0


def test_a_tool_is_called_and_its_result_typed(serve: Callable[..., Served], tab: Open) -> None:
    page = tab(address(serve(DEMO_PACE_MS=5)))
    expect(page.locator("#send")).to_be_enabled()
    page.click("#tools-panel summary")
    page.click("#add-tool")
    page.get_by_label("Its result").fill("")
    say(page, "How is the weather in Lisbon?")
    card = page.get_by_role("group", name="Call of get_weather")
    expect(card.get_by_label("city: The city")).to_have_value(re.compile("."))
    card.get_by_label("Result").fill('{"sky": "blue"}')
    card.get_by_role("button", name="Send the result").click()
    expect(page.locator(".message.assistant .words").last).to_contain_text('"sky": "blue"')
    page.get_by_label("Its result").fill("sunny")
    say(page, "And the weather in Rome?")
    expect(page.locator(".message.assistant .words").last).to_contain_text("The tool says: sunny")
    page.get_by_label("Parameters").fill("{")
    say(page, "Again")
    expect(page.locator("#notices")).to_contain_text("no JSON object")


def test_who_goes_on_without_a_result(serve: Callable[..., Served], tab: Open, upstream: OpenAIUpstream) -> None:
    page = tab(address(serve(**upstream.settings())))
    expect(page.locator("#send")).to_be_enabled()
    page.click("#tools-panel summary")
    page.click("#add-tool")
    page.get_by_label("Its result").fill("")
    upstream.enqueue(ScriptedAnswer(calls=[("call_1", "get_weather", ['{"city": "Rome"}'])]))
    say(page, "How is the weather?")
    expect(page.locator(".call")).to_have_count(1)
    upstream.enqueue(ScriptedAnswer(texts=["As you like."]))
    say(page, "Never mind")
    expect(page.locator(".message.assistant .words").last).to_have_text("As you like.")
    expect(page.get_by_role("button", name="Send the result")).to_be_disabled()
    roles = [each["role"] for each in json.loads(upstream.received[-1].body)["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "user"]


def test_a_new_conversation_in_the_middle_of_an_answer(serve: Callable[..., Served], tab: Open) -> None:
    app = serve(DEMO_PACE_MS=50)
    page = tab(address(app))
    say(page, "Say 300 words")
    expect(page.locator(".message.assistant .words")).to_contain_text("This is")
    page.click("#clear")
    expect(page.locator(".message")).to_have_count(0)
    app.logged("outcome=hung_up")
    with page.expect_request("**/v1/chat/completions") as asked:
        say(page, "Hello")
    assert [each["role"] for each in asked.value.post_data_json["messages"]] == ["system", "user"]


def test_an_image_goes_along(serve: Callable[..., Served], tab: Open, tmp_path: Path) -> None:
    picture = tmp_path / "dot.svg"
    picture.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>')
    page = tab(address(serve(DEMO_PACE_MS=5)))
    page.set_input_files("#image", picture)
    expect(page.locator("#attached")).to_be_visible()
    say(page, "Look at this")
    expect(page.locator(".message.assistant .words")).to_contain_text("I also got 1 image")
    expect(page.locator("#attached")).to_be_hidden()


def test_files_of_a_turn(serve: Callable[..., Served], tab: Open) -> None:
    page = tab(address(serve(DEMO_PACE_MS=5)))
    page.fill("#key", "sk-not-in-any-file")
    say(page, "Hello")
    done(page)
    with page.expect_download() as saved:
        page.click("#save-json")
    turn: Any = json.loads(Path(saved.value.path()).read_text())
    assert turn["outcome"] == "done"
    assert 0 < turn["firstToken"] <= turn["firstSentence"] <= turn["ended"]
    assert len(turn["frames"]) > 3
    assert "sk-not-in-any-file" not in json.dumps(turn)
    with page.expect_download() as saved:
        page.click("#save-png")
    assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")


def test_a_latency_report_becomes_a_bar(serve: Callable[..., Served], tab: Open) -> None:
    page = tab(address(serve(DEMO_PACE_MS=5)))
    say(page, "Hello")
    done(page)
    page.click("text=Add a latency report")
    page.fill("#report", '{"type": "LatencyReport", "stt_latency": 0.2, "ttt_text_latency": 0.5, "tts_latency": 0.2, '
              '"total_latency": 1.2}')  # fmt: skip
    expect(page.locator("#report-chart .span")).to_have_count(5)
    expect(page.locator("#report-chart table")).to_contain_text("First sound")
    for wrong in ("{", "[]", '{"stt_latency": "<b>"}', "null"):
        page.fill("#report", wrong)
        expect(page.locator("#report-hint")).to_contain_text(re.compile("no JSON|has none of"))
        expect(page.locator("#report-chart .span")).to_have_count(0)


def test_settings_to_copy(serve: Callable[..., Served], tab: Open) -> None:
    app = serve()
    page = tab(address(app))
    expect(page.locator("#send")).to_be_enabled()
    page.click("#recipes-panel summary")
    for name in page.locator("#recipe option").all_text_contents():
        page.select_option("#recipe", label=name)
        text = str(page.locator("#recipe-text").text_content())
        assert f"127.0.0.1:{app.port}" in text, name
        assert "demo" in text, name
        assert "YOUR-KEY" in text + str(page.locator("#recipe-hint").text_content()) or "Twilio" in name
    page.select_option("#recipe", label="Deepgram Voice Agent")
    expect(page.locator("#recipe-hint")).to_contain_text("needs a public one")
    think = json.loads(str(page.locator("#recipe-text").text_content()))["think"]
    assert think["endpoint"]["url"].endswith("/v1/chat/completions")


def test_try_it_fills_the_page_and_sends_nothing(serve: Callable[..., Served], tab: Open) -> None:
    app = serve()
    page = tab(f"{address(app)}/docs")
    page.locator(".try a").first.click()
    expect(page.locator("#message")).not_to_have_value("")
    expect(page.locator(".message")).to_have_count(0)
    for odd in ("%7B", "%", "%5B%5D", "null", "%7B%22messages%22%3A%7B%7D%2C%22tools%22%3A%5B1%5D%7D"):
        page.goto(f"{address(app)}/?{odd}#try={odd}")
        say(page, "Hello")
        done(page)
    assert "path=chat" in app.log()


def test_on_a_phone_nothing_is_wider_than_the_screen(serve: Callable[..., Served], tab: Open) -> None:
    app = serve(DEMO_PACE_MS=5)
    page = tab(address(app), viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    say(page, "Say: " + "x" * 300)
    done(page)
    page.click("#recipes-panel summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for path in ("/docs", "/docs/guide/reference/settings", "/docs/guide/clients/others", "/compare", "/live"):
        page.goto(address(app) + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    page.goto(f"{address(app)}/docs")
    expect(page.locator("#menu nav")).to_be_hidden()
    page.click("#menu summary")
    expect(page.locator("#menu nav")).to_be_visible()


def test_many_frames_do_not_hold_the_page_up(serve: Callable[..., Served], tab: Open) -> None:
    page = tab(address(serve(DEMO_PACE_MS=0)))
    say(page, "Say 4000 words")
    done(page)
    assert page.locator("#frames li").count() <= 1000
    until(lambda: page.locator("#timeline .tick").count() > 1000, "the ticks to be drawn")
