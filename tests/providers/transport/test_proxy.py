"""The way to an upstream through a proxy: real proxies on loopback, real TLS behind them."""

import base64
import ipaddress
import json
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from app import build_services
from config import SettingError, Settings
from core.context import CallContext, Timeouts
from core.errors import Cancelled, UpstreamDown, UpstreamTimeout
from dispatch.sources.proxies import variable_for
from providers.transport.client import send
from providers.transport.endpoint import Endpoint
from providers.transport.proxy import FORMS
from providers.transport.tls import tls_context
from tests.conftest import ROOT, environment, until
from tests.emulators import OpenAIUpstream, certificate
from tests.emulators.answers import TEXTS
from tests.support.frames import chat_body, streamed_text

HOST = "127.0.0.1"
PASSWORD = "p@ss/w:rd 7"
ENCODED = "p%40ss%2Fw%3Ard%207"
TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"
SCHEMES = ["http", "socks5", "socks5h", "socks4"]

Asked = tuple[str, int]
Handshake = Callable[[socket.socket], Asked | None]
"""Whom the proxy is asked for; None when that was all that it does."""


def exactly(sock: socket.socket, count: int) -> bytes:
    """So many bytes and no more: what follows is the upstream's."""
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def ending(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        data += exactly(sock, 1)
    return data[: -len(end)]


def text(sock: socket.socket) -> str:
    """SOCKS5's form of it: a length, and so many bytes."""
    return exactly(sock, exactly(sock, 1)[0]).decode("ascii")


def http(credential: str = "") -> Handshake:
    def shake(sock: socket.socket) -> Asked | None:
        line, *headers = ending(sock, b"\r\n\r\n").decode("ascii").split("\r\n")
        fields = dict(header.split(": ", 1) for header in headers)
        method, authority, version = line.split(" ")
        assert (method, version, fields["Host"]) == ("CONNECT", "HTTP/1.1", authority)
        given = fields.get("Proxy-Authorization", "").removeprefix("Basic ")
        if base64.b64decode(given).decode() != credential:
            sock.sendall(b"HTTP/1.1 407 Who?\r\nContent-Length: 4\r\n\r\nWho?")
            return None
        sock.sendall(TUNNEL[:20])
        sock.sendall(TUNNEL[20:])
        host, _, port = authority.rpartition(":")
        return host, int(port)

    return shake


def socks5(credential: str = "") -> Handshake:
    def shake(sock: socket.socket) -> Asked | None:
        version, count = exactly(sock, 2)
        assert version == 5
        wanted = 2 if credential else 0
        if wanted not in exactly(sock, count):
            sock.sendall(b"\x05\xff")
            return None
        sock.sendall(bytes([5, wanted]))
        if credential:
            assert exactly(sock, 1) == b"\x01"
            granted = f"{text(sock)}:{text(sock)}" == credential
            sock.sendall(b"\x01\x00" if granted else b"\x01\x01")
            if not granted:
                return None
        assert exactly(sock, 3) == b"\x05\x01\x00"
        kind = exactly(sock, 1)[0]
        host = text(sock) if kind == 3 else str(ipaddress.ip_address(exactly(sock, {1: 4, 4: 16}[kind])))
        port = int.from_bytes(exactly(sock, 2), "big")
        sock.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        return host, port

    return shake


def socks4(user: str = "") -> Handshake:
    def shake(sock: socket.socket) -> Asked | None:
        assert exactly(sock, 2) == b"\x04\x01"
        port = int.from_bytes(exactly(sock, 2), "big")
        host = str(ipaddress.ip_address(exactly(sock, 4)))
        granted = ending(sock, b"\0").decode() == user
        sock.sendall(b"\x00\x5a\x00\x00\x00\x00\x00\x00" if granted else b"\x00\x5d\x00\x00\x00\x00\x00\x00")
        return (host, port) if granted else None

    return shake


class Says:
    """Answers each message with the next of these pieces, whatever it is asked. Then it `leaves`, or `stalls`.

    It stalls in silence or, as a `drip`, with a byte now and then; `stalled` is set once we wait for it.
    """

    def __init__(self, *pieces: bytes, leaves: bool = False, drip: bool = False, delay: float = 0.0) -> None:
        self.stalled = threading.Event()
        self._pieces = pieces
        self._leaves = leaves
        self._drip = drip
        self._delay = delay

    def __call__(self, sock: socket.socket) -> Asked | None:
        for piece in self._pieces:
            sock.recv(4096)
            time.sleep(self._delay)
            sock.sendall(piece)
        while self._drip:
            sock.sendall(b"x")
            self.stalled.set()
            time.sleep(0.01)
        while not self._leaves and sock.recv(4096):
            self.stalled.set()
        return None


class Proxy:
    """A proxy on loopback, a thread per connection. Whatever host it is asked for, it leads to 127.0.0.1."""

    def __init__(self, handshake: Handshake) -> None:
        self.asked: list[Asked] = []
        self.connections: list[socket.socket] = []
        self.gone = 0
        self.failures: list[BaseException] = []
        self._handshake = handshake
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self.drop()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        self._listener.close()
        assert not self.failures

    def url(self, scheme: str = "http", credential: str = "") -> str:
        return f"{scheme}://{credential and credential + '@'}{HOST}:{self.port}"

    def drop(self) -> None:
        """End all connections, as a proxy does with those that are idle."""
        for sock in self.connections:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended already

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with sock:
                asked = self._handshake(sock)
                if asked is not None:
                    self.asked.append(asked)
                    with socket.create_connection((HOST, asked[1])) as upstream:
                        relay(sock, upstream)
        except OSError:
            pass  # one side has left
        except BaseException as failure:
            self.failures.append(failure)
            raise
        finally:
            self.gone += 1


def relay(caller: socket.socket, upstream: socket.socket) -> None:
    other = {caller: upstream, upstream: caller}
    while True:
        for sock in select.select([caller, upstream], [], [])[0]:
            data = sock.recv(65_536)
            if not data:
                return
            other[sock].sendall(data)


HANDSHAKES: dict[str, Callable[[str], Handshake]] = {
    "http": http,
    "socks5": socks5,
    "socks5h": socks5,
    "socks4": socks4,
}


@pytest.fixture(params=[False, True], ids=["plain", "TLS"])
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIUpstream]:
    """An upstream whose certificate is trusted; the one TLS context of the process is made anew before and after."""
    if request.param:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate()[0]))
    tls_context.cache_clear()
    with OpenAIUpstream(tls=request.param) as upstream:
        yield upstream
    tls_context.cache_clear()


