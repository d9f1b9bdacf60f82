"""Which requests are served: with keys set, those with a key; without, those from this machine."""

import hmac
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import product
from typing import Any

import pytest
from openai import AuthenticationError, OpenAI

from tests.conftest import EVER, Served, served
from tests.support.frames import chat_body, post
from tests.support.http import HI, assert_error, exchange, head, openai_error

KEYS = {"API_KEY": "first-secret", "API_KEYS": "phone:second-secret,third-secret"}
SECRETS = ("first-secret", "second-secret", "third-secret")
WRONG = (
    "first-secreT",
    "first-secre",
    "first-secret2",
    "irst-secret",
    "phone:second-secret",
    "phone",
    "first-secret,third-secret",
    "first-secret second-secret",
    "*",
    "null",
    "üñî",
    "first-secret\u00a0x",
    "x" * 5000,
)
GUARDED = (
    ("POST", "/v1/chat/completions"),
    ("POST", "/chat/completions"),
    ("POST", "/v1/v1/chat/completions"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/models/demo"),
    ("HEAD", "/v1/models"),
    ("GET", "/v1/providers"),
)
OPEN = ("/health", "/v1/health", "/ready", "/v1/ready", "/openapi.json", "/web/base.css")
PAGES = ("/", "/compare", "/live", "/docs", "/docs/schemas", "/docs/guide/quickstart")
FORWARDING = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Host": "abc.ngrok-free.app",
    "X-Forwarded-Proto": "https",
    "Forwarded": "for=203.0.113.9",
    "X-Real-IP": "203.0.113.9",
    "Via": "1.1 proxy",
    "CF-Connecting-IP": "203.0.113.9",
    "CF-Ray": "8a1b2c3d4e5f-FRA",
    "CDN-Loop": "cloudflare",
    "True-Client-IP": "203.0.113.9",
    "Fastly-Client-IP": "203.0.113.9",
    "Fastly-FF": "cache-fra",
    "Fly-Client-IP": "203.0.113.9",
    "X-Amzn-Trace-Id": "Root=1-67891233-abcdef012345678912345678",
    "X-Amz-Cf-Id": "abc==",
    "X-Envoy-External-Address": "203.0.113.9",
    "X-Original-URL": "/v1/models",
    "X-Originating-IP": "203.0.113.9",
    "X-Cloud-Trace-Context": "105445aa7843bc8bf206b12000100000/1;o=1",
    "X-Azure-ClientIP": "203.0.113.9",
    "X-Client-IP": "203.0.113.9",
    "X-Cluster-Client-IP": "203.0.113.9",
    "X-Vercel-Id": "fra1::abc",
    "X-NF-Client-Connection-IP": "203.0.113.9",
    "X-ProxyUser-Ip": "203.0.113.9",
    "Tailscale-User-Login": "me@example.com",
    "ngrok-skip-browser-warning": "1",
}
OF_CLIENTS = {
    "User-Agent": "OpenAI/Python 2.9.0",
    "Accept": "*/*",
    "X-Stainless-Lang": "python",
    "X-Stainless-Retry-Count": "0",
    "X-Session-Id": "a",
    "X-Request-Id": "a",
    "X-API-Key": "a",
    "X-Title": "a page",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "Sec-Fetch-Mode": "cors",
    "Cookie": "via=1; x-forwarded-for=2",
    "Referer": "http://localhost/via",
}
OTHER_HOSTS = (
    "abc.ngrok-free.app",
    "example.com:8000",
    "192.168.1.20:8000",
    "localhost.example.com",
    "127.0.0.1.nip.io",
    "127.0.0.1%00.example.com",
    "[::ffff:8.8.8.8]",
)
THIS_HOST = ("localhost", "localhost:8000", "127.0.0.1:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST:8000")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """gunicorn with three keys, logging all it can."""
    log = tmp_path_factory.mktemp("served") / "log"
    with served(log, DEMO_PACE_MS=0, LOG_LEVEL="TRACE", **KEYS) as app:
        yield app


# with keys


