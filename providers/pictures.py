"""What vendors of pictures have in common: sizes, OpenAI's list of pictures, and pictures that are only an address.

`Drawing` is a provider that makes pictures and nothing else; ideogram.py and recraft.py say what theirs is asked.
"""

import re
import threading
from base64 import b64encode
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import log as logarithm
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

from errors import GatewayError, InvalidRequest, Unsupported, UpstreamError
from events import ChatRequest, Events, Images, ImagesRequest, Silence
from providers.base import CallContext, Provider, Target, Timeouts
from providers.exchange import parse_json, raise_for_status, read_body
from providers.failures import error_from_body, error_from_response
from providers.http import Endpoint, Response, send
from providers.translate import BAD_SHAPE
from providers.vendors import Vendor

Json = dict[str, Any]
Picture = dict[str, str]

SUPPORTED_PARAMETERS = frozenset({"prompt", "n", "size", "style", "response_format"})
"""Parameters of OpenAI's that every vendor of pictures has a counterpart for."""

SIZE = re.compile(r"(\d{1,5})[xX:](\d{1,5})")
URL = re.compile(r"(https?)://([A-Za-z0-9.-]+)(?::(\d{1,5}))?(/[!-\"$-~]*)?(?:#.*)?")
PICTURE_BYTES = 32 * 1024 * 1024
"""More than this is not fetched for one picture."""
HOSTS = 8
"""Of so many hosts with pictures the connections are kept."""


def dimensions(size: str) -> tuple[int, int]:
    """Width and height of `1024x1024`, or the terms of a ratio such as `16:9`. Raises InvalidRequest."""
    found = SIZE.fullmatch(size)
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (width and height):
        raise InvalidRequest("'size': Must be `auto`, or WIDTHxHEIGHT such as 1024x1024.", param="size")
    return width, height


def nearest(size: tuple[int, int], offered: Iterable[str]) -> str:
    """The one of the sizes or ratios offered whose shape is most like this one's."""

    def unlike(each: str) -> float:
        width, height = dimensions(each)
        return abs(logarithm(size[0] / size[1]) - logarithm(width / height))

    return min(offered, key=unlike)


def shares(n: int, most: int) -> Iterator[int]:
    """How many pictures each request asks for, where one may ask for `most`."""
    for start in range(0, n, most):
        yield min(most, n - start)


def parse_images(answer: Any) -> list[Picture]:
    """The pictures of an answer in OpenAI's shape. Raises one of NONSENSE."""
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


def seconds(created: Any) -> int:
    """A time as Unix seconds: from a number, or from ISO 8601; 0 for what is none."""
    if isinstance(created, str):
        try:
            moment = datetime.fromisoformat(created)
            created = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except ValueError:
            return 0
    return int(created) if isinstance(created, (int, float)) and 0 < created < 2**40 else 0


