"""The base of image providers: sizes, OpenAI's list of images, and the download of images that come as URLs.

`ImageProvider` makes images and nothing else; ideogram.py and recraft.py have their vendors' requests and answers.
"""

import re
from collections.abc import Iterable, Mapping
from math import log as logarithm
from typing import Any, ClassVar, NamedTuple

from core.context import CallContext
from core.errors import InvalidRequest, Unsupported
from core.events import Events, Images
from core.json_values import BAD_SHAPE
from core.requests import ChatRequest, ImagesRequest
from providers.base import Target
from providers.common.http_provider import HttpProvider
from providers.common.image_fetch import ImageFetcher, Picture, parse_images, seconds, shares
from providers.transport.client import send
from providers.transport.exchange import parse_json, raise_for_status, read_body
from providers.transport.status_errors import error_from_body
from providers.vendors import Vendor

SUPPORTED_PARAMETERS = frozenset({"prompt", "n", "size", "style", "response_format"})
"""OpenAI's parameters that every image vendor supports."""

SIZE = re.compile(r"(\d{1,5})[xX:](\d{1,5})")


def dimensions(size: str) -> tuple[int, int]:
    """Width and height of `1024x1024`, or the terms of a ratio such as `16:9`. Raises InvalidRequest."""
    found = SIZE.fullmatch(size)
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (width and height):
        raise InvalidRequest("'size': Must be `auto`, or WIDTHxHEIGHT such as 1024x1024.", param="size")
    return width, height


def nearest(size: tuple[int, int], offered: Iterable[str]) -> str:
    """The offered size or ratio whose shape is nearest to the wanted one."""

    def unlike(each: str) -> float:
        width, height = dimensions(each)
        return abs(logarithm(size[0] / size[1]) - logarithm(width / height))

    return min(offered, key=unlike)


class HttpRequest(NamedTuple):
    """One HTTP request to a vendor."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class ImageProvider(HttpProvider):
    """A vendor that makes images and does not chat. One request makes up to `most` images; for more, several requests
    are sent in turn. `path` replaces the vendor's own paths, if a list of models gives one.
    """

    most: ClassVar[int]

    def __init__(
        self, vendor: Vendor, *, base_url: str, proxy: str = "", path: str | None = None, **account: str
    ) -> None:
        super().__init__(vendor, base_url=base_url, proxy=proxy, **account)
        self.path = path
        self._image_fetcher = ImageFetcher(self.name, base_url, vendor.pictures, proxy)

    def http_request(self, request: ImagesRequest, target: Target, count: int) -> HttpRequest:
        """The request for so many images. Raises InvalidRequest and Unsupported."""
        raise NotImplementedError

    def parse_images(self, answer: Any) -> list[Picture]:
        """The images of an answer. Raises one of BAD_SHAPE, and a GatewayError for withheld images."""
        return parse_images(answer)

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """Refuse a chat, and name the endpoint for images."""
        raise Unsupported(
            f"{self.name} makes pictures and does not chat: ask at /v1/images/generations.", param="model"
        )

    def images(self, request: ImagesRequest, target: Target, call: CallContext) -> Events:
        """Send the requests; download the images if the caller wants bytes and URLs came."""
        data: list[Picture] = []
        created = 0
        for count in shares(request.n, self.most):
            answer = self._answer(self.http_request(request, target, count), target, call)
            try:
                data += self.parse_images(answer)
                created = seconds(answer.get("created"))
            except BAD_SHAPE as error:
                raise self._bad_response(f"pictures without {error}") from error
        if request.as_base64:
            self._image_fetcher.unpack(data, call, target.timeouts)
        yield Images(data, created)

    def _answer(self, request: HttpRequest, target: Target, call: CallContext) -> Any:
        response = send(self._account, "POST", request.path, request.headers, request.body, call, target.timeouts)
        try:
            raise_for_status(response, self._failure)
            raw = read_body(response)
        finally:
            response.close()
        answer = parse_json(raw, response)
        if isinstance(answer, dict) and answer.get("error"):
            raise error_from_body(self.name, answer["error"])
        return answer
