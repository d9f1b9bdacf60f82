"""How the transport gets its sockets: to the upstream or through its proxy, then TLS. Only http.py looks inside.

The call knows a socket from its first moment, so that a hang-up ends any of these phases, and one deadline holds over
all of them. The socket that comes out is a plain one, or TLS over it; of the proxy nothing is left but the way.
"""

import re
import socket
import threading
from base64 import b64encode
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from errors import Cancelled
from providers.base import CallContext
from providers.engine import tls_context

FORMS = (
    "A proxy is given as http://[user:password@]host:port, likewise with socks5:// (names are resolved here) or "
    "socks5h:// (by the proxy), or as socks4://[user@]host:port; user and password are percent-encoded."
)
SCHEMES = ("http", "socks5", "socks5h", "socks4")
UNSAFE = re.compile(r"[\x00-\x20\x7f]")
SOCKS_BYTES = 255
"""A length in SOCKS5 is one byte (RFC 1929)."""
LOOK_SECONDS = 0.05
"""How often who waits for a name looks whether their caller is still there."""
HEAD_BYTES = 65_536
"""More than this in answer to a CONNECT is not an answer."""
STATUS = re.compile(rb"HTTP/1\.\d (\d{3})\b")


class ProxyRefused(ConnectionError):
    """The proxy answers no, or what makes no sense."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's address and our credential there. `str()` of it is for the log: without the credential."""

    scheme: str
    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> "Proxy":
        """From a URL in one of FORMS. Raises ValueError, which quotes nothing of the URL: it may hold a password."""
        try:
            parts = urlsplit(url)
            user, password = unquote(parts.username or ""), unquote(parts.password or "")
            proxy = cls(parts.scheme, parts.hostname or "", parts.port or 0, user, password)
            usable = not UNSAFE.search(url) and _is_bare(parts) and proxy.complete
        except ValueError:
            usable = False
        if not usable:
            raise ValueError(FORMS)
        return proxy

    @property
    def complete(self) -> bool:
        """Whether there is a host and a port, and a credential that the scheme can carry or none."""
        if self.scheme not in SCHEMES or not self.port or not self.host.encode("idna"):
            return False
        if self.scheme == "http":
            return ":" not in self.user
        if not (self.user + self.password).isascii() or max(len(self.user), len(self.password)) > SOCKS_BYTES:
            return False
        if self.scheme == "socks4":
            return not self.password and "\0" not in self.user
        return bool(self.user) == bool(self.password)

    def __str__(self) -> str:
        return f"{self.scheme}://{_authority(self.host, self.port)}"

    def tunnel(self, sock: socket.socket, host: str, port: int, deadline: float) -> None:
        """Have this proxy, to which the socket is connected, lead it on to host and port. Raises OSError."""
        way = _DeadlineSocket(sock, deadline)
        if self.scheme == "http":
            self._connect(way, host, port)
        else:
            self._socks(way, host, port)

    def _connect(self, way: "_DeadlineSocket", host: str, port: int) -> None:
        """HTTP's CONNECT (RFC 9110, 9.3.6): the tunnel begins after the head of a 2xx, whatever that head says."""
        authority = _authority(host, port)
        request = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
        if self.user or self.password:
            credential = b64encode(f"{self.user}:{self.password}".encode()).decode()
            request += f"Proxy-Authorization: Basic {credential}\r\n"
        way.sendall(f"{request}\r\n".encode("ascii"))
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = way.recv(HEAD_BYTES)
            answer += data
            if not data or len(answer) > HEAD_BYTES or not answer.startswith(b"HTTP/1."[: len(answer)]):
                raise ProxyRefused("the proxy does not answer in HTTP")
        status = STATUS.match(answer)
        if status is None:
            raise ProxyRefused("the proxy does not answer in HTTP")
        if not status[1].startswith(b"2"):
            raise ProxyRefused(f"the proxy answers {status[1].decode()}")
        if answer.partition(b"\r\n\r\n")[2]:
            raise ProxyRefused("the proxy speaks before the upstream was asked anything")

    def _socks(self, way: Any, host: str, port: int) -> None:
        # Here, because only those who have such a proxy are to pay for the library.
        import python_socks  # noqa: PLC0415
        import python_socks.sync  # noqa: PLC0415

        kind = python_socks.ProxyType.SOCKS4 if self.scheme == "socks4" else python_socks.ProxyType.SOCKS5
        by_proxy = self.scheme == "socks5h"
        client = python_socks.sync.Proxy(kind, self.host, self.port, self.user, self.password, by_proxy, forward=way)
        try:
            client.connect(host, port, timeout=way.left())
        except (python_socks.ProxyError, ValueError) as error:  # ValueError: what cannot be decoded, or encoded
            raise ProxyRefused(str(error)) from error