class ImageFetcher:
    """Fetches the pictures of one vendor, without its key: over https from its own `domains`, and from the very origin
    that is configured here. An address elsewhere is not fetched, whoever gave it.
    """

    def __init__(self, name: str, base_url: str, domains: Sequence[str], proxy: str = "") -> None:
        parts = urlsplit(base_url)
        self._name = name
        self._own = (parts.scheme, parts.hostname, parts.port or _usual_port(parts.scheme))
        self._domains = tuple(domains)
        self._proxy = proxy
        self._accounts: dict[str, Endpoint] = {}
        self._lock = threading.Lock()

    def unpack(self, data: Sequence[Picture], call: CallContext, timeouts: Timeouts) -> Generator[Silence, None, None]:
        """Put the bytes in the place of each address."""
        for picture in data:
            if "b64_json" not in picture:
                raw = yield from self.fetch(picture["url"], call, timeouts)
                picture["b64_json"] = b64encode(raw).decode()
            picture.pop("url", None)

    def fetch(self, url: str, call: CallContext, timeouts: Timeouts) -> Generator[Silence, None, bytes]:
        """The picture at an address that the vendor gave. Raises UpstreamError, which is not tried again: the picture
        would be drawn, and paid for, once more.
        """
        account, path = self._place(url)
        try:
            reply = send(account, "GET", path, {}, b"", call, timeouts)
            try:
                yield from raise_for_status(reply, self._refused)
                return (yield from self._bytes(reply))
            finally:
                reply.close()
        except GatewayError as error:
            raise self._lost(error.log or error.message) from error

    def _bytes(self, reply: Response) -> Generator[Silence, None, bytes]:
        kind, length = reply.headers.get("content-type", ""), reply.headers.get("content-length", "0")
        if not kind.startswith(("image/", "application/octet-stream", "binary/octet-stream")):
            raise self._lost(f"the content type {kind!r}")
        if length.isdigit() and int(length) > PICTURE_BYTES:
            raise self._lost(f"{length} bytes")
        data = yield from read_body(reply, PICTURE_BYTES)
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

    def _refused(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        return self._lost(f"status {status}: {body[:200]!r}")

    def _lost(self, what: str) -> UpstreamError:
        said = f'{self._name} made a picture that cannot be fetched from it. Ask for it with "response_format": "url".'
        return UpstreamError(said, provider=self._name, log=what)


def _usual_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


class HttpRequest(NamedTuple):
    """One request to a vendor."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class ImageProvider(Provider):
    """A vendor that makes pictures and does not chat. One request makes `most` of them; for more, several are sent, one
    after another. `path` is where to ask instead of the vendor's own paths, as a list of models has it.
    """

    most: ClassVar[int]

    def __init__(
        self,
        vendor: Vendor,
        *,
        base_url: str,
        name: str = "",
        api_key: str = "",
        model: str = "",
        proxy: str = "",
        path: str | None = None,
    ) -> None:
        self.name = name or vendor.name
        self.default_model = model or vendor.model
        self.path = path
        self._setting = vendor.key_setting
        self._account = Endpoint(self.name, base_url, vendor.credential(api_key), proxy)
        self._gallery = ImageFetcher(self.name, base_url, vendor.pictures, proxy)

    def asked(self, request: ImagesRequest, target: Target, count: int) -> HttpRequest:
        """What is sent for so many pictures. Raises InvalidRequest and Unsupported."""
        raise NotImplementedError

    def parse_images(self, answer: Any) -> list[Picture]:
        """The pictures of an answer. Raises one of NONSENSE, and a ProxyError for pictures that are withheld."""
        return parse_images(answer)

    def failed(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        """What a status other than 2xx means."""
        return error_from_response(self.name, status, headers, body, setting=self._setting)

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """Refused, with the way to what there is."""
        raise Unsupported(
            f"{self.name} makes pictures and does not chat: ask at /v1/images/generations.", param="model"
        )

    def images(self, request: ImagesRequest, target: Target, call: CallContext) -> Events:
        """Ask, as often as it takes; fetch the pictures where bytes are wanted and addresses came."""
        data: list[Picture] = []
        created = 0
        for count in shares(request.n, self.most):
            answer = yield from self._answer(self.asked(request, target, count), target, call)
            try:
                data += self.parse_images(answer)
                created = seconds(answer.get("created"))
            except BAD_SHAPE as error:
                said = f"{self.name} sent something that is not an answer."
                raise UpstreamError(said, provider=self.name, log=f"pictures without {error}") from error
        if request.as_base64:
            yield from self._gallery.unpack(data, call, target.timeouts)
        yield Images(data, created)

    def _answer(self, asked: HttpRequest, target: Target, call: CallContext) -> Generator[Silence, None, Any]:
        reply = send(self._account, "POST", asked.path, asked.headers, asked.body, call, target.timeouts)
        try:
            yield from raise_for_status(reply, self.failed)
            raw = yield from read_body(reply)
        finally:
            reply.close()
        answer = parse_json(raw, reply)
        if isinstance(answer, dict) and answer.get("error"):
            raise error_from_body(self.name, answer["error"])
        return answer
