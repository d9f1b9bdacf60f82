"""Tunnels through HTTP and SOCKS proxies."""

import re
import socket
from base64 import b64encode
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

FORMS = (
    "A proxy is given as http://[user:password@]host:port, likewise with socks5:// (names are resolved here) or "
    "socks5h:// (by the proxy), or as socks4://[user@]host:port; user and password are percent-encoded."
)
SCHEMES = ("http", "socks5", "socks5h", "socks4")
UNSAFE = re.compile(r"[\x00-\x20\x7f]")
SOCKS_BYTES = 255
"""A length in SOCKS5 is one byte (RFC 1929)."""
HEAD_BYTES = 65_536
"""The most bytes of a response to CONNECT."""
STATUS = re.compile(rb"HTTP/1\.\d (\d{3})\b")


class ProxyRefused(ConnectionError):
    """The proxy refused the tunnel, or its answer is invalid."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's address and our credential there. `str()` of it leaves the credential out, for the log."""

    scheme: str
    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> "Proxy":
        """Parse a URL in one of FORMS. Raises ValueError, without the URL in its message: it may hold a password."""
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
        """Whether there is a host and a port, and either no credential or one that the scheme can carry."""
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
        """Open a tunnel to host and port on a socket that is connected to this proxy. Raises OSError."""
        way = _DeadlineSocket(sock, deadline)
        if self.scheme == "http":
            self._connect(way, host, port)
        else:
            self._socks(way, host, port)

    def _connect(self, way: "_DeadlineSocket", host: str, port: int) -> None:
        """HTTP's CONNECT (RFC 9110, 9.3.6). The tunnel begins after the head of a 2xx, whose fields are ignored."""
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
        # Imported here, so that only installations with such a proxy load the library.
        import python_socks  # noqa: PLC0415
        import python_socks.sync  # noqa: PLC0415

        kind = python_socks.ProxyType.SOCKS4 if self.scheme == "socks4" else python_socks.ProxyType.SOCKS5
        by_proxy = self.scheme == "socks5h"
        client = python_socks.sync.Proxy(kind, self.host, self.port, self.user, self.password, by_proxy, forward=way)
        try:
            client.connect(host, port, timeout=way.left())
        except (python_socks.ProxyError, ValueError) as error:  # ValueError: text that cannot be decoded or encoded
            raise ProxyRefused(str(error)) from error


class _DeadlineSocket:
    """A connected socket for handshakes; one deadline bounds all their reads and writes.

    python_socks opens sockets of its own, which the call could not cancel. Its documented chaining (`forward`) takes a
    socket from another proxy's `connect` instead: that method returns this object.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def connect(self, dest_host: str, dest_port: int, timeout: float) -> "_DeadlineSocket":
        """This object: it is connected to the proxy already."""
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
        """Do nothing: dial.py opened the socket, and closes it."""


def seconds_left(deadline: float) -> float:
    """Seconds until the deadline. Raises TimeoutError once it has passed."""
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError("no time is left to connect")
    return left


def _is_bare(parts: SplitResult) -> bool:
    """Whether nothing follows the port. Something does if the password has a slash that is not encoded."""
    return parts.path in ("", "/") and not parts.query and not parts.fragment


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