@pytest.mark.parametrize("key", SECRETS)
@pytest.mark.parametrize(
    "headers",
    [
        bearer,
        lambda key: {"Authorization": f"bEARER  {key} "},
        lambda key: {"Authorization": key},
        lambda key: {"x-api-key": key},
        lambda key: {"api-key": key},
        lambda key: {"api-key": key, "Authorization": "Basic c29tZWJvZHk6ZWxzZQ=="},
    ],
    ids=["Bearer", "bEARER", "no scheme", "x-api-key", "api-key", "behind Basic"],
)
def test_each_key_opens_in_each_form(app_with: Callable[..., Any], headers: Callable[[str], Any], key: str) -> None:
    client = app_with(**KEYS)
    assert client.post("/v1/chat/completions", json={"messages": HI}, headers=headers(key)).status_code == 200


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_without_a_key_nothing_that_costs_is_open(app_with: Callable[..., Any], method: str, path: str) -> None:
    response = app_with(**KEYS).open(path, method=method, json={"messages": HI})
    assert response.status_code == 401
    if method != "HEAD":
        details = openai_error(response, 401)
        assert details["code"] == "missing_api_key"
        assert "Authorization: Bearer" in details["message"]


@pytest.mark.parametrize("path", OPEN + PAGES)
def test_what_tells_nothing_is_open(app_with: Callable[..., Any], path: str) -> None:
    assert app_with(**KEYS).get(path).status_code in (200, 302)


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_key_is_refused_and_not_repeated(app_with: Callable[..., Any], key: str) -> None:
    for headers in (bearer(key), {"Authorization": key}, {"x-api-key": key}, {"api-key": key}):
        details = openai_error(app_with(**KEYS).get("/v1/models", headers=headers), 401)
        assert details["code"] == "invalid_api_key"
        assert details["type"] == "invalid_request_error"
        assert len(key) < 5 or key not in details["message"]


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Basic Zmlyc3Qtc2VjcmV0", "first-secre", "Token first-secret", "Bearerfirst-secret"],
)
def test_what_is_no_bearer_is_no_key(app_with: Callable[..., Any], value: str) -> None:
    openai_error(app_with(**KEYS).get("/v1/models", headers={"Authorization": value}), 401)


def test_a_key_is_no_query(app_with: Callable[..., Any]) -> None:
    """Addresses end up in logs."""
    openai_error(app_with(**KEYS).get("/v1/models?api_key=first-secret&key=first-secret"), 401)


def test_where_keys_are_set_this_machine_needs_one_too(app_with: Callable[..., Any]) -> None:
    openai_error(app_with(API_KEY="first-secret").get("/v1/models"), 401)
    openai_error(app_with(API_KEY="first-secret", ALLOW_ANONYMOUS=True).get("/v1/models"), 401)


def test_with_a_key_a_tunnel_is_welcome(app_with: Callable[..., Any]) -> None:
    client = app_with(**KEYS)
    for name, value in FORWARDING.items():
        headers = {**bearer("first-secret"), name: value, "Host": "abc.ngrok-free.app", "Origin": "https://a.example"}
        assert client.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize("given", [*SECRETS, "wrong", "first-secre", "ü"])