def account(upstream: OpenAIUpstream, proxy: str, host: str = HOST) -> Endpoint:
    return Endpoint("up", upstream.base_url.replace(HOST, host), {"Authorization": f"Bearer {upstream.key}"}, proxy)


def chat(to: Endpoint, connect: float = 5.0, call: CallContext | None = None) -> bytes:
    """One streamed answer, whole."""
    body = json.dumps(chat_body(stream=True)).encode()
    reply = send(to, "POST", "/chat/completions", {}, body, call or CallContext(), Timeouts(connect=connect))
    try:
        reply.read_head()
        stream = b"".join(reply)
        reply.settle()
    finally:
        reply.close()
    assert reply.status == 200, stream
    return stream


def nowhere(proxy: str, base_url: str = "http://upstream.invalid/v1") -> Endpoint:
    """An account whose upstream cannot be reached, should anybody try."""
    return Endpoint("up", base_url, {}, proxy)


def unknown(*_: object, **__: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def down(to: Endpoint) -> str:
    """The log's line of a failure that is the proxy's, and is not waited for."""
    began = time.monotonic()
    with pytest.raises(UpstreamDown) as caught:
        chat(to, connect=30)
    assert time.monotonic() - began < 5
    assert caught.value.message == "up cannot be reached through its proxy."
    error: BaseException | None = caught.value
    while error is not None:
        assert PASSWORD not in repr(error)
        assert ENCODED not in repr(error)
        error = error.__cause__ or error.__context__
    assert PASSWORD not in caught.value.log
    return caught.value.log


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_streamed_chat_and_its_connection_kept(target: OpenAIUpstream, scheme: str) -> None:
    with Proxy(HANDSHAKES[scheme]("")) as proxy:
        to = account(target, proxy.url(scheme), host="localhost")
        for _ in range(3):
            assert streamed_text(chat(to)) == "".join(TEXTS)
        assert len(proxy.connections) == target.accepted == len(to.pool) == 1
        by_proxy = scheme in ("http", "socks5h")
        assert proxy.asked == [("localhost" if by_proxy else HOST, target.port)]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_with_a_credential(target: OpenAIUpstream, scheme: str) -> None:
    user, credential = ("me", "me") if scheme == "socks4" else (f"m%65:{ENCODED}", f"me:{PASSWORD}")
    with Proxy(HANDSHAKES[scheme](credential)) as proxy:
        assert streamed_text(chat(account(target, proxy.url(scheme, user))))
        assert proxy.asked == [(HOST, target.port)]


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_name_that_only_the_proxy_knows(upstream: OpenAIUpstream, scheme: str) -> None:
    with Proxy(HANDSHAKES[scheme]("")) as proxy:
        assert streamed_text(chat(account(upstream, proxy.url(scheme), host="upstream.invalid")))
        assert proxy.asked == [("upstream.invalid", upstream.port)]


@pytest.mark.parametrize(("scheme", "host"), [("http", "[::1]"), ("socks5", "::1"), ("socks5h", "::1")])
def test_an_address_of_ip_version_6(upstream: OpenAIUpstream, scheme: str, host: str) -> None:
    with Proxy(HANDSHAKES[scheme]("")) as proxy:
        assert streamed_text(chat(account(upstream, proxy.url(scheme), host="[::1]")))
        assert proxy.asked == [(host, upstream.port)]


def test_a_kept_connection_that_the_proxy_ended_is_replaced(target: OpenAIUpstream) -> None:
    with Proxy(http()) as proxy:
        to = account(target, proxy.url())
        chat(to)
        proxy.drop()
        until(lambda: proxy.gone == 1, "the proxy to end the connection")
        assert streamed_text(chat(to))
        assert len(proxy.connections) == 2


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("given", ["wrong", "none"])
def test_a_credential_that_the_proxy_refuses(scheme: str, given: str) -> None:
    right, wrong = ("me", "you") if scheme == "socks4" else ("me:right", f"me:{ENCODED}")
    with Proxy(HANDSHAKES[scheme](right)) as proxy:
        log = down(nowhere(proxy.url(scheme, wrong if given == "wrong" else ""), "http://127.0.0.1:9/v1"))
        assert f"through {proxy.url(scheme)})" in log
        assert scheme != "http" or "407" in log
        assert not proxy.asked


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_proxy_that_is_not_there(scheme: str) -> None:
    with socket.socket() as silent:
        silent.bind((HOST, 0))
        log = down(nowhere(f"{scheme}://{HOST}:{silent.getsockname()[1]}"))
    assert "ConnectionRefusedError" in log


def test_a_proxy_whose_name_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "through http://proxy.invalid:3128" in down(nowhere(f"http://me:{ENCODED}@proxy.invalid:3128"))


UNFIT: dict[str, tuple[str, Handshake]] = {
    "bad gateway": ("http", Says(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")),
    "a redirect": ("http", Says(b"HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n")),
    "not HTTP": ("http", Says(b"SSH-2.0-OpenSSH_9.6\r\n")),
    "not HTTP, in a byte": ("http", Says(b"\x05")),
    "no status": ("http", Says(b"HTTP/1.1 two hundred\r\n\r\n")),
    "no end": ("http", Says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000)),
    "cut": ("http", Says(b"HTTP/1.1 200 OK\r\n", leaves=True)),
    "nothing": ("http", Says(b"", leaves=True)),
    "more than a head": ("http", Says(TUNNEL + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")),
    "HTTP to SOCKS5": ("socks5h", Says(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
    "HTTP to SOCKS4": ("socks4", Says(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
    "SOCKS5 cannot reach it": ("socks5h", Says(b"\x05\x00", b"\x05\x05\x00\x01" + b"\0" * 6)),
    "SOCKS5 with an unknown code": ("socks5h", Says(b"\x05\x00", b"\x05\x99\x00\x01" + b"\0" * 6)),
    "SOCKS5 with an unknown address": ("socks5h", Says(b"\x05\x00", b"\x05\x00\x00\x09" + b"\0" * 6)),
    "SOCKS5 with a name of no letters": ("socks5h", Says(b"\x05\x00", b"\x05\x00\x00\x03\x02\xff\xff\0\0")),
    "SOCKS5 wants what it was not offered": ("socks5h", Says(b"\x05\x02")),
    "SOCKS5 cut": ("socks5h", Says(b"\x05\x00", b"\x05\x00\x00", leaves=True)),
    "SOCKS4 cannot reach it": ("socks4", Says(b"\x00\x5b" + b"\0" * 6)),
    "SOCKS4 cut": ("socks4", Says(b"\x00\x5a", leaves=True)),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_proxy_that_refuses_or_talks_nonsense(case: str) -> None:
    scheme, handshake = UNFIT[case]
    with Proxy(handshake) as proxy:
        down(nowhere(proxy.url(scheme), "http://127.0.0.1:9/v1"))
        until(lambda: proxy.gone == 1, "our side to be closed")


STALLED: dict[str, tuple[str, str, Callable[[], Says]]] = {
    "http": ("http", "http", Says),
    "http, drop by drop": ("http", "http", partial(Says, TUNNEL[:-2], drip=True)),
    "socks5": ("socks5h", "http", Says),
    "socks5, the reply": ("socks5h", "http", partial(Says, b"\x05\x00")),
    "socks5, drop by drop": ("socks5h", "http", partial(Says, b"\x05\x00", b"\x05\0\0\x03\xff", drip=True)),
    "socks4": ("socks4", "http", Says),
    "TLS behind http": ("http", "https", partial(Says, TUNNEL)),
    "TLS behind socks5": ("socks5h", "https", partial(Says, b"\x05\x00", b"\x05\x00\x00\x01" + b"\0" * 6)),
}
"""Where a connection can get stuck: the proxy's scheme, the upstream's, and a proxy in whose hands it does."""


@pytest.mark.parametrize("case", STALLED)
def test_a_proxy_that_stalls_is_not_waited_for(case: str) -> None:
    scheme, target, stalling = STALLED[case]
    with Proxy(stalling()) as proxy:
        began = time.monotonic()
        with pytest.raises(UpstreamTimeout) as caught:
            chat(nowhere(proxy.url(scheme, "" if scheme == "socks4" else f"me:{ENCODED}"), f"{target}://{HOST}"), 0.2)
        assert 0.2 <= time.monotonic() - began < 1.5
        assert caught.value.message == "up did not answer in time."
        assert f"through {proxy.url(scheme)})" in caught.value.log
        until(lambda: proxy.gone == 1, "our side to be closed")


@pytest.mark.thorough
def test_one_time_out_holds_over_all_phases() -> None:
    """A tunnel late in the time leaves TLS the rest of it, not the time anew."""
    with Proxy(Says(TUNNEL, delay=0.8)) as proxy:
        began = time.monotonic()
        with pytest.raises(UpstreamTimeout):
            chat(nowhere(proxy.url(), f"https://{HOST}"), connect=1.0)
        assert 1.0 <= time.monotonic() - began < 1.6
        assert len(proxy.connections) == 1


@pytest.mark.parametrize("case", STALLED)
def test_a_hang_up_ends_every_phase_at_once(case: str) -> None:
    scheme, target, stalling = STALLED[case]
    handshake = stalling()
    ended: list[BaseException] = []
    call = CallContext()

    def ask(to: Endpoint) -> None:
        try:
            chat(to, connect=30, call=call)
        except BaseException as error:  # noqa: BLE001 - it is looked at below
            ended.append(error)

    with Proxy(handshake) as proxy:
        asking = threading.Thread(target=ask, args=(nowhere(proxy.url(scheme), f"{target}://{HOST}"),), daemon=True)
        asking.start()
        assert handshake.stalled.wait(5)
        began = time.monotonic()
        call.cancel()
        asking.join(5)
        assert time.monotonic() - began < 1
        assert [type(error) for error in ended] == [Cancelled]
        until(lambda: proxy.gone == 1, "our side to be closed")


@pytest.mark.parametrize(
    "url",
    [
        "secret",
        "proxy:3128",
        "https://proxy:3128",
        "socks4a://proxy:1080",
        "http://proxy",
        "http://:3128",
        "http://proxy:0",
        "http://proxy:99999",
        "http://proxy:http",
        "http://a..b:3128",
        "http://[::1:3128",
        "http://proxy:3128/path",
        "http://proxy:3128?query",
        "http://proxy:3128#fragment",
        "http://proxy:3128\r\nX: y",
        "http://pro xy:3128",
        "http://me:12/secret@proxy:3128",
        "http://me:se/cret@proxy:3128",
        "http://me:secret\u2100@proxy:3128",
        "http://m%3Ae:secret@proxy:3128",
        "socks5://me@proxy:1080",
        "socks5://:secret@proxy:1080",
        "socks5://me:secr%C3%A9t@proxy:1080",
        f"socks5://me:{'secret' * 50}@proxy:1080",
        "socks4://me:secret@proxy:1080",
        "socks4://m%00e@proxy:1080",
    ],
)
def test_what_is_no_proxy(url: str) -> None:
    with pytest.raises(ValueError, match="A proxy is given as") as caught:
        nowhere(url)
    assert str(caught.value) == FORMS


@pytest.mark.parametrize(
    "url",
    [
        "http://proxy:3128/",
        "HTTP://me:p%C3%A4ss@proxy:3128",
        "http://token@proxy:3128",
        "socks5://[::1]:1080",
        "socks4://me@proxy:1080",
    ],
)
def test_what_is_one(url: str) -> None:
    proxy = nowhere(url).peer.proxy
    assert proxy is not None
    assert proxy.port in (1080, 3128)
    assert "@" not in str(proxy)
    assert not proxy.password or proxy.password not in repr(proxy)


@pytest.mark.thorough
def test_who_has_no_socks_proxy_does_not_load_the_library() -> None:
    lines = [
        "import sys",
        "from providers.transport.client import Endpoint",
        "Endpoint('up', 'http://up/v1', {})",
        "Endpoint('up', 'http://up/v1', {}, 'http://proxy:3128')",
        "sys.exit('python_socks' in sys.modules)",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, check=True, timeout=20)


# HTTPS_PROXY and its like


def test_the_environments_proxy_leads_to_providers(
    upstream: OpenAIUpstream, app_with: Callable[..., Any], tmp_path: Path
) -> None:
    with Proxy(http("me:secret-of-mine")) as proxy:
        address = f"http://upstream.invalid:{upstream.port}/v1"
        settings = {"OPENAI_BASE_URL": address, "OPENAI_API_KEY": upstream.key}
        client = app_with(**settings, HTTP_PROXY=proxy.url("http", "me:secret-of-mine"))
        assert client.post("/v1/chat/completions", json=chat_body()).status_code == 200
        assert proxy.asked == [("upstream.invalid", upstream.port)]
        bare = proxy.url("http", "me:secret-of-mine").removeprefix("http://")
        file = tmp_path / "models.yaml"
        file.write_text(f"providers: {{lab: {{base_url: '{address}', api_key: '{upstream.key}'}}}}\n")
        client = app_with(MODELS_FILE=file, all_proxy=bare)
        assert client.post("/v1/chat/completions", json=chat_body()).status_code == 200
        assert len(proxy.asked) == 2


def test_what_is_on_this_machine_needs_no_proxy(upstream: OpenAIUpstream, app_with: Callable[..., Any]) -> None:
    for host in ("127.0.0.1", "localhost"):
        address = upstream.base_url.replace("127.0.0.1", host)
        settings = {"OPENAI_BASE_URL": address, "OPENAI_API_KEY": upstream.key}
        client = app_with(**settings, HTTP_PROXY="http://proxy.invalid:3128", ALL_PROXY="http://proxy.invalid:3128")
        assert client.post("/v1/chat/completions", json=chat_body()).status_code == 200


@pytest.mark.parametrize(
    ("url", "variables", "expected"),
    [
        ("https://a.com/v1", {"HTTPS_PROXY": "p:1"}, "HTTPS_PROXY"),
        ("https://a.com/v1", {"HTTP_PROXY": "p:1"}, ""),
        ("http://a.com/v1", {"HTTP_PROXY": "p:1", "ALL_PROXY": "q:1"}, "HTTP_PROXY"),
        ("https://a.com/v1", {"HTTP_PROXY": "p:1", "ALL_PROXY": "q:1"}, "ALL_PROXY"),
        ("https://a.com/v1", {"HTTPS_PROXY": "p:1", "https_proxy": "q:1"}, "https_proxy"),
        *(
            (url, {"HTTPS_PROXY": "p:1", "NO_PROXY": listed}, expected)
            for url, listed, expected in (
                ("https://api.a.com/v1", "a.com", ""),
                ("https://api.a.com/v1", ".a.com", ""),
                ("https://api.a.com/v1", "b.com, A.COM", ""),
                ("https://ba.com/v1", "a.com", "HTTPS_PROXY"),
                ("https://a.com/v1", "*", ""),
                ("https://a.com/v1", "a.com:443", ""),
                ("https://a.com:8443/v1", "a.com:443", "HTTPS_PROXY"),
                ("https://10.1.2.3/v1", "10.0.0.0/8", ""),
                ("https://11.1.2.3/v1", "10.0.0.0/8", "HTTPS_PROXY"),
                ("https://[fd00::5]:9/v1", "fd00::/8", ""),
                ("https://a.com/v1", "no/network,,", "HTTPS_PROXY"),
                ("https://127.0.0.9/v1", "", ""),
                ("https://[::1]/v1", "", ""),
                ("https://lab.localhost/v1", "", ""),
            )
        ),
    ],
)
def test_which_variable_leads_where(url: str, variables: dict[str, str], expected: str) -> None:
    assert variable_for(url, variables) == expected


def test_a_providers_own_proxy_goes_before_the_environments(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("providers: {groq: {proxy: 'http://own:1'}}\n")
    keys = {"GROQ_API_KEY": "k", "XAI_API_KEY": "k", "OCI_REGION": "eu-frankfurt-1", "AWS_PROFILE": "p"}
    agent = {"AGENT_ID": "A", "AGENT_ALIAS_ID": "B", "AWS_REGION": "eu-central-1"}
    settings = environment(**keys, **agent, MODELS_FILE=file, HTTPS_PROXY="http://p:1", NO_PROXY="amazonaws.com")
    found = build_services(Settings.load(settings)).catalogue.snapshot.entries
    assert found["groq"].options["proxy"] == "http://own:1"
    assert found["xai"].options["proxy"] == found["oci"].options["proxy"] == "http://p:1"
    assert found["bedrock"].options["account"]["proxy"] == found["bedrock-models"].options["account"]["proxy"] == ""


@pytest.mark.parametrize("proxy", ["https://me:hidden-away@p:1", "p", "socks9://p:1", "http://p"])
def test_an_environments_proxy_that_cannot_be_used_stops_the_start(proxy: str) -> None:
    with pytest.raises(SettingError, match="HTTPS_PROXY") as caught:
        build_services(Settings.load(environment(HTTPS_PROXY=proxy, OPENAI_API_KEY="k")))
    assert FORMS in str(caught.value)
    assert "hidden-away" not in str(caught.value)
    assert build_services(Settings.load(environment(HTTPS_PROXY=proxy))).catalogue.default == "demo"
