"""MODEL_LIST_URL: what a list means, and how it is followed over real connections."""

import gzip
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import providers
from core.prices import Price
from dispatch.routing.config import SourceContents
from dispatch.sources.model_list import Limits, ModelList
from dispatch.sources.model_list_parser import parse_model_list
from tests.conftest import free_port, until
from tests.emulators.connection import Connection, Received
from tests.emulators.server import Server, certificate

URL = "https://api.example.com/models?tenant=hush"
TOKEN = "y0_secret-token"
SMALL = Limits(size=100_000)
HURRIED = Limits(total=0.5)
IMPATIENT = Limits(read=0.2)


def item(name: str = "gpt", handle: Any = "/openai/v1/chat/completions", **more: Any) -> dict[str, Any]:
    return {"model_version": name, "handle": handle, **more}


def read(*items: Any, url: str = URL) -> SourceContents:
    return parse_model_list({"models": list(items)}, url, TOKEN)


def names(found: SourceContents) -> list[str]:
    return [row.name for row in found.rows]


class Lines(logging.Handler):
    """What the log says, facts and tracebacks and all."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        facts = getattr(record, "facts", {})
        self.lines.append(f"{record.levelname} {record.getMessage()} {facts} {trace}")

    def warnings(self) -> list[str]:
        return [line for line in self.lines if not line.startswith(("DEBUG", "INFO"))]


@pytest.fixture(autouse=True)
def list_log() -> Iterator[Lines]:
    """The log of every test here; none may hold the token, nor a query."""
    logger, lines = logging.getLogger("thinkline.model_list"), Lines()
    before = logger.level
    others = [logging.getLogger("urllib3"), logging.getLogger("requests")]
    logger.setLevel(logging.DEBUG)
    for each in (logger, *others):
        each.addHandler(lines)
    yield lines
    logger.setLevel(before)
    for each in (logger, *others):
        each.removeHandler(lines)
    assert TOKEN not in "".join(lines.lines)
    assert "hush" not in "".join(lines.lines)


# What a list means


@pytest.mark.parametrize("wrap", [
    lambda items: {"models": items},
    lambda items: items,
    lambda items: {"response": {"models": items}},
    lambda items: {"response": items},
])  # fmt: skip
def test_each_form_of_a_list_is_read(wrap: Callable[[list[Any]], Any]) -> None:
    found = parse_model_list(wrap([item("a"), item("b")]), URL, TOKEN)
    assert names(found) == ["a", "b"]
    assert len(found.entries) == 1


@pytest.mark.parametrize("data", [None, 1, "models", {}, {"models": {}}, {"response": None}, {"error": "no"}])
def test_what_is_no_list_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="neither an array"):
        parse_model_list(data, URL, TOKEN)


def test_an_openai_shaped_row_is_callable() -> None:
    found = read(item("gpt-4o", prompt_price_1k=0.0025, completion_price_1k=0.01))
    (entry,), (row,) = found.entries, found.rows
    assert (entry.name, entry.kind, entry.available, entry.has_only_listed_models) == (
        "list-openai",
        "openai_compatible",
        True,
        True,
    )
    assert entry.options["base_url"] == "https://api.example.com/openai/v1"
    assert entry.options["api_key"] == TOKEN
    assert TOKEN not in repr(found)
    assert [(place.provider, place.model) for place in row.upstreams] == [("list-openai", "gpt-4o")]
    assert (row.price, row.owned_by, row.created) == (Price(2.5, 10.0), "openai", 0)


def test_the_token_goes_up_by_003s_scheme() -> None:
    vendor = read(item()).entries[0].options["vendor"]
    assert (vendor.key_header, vendor.key_scheme, vendor.keyless) == ("Authorization", "OAuth", True)


def test_the_address_is_the_lists_host_and_port_whatever_its_path() -> None:
    found = read(item(handle="/x/chat/completions?v=1"), url="http://[::1]:81/deep/models.json?a=b")
    assert found.entries[0].options["base_url"] == "http://[::1]:81/x?v=1"


@pytest.mark.parametrize(("handle", "kind", "path"), [
    ("/openai/v1/chat/completions", "openai_compatible", "/openai/v1"),
    ("/openai/v1/chat/completions/", "openai_compatible", "/openai/v1"),
    ("/chat/completions", "openai_compatible", ""),
    ("/google/v1beta/openai/chat/completions", "openai_compatible", "/google/v1beta/openai"),
    ("/cohere/compatibility/v1/chat/completions", "openai_compatible", "/cohere/compatibility/v1"),
    ("/anthropic/v1/messages", "anthropic", "/anthropic/v1/messages"),
    ("/raw/anthropic/messages/", "anthropic", "/raw/anthropic/messages"),
    ("/google/v1/models/gemini-2:generateContent", "gemini", "/google/v1"),
    ("/g/v1beta/models/x:streamGenerateContent", "gemini", "/g/v1beta"),
    ("/google/gemini", "gemini", "/google"),
    ("/cohere/v2/chat", "cohere", "/cohere"),
    ("/openai/v1/images/generations", "openai_compatible", "/openai/v1"),
    ("/ideogram/v1/ideogram-v3/generate", "ideogram", "/ideogram"),
    ("/raw/Ideogram/generate", "ideogram", "/raw/Ideogram"),
    ("/recraft/v1/images/generations", "recraft", "/recraft"),
    ("/recraft", "recraft", "/recraft"),
    ("/stability/v2/generate", "unknown", "/stability"),
    ("/messages", "unknown", "/messages"),
])  # fmt: skip
def test_the_dialect_follows_from_the_handle(handle: str, kind: str, path: str) -> None:
    (entry,) = read(item(handle=handle)).entries
    assert (entry.kind, entry.options["base_url"]) == (kind, f"https://api.example.com{path}")


def test_a_dialect_that_nobody_speaks_yet_is_listed_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatch.sources.model_list_parser.PROVIDERS", {"openai_compatible": "x"})
    found = read(item("claude", "/anthropic/v1/messages"), item("odd", "/stability/v2/generate"))
    assert names(found) == ["claude", "odd"]
    assert [entry.available for entry in found.entries] == [False, False]
    assert found.entries[0].missing == "a provider for the dialect 'anthropic' (not in this version)"
    assert "/stability/v2/generate" in found.entries[1].missing
    monkeypatch.setattr("dispatch.sources.model_list_parser.PROVIDERS", {"anthropic": "x"})
    assert read(item("claude", "/anthropic/v1/messages")).entries[0].available


def test_every_dialect_that_counts_as_spoken_can_be_built() -> None:
    """Who adds a provider for one of these dialects gives it the options it needs here."""
    handles = ("/o/chat/completions", "/anthropic/v1/messages", "/google/x", "/cohere/v2/chat", "/recraft/v1", "/any/x")
    found = read(*(item(f"m{number}", handle) for number, handle in enumerate(handles)))
    assert len(found.entries) == len(handles)
    for entry in found.entries:
        if entry.available:
            assert providers.build(entry.kind, dict(entry.options)).name == entry.name


def test_rows_of_one_address_share_an_entry_and_names_stay_apart() -> None:
    handles = ["/a/v1/chat/completions", "/a/v1/chat/completions", "/a/v2/chat/completions", "/a/v-2/chat/completions"]
    handles += ["/a/V-2/chat/completions", "/A/images/generations", "/chat/completions"]
    found = read(*(item(f"m{number}", handle) for number, handle in enumerate(handles)))
    known = [entry.name for entry in found.entries]
    assert known[:3] == ["list-a", "list-a-v2", "list-a-v-2"]
    assert len(known) == len(set(known)) == 6
    assert {row.upstreams[0].provider for row in found.rows} == set(known)


@pytest.mark.parametrize("mark", [
    {"available": False}, {"is_available": False}, {"enabled": False}, {"status": "unavailable"},
    {"status": "Disabled"}, {"status": "deprecated"}, {"availability": "unavailable"},
])  # fmt: skip
def test_rows_marked_unavailable_are_left_out_in_silence(mark: dict[str, Any], list_log: Lines) -> None:
    assert names(read(item("gone", **mark), item("here", available=True, status="active"))) == ["here"]
    assert not list_log.lines


ODD = [
    None, 1, "gpt", [], {}, {"handle": "/x/chat/completions"}, {"model_version": "x"}, item(""), item(" "),
    item(["x"]), item("x\n"), item("x" * 201), item(handle=None), item(handle=""), item(handle="x/chat/completions"),
    item(handle="https://evil.example/chat/completions"), item(handle="//evil.example/chat/completions"),
    item(handle="/\\evil.example/chat/completions"), item(handle="/x//chat/completions"),
    item(handle="/../chat/completions"), item(handle="/%2e%2e/chat/completions"), item(handle="@evil.example/x"),
    item(handle="/x\r\nHost: evil.example/chat/completions"), item(handle="/x%0d%0a/chat/completions"),
    item(handle="/x y/chat/completions"), item(handle="/x#/chat/completions"), item(handle="/é/chat/completions"),
    item(handle="/" + "x" * 1001),
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_row_is_left_out_and_said(odd: Any, list_log: Lines) -> None:
    assert names(read(odd, item("good"))) == ["good"]
    (line,) = list_log.lines
    assert "'left_out': 1" in line
    assert "row 1: " in line


def test_many_odd_rows_are_one_line(list_log: Lines) -> None:
    found = read(item("a"), item("a", "/fireworks/chat/completions"), *ODD)
    assert names(found) == ["a"]
    assert found.rows[0].upstreams[0].provider == "list-openai"
    (line,) = list_log.lines
    assert f"'left_out': {len(ODD) + 1}" in line
    assert "row 2: 'a' stands there twice" in line


@pytest.mark.parametrize(("handle", "family", "owner"), [
    ("/openai/v1/chat/completions", "gpt-4", "openai"),
    ("/fireworks/chat/completions", "fireworks", "fireworks"),
    ("/anthropic/v1/messages", "claude-3", "anthropic"),
    ("/internal/chat/completions", "gpt-4", "openai"),
    ("/gemini/v1/chat/completions", None, "google"),
    ("/gigachat/api/v1/chat/completions", "GigaChat", "gigachat"),
    ("/v1/chat/completions", 7, "api.example.com"),
])  # fmt: skip
def test_the_owner_is_inferred(handle: str, family: Any, owner: str) -> None:
    assert read(item(handle=handle, model_family=family)).rows[0].owned_by == owner


@pytest.mark.parametrize(("prompt", "completion", "price"), [
    (0.0007, 0, (0.7, 0)), ("0.1", 0.1, None), (0.1, None, None), (True, 1, None), (-1, 1, None), (1e300, 1, None),
])  # fmt: skip
def test_prices_are_per_million_tokens_when_they_are_numbers(prompt: Any, completion: Any, price: Any) -> None:
    assert read(item(prompt_price_1k=prompt, completion_price_1k=completion)).rows[0].price == (price and Price(*price))


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(
    st.sampled_from(["models", "response", "model_version", "handle", "status", "available"]), x))  # fmt: skip
HANDLES = st.text("/ab.:?%2e\\@#", max_size=12).map("/{}/chat/completions".format) | st.text() | JSON


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fixed_dictionaries({"model_version": st.text() | JSON, "handle": HANDLES}) | JSON) | JSON)
def test_no_list_at_all_leads_elsewhere(data: Any) -> None:
    try:
        found = parse_model_list(data, "http://127.0.0.1:9/models", "")
    except ValueError:
        return
    known = {entry.name for entry in found.entries}
    assert all(entry.options["base_url"].startswith("http://127.0.0.1:9") for entry in found.entries)
    for entry in found.entries:
        if entry.kind == "openai_compatible":
            assert providers.build(entry.kind, dict(entry.options))
            assert urlsplit(entry.options["base_url"]).netloc == "127.0.0.1:9"
    assert {row.upstreams[0].provider for row in found.rows} == known
    assert len(set(names(found))) == len(found.rows)


def test_ten_thousand_rows_each_elsewhere_take_no_age() -> None:
    """The name of each entry is found without trying those of all others."""
    found = read(*(item(f"m{n}", f"/same/chat/completions?{n}") for n in range(10_000)))
    assert len({entry.name for entry in found.entries}) == 10_000


# How it is followed


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def models(*known: str) -> bytes:
    return json.dumps({"models": [item(name) for name in known]}).encode()


GOOD = http(models("a", "b"))


class Listed:
    """A server whose answer can be changed, and what a ModelList makes of it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.answer: bytes | Callable[[Connection, Received], None] = GOOD
        self.folder = folder
        self.changes: list[SourceContents] = []
        self.server = stack.enter_context(Server(self._answer))
        self.url = f"{self.server.url}/models?tenant=hush"
        self.list = self.again()

    def again(self, **options: Any) -> ModelList:
        """As after a restart."""
        given = {"url": self.url, "token": TOKEN, "folder": self.folder, "on_change": self.changes.append, **options}
        return ModelList(given.pop("url"), given.pop("token"), **given)

    def _answer(self, connection: Connection, received: Received) -> None:
        if callable(self.answer):
            self.answer(connection, received)
        else:
            connection.send(self.answer)

    def changed(self) -> list[list[str]]:
        return [names(change) for change in self.changes]


