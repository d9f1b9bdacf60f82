"""The pages as they are sent: their guards, their size, PAGES=false, the guides."""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from app import create_app
from config import Settings
from tests.conftest import ROOT, environment
from views import guides

PAGES = ("/", "/compare", "/live", "/docs", "/docs/schemas")
MOST_BYTES = 120_000


@pytest.fixture(scope="module")
def client() -> Any:
    return create_app(Settings.load(environment())).test_client()


@pytest.fixture(scope="module")
def get(client: Any) -> Callable[[str], Any]:
    """What is at an address; asked for once."""
    return cache(client.get)


def guide_pages() -> list[str]:
    return [each.address for each in guides.guides().values()]


@pytest.mark.parametrize("path", [*PAGES, "/docs/guide/quickstart"])
def test_a_page_is_sent_with_its_guards(get: Callable[[str], Any], path: str) -> None:
    headers = get(path).headers
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "microphone=(self)" in headers["Permissions-Policy"]
    policy = dict(each.split(" ", 1) for each in headers["Content-Security-Policy"].split("; "))
    assert next(iter(policy)) == "default-src"
    assert {policy[each] for each in ("default-src", "base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert {policy[each] for each in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert policy["img-src"] == "'self' data:"


@pytest.mark.parametrize("path", [*PAGES, *guide_pages()])
def test_a_page_is_whole_and_small(get: Callable[[str], Any], path: str) -> None:
    """With its scripts and styles, as they are sent without compression; nothing stands inline, nothing elsewhere."""
    html = get(path)
    assert html.status_code == 200
    assert not re.search(r"<style|<iframe| style=| on[a-z]+=|<script(?! type=\"module\" src=\"/web/)", html.text)
    waiting = re.findall(r'(?:src|stylesheet" href)="(/web/[^"]+)"', html.text)
    loaded: dict[str, bytes] = {}
    while waiting:
        address = waiting.pop()
        if address not in loaded:
            response = get(address)
            assert response.status_code == 200, address
            loaded[address] = response.data
            waiting += [f"/web/{name}" for name in re.findall(r'from "\./([\w.]+)"', response.text)]
    assert len(html.data) + sum(map(len, loaded.values())) < MOST_BYTES


def test_pages_false_hides_them_all(app_with: Any) -> None:
    client = app_with(PAGES=False)
    for path in (*PAGES, "/docs/guide/quickstart", "/web/base.css", "/v1/docs"):
        response = client.get(path)
        assert response.status_code == 404, path
        assert response.json["error"]["type"] == "invalid_request_error"
    assert client.get("/openapi.json").status_code == client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/web/docs.html", "/web/nothing.js", "/web/..%2fapp.py", "/web/%2e%2e/app.py", "/docs/guide/../../app.py",
        "/docs/guide/..%2f..%2fapp.py", "/docs/guide/..%2f.env", "/docs/guide/performance.json", "/docs/guide/nothing",
        "/docs/guide/clients/../../web/base.svg",
    ],
)  # fmt: skip
def test_nothing_else_is_served(client: Any, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_guides_are_the_pages_of_docs(get: Callable[[str], Any]) -> None:
    names = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert set(guides.guides()) == names
    for guide in guides.guides().values():
        html = get(guide.address).text
        title = re.match(r"# (.+)\n", (ROOT / "docs" / f"{guide.name}.md").read_text())
        assert title
        assert guide.title == title[1]
        assert f'href="{guide.address}" aria-current="page"' in html
        assert "&lt;img" not in html, "HTML in a guide page is not drawn: write Markdown"


@pytest.mark.parametrize("path", guide_pages())
def test_links_between_guides_lead_somewhere(get: Callable[[str], Any], path: str) -> None:
    html = get(path).text
    for link in re.findall(r'(?:href|src)="([^"]+)"', html):
        address, _, fragment = link.partition("#")
        if address.startswith("/"):
            response = get(address)
            assert response.status_code == 200, link
        if fragment and not link.startswith("http"):
            assert f'id="{fragment}"' in (response.text if address else html), link


def test_html_in_a_guide_is_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    text = "# A <b>page</b>\n\n<script>alert(1)</script>\n\n[x](javascript:alert(1)) ![y](data:text/html,z)\n"
    (tmp_path / "odd.md").write_text(text)
    monkeypatch.setattr(guides, "FOLDER", tmp_path)
    html = guides._guide("odd", ["odd"]).html
    assert not re.search(r"<script|<b>|href=\"javascript|src=\"data:text", html)
    assert "&lt;script&gt;" in html


def test_drawings_in_guides_come_with_a_policy_of_their_own(get: Callable[[str], Any]) -> None:
    response = get("/docs/guide/overview.svg")
    assert response.mimetype == "image/svg+xml"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_try_it_leads_to_the_playground(get: Callable[[str], Any]) -> None:
    assert len(re.findall(r'href="/#try=%7B', get("/docs").text)) >= 3
