"""Web pages that may call: preflights are answered, unlisted pages get nothing, `*` never goes with a login."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.http import HI, openai_error

PAGE, OTHER = "https://app.example", "https://evil.example"
CHAT = "/v1/chat/completions"
ASKED = (
    "authorization, content-type, x-api-key, x-request-id, x-stainless-arch, x-stainless-lang, x-stainless-os, "
    "x-stainless-package-version, x-stainless-retry-count, x-stainless-runtime, x-stainless-runtime-version, "
    "x-stainless-timeout, openai-organization, ngrok-skip-browser-warning"
)
"""What the OpenAI package for browsers and a page behind ngrok ask for."""


@pytest.fixture
def client(app_with: Callable[..., Any]) -> Any:
    return app_with(ALLOWED_ORIGINS=f"{PAGE}, http://localhost:3000", API_KEY="secret", DEMO_PACE_MS=0)


def preflight(client: Any, origin: str, path: str = CHAT, method: str = "POST", headers: str = ASKED) -> Any:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return client.options(path, headers=asked)


def cors(response: Any) -> dict[str, str]:
    return {name: value for name, value in response.headers if name.startswith("Access-Control-")}


def header_values(value: str) -> set[str]:
    return {each.strip().lower() for each in value.split(",")}


@pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000"])
@pytest.mark.parametrize(
    ("path", "method"), [(CHAT, "POST"), ("/v1/embeddings", "POST"), ("/v1/models", "GET"), ("/models/a/b", "GET")]
)
def test_a_listed_page_may_call_after_its_preflight(client: Any, origin: str, path: str, method: str) -> None:
    """A preflight carries no key, and gets every header that clients send."""
    response = preflight(client, origin, path, method)
    assert response.status_code in (200, 204)
    assert response.headers["Access-Control-Allow-Origin"] == origin
    assert method in response.headers["Access-Control-Allow-Methods"]
    assert header_values(ASKED) <= header_values(response.headers["Access-Control-Allow-Headers"])
    assert "Access-Control-Allow-Credentials" not in response.headers
    assert int(response.headers["Access-Control-Max-Age"]) > 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_listed_page_may_read_the_answer(client: Any, stream: bool) -> None:
    headers = {"Origin": PAGE, "Authorization": "Bearer secret"}
    response = client.post(CHAT, json={"messages": HI, "stream": stream}, headers=headers)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == PAGE
    assert "origin" in header_values(response.headers["Vary"]), "or a cache gives one page's answer to another"
    assert {"x-request-id", "retry-after"} <= header_values(response.headers["Access-Control-Expose-Headers"])


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("POST", CHAT, "", 401),
        ("POST", CHAT, "wrong", 401),
        ("POST", CHAT, "secret", 400),
        ("GET", "/v1/models/none", "secret", 404),
        ("GET", "/v1/nothing", "secret", 404),
        ("GET", CHAT, "secret", 405),
        ("GET", "/health", "", 200),
    ],
)
def test_a_listed_page_may_read_what_went_wrong(client: Any, method: str, path: str, key: str, status: int) -> None:
    """Otherwise the browser says "CORS error" for a wrong key."""
    response = client.open(path, method=method, headers={"Origin": PAGE, "Authorization": f"Bearer {key}"})
    assert response.status_code == status
    assert response.headers["Access-Control-Allow-Origin"] == PAGE


@pytest.mark.parametrize(
    "origin",
    [
        OTHER,
        "null",
        "https://app.example.evil.example",
        "https://evilapp.example",
        "https://app.example:8443",
        "http://app.example",
        "https://app-example",
        "https://APP.example.",
        "app.example",
        "*",
    ],
)
def test_an_unlisted_page_gets_no_header(client: Any, origin: str) -> None:
    assert cors(preflight(client, origin)) == {}
    headers = {"Origin": origin, "Authorization": "Bearer secret"}
    response = client.post(CHAT, json={"messages": HI}, headers=headers)
    assert not {"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"} & set(cors(response))


def test_without_the_setting_there_are_no_such_headers(app_with: Callable[..., Any]) -> None:
    client = app_with(API_KEY="secret")
    assert cors(preflight(client, PAGE)) == {}
    headers = {"Origin": PAGE, "Authorization": "Bearer secret"}
    assert cors(client.get("/v1/models", headers=headers)) == {}


@pytest.mark.parametrize("origin", [PAGE, OTHER, "null"])
def test_every_page_if_that_is_wanted_but_never_with_a_login(app_with: Callable[..., Any], origin: str) -> None:
    """Never `*` with credentials."""
    client = app_with(ALLOWED_ORIGINS="*", API_KEY="secret")
    found = [
        preflight(client, origin),
        client.get("/v1/models", headers={"Origin": origin, "Authorization": "Bearer secret"}),
    ]
    for response in found:
        assert response.status_code == 200
        assert response.headers["Access-Control-Allow-Origin"] in ("*", origin)
        assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize(
    ("listed", "others"),
    [
        ("https://a.b.example", ["https://aXb.example", "https://a.bXexample", "https://a.b.example.evil.example"]),
        ("http://[::1]", ["http://1.evil.example", "http://:", "http://[::1].evil.example", "http://[::1"]),
        ("http://[::1]:3000", ["http://1:3000", "http://::3000.evil.example"]),
        ("https://app.example", ["https://app.example:1", "https://app.example/", "https://app.exampl", "HTTPS://APP.EXAMPLE"]),
        ("https://access.example", ["https://acce\u00df.example", "https://access.example\n"]),
        ("https://app_1.example", ["https://app_1_example", "https://app_12.example"]),
    ],
)  # fmt: skip
def test_an_origin_is_a_text_and_no_pattern(app_with: Callable[..., Any], listed: str, others: list[str]) -> None:
    """`http://[::1]` was taken for a pattern, and let in any origin that begins with http://1."""
    client = app_with(ALLOWED_ORIGINS=listed, API_KEY="secret")
    assert cors(preflight(client, listed))["Access-Control-Allow-Origin"] == listed
    for origin in [*others, f"https://evil.example/?{listed}", f"x{listed}"]:
        environ = {"HTTP_ORIGIN": origin, "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST"}
        assert cors(client.options(CHAT, environ_overrides=environ)) == {}, origin


def test_an_origin_may_be_written_in_capitals(app_with: Callable[..., Any]) -> None:
    """Browsers send it without them."""
    client = app_with(ALLOWED_ORIGINS="https://App.Example")
    response = client.get("/v1/models", headers={"Origin": PAGE})
    assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (200, PAGE)


def test_a_preflight_spends_nothing_and_opens_nothing(client: Any) -> None:
    """It needs no key, and what follows does."""
    assert preflight(client, PAGE).data == b""
    response = client.post(CHAT, json={"messages": HI}, headers={"Origin": PAGE})
    assert openai_error(response, 401)["code"] == "missing_api_key"


def test_without_a_key_a_listed_page_is_served(app_with: Callable[..., Any]) -> None:
    """The pages of ALLOWED_ORIGINS, in a browser on this machine."""
    client = app_with(ALLOWED_ORIGINS=PAGE)
    assert preflight(client, PAGE).headers["Access-Control-Allow-Origin"] == PAGE
    assert client.post(CHAT, json={"messages": HI}, headers={"Origin": PAGE}).status_code == 200
    openai_error(client.post(CHAT, json={"messages": HI}, headers={"Origin": OTHER}), 401)