def test_keys_are_compared_by_their_digests_in_constant_time(
    app_with: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """Whichever key matches, or none: one comparison of two digests, and no text of a key."""
    compared: list[tuple[int, bytes]] = []
    compare = hmac.compare_digest

    def noted(known: bytes, other: bytes) -> bool:
        compared.append((len(known), other))
        return compare(known, other)

    client = app_with(**KEYS)
    monkeypatch.setattr("hmac.compare_digest", noted)
    client.get("/v1/models", headers=bearer(given))
    assert compared == [(32, sha256(given.encode("latin-1")).digest())]


def test_the_name_of_the_key_is_in_the_log_and_the_keys_are_not(keyed: Served) -> None:
    """Keys are not in logs, even at TRACE, and wherever the caller puts them."""
    said = "the key is second-secret and Bearer unknown-secret-123"
    for headers in (bearer("second-secret"), {"x-api-key": "third-secret"}):
        assert post(keyed.port, chat_body(said), headers=headers)[0] == 200
    for headers in (bearer("guessed-wrongly-1"), {"x-api-key": "guessed-wrongly-2"}):
        assert post(keyed.port, chat_body(), headers=headers)[0] == 401
    body = chat_body(model="third-secret", provider="first-secret")
    assert post(keyed.port, body, headers=bearer("first-secret"))[0] == 400
    keyed.logged("caller=phone")
    keyed.logged("caller=key2")
    keyed.logged("payload=.*the key is")
    keyed.logged("code=unknown_provider")
    log = keyed.log()
    for secret in (*SECRETS, "guessed-wrongly", "unknown-secret-123"):
        assert secret not in log


def test_the_openai_client_raises_its_own_error(keyed: Served) -> None:
    def models(key: str) -> Any:
        with OpenAI(base_url=keyed.url, api_key=key, max_retries=0, timeout=EVER) as client:
            return client.models.list()

    assert models("first-secret").data
    with pytest.raises(AuthenticationError) as caught:
        models("wrong")
    assert caught.value.code == "invalid_api_key"
    assert caught.value.type == "invalid_request_error"


def test_a_key_of_other_letters(serve: Callable[..., Served]) -> None:
    """API_KEY is any text: curl sends it as UTF-8, fetch and requests as Latin-1."""
    app = serve(API_KEYS="one:schlüssel,other:voilà")
    for key, encoding in product(("schlüssel", "voilà"), ("utf-8", "latin-1")):
        line = f"Authorization: Bearer {key}".encode(encoding)
        request = head(path="/v1/models", method="GET").replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n")
        assert exchange(app.port, request, "GET")[0] == 200, (key, encoding)


@pytest.mark.parametrize("line", [b"Bearer \xff\xfe\xe9", b"Bearer " + b"\xc3\xbc" * 50, b"Bearer \xed\xa0\x80"])
def test_a_key_of_any_bytes_is_only_wrong(keyed: Served, line: bytes) -> None:
    request = head(path="/v1/models", method="GET").replace(
        b"\r\n\r\n", b"\r\nAuthorization: " + line + b"\r\nx-api-key: " + line + b"\r\n\r\n"
    )
    status, headers, body = exchange(keyed.port, request, "GET")
    assert assert_error(status, headers, body, 401)["code"] == "invalid_api_key"


# without keys


@pytest.mark.parametrize("host", THIS_HOST)
def test_this_machine_is_served(app_with: Callable[..., Any], host: str) -> None:
    """Without a key, requests from this machine are served."""
    for address in ("127.0.0.1", "127.0.0.53", "::1"):
        response = app_with().get("/v1/models", headers={"Host": host}, environ_base={"REMOTE_ADDR": address})
        assert response.status_code == 200, address


def assert_names_the_header(response: Any) -> None:
    details = openai_error(response, 401)
    assert details["code"] == "missing_api_key"
    assert "API_KEY" in details["message"], "it must say what to set"
    assert "Authorization: Bearer" in details["message"], "and what to send"


@pytest.mark.parametrize("name", FORWARDING)
@pytest.mark.parametrize("value", ["as it comes", ""])
def test_a_forwarded_request_is_told_how_to_set_a_key(app_with: Callable[..., Any], name: str, value: str) -> None:
    """A tunnel never publishes somebody's cloud account."""
    headers = {name: value and FORWARDING[name]}
    assert_names_the_header(app_with().post("/v1/chat/completions", json={"messages": HI}, headers=headers))
    assert_names_the_header(app_with(ALLOWED_ORIGINS="https://a.example").get("/v1/models", headers=headers))


def test_what_clients_send_of_themselves_is_not_forwarded(app_with: Callable[..., Any]) -> None:
    assert app_with().get("/v1/models", headers=OF_CLIENTS).status_code == 200


@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_a_foreign_host_is_told_how_to_set_a_key(app_with: Callable[..., Any], host: str) -> None:
    """No web page reaches in by a name that its owner lets point here (DNS rebinding)."""
    assert_names_the_header(app_with().get("/v1/models", headers={"Host": host}))


@pytest.mark.parametrize("address", ["203.0.113.9", "192.168.1.20", "2001:db8::1", "", "garbage", "::ffff:203.0.113.9"])
def test_another_machine_is_told_how_to_set_a_key(app_with: Callable[..., Any], address: str) -> None:
    assert_names_the_header(app_with().get("/v1/models", environ_base={"REMOTE_ADDR": address}))


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost.evil.example",
        "null",
        "https://evil.example:8000",
        "file://",
        "garbage",
        "https://[bad",
        "https://a.example@evil.example",
    ],
)
def test_a_foreign_page_is_told_how_to_set_a_key(app_with: Callable[..., Any], origin: str) -> None:
    """A page that somebody opens on this machine must not spend this machine's account."""
    client = app_with(ALLOWED_ORIGINS="https://a.example")
    assert_names_the_header(client.post("/v1/chat/completions", data=b'{"messages": []}', headers={"Origin": origin}))


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "http://127.0.0.1:8000", "http://[::1]", "https://a.example"]
)
def test_a_page_of_this_machine_or_an_allowed_one_is_served(app_with: Callable[..., Any], origin: str) -> None:
    client = app_with(ALLOWED_ORIGINS="https://a.example")
    assert client.get("/v1/models", headers={"Origin": origin}).status_code == 200


