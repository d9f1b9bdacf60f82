"""Fetches images that an upstream returns as URLs, for callers that want bytes (decision 19)."""

import re
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from core.context import CallContext, Timeouts
from core.errors import GatewayError, UpstreamError
from providers.transport.client import Response, send
from providers.transport.endpoint import Endpoint
from providers.transport.exchange import raise_for_status, read_body

Picture = dict[str, str]
URL = re.compile(r"(https?)://([A-Za-z0-9.-]+)(?::(\d{1,5}))?(/[!-\"$-~]*)?(?:#.*)?")
PICTURE_BYTES = 32 * 1024 * 1024
"""The largest image, in bytes."""
HOSTS = 8
"""The number of image hosts with kept connections."""


def shares(n: int, most: int) -> Iterator[int]:
    """The sizes of the batches, if one request may have `most` images."""
    for start in range(0, n, most):
        yield min(most, n - start)


def seconds(created: Any) -> int:
    """A time as Unix seconds, from a number or from ISO 8601; 0 for anything else."""
    if isinstance(created, str):
        try:
            moment = datetime.fromisoformat(created)
            created = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except ValueError:
            return 0
    return int(created) if isinstance(created, (int, float)) and 0 < created < 2**40 else 0


class ImageFetcher:
    """Fetches the images of one vendor, without its key: over https from the vendor's own `domains`, and from the
    configured origin. Any other address is refused.
    """

    def __init__(self, name: str, base_url: str, domains: Sequence[str], proxy: str = "") -> None:
        parts = urlsplit(base_url)
        self._name = name
        self._own = (parts.scheme, parts.hostname, parts.port or _usual_port(parts.scheme))
        self._domains = tuple(domains)
        self._proxy = proxy
        self._accounts: dict[str, Endpoint] = {}
        self._lock = threading.Lock()

    def unpack(self, data: Sequence[Picture], call: CallContext, timeouts: Timeouts) -> None:
        """Replace each URL by the image's bytes."""
        for picture in data:
            if "b64_json" not in picture:
                raw = self.fetch(picture["url"], call, timeouts)
                picture["b64_json"] = b64encode(raw).decode()
            picture.pop("url", None)

    def fetch(self, url: str, call: CallContext, timeouts: Timeouts) -> bytes:
        """The image at a URL from the vendor. Raises UpstreamError, which is not retried: the image would be generated,
        and paid for, again.
        """
        account, path = self._place(url)
        try:
            response = send(account, "GET", path, {}, b"", call, timeouts)
            try:
                raise_for_status(response, self._error_from_response)
                return self._bytes(response)
            finally:
                response.close()
        except GatewayError as error:
            raise self._lost(error.log or error.message) from error

    def _bytes(self, response: Response) -> bytes:
        kind, length = response.headers.get("content-type", ""), response.headers.get("content-length", "0")
        if not kind.startswith(("image/", "application/octet-stream", "binary/octet-stream")):
            raise self._lost(f"the content type {kind!r}")
        if length.isdigit() and int(length) > PICTURE_BYTES:
            raise self._lost(f"{length} bytes")
        data = read_body(response, PICTURE_BYTES)
        if not data:
            raise self._lost("no bytes")
        return data

    def _place(self, url: str) -> tuple[Endpoint, str]:
        found = URL.fullmatch(url)
        if found is None:
            raise self._lost(f"no address: {url[:200]!r}")
        scheme, host, port = found[1], found[2].lower(), int(found[3] or _usual_port(found[1]))
        at_vendor = any(host == domain or host.endswith(f".{domain}") for domain in self._domains)
        if (scheme, host, port) != self._own and not (at_vendor and (scheme, port) == ("https", 443)):
            raise UpstreamError(
                f"{self._name} gave a picture at an address that is not its own, and it is not fetched from there. "
                'Ask for it with "response_format": "url".',
                provider=self._name,
                log=f"{scheme}://{host}:{port}",
            )
        origin = f"{scheme}://{host}:{port}"
        with self._lock:
            if origin not in self._accounts:
                if len(self._accounts) >= HOSTS:
                    self._accounts.clear()
                self._accounts[origin] = Endpoint(self._name, origin, {}, self._proxy)
            return self._accounts[origin], found[4] or "/"

    def _error_from_response(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        return self._lost(f"status {status}: {body[:200]!r}")

    def _lost(self, what: str) -> UpstreamError:
        message = (
            f'{self._name} made a picture that cannot be fetched from it. Ask for it with "response_format": "url".'
        )
        return UpstreamError(message, provider=self._name, log=what)


def _usual_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def parse_images(answer: Any) -> list[Picture]:
    """The images of an answer in OpenAI's shape. Raises one of BAD_SHAPE."""
    found = []
    for row in answer["data"]:
        texts = {key: row.get(key) for key in ("url", "b64_json", "revised_prompt")}
        picture = {key: text for key, text in texts.items() if isinstance(text, str) and text}
        if "url" not in picture and "b64_json" not in picture:
            raise ValueError("a picture without url and b64_json")
        found.append(picture)
    if not found:
        raise ValueError("no picture")
    return found
