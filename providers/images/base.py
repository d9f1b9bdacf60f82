"""What vendors of pictures have in common: sizes, OpenAI's list of pictures, and pictures that are only an address.

`Drawing` is a provider that makes pictures and nothing else; ideogram.py and recraft.py say what theirs is asked.
"""

import re
from collections.abc import Iterable, Mapping
from math import log as logarithm
from typing import Any, ClassVar, NamedTuple

from core.context import CallContext
from core.errors import GatewayError, InvalidRequest, Unsupported, UpstreamError
from core.events import Events, Images
from core.json_values import BAD_SHAPE
from core.requests import ChatRequest, ImagesRequest
from providers.base import Provider, Target
from providers.common.image_fetch import ImageFetcher, Picture, seconds, shares
from providers.transport.client import send
from providers.transport.endpoint import Endpoint
from providers.transport.exchange import parse_json, raise_for_status, read_body
from providers.transport.status_errors import error_from_body, error_from_response
from providers.vendors import Vendor

SUPPORTED_PARAMETERS = frozenset({"prompt", "n", "size", "style", "response_format"})
"""Parameters of OpenAI's that every vendor of pictures has a counterpart for."""

SIZE = re.compile(r"(\d{1,5})[xX:](\d{1,5})")


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
            answer = self._answer(self.asked(request, target, count), target, call)
            try:
                data += self.parse_images(answer)
                created = seconds(answer.get("created"))
            except BAD_SHAPE as error:
                said = f"{self.name} sent something that is not an answer."
                raise UpstreamError(said, provider=self.name, log=f"pictures without {error}") from error
        if request.as_base64:
            self._gallery.unpack(data, call, target.timeouts)
        yield Images(data, created)

    def _answer(self, asked: HttpRequest, target: Target, call: CallContext) -> Any:
        reply = send(self._account, "POST", asked.path, asked.headers, asked.body, call, target.timeouts)
        try:
            raise_for_status(reply, self.failed)
            raw = read_body(reply)
        finally:
            reply.close()
        answer = parse_json(raw, reply)
        if isinstance(answer, dict) and answer.get("error"):
            raise error_from_body(self.name, answer["error"])
        return answer