@pytest.mark.parametrize("path", OPEN)
def test_health_is_open_through_a_tunnel_too(app_with: Callable[..., Any], path: str) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9", "Host": "abc.ngrok-free.app"}
    assert app_with().get(path, headers=headers).status_code in (200, 302)


@pytest.mark.parametrize("path", PAGES)
def test_without_a_key_the_pages_are_for_this_machine_alone(app_with: Callable[..., Any], path: str) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9", "Host": "abc.ngrok-free.app"}
    assert app_with().get(path).status_code == 200
    openai_error(app_with().get(path, headers=headers), 401)
    assert app_with(ALLOW_ANONYMOUS=True).get(path, headers=headers).status_code == 200


def test_everybody_is_served_if_that_is_wanted(app_with: Callable[..., Any]) -> None:
    client = app_with(ALLOW_ANONYMOUS=True)
    for headers in ({}, FORWARDING, {"Host": "example.com"}, {"Origin": "https://evil.example"}, bearer("anything")):
        response = client.get("/v1/models", headers=headers, environ_base={"REMOTE_ADDR": "203.0.113.9"})
        assert response.status_code == 200


def test_a_tunnel_to_the_real_server(serve: Callable[..., Served]) -> None:
    """Over real sockets, without a configured key: a request as ngrok passes it on, and one without Host."""
    app = serve(DEMO_PACE_MS=0)
    assert post(app.port, chat_body())[0] == 200
    status, headers, body = post(app.port, chat_body(), headers={"X-Forwarded-For": "203.0.113.9"})
    assert "API_KEY" in assert_error(status, headers, body, 401)["message"]
    # The last one is how nginx asks whom it stands before, unless it is told otherwise.
    for line in (
        b"GET /v1/models HTTP/1.1",
        b"GET /v1/models HTTP/1.0",
        b"GET /v1/models HTTP/1.0\r\nHost: 127.0.0.1:8000",
    ):
        status, headers, body = exchange(app.port, line + b"\r\n\r\n", "GET")
        assert "API_KEY" in assert_error(status, headers, body, 401)["message"]


def test_no_page_steals_a_key_by_a_cookie(app_with: Callable[..., Any]) -> None:
    client = app_with(**KEYS)
    client.set_cookie("api_key", "first-secret")
    client.set_cookie("Authorization", "Bearer first-secret")
    openai_error(client.get("/v1/models"), 401)


def test_question_marks_are_no_key_of_other_letters(app_with: Callable[..., Any]) -> None:
    """What cannot be spelled in Latin-1 is not spelled otherwise."""
    client = app_with(API_KEY="日本語")
    assert client.get("/v1/models", headers={"Authorization": "Bearer ???"}).status_code == 401