class _DeadlineSocket:
    """A connected socket as handshakes use it: whatever they do on it ends by one deadline.

    python_socks makes its own sockets, out of our sight, but takes one from the proxy that stands before its own
    (`forward`, its documented chaining): that is `connect`, which hands it this object.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def connect(self, dest_host: str, dest_port: int, timeout: float) -> "_DeadlineSocket":
        """The way to the proxy, which stands already."""
        return self

    def left(self) -> float:
        """Seconds until the deadline. Raises TimeoutError when there are none."""
        return seconds_left(self._deadline)

    def sendall(self, data: bytes) -> None:
        """As a socket's."""
        self._sock.settimeout(self.left())
        self._sock.sendall(data)

    def recv(self, size: int) -> bytes:
        """As a socket's."""
        self._sock.settimeout(self.left())
        return self._sock.recv(size)

    def close(self) -> None:
        """Nothing: who opened the socket closes it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections lead: to `host` and `port`, with TLS if `secure`, through `proxy` if there is one."""

    host: str
    port: int
    secure: bool
    proxy: Proxy | None = None


def connect(peer: Origin, call: CallContext, seconds: float) -> socket.socket:
    """A connected socket that the call knows of from the first moment. Raises OSError and HungUp."""
    deadline = monotonic() + seconds
    failure: OSError | None = None
    first = peer.proxy or peer
    addresses = _resolve(first.host, first.port, call, deadline)
    for left, (family, kind, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        now = monotonic()
        if now >= deadline:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            # Each gets its share of the time: one that leads nowhere must not use up that of the next.
            return _open(sock, address, peer, call, now + (deadline - now) / left)
        except OSError as error:
            failure = error
            if call.gone:
                raise Cancelled from error
    raise failure or TimeoutError(f"no connection within {seconds} s")


_lookups: "dict[tuple[str, int], Future[list[Any]]]" = {}
_looking = threading.Lock()


def _resolve(host: str, port: int, call: CallContext, deadline: float) -> list[Any]:
    """What getaddrinfo says, if it says it in time. It cannot be interrupted, and may take half a minute: so a thread
    waits for it, one for all who ask for the same. Raises OSError, UnicodeError and HungUp.
    """
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # a name
    with _looking:
        lookup = _lookups.get((host, port))
        if lookup is None:
            lookup = _lookups[host, port] = Future()
            threading.Thread(target=_look_up, args=(host, port, lookup), name="resolve", daemon=True).start()
    while not wait([lookup], min(LOOK_SECONDS, seconds_left(deadline))).done:
        if call.gone:
            raise Cancelled
    return lookup.result()


def _look_up(host: str, port: int, lookup: "Future[list[Any]]") -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        done = partial(lookup.set_exception, error.with_traceback(None))
    else:
        done = partial(lookup.set_result, found)
    del _lookups[host, port]
    done()


def _open(sock: socket.socket, address: Any, peer: Origin, call: CallContext, deadline: float) -> socket.socket:
    try:
        call.attach(sock)
        sock.settimeout(seconds_left(deadline))
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if peer.proxy is not None:
            peer.proxy.tunnel(sock, peer.host, peer.port, deadline)
        if peer.secure:
            plain = sock
            sock = tls_context().wrap_socket(plain, server_hostname=peer.host, do_handshake_on_connect=False)
            call.detach(plain)
            call.attach(sock)
            sock.settimeout(seconds_left(deadline))
            sock.do_handshake()
    except (OSError, Cancelled):
        call.detach(sock)
        sock.close()
        raise
    return sock


def seconds_left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError("no time is left to connect")
    return left


def _is_bare(parts: SplitResult) -> bool:
    """Whether nothing follows the port. A password with a slash in it that is not encoded shows here."""
    return parts.path in ("", "/") and not parts.query and not parts.fragment


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