@pytest.fixture
def listed(tmp_path: Path) -> Iterator[Listed]:
    with ExitStack() as stack:
        yield Listed(tmp_path / "data", stack)


def test_a_proxy_leads_to_the_list_and_to_its_models(listed: Listed) -> None:
    listed.again(url="http://list.invalid/models", proxy=listed.server.url).refresh_once()
    assert listed.changed() == [["a", "b"]]
    assert listed.server.received[0].path == "http://list.invalid/models"
    assert listed.changes[0].entries[0].options["proxy"] == listed.server.url


def test_a_good_list_is_told_once_with_the_token_in_its_header(listed: Listed, list_log: Lines) -> None:
    listed.list.refresh_once()
    listed.list.refresh_once()
    assert listed.changed() == [["a", "b"]]
    first = listed.server.received[0]
    assert (first.method, first.path) == ("GET", "/models?tenant=hush")
    assert first.headers["Authorization"] == f"OAuth {TOKEN}"
    assert listed.changes[0].entries[0].options["base_url"] == f"{listed.server.url}/openai/v1"
    assert not list_log.warnings()
    assert not listed.list.problem


def test_without_a_token_nothing_is_said_about_it(
    listed: Listed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also not what a .netrc holds, and no proxy is asked."""
    (tmp_path / "netrc").write_text("default login somebody password p4ss\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    listed.again(token="").refresh_once()
    assert "Authorization" not in listed.server.received[0].headers
    listed.list.refresh_once()
    assert listed.server.received[1].headers["Authorization"] == f"OAuth {TOKEN}"


@pytest.mark.parametrize("body", [b'[{"model_version": "z", "handle": "/z/chat/completions"}]',
                                  b'{"response": {"models": [{"model_version": "z", "handle": "/z/x"}]}}'])  # fmt: skip
def test_other_forms_are_followed(listed: Listed, body: bytes) -> None:
    listed.answer = http(body)
    listed.list.refresh_once()
    assert listed.changed() == [["z"]]


def test_a_list_that_nobody_here_can_speak_to_keeps_the_last_good_one(listed: Listed, list_log: Lines) -> None:
    listed.list.refresh_once()
    listed.answer = http(json.dumps({"models": [item("z", "/z/x"), item("y", "/y")]}).encode())
    listed.list.refresh_once()
    assert listed.changed() == [["a", "b"]]
    assert "no usable model" in listed.list.problem


def test_a_packed_list_is_unpacked(listed: Listed) -> None:
    listed.answer = http(gzip.compress(models("a")), "200 OK", "Content-Encoding: gzip")
    listed.list.refresh_once()
    assert listed.changed() == [["a"]]


def test_a_list_in_chunks_is_put_together(listed: Listed) -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (1, bytes([byte])) for byte in models("a"))
    listed.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    listed.list.refresh_once()
    assert listed.changed() == [["a"]]


def test_an_unchanged_list_is_asked_for_on_condition(listed: Listed, list_log: Lines) -> None:
    listed.answer = http(models("a"), "200 OK", 'ETag: "one"', "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT")
    listed.list.refresh_once()
    listed.answer = http(b"", "304 Not Modified")
    listed.list.refresh_once()
    second = listed.server.received[1].headers
    assert (second["If-None-Match"], second["If-Modified-Since"]) == ('"one"', "Mon, 01 Jan 2024 00:00:00 GMT")
    listed.answer = http(models("b"))
    listed.list.refresh_once()
    listed.list.refresh_once()
    assert listed.changed() == [["a"], ["b"]]
    assert "If-None-Match" not in listed.server.received[3].headers
    assert not list_log.warnings()


def test_a_304_out_of_the_blue_is_no_list(listed: Listed, list_log: Lines) -> None:
    listed.answer = http(b"", "304 Not Modified")
    listed.list.refresh_once()
    assert len(list_log.warnings()) == 1


def test_a_list_that_could_not_be_taken_over_is_offered_again(listed: Listed) -> None:
    listed.answer = http(models("a"), "200 OK", 'ETag: "one"')
    received: list[SourceContents] = []

    def refuse_first(change: SourceContents) -> None:
        received.append(change)
        if len(received) == 1:
            raise ValueError("the name is taken")

    model_list = listed.again(on_change=refuse_first)
    with pytest.raises(ValueError, match="taken"):
        model_list.refresh_once()
    assert not (listed.folder / "model_list.json").exists()
    model_list.refresh_once()
    assert len(received) == 2
    assert "If-None-Match" not in listed.server.received[1].headers


def trickle(opening: bytes) -> Callable[[Connection, Received], None]:
    def answer(connection: Connection, _: Received) -> None:
        connection.send(opening)
        while True:
            connection.pause(0.02)
            connection.send(b" ")

    return answer


def endless(connection: Connection, _: Received) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.send(b" " * 65_536)


BOMB = gzip.compress(b" " * 40_000_000)
HEADLESS = b"HTTP/1.1 200 OK\r\nX-"
BAD: dict[str, tuple[Any, str]] = {
    "html": (http(b"<!doctype html><title>Sign in</title>", "200 OK", "Content-Type: text/html"), "not JSON"),
    "500": (http(b'{"models": []}', "500 Internal Server Error"), "500"),
    "401": (http(b"no", "401 Unauthorized"), "401 (MODEL_LIST_AUTH_TOKEN)"),
    "40 MB": (http(b" " * 40_000_000), "larger than 100000 bytes"),
    "40 MB, packed": (http(BOMB, "200 OK", "Content-Encoding: gzip"), "larger than 100000 bytes"),
    "endless": (endless, "larger than 100000 bytes"),
    "endless redirect": (http(b" " * 40_000_000, "302 Found", "Location: /elsewhere"), "redirects to a path"),
    "silent": (lambda connection, _: connection.hold(), "Timeout"),
    "trickling": (trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n"), "too long"),
    "trickling until it closes": (trickle(b"HTTP/1.1 200 OK\r\n\r\n[]"), "too long"),
    "trickling head": (trickle(HEADLESS), "too long"),
    "cut off": (http(models("c"))[:-5], ""),
    "nonsense": (b"SSH-2.0-OpenSSH\r\n\r\n", ""),
    "no body": (http(b""), "not JSON"),
    "not packed": (http(models("c"), "200 OK", "Content-Encoding: gzip"), "DecodeError"),
    "empty": (http(b'{"models": []}'), "no usable model"),
    "empty array": (http(b"[]"), "no usable model"),
    "an error": (http(b'{"error": "maintenance"}'), "neither an array"),
    "all gone": (http(json.dumps([item(available=False)]).encode()), "no usable model"),
    "deep": (http(b"[" * 50_000), "not JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_list_keeps_the_last_good_one(listed: Listed, list_log: Lines, case: str) -> None:
    """A gateway that reads its list once, at the start, does not start without it."""
    model_list = listed.again()
    model_list.refresh_once()
    model_list._limits = {"silent": IMPATIENT, "trickling": HURRIED}.get(case.split(maxsplit=1)[0], SMALL)
    kept = (listed.folder / "model_list.json").read_bytes()

    def once(connection: Connection, received: Received) -> None:
        bad(connection, received) if callable(bad) else connection.send(bad)
        connection.close()

    bad, reason = BAD[case]
    listed.answer = once
    model_list.refresh_once()
    assert listed.changed() == [["a", "b"]]
    assert (listed.folder / "model_list.json").read_bytes() == kept
    (line,) = list_log.warnings()
    assert reason in line
    assert reason in model_list.problem
    assert f"{listed.server.url}/models'" in line
    assert "'kept': 2" in line
    assert names(listed.again().load_kept()) == ["a", "b"]


def test_who_trickles_is_not_asked_again_until_they_end(listed: Listed, list_log: Lines) -> None:
    """One thread at most waits for them; when they are gone, the list is followed again."""
    model_list = listed.again(limits=HURRIED)
    listed.answer = trickle(HEADLESS)
    model_list.refresh_once()
    model_list.refresh_once()
    assert len(listed.server.received) == 1
    assert "still being sent" in list_log.warnings()[1]
    listed.answer = GOOD
    listed.server.refuse()
    until(lambda: not any(each.name == "model-list-get" for each in threading.enumerate()), "its thread to end")
    listed.server.listen()
    model_list._limits = Limits()
    model_list.refresh_once()
    assert listed.changed() == [["a", "b"]]
    assert not model_list.problem


def test_a_redirect_is_not_followed(listed: Listed, list_log: Lines) -> None:
    with Server(lambda connection, _: connection.send(GOOD)) as other:
        listed.answer = http(b"", "302 Found", f"Location: http://localhost:{other.port}/models?key=hush")
        listed.list.refresh_once()
        assert other.accepted == 0
    assert not listed.changes
    (line,) = list_log.warnings()
    assert "redirects to localhost" in line


def test_a_list_cannot_name_another_host(listed: Listed) -> None:
    with Server(lambda connection, _: connection.send(GOOD)) as other:
        items = [item("x", f"{other.url}/chat/completions"), item("y", f"//127.0.0.1:{other.port}/chat/completions")]
        listed.answer = http(orjson.dumps([*items, item("z")]))
        listed.list.refresh_once()
        assert listed.changed() == [["z"]]
        assert other.accepted == 0


def test_a_certificate_that_nobody_vouches_for_is_refused(list_log: Lines) -> None:
    with Server(lambda connection, _: connection.send(GOOD), tls=True) as server:
        ModelList(f"{server.url}/models?tenant=hush", TOKEN, on_change=pytest.fail).refresh_once()
        assert not server.received
    assert "certificate verify failed" in list_log.warnings()[0]


def test_a_certificate_that_the_system_vouches_for_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate()[0]))
    received: list[SourceContents] = []
    with Server(lambda connection, _: connection.send(GOOD), tls=True) as server:
        ModelList(f"{server.url}/models?tenant=hush", TOKEN, on_change=received.append).refresh_once()
    assert [names(change) for change in received] == [["a", "b"]]


def test_a_dead_list_neither_stops_the_start_nor_empties_anything(listed: Listed, list_log: Lines) -> None:
    """A restart while the list is down serves what was kept."""
    listed.list.refresh_once()
    listed.server.refuse()
    restarted = listed.again()
    kept = restarted.load_kept()
    assert kept == listed.changes[0]
    assert kept.entries[0].options["api_key"] == TOKEN
    restarted.refresh_once()
    assert len(listed.changes) == 1
    (line,) = list_log.warnings()
    assert "Connection refused" in line


def test_a_restart_asks_on_condition_and_tells_only_what_is_new(listed: Listed) -> None:
    listed.answer = http(models("a"), "200 OK", 'ETag: "one"')
    listed.list.refresh_once()
    restarted = listed.again()
    restarted.load_kept()
    listed.answer = http(b"", "304 Not Modified")
    restarted.refresh_once()
    assert listed.server.received[1].headers["If-None-Match"] == '"one"'
    listed.answer = http(models("a"))
    restarted.refresh_once()
    assert listed.changed() == [["a"]]


def test_the_file_is_ours_alone_and_holds_no_secret(listed: Listed) -> None:
    listed.list.refresh_once()
    (file,) = listed.folder.iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == ("model_list.json", 0o600)
    assert TOKEN not in file.read_text()
    assert "hush" not in file.read_text()


def test_another_urls_file_is_ignored(listed: Listed, list_log: Lines) -> None:
    listed.list.refresh_once()
    for url in (f"{listed.server.url}/models?tenant=other", "http://127.0.0.1:9/models?tenant=hush"):
        assert listed.again(url=url).load_kept() == SourceContents()
    assert not list_log.warnings()


@pytest.mark.parametrize("content", [b"", b"{", b"[]x", b"[1]", b'{"url_sha256": 1}', b"\xff"])
def test_a_spoilt_file_is_ignored(listed: Listed, content: bytes) -> None:
    listed.folder.mkdir()
    (listed.folder / "model_list.json").write_bytes(content)
    assert listed.list.load_kept() == SourceContents()
    listed.list.refresh_once()
    assert names(listed.again().load_kept()) == ["a", "b"]


def test_a_kept_list_without_any_sense_is_said(listed: Listed, list_log: Lines) -> None:
    listed.list.refresh_once()
    file = listed.folder / "model_list.json"
    file.write_bytes(orjson.dumps({**orjson.loads(file.read_bytes()), "data": 7}))
    assert listed.again().load_kept() == SourceContents()
    assert "model_list.json" in list_log.warnings()[0]


def test_a_folder_that_cannot_be_written_is_said_and_the_list_serves(listed: Listed, list_log: Lines) -> None:
    listed.folder.write_text("a file")
    listed.list.refresh_once()
    assert listed.changed() == [["a", "b"]]
    assert str(listed.folder) in list_log.warnings()[0]


def test_without_a_folder_nothing_is_kept(listed: Listed) -> None:
    model_list = listed.again(folder=None)
    assert model_list.load_kept() == SourceContents()
    model_list.refresh_once()
    assert listed.changed() == [["a", "b"]]
    assert not listed.folder.exists()


@pytest.mark.parametrize("url", ["", "models", "ftp://a/b", "http://", "https://me:hush@a/models", "http://a\\@b/"])
def test_a_url_that_cannot_be_used_is_refused_unread(url: str) -> None:
    with pytest.raises(ValueError, match="MODEL_LIST_URL") as refused:
        ModelList(url, TOKEN, on_change=pytest.fail)
    assert "hush" not in str(refused.value)


def test_a_token_that_fits_no_header_is_refused_unread() -> None:
    with pytest.raises(ValueError, match="MODEL_LIST_AUTH_TOKEN") as refused:
        ModelList(URL, f"{TOKEN}\n", on_change=pytest.fail)
    assert TOKEN not in str(refused.value)


# In the background


def following() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "model-list"]


def test_it_follows_in_the_background_until_it_is_stopped(listed: Listed, list_log: Lines) -> None:
    model_list = listed.again(refresh=0.02)
    model_list.start()
    until(lambda: listed.changed() == [["a", "b"]], "the first list")
    assert all(thread.daemon for thread in following())
    listed.answer = http(b"", "500 Internal Server Error")
    until(list_log.warnings, "the failure in the log")
    listed.answer = http(models("c"))
    until(lambda: listed.changed() == [["a", "b"], ["c"]], "the changed list")
    model_list.stop()
    until(lambda: not following(), "the thread to end")


@pytest.mark.thorough
def test_a_list_that_comes_up_after_us_is_not_waited_for_long(listed: Listed, list_log: Lines) -> None:
    """Services that start together: its usual look is minutes away."""
    listed.answer = http(b"", "503 Service Unavailable")
    listed.list.start()
    until(list_log.warnings, "the failure in the log")
    listed.answer = http(models("a"))
    until(lambda: listed.changed() == [["a"]], "the list")
    listed.list.stop()


def test_stopping_does_not_wait_for_the_next_look(listed: Listed) -> None:
    listed.list.start()
    until(lambda: listed.changes, "the first list")
    listed.list.stop()
    until(lambda: not following(), "the thread to end")
    assert len(listed.server.received) == 1


def test_what_arrives_after_the_stop_is_not_taken_over(listed: Listed, list_log: Lines) -> None:
    stopped = threading.Event()

    def late(connection: Connection, _: Received) -> None:
        stopped.wait(5)
        connection.send(GOOD)

    listed.answer = late
    listed.list.start()
    listed.server.wait_received(1)
    listed.list.stop()
    stopped.set()
    until(lambda: not following(), "the thread to end")
    assert not listed.changes
    assert not list_log.warnings()


def test_a_listener_that_fails_does_not_end_it(listed: Listed, list_log: Lines) -> None:
    called = threading.Event()

    def failing(_: SourceContents) -> None:
        if len(listed.server.received) > 1:
            called.set()
        raise RuntimeError("no room")

    model_list = listed.again(refresh=0.02, on_change=failing)
    model_list.start()
    assert called.wait(10)
    model_list.stop()
    until(lambda: not following(), "the thread to end")
    assert any("no room" in line for line in list_log.warnings())


def test_one_fetch_may_follow_another_at_once(listed: Listed, list_log: Lines) -> None:
    """The thread of the one before may still be ending."""
    for _ in range(100):
        listed.list.refresh_once()
    assert not list_log.warnings()


def test_several_threads_may_refresh(listed: Listed) -> None:
    threads = [threading.Thread(target=listed.list.refresh_once) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert listed.changed() == [["a", "b"]]
