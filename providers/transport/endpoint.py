"""An upstream's address, and the bytes of a request to it."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from providers.base import USER_AGENT
from providers.transport.dial import Origin
from providers.transport.pool import Pool
from providers.transport.proxy import Proxy

UNSAFE = re.compile(r"[\x00-\x1f\x7f]")


class Endpoint:
    """An upstream's address, our credential there and the connections to it. Built once, shared by all threads.

    `base_url` is the address up to `/chat/completions`; its query (Azure's api-version) is sent with each request.
    `headers` have the credential. `proxy` is the URL of a proxy, in one of proxy.FORMS, for every connection, also to
    localhost. Raises ValueError for an address that is not http(s), and for a proxy in another form.
    """

    def __init__(self, name: str, base_url: str, headers: Mapping[str, str], proxy: str = "") -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or UNSAFE.search(base_url):
            raise ValueError(f"{base_url!r} is not an http:// or https:// address.")
        self.name = name
        self.base_url = base_url
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        self.peer = Origin(parts.hostname, port, secure, Proxy.parse(proxy) if proxy else None)
        self.pool = Pool()
        self._path = parts.path.rstrip("/")
        self._query = f"?{parts.query}" if parts.query else ""
        self._headers = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": USER_AGENT, **headers}
        self._head = _lines(self._headers)

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        """The bytes of a request. `headers` replace the endpoint's own headers of the same name. A body is JSON, unless
        `headers` have another Content-Type.
        """
        query = self._query.replace("?", "&", 1) if "?" in path else self._query
        line = f"{method} {self._path}{path}{query} HTTP/1.1\r\n"
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        if body and "Content-Type" not in headers:
            length += "Content-Type: application/json\r\n"
        own = self._head if self._headers.keys().isdisjoint(headers) else _lines(_without(self._headers, headers))
        head = f"{line}{own}{_lines(headers)}{length}Accept: */*\r\n\r\n"
        return head.encode("latin-1") + body


def _without(headers: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in others}


def _lines(headers: Mapping[str, str]) -> str:
    for name, value in headers.items():
        if UNSAFE.search(value) or not value.isascii():
            raise ValueError(f"The header {name} may not hold control characters or anything but ASCII.")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
